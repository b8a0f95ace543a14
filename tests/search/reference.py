"""What a query means, a second time: slowly, straight from docs/SEARCH.md.

Shares with the matcher only the parser's tree and the reading of times, which have tables of their own in
test_query.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import re2

from mainstem.log.storage.record_batch import Record
from mainstem.search.query import times
from mainstem.search.query.ast import (
    And,
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


@dataclass(frozen=True)
class ReferenceNumber:
    """A JSON number as it is spelled."""

    spelling: str


class NotJson(Exception):
    """It is text or binary."""


def no_constant(name: str) -> Any:
    raise NotJson(name)


def no_surrogates(value: Any) -> None:
    """ValueError: it holds half of a pair of surrogates."""
    json.dumps(value, default=lambda number: number.spelling, ensure_ascii=False).encode("utf-8")


def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. What is hidden by a name that comes again has to be right as well."""
    no_surrogates(found)
    return dict(found)


def as_json(raw: bytes) -> Any:
    """The value, numbers as ReferenceNumber. NotJson."""
    try:
        value = json.loads(
            raw.decode("utf-8"),
            parse_int=ReferenceNumber,
            parse_float=ReferenceNumber,
            parse_constant=no_constant,
            object_pairs_hook=pairs,
        )
        no_surrogates(value)
    except (ValueError, NotJson) as error:
        raise NotJson from error
    if raw.startswith(b"\xef\xbb\xbf"):
        raise NotJson
    return value


def as_text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"{byte:02x}" for byte in raw)


def words(text: str) -> list[str]:
    found, word = [], ""
    for character in text + " ":
        if character.isalnum():
            word += character
        elif word:
            found.append(word.casefold())
            word = ""
    return found


def text_of_scalar(scalar: Any) -> str:
    if isinstance(scalar, ReferenceNumber):
        return "0" if scalar.spelling == "-0" else scalar.spelling
    if isinstance(scalar, str):
        return scalar
    return {True: "true", False: "false", None: "null"}[scalar]


def all_scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for below in value.values():
            yield from all_scalars(below)
    elif isinstance(value, list):
        for below in value:
            yield from all_scalars(below)
    else:
        yield value


def at_path(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """What the path leads to, arrays being looked through on the way."""
    if not path:
        yield value
    elif isinstance(value, list):
        for below in value:
            yield from at_path(below, path)
    elif isinstance(value, dict) and path[0] in value:
        yield from at_path(value[path[0]], path[1:])


def elements(value: Any) -> Iterator[Any]:
    """Scalars at a path's end: it, or what an array there holds; an object there has no value."""
    if isinstance(value, list):
        for below in value:
            yield from elements(below)
    elif not isinstance(value, dict):
        yield value


def numeric(text: str) -> Fraction | None:
    """The value of text that is spelled as a JSON number."""
    try:
        value = json.loads(
            text, parse_int=ReferenceNumber, parse_float=ReferenceNumber, parse_constant=no_constant
        )
    except (ValueError, NotJson):
        return None
    return Fraction(text) if isinstance(value, ReferenceNumber) and value.spelling == text else None


def glob(pattern: str, text: str) -> bool:
    """By the book: a table of which prefixes match which. Case is folded by the caller."""
    parts: list[str | None] = []
    literal: list[str] = []
    escaped = False
    for character in pattern:
        if escaped or character not in "*?\\":
            for folded in character.casefold():
                parts.append("=")
                literal.append(folded)
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            parts.append(character)
            literal.append("")
    reach = {0}
    for kind, wanted in zip(parts, literal, strict=True):
        if kind == "*":
            reach = {end for start in reach for end in range(start, len(text) + 1)}
        else:
            reach = {at + 1 for at in reach if at < len(text) and (kind == "?" or text[at] == wanted)}
    return len(text) in reach


def found_by(pattern: str, text: str) -> bool:
    return re2.search(pattern, text) is not None


def within(test: Range, compare_with: Callable[[str], Any], value: Any) -> bool:
    for bound, sign in ((test.low, 1), (test.high, -1)):
        if bound is not None:
            end = compare_with(bound.text)
            order = ((value > end) - (value < end)) * sign
            if order < 0 or (order == 0 and not bound.inclusive):
                return False
    return True


def range_of_scalar(test: Range, scalar: Any) -> bool:
    bounds = [bound for bound in (test.low, test.high) if bound]
    if scalar is None:
        return False
    if not bounds:
        return True
    if bounds[0].quoted or numeric(bounds[0].text) is None:
        return isinstance(scalar, str) and within(test, str.casefold, scalar.casefold())
    if isinstance(scalar, bool):
        return False
    value = numeric(text_of_scalar(scalar))
    return value is not None and within(test, Fraction, value)


def scalar_passes(test: Test, scalar: Any) -> bool:
    match test:
        case Text(text, quoted):
            if scalar is None:
                return text.casefold() == "null" and not quoted
            value = numeric(text)
            if (
                isinstance(scalar, ReferenceNumber)
                and not quoted
                and value is not None
                and numeric(scalar.spelling) == value
            ):
                return True
            return text_of_scalar(scalar).casefold() == text.casefold()
        case Range():
            return range_of_scalar(test, scalar)
        case Glob(pattern):
            return scalar is not None and glob(pattern, text_of_scalar(scalar).casefold())
        case Regex(pattern):
            return scalar is not None and found_by(pattern, text_of_scalar(scalar))
        case Exists():
            return scalar is not None


def field_passes(path: tuple[str, ...], test: Test, record: Record) -> bool:
    try:
        value = as_json(record.value) if record.value is not None else None
    except NotJson:
        return False
    ends = at_path(value, path)
    if isinstance(test, Exists):
        return any(end is not None for end in ends)
    return any(scalar_passes(test, scalar) for end in ends for scalar in elements(end))


def texts(record: Record) -> Iterator[str]:
    for raw in (record.key, *(value for _, value in record.headers)):
        if raw is not None:
            yield as_text(raw)
    if record.value is not None:
        try:
            yield from map(text_of_scalar, all_scalars(as_json(record.value)))
        except NotJson:
            yield as_text(record.value)


def adjacent(found: list[str], wanted: list[Any], same: Callable[[Any, str], bool]) -> bool:
    return any(
        all(same(want, found[at + place]) for place, want in enumerate(wanted))
        for at in range(len(found) - len(wanted) + 1)
    )


def pattern_words(pattern: str) -> list[str]:
    found, word, escaped = [], "", False
    for character in pattern + " ":
        if character == "\\" and not escaped:
            escaped = True
            continue
        if character.isalnum() or (character in "*?" and not escaped):
            word += character
        elif word:
            found.append(word)
            word = ""
        escaped = False
    return found


def free_passes(test: Test, record: Record) -> bool:
    match test:
        case Text(text):
            return any(adjacent(words(each), words(text), str.__eq__) for each in texts(record))
        case Glob(pattern):
            return any(adjacent(words(each), pattern_words(pattern), glob) for each in texts(record))
        case Regex(pattern):
            return any(found_by(pattern, each) for each in texts(record))
    raise AssertionError(test)


def raw_passes(test: Test, raw: bytes | None) -> bool:
    return scalar_passes(test, None if raw is None else as_text(raw))


def number_passes(test: Test, number: int) -> bool:
    if isinstance(test, Text):
        return number == int(test.text)
    assert isinstance(test, Range)
    return within(test, int, number)


def time_passes(test: Test, time_ms: int, now_ms: int) -> bool:
    if time_ms < 0:
        return False
    if isinstance(test, Text):
        span = times.parse_time(test.text, now_ms)
        return span.from_ms <= time_ms < span.to_ms
    assert isinstance(test, Range)
    begin, end = times.time_bounds(test, now_ms)
    return (begin is None or begin <= time_ms) and (end is None or time_ms < end)


def topic_passes(test: Test, topic: str) -> bool:
    if isinstance(test, Glob):
        return glob(test.pattern.lower(), topic) and test.pattern == test.pattern.lower()
    return topic == test.text if isinstance(test, Text) else scalar_passes(test, topic)


def matches(node: Node, topic: str, partition: int, record: Record, now_ms: int) -> bool:
    """Whether the event matches."""

    def inner(child: Node) -> bool:
        return matches(child, topic, partition, record, now_ms)

    match node:
        case Everything():
            return True
        case Not(child):
            return not inner(child)
        case And(children):
            return all(map(inner, children))
        case Or(children):
            return any(map(inner, children))
        case Term(TermTarget("text"), test):
            return free_passes(test, record)
        case Term(TermTarget("field", path), test):
            return field_passes(path, test, record)
        case Term(TermTarget("key"), test):
            return raw_passes(test, record.key)
        case Term(TermTarget("header", (name,)), test):
            return any(raw_passes(test, value) for found, value in record.headers if found == name)
        case Term(TermTarget("topic"), test):
            return topic_passes(test, topic)
        case Term(TermTarget("partition"), test):
            return number_passes(test, partition)
        case Term(TermTarget("offset"), test):
            return number_passes(test, record.offset)
        case Term(TermTarget("time"), test):
            return time_passes(test, record.timestamp_ms, now_ms)
    raise AssertionError(node)
