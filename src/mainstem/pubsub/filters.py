"""Filters of Pub/Sub subscriptions: their language, and the query of this server that means the same.

    filter     = term { "AND" term } | term { "OR" term }
    term       = { "NOT" | "-" } primary
    primary    = "(" filter ")" | has | equals | prefix
    has        = "attributes" ":" name
    equals     = "attributes" "." name ( "=" | "!=" ) string
    prefix     = "hasPrefix" "(" "attributes" "." name "," string ")"

Operators are in capitals, and AND and OR mix only with parentheses. A name is an identifier or a string. `!=`
is true without the attribute.

Owns: the grammar, and what a filter is true for. Refuses: the name of the header that an attribute is, which
its caller knows. Source: https://cloud.google.com/pubsub/docs/subscription-message-filter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from mainstem.search.query import ast
from mainstem.search.query.format import format_query

FILTER_BYTES_MAX = 256
DEPTH_MAX = 20
"""Maximum nesting of parentheses and negations."""

_TOKEN = re.compile(r'\s*(?:(?P<name>[^\W\d][\w-]*)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<symbol>!=|[-:.=(),]))')
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_ESCAPED = {'"': '"', "\\": "\\", "'": "'", "n": "\n", "t": "\t", "r": "\r"}
_PLAIN = re.compile(r"[^\W_]")
_OPERATORS = ("AND", "OR", "NOT")


class FilterError(ValueError):
    """The error for a text that is no filter. The message says where, counted in characters from 1."""


@dataclass(frozen=True, slots=True)
class HasAttribute:
    """The attribute is there."""

    name: str


@dataclass(frozen=True, slots=True)
class AttributeEquals:
    """The attribute has this value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class AttributeHasPrefix:
    """The value of the attribute begins so."""

    name: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Negation:
    """The other is false."""

    operand: FilterNode


@dataclass(frozen=True, slots=True)
class Conjunction:
    """All are true."""

    operands: tuple[FilterNode, ...]


@dataclass(frozen=True, slots=True)
class Disjunction:
    """At least one of them is true."""

    operands: tuple[FilterNode, ...]


FilterNode = HasAttribute | AttributeEquals | AttributeHasPrefix | Negation | Conjunction | Disjunction


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was parsed."""

    text: str
    node: FilterNode

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Whether a message with these attributes is delivered."""
        return _matches(self.node, attributes)

    def query(self, header_of: Callable[[str], str] = str) -> str:
        """The query of the search language that matches the events of these messages. `header_of`: the name
        of the header that has an attribute of that name."""
        return format_query(_query(self.node, header_of))


def parse(text: str) -> Filter:
    """The filter of a text that is not empty. FilterError."""
    if len(text.encode(errors="replace")) > FILTER_BYTES_MAX:
        raise FilterError(f"a filter has at most {FILTER_BYTES_MAX} bytes")
    parser = _FilterParser(text)
    node = parser.filter()
    if parser.kind:
        parser.fail("AND and OR mix only with parentheses" if parser.token in ("AND", "OR") else "")
    return Filter(text, node)


class _FilterParser:
    """A recursive-descent parser: one method for each rule of the grammar. `kind` and `token` are those of
    the next token; at the end, both are empty."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self._begin = 0
        self._depth = 0
        self.kind = ""
        self.token = ""
        self.advance()

    def advance(self) -> str:
        """Pass the next token, and return it."""
        token = self.token
        match = _TOKEN.match(self._text, self._end)
        if match is not None:
            self.kind = match.lastgroup or ""
            self.token = match.group(self.kind)
            self._begin, self._end = match.start(self.kind), match.end()
        else:
            rest = self._text[self._end :]
            self._begin = self._end + len(rest) - len(rest.lstrip())
            self.kind = self.token = ""
            if rest.strip():
                self.fail("")
        return token

    def fail(self, problem: str) -> NoReturn:
        problem = problem or ("this is not expected here" if self.kind else "something is missing here")
        raise FilterError(f"at character {self._begin + 1} of the filter: {problem}")

    def expect(self, token: str) -> None:
        if self.kind == "string" or self.token != token:
            self.fail(f"{token} is expected here")
        self.advance()

    def filter(self) -> FilterNode:
        operands = [self.term()]
        operator = self.token if self.kind == "name" and self.token in ("AND", "OR") else ""
        while operator and self.kind == "name" and self.token == operator:
            self.advance()
            operands.append(self.term())
        if len(operands) == 1:
            return operands[0]
        return (Conjunction if operator == "AND" else Disjunction)(tuple(operands))

    def term(self) -> FilterNode:
        if self.kind != "string" and self.token in ("NOT", "-"):
            self.advance()
            return self.deeper(lambda: Negation(self.term()))
        if self.kind == "symbol" and self.token == "(":
            self.advance()
            node = self.deeper(self.filter)
            self.expect(")")
            return node
        return self.test()

    def deeper(self, rule: Callable[[], FilterNode]) -> FilterNode:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            self.fail(f"parentheses and NOT nest at most {DEPTH_MAX} deep")
        node = rule()
        self._depth -= 1
        return node

    def test(self) -> FilterNode:
        if self.kind == "name" and self.token == "hasPrefix":
            self.advance()
            self.expect("(")
            self.expect("attributes")
            self.expect(".")
            name = self.name()
            self.expect(",")
            node = AttributeHasPrefix(name, self.string())
            self.expect(")")
            return node
        self.expect("attributes")
        if self.kind == "symbol" and self.token == ":":
            self.advance()
            return HasAttribute(self.name())
        self.expect(".")
        name = self.name()
        if self.kind != "symbol" or self.token not in ("=", "!="):
            self.fail("= or != is expected here")
        is_equal = self.advance() == "="
        equals = AttributeEquals(name, self.string())
        return equals if is_equal else Negation(equals)

    def name(self) -> str:
        if self.kind == "string":
            if self.token == '""':
                self.fail("the name of an attribute is not empty")
            return self.string()
        if self.kind != "name" or self.token in _OPERATORS:
            self.fail("the name of an attribute is expected here")
        return self.advance()

    def string(self) -> str:
        if self.kind != "string":
            self.fail("a value in double quotes is expected here")
        text = _ESCAPE.sub(self._unescaped, self.token[1:-1])
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.fail("this is half of a surrogate pair, and no character")
        self.advance()
        return text

    def _unescaped(self, escape: re.Match[str]) -> str:
        if escape[1]:
            return chr(int(escape[1], 16))
        return _ESCAPED.get(escape[2]) or self.fail(f"\\{escape[2]} means nothing in a string")


def _matches(node: FilterNode, attributes: Mapping[str, str]) -> bool:
    match node:
        case HasAttribute(name):
            return name in attributes
        case AttributeEquals(name, value):
            return attributes.get(name) == value
        case AttributeHasPrefix(name, prefix):
            return name in attributes and attributes[name].startswith(prefix)
        case Negation(operand):
            return not _matches(operand, attributes)
        case Conjunction(operands):
            return all(_matches(operand, attributes) for operand in operands)
        case Disjunction(operands):
            return any(_matches(operand, attributes) for operand in operands)


def _query(node: FilterNode, header_of: Callable[[str], str]) -> ast.Node:
    match node:
        case HasAttribute(name):
            return ast.Term(_header(name, header_of), ast.Exists())
        case AttributeEquals(name, value):
            return ast.Term(_header(name, header_of), ast.Regex(f"^{_literal(value)}$"))
        case AttributeHasPrefix(name, prefix):
            return ast.Term(_header(name, header_of), ast.Regex(f"^{_literal(prefix)}"))
        case Negation(operand):
            return ast.Not(_query(operand, header_of))
        case Conjunction(operands):
            return ast.And(tuple(_query(operand, header_of) for operand in operands))
        case Disjunction(operands):
            return ast.Or(tuple(_query(operand, header_of) for operand in operands))


def _header(name: str, header_of: Callable[[str], str]) -> ast.TermTarget:
    return ast.TermTarget("header", (header_of(name),))


def _literal(text: str) -> str:
    """An RE2 expression that matches this text alone."""
    return "".join(
        character if _PLAIN.match(character) or ord(character) > 127 else f"\\x{{{ord(character):x}}}"
        for character in text
    )
