"""Refuses queries and fields that would reveal what is masked.

A person who may test a hidden value finds it by asking often enough, so a query may not look at it at all:
neither by the name of the field, nor by free text, which looks at every field. Owns: what a query looks at.
Refuses: to search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mainstem.contract import InvalidArgument
from mainstem.masking.mask import RAW_HEADERS
from mainstem.masking.rules import ANY_PART, MaskPath, MaskRule
from mainstem.search.query.ast import And, Node, Not, Or, Term, TermTarget
from mainstem.search.query.format import format_target

UNMASKED_KINDS = ("topic", "partition", "offset", "time")


def check_query(query: Node, rules: Iterable[MaskRule], topic: str) -> None:
    """Raise InvalidArgument, with what to write, if the query tests something that the rules mask."""
    paths = [rule.path for rule in rules]
    for target in _targets(query):
        for path in paths:
            if _reveals(target, path):
                raise InvalidArgument(_refusal(target, path, topic))


def check_fields(fields: Iterable[str], rules: Iterable[MaskRule], topic: str) -> None:
    """Raise InvalidArgument if one of these fields of facets is masked."""
    paths = [rule.path for rule in rules]
    for field in fields:
        if is_masked_field(field, paths):
            raise InvalidArgument(f"field {field}: it is masked for you in topic {topic}")


def is_masked_field(field: str, paths: Iterable[MaskPath]) -> bool:
    """Whether a field, as facets name it, shows something that is masked."""
    try:
        asked = MaskPath.parse(field)
    except ValueError:
        return True
    return any(_is_about(asked.kind, asked.parts, path) for path in paths)


def _targets(node: Node) -> Iterator[TermTarget]:
    """The parts of an event that a query tests."""
    match node:
        case Term(target, _):
            yield target
        case Not(child):
            yield from _targets(child)
        case And(children) | Or(children):
            for child in children:
                yield from _targets(child)


def _reveals(target: TermTarget, path: MaskPath) -> bool:
    if target.kind in UNMASKED_KINDS:
        return False
    if target.kind == "text":
        return True
    return _is_about(target.kind, target.path, path)


def _is_about(kind: str, asked: tuple[str, ...], path: MaskPath) -> bool:
    if kind == "header" and path.hides_raw and asked[:1] and asked[0] in RAW_HEADERS:
        return True
    return kind == path.kind and _overlap(path, asked)


def _overlap(path: MaskPath, asked: tuple[str, ...]) -> bool:
    """Whether the value at one path is, is in, or has in it the value at the other."""
    if path.kind == "key":
        return True
    if path.kind == "header":
        return path.parts == asked
    return all(part in (ANY_PART, name) for part, name in zip(path.parts, asked, strict=False))


def _refusal(target: TermTarget, path: MaskPath, topic: str) -> str:
    if target.kind == "text":
        return (
            f"topic {topic} has fields that are masked for you ({path.text}), and free text would search them"
            " too: name the field to search, such as status:paid"
        )
    field = format_target(target)
    if path.kind == "field" and len(target.path) < len(path.parts):
        return (
            f"{field}: {path.text} may be in it, which is masked for you in topic {topic}, so it cannot be"
            " searched: name a field in it that is not masked"
        )
    return f"{field}: it is masked for you in topic {topic}, so it cannot be searched"
