"""A second, slow implementation of queries, written directly from docs/SEARCH.md.

It shares with the matcher only the syntax tree and the parsing of times, which test_query.py tests.
"""

from __future__ import annotations

import contextlib
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
from mainstem.search.query.format import format_target
from mainstem.search.text.tokens import is_unspaced


@dataclass(frozen=True)
class ReferenceNumber:
    """The spelling of a JSON number."""

    spelling: str


class NotJson(Exception):
    """The bytes are text or binary, not JSON."""


def no_constant(name: str) -> Any:
    raise NotJson(name)


def no_surrogates(value: Any) -> None:
    """Raise ValueError if the value has half of a surrogate pair."""
    json.dumps(value, default=lambda number: number.spelling, ensure_ascii=False).encode("utf-8")


def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these pairs. Values that a repeated name hides are checked as well."""
    no_surrogates(pairs)
    return dict(pairs)


def as_json(raw: bytes) -> Any:
    """Parse JSON, with numbers as ReferenceNumber. Raises NotJson."""
    if raw.startswith(b"\xef\xbb\xbf"):
        raw = raw[3:]
    elif raw.startswith(b"\0") and raw[5:6] in (b"{", b"["):
        raw = raw[5:]
    try:
        value = json.loads(
            raw.decode("utf-8"),
            parse_int=ReferenceNumber,
            parse_float=ReferenceNumber,
            parse_constant=str,
            object_pairs_hook=to_object,
        )
        no_surrogates(value)
    except (ValueError, NotJson) as error:
        raise NotJson from error
    return value


def as_text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"{byte:02x}" for byte in raw)


def words(text: str) -> list[str]:
    """The tokens of a text: runs, divided at each character that is a token of its own."""
    return runs("".join(f" {character} " if is_unspaced(character) else character for character in text))


def runs(text: str) -> list[str]:
    folded_words, word = [], ""
    for character in text + " ":
        if character.isalnum() or is_unspaced(character):
            word += character
        elif word:
            folded_words.append(word.casefold())
            word = ""
    return folded_words


def text_of_scalar(scalar: Any) -> str:
    if isinstance(scalar, ReferenceNumber):
        return "0" if scalar.spelling == "-0" else scalar.spelling
    if isinstance(scalar, str):
        return scalar
    return {True: "true", False: "false", None: "null"}[scalar]


def all_scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for child in value.values():
            yield from all_scalars(child)
    elif isinstance(value, list):
        for child in value:
            yield from all_scalars(child)
    else:
        yield value


def at_path(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The values at the end of a path. Arrays on the way are searched, and JSON in strings."""
    if not path:
        yield value
    elif isinstance(value, list):
        for child in value:
            yield from at_path(child, path)
    elif isinstance(value, dict) and path[0] in value:
        yield from at_path(value[path[0]], path[1:])
    elif isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(NotJson):
            yield from at_path(as_json(value.encode()), path)


def elements(value: Any) -> Iterator[Any]:
    """The scalars of a value at a path's end: itself, or the elements of an array. An object has none."""
    if isinstance(value, list):
        for child in value:
            yield from elements(child)
    elif not isinstance(value, dict):
        yield value


def numeric(text: str) -> Fraction | None:
    """The value of a text that is a JSON number; None for any other text."""
    try:
        value = json.loads(
            text, parse_int=ReferenceNumber, parse_float=ReferenceNumber, parse_constant=no_constant
        )
    except (ValueError, NotJson):
        return None
    return Fraction(text) if isinstance(value, ReferenceNumber) and value.spelling == text else None


def glob(pattern: str, text: str) -> bool:
    """Whether a pattern matches a case-folded text, by tracking which prefixes of the text can match."""
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
    ends = {0}
    for kind, wanted in zip(parts, literal, strict=True):
        if kind == "*":
            ends = {end for start in ends for end in range(start, len(text) + 1)}
        else:
            ends = {end + 1 for end in ends if end < len(text) and (kind == "?" or text[end] == wanted)}
    return len(text) in ends


def regex_matches(pattern: str, text: str) -> bool:
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
            return scalar is not None and regex_matches(pattern, text_of_scalar(scalar))
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


def has_side_by_side(
    text_words: list[str], wanted: list[Any], matches_word: Callable[[Any, str], bool]
) -> bool:
    return any(
        all(matches_word(pattern, text_words[start + i]) for i, pattern in enumerate(wanted))
        for start in range(len(text_words) - len(wanted) + 1)
    )


def pattern_words(pattern: str) -> list[str]:
    patterns, word, escaped = [], "", False
    for character in pattern + " ":
        if character == "\\" and not escaped:
            escaped = True
            continue
        if character.isalnum() or is_unspaced(character) or (character in "*?" and not escaped):
            word += character
        elif word:
            patterns.append(word)
            word = ""
        escaped = False
    return patterns


def free_passes(test: Test, record: Record) -> bool:
    match test:
        case Text(text):
            return any(has_side_by_side(words(own), words(text), str.__eq__) for own in texts(record))
        case Glob(pattern):
            parts = pattern_words(pattern)
            parts[0] = "*" * is_unspaced(parts[0][0]) + parts[0]
            parts[-1] += "*" * is_unspaced(parts[-1][-1])
            return any(has_side_by_side(runs(own), parts, glob) for own in texts(record))
        case Regex(pattern):
            return any(regex_matches(pattern, own) for own in texts(record))
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
        interval = times.parse_time(test.text, now_ms)
        return interval.from_ms <= time_ms < interval.to_ms
    assert isinstance(test, Range)
    begin, end = times.time_bounds(test, now_ms)
    return (begin is None or begin <= time_ms) and (end is None or time_ms < end)


def topic_passes(test: Test, topic: str) -> bool:
    if isinstance(test, Glob):
        return glob(test.pattern.lower(), topic) and test.pattern == test.pattern.lower()
    return topic == test.text if isinstance(test, Text) else scalar_passes(test, topic)


def matches(node: Node, topic: str, partition: int, record: Record, now_ms: int) -> bool:
    """Whether the event matches the query."""

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
            return any(raw_passes(test, value) for header, value in record.headers if header == name)
        case Term(TermTarget("topic"), test):
            return topic_passes(test, topic)
        case Term(TermTarget("partition"), test):
            return number_passes(test, partition)
        case Term(TermTarget("offset"), test):
            return number_passes(test, record.offset)
        case Term(TermTarget("time"), test):
            return time_passes(test, record.timestamp_ms, now_ms)
    raise AssertionError(node)


def facet_values(topic: str, partition: int, record: Record) -> set[tuple[str, Any]]:
    """The fields of an event with their values: a Fraction for a number, otherwise the text."""
    values: list[tuple[str, Any]] = [("topic", topic), ("partition", str(partition))]
    if record.key is not None:
        values.append(("key", as_text(record.key)))
    for name, content in record.headers:
        if content is not None:
            values.append((format_target(TermTarget("header", (name,))), as_text(content)))
    if record.value is not None:
        with contextlib.suppress(NotJson):
            values += [
                (format_target(TermTarget("field", path)), facet_value(scalar))
                for path, scalar in scalars_in_fields(as_json(record.value))
            ]
    return set(values)


def facet_value(scalar: Any) -> Any:
    number = numeric(text_of_scalar(scalar)) if isinstance(scalar, ReferenceNumber) else None
    return text_of_scalar(scalar) if number is None else number


def scalars_in_fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and value of every scalar in a field."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield from scalars_in_fields(child, (*path, name))
    elif isinstance(value, list):
        for child in value:
            yield from scalars_in_fields(child, path)
    elif path:
        yield path, value
