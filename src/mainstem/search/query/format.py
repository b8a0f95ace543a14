"""Writes a syntax tree as query text, in one canonical spelling: `parse(format_query(node)) == node`.

Owns: where brackets, quotes and backslashes are needed; it writes no others. Refuses: to check the tree,
which must be one that `parse` can return.
"""

from __future__ import annotations

import re

from mainstem.search.query import shorthands
from mainstem.search.query.ast import (
    And,
    Bound,
    Everything,
    Exists,
    Glob,
    Node,
    Not,
    Or,
    Range,
    Regex,
    Term,
    TermTarget,
    Test,
    Text,
)
from mainstem.search.text import globs

RESERVED = {"key", "header", "topic", "partition", "offset", "time", "_exists_"}
OPERATORS = {"AND", "OR", "NOT", "TO"}
_BARE_VALUE = re.compile(r"-?[^\W_][\w.@:+-]*")
_BARE_WORD = re.compile(r"[^\W_][\w.@-]*")
_BARE_NAME = re.compile(r"[\w@$-]+")


def format_query(node: Node) -> str:
    """The canonical query text of a tree."""
    match node:
        case Everything():
            return "*"
        case Term(target, test):
            return _term(target, test)
        case Not(child):
            return f"NOT {_nested(child)}"
        case And(children):
            return " ".join(_nested(child) for child in children)
        case Or(children):
            return " OR ".join(_nested(child) for child in children)


def _nested(node: Node) -> str:
    return f"({format_query(node)})" if isinstance(node, And | Or) else format_query(node)


def format_path(path: tuple[str, ...]) -> str:
    """The path of a payload field as a query spells it before the colon: names joined by dots, in quotes
    where a name has other characters or would be read as `key`, `topic`, AND or the like."""
    names = [name if _BARE_NAME.fullmatch(name) else _quoted(name) for name in path]
    if path[0] in RESERVED | OPERATORS or path[0].startswith("-"):
        names[0] = _quoted(path[0])
    return ".".join(names)


def format_target(target: TermTarget) -> str:
    """The tested part of an event as a query spells it before the colon: `key`, `header.NAME`, a field's
    path."""
    if target.kind == "field":
        return format_path(target.path)
    if target.kind == "header":
        (name,) = target.path
        return "header." + (name if _BARE_NAME.fullmatch(name) else _quoted(name))
    return target.kind


def _term(target: TermTarget, test: Test) -> str:
    if isinstance(test, Exists):
        return f"_exists_:{format_target(target)}"
    if target.kind == "text":
        if isinstance(test, Text) and shorthands.patterns(test.text):
            return _quoted(test.text)
        return _test(test, _BARE_WORD)
    return f"{format_target(target)}:{_test(test, _BARE_VALUE)}"


def _test(test: Test, bare: re.Pattern[str]) -> str:
    match test:
        case Text(text, quoted):
            return _quoted(text) if quoted else _value(text, bare)
        case Glob(pattern):
            return "".join(
                character if is_wildcard or character.isalnum() or character in "_." else "\\" + character
                for character, is_wildcard in globs.parts(pattern)
            )
        case Regex(pattern):
            return f"/{_slashes_escaped(pattern)}/"
        case Range(low, None) if low is not None:
            return f">{'=' * low.inclusive}{_bound(low)}"
        case Range(None, high) if high is not None:
            return f"<{'=' * high.inclusive}{_bound(high)}"
        case Range(low, high):
            opening = "{" if low and not low.inclusive else "["
            closing = "}" if high and not high.inclusive else "]"
            return f"{opening}{_bound(low)} TO {_bound(high)}{closing}"
        case Exists():
            raise AssertionError("_term formats Exists itself")


def _bound(bound: Bound | None) -> str:
    if bound is None:
        return "*"
    return _quoted(bound.text) if bound.quoted else _value(bound.text, _BARE_VALUE)


def _value(text: str, bare: re.Pattern[str]) -> str:
    return text if bare.fullmatch(text) and text not in OPERATORS else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _slashes_escaped(pattern: str) -> str:
    """Escape each slash that is not escaped yet."""
    return re.sub(r"(\\.)|/", lambda match: match[1] or "\\/", pattern, flags=re.DOTALL)
