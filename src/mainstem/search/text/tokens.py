"""Splits events into tokens and fields, and lists the tokens that a token filter must have.

Owns: what a token is, and which tokens of an event a token filter has. `Matcher.required_tokens` is correct
only for filters that have everything that `filter_tokens` returns. Refuses: to test whether an event matches
(`match/`), and to write filters (`blocks/token_filter.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from mainstem.log.storage.record_batch import Record
from mainstem.search.text.numbers import SpelledNumber
from mainstem.search.text.payload import NOT_JSON, decode_for_matching, json_part, looks_like_json, text_of

Scalar: TypeAlias = str | int | float | bool | None

_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf"  # Thai, Lao
    "\u1000-\u103f\u1050-\u109d\u1780-\u17d3\u17d7\u17dc\u17dd"  # Burmese, Khmer
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"  # Korean
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u3099\u309a\u309d-\u309f"  # Japanese
    "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001b000-\U0001b167"
    "\u3105-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"  # Chinese
)
"""Characters of scripts whose words are written without spaces, or with endings attached: each is a token.
Their combining marks count too, because words differ in them."""
_ASCII_TOKEN = re.compile(r"[a-z0-9]+")
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
"""`\\w` without the underscore is what str.isalnum accepts."""
_RUN = re.compile(rf"(?:[^\W_]|[{_UNSPACED}])+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]").match

EXPONENT_TOKEN = "#e"
"""A token that a filter has if an event of its block has a number with an exponent: a search for 4711 must
read the block, because 4711 may be spelled 4.711e3. No other token contains a #."""

_EXPONENT = re.compile(r"(?:^|[\s:,\[])-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+(?=$|[\s,\]}])")


def tokens(text: str) -> list[str]:
    """The tokens of a text, case-folded, in order: the maximal runs of Unicode letters and digits
    (str.isalnum), and each single character of scripts that are written without spaces."""
    if text.isascii():
        return _ASCII_TOKEN.findall(text.lower())
    return [token.casefold() for token in _TOKEN.findall(text)]


def runs(text: str) -> list[str]:
    """The maximal runs of characters of tokens, case-folded, in order."""
    if text.isascii():
        return _ASCII_TOKEN.findall(text.lower())
    return [run.casefold() for run in _RUN.findall(text)]


def is_unspaced(character: str) -> bool:
    """Whether a character is a token of its own."""
    return _IS_UNSPACED(character) is not None


def scalar_text(scalar: Scalar) -> str:
    """A scalar as text: strings unchanged, numbers as spelled, otherwise true, false or null."""
    if isinstance(scalar, str):
        return scalar
    if scalar is None:
        return "null"
    if isinstance(scalar, bool):
        return "true" if scalar else "false"
    return str(scalar)


def scalars(value: Any) -> Iterator[Scalar]:
    """Every scalar of a parsed JSON value, in no particular order. Field names are not scalars."""
    stack = [value]
    while stack:
        value = stack.pop()
        kind = type(value)
        if kind is dict:
            stack.extend(value.values())
        elif kind is list:
            stack.extend(value)
        else:
            yield value


def fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Scalar]]:
    """Yield every scalar that lies in a field of a parsed JSON value, with its path: the names of the fields
    around it, from the outermost to the innermost. The scalars of an array have the path of the array. `path`
    is that of the value itself."""
    stack: list[tuple[tuple[str, ...], Any]] = [(path, value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack.extend(((*path, name), child) for name, child in reversed(value.items()))
        elif isinstance(value, list):
            stack.extend((path, child) for child in reversed(value))
        elif path:
            yield path, value


def filter_tokens(record: Record) -> set[str]:
    """The tokens that a token filter must have for this event, and perhaps further ones, such as field names.

    A JSON payload without a backslash is not parsed: it contains the text of every scalar unchanged, and
    between scalars only characters that are neither letters nor digits (quotes, brackets, colons, commas,
    blanks). So the tokens of the whole payload are those of its scalars and of its field names.
    """
    event_tokens: set[str] = set()
    if record.value is not None:
        event_tokens.update(_payload_tokens(record.value))
    if record.key is not None:
        event_tokens.update(tokens(text_of(record.key)))
    for _, value in record.headers:
        if value is not None:
            event_tokens.update(tokens(text_of(value)))
    return event_tokens


def _payload_tokens(value: bytes) -> Iterator[str]:
    part = json_part(value)
    if len(part) < len(value):
        yield from _payload_tokens(part)
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
        elif type(scalar) is str and looks_like_json(scalar):
            yield from _payload_tokens(scalar.encode())
