"""Words of events: tokens, fields, and what goes into a token filter.

Owns: what a token is, the walk over a JSON payload's scalars, and `filter_tokens`, which is the one source of
a block's token filter: `Matcher.required_tokens` is right only for filters that hold all it yields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from mainstem.log.storage.record_batch import Record
from mainstem.search.text.numbers import SpelledNumber
from mainstem.search.text.payload import NOT_JSON, decode_for_matching, text_of

Scalar: TypeAlias = str | int | float | bool | None

_RUN = re.compile(r"[^\W_]+")
"""`\\w` is what str.isalnum takes, and the underscore."""

EXPONENT_TOKEN = "#e"
"""In the filter of a block that has a number with an exponent: 4711 may stand there as 4.711e3. No token
holds a #."""

_EXPONENT = re.compile(r"(?:^|[\s:,\[])-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+(?=$|[\s,\]}])")


def tokens(text: str) -> list[str]:
    """The maximal runs of Unicode letters and digits of a text (str.isalnum), each case-folded, in their
    order."""
    if text.isascii():
        return _RUN.findall(text.lower())
    return [run.casefold() for run in _RUN.findall(text)]


def scalar_text(scalar: Scalar) -> str:
    """A scalar as text: strings as they are, numbers as they are spelled, else true, false, null."""
    if isinstance(scalar, str):
        return scalar
    if scalar is None:
        return "null"
    if isinstance(scalar, bool):
        return "true" if scalar else "false"
    return str(scalar)


def scalars(value: Any) -> Iterator[Scalar]:
    """Every scalar of a parsed JSON value, in no promised order. Field names are none."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is dict:
            waiting.extend(value.values())
        elif kind is list:
            waiting.extend(value)
        else:
            yield value


def fields(value: Any) -> Iterator[tuple[tuple[str, ...], Scalar]]:
    """(path, scalar) of every scalar that lies in a field, also inside arrays, which a path does not show.

    `query.format_path` writes a path as it stands in a query."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(((*path, name), below) for name, below in reversed(value.items()))
        elif isinstance(value, list):
            waiting.extend((path, below) for below in reversed(value))
        elif path:
            yield path, value


def filter_tokens(record: Record) -> set[str]:
    """All that a token filter must hold of an event, and sometimes more (names of fields): never less.

    Without a backslash in it, a JSON payload needs no parsing. Every scalar's text then stands in it as it
    is, between characters that are neither letters nor digits (quotes, brackets, colons, commas, blanks), so
    that the tokens of the whole are the tokens of all scalars and of all names.
    """
    found: set[str] = set()
    if record.value is not None:
        found.update(_payload_tokens(record.value))
    if record.key is not None:
        found.update(tokens(text_of(record.key)))
    for _, value in record.headers:
        if value is not None:
            found.update(tokens(text_of(value)))
    return found


def _payload_tokens(value: bytes) -> Iterator[str]:
    text = text_of(value)
    if "\\" not in text:
        yield from tokens(text)
        if _EXPONENT.search(text):
            yield EXPONENT_TOKEN
        return
    try:
        parsed = decode_for_matching(value)
    except NOT_JSON:
        yield from tokens(text)
        return
    for scalar in scalars(parsed):
        yield from tokens(scalar_text(scalar))
        if type(scalar) is SpelledNumber and "e" in scalar.lower():
            yield EXPONENT_TOKEN
