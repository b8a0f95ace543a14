"""Decodes an event lazily while it is matched: only the parts that the query tests.

Owns: the decoded parts of one event, and looking up paths in them. Refuses: to decide whether a value matches
(`values.py`).

The fields that a query names are decoded alone first; msgspec skips the others in C, which is 3 times as
fast. It does not check everything that it skips (UTF-8, for example), and an event whose payload is not JSON
has no fields. So a field that matches counts only if `is_json` confirms the payload. A field that does not
match needs no confirmation, because the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from mainstem.log.storage.record_batch import Record
from mainstem.search.match.values import ScalarTest
from mainstem.search.text.numbers import SpelledNumber
from mainstem.search.text.payload import NOT_JSON, json_of, json_part, looks_like_json, text_of
from mainstem.search.text.tokens import scalar_text

UNREAD: Any = object()
_SURELY_SHORT = 4_000
"""Bytes. A shorter payload has no number too long for msgspec and no nesting too deep for it."""


def is_plain_name(name: str) -> bool:
    """Whether msgspec can decode a field of this name to an attribute: it rejects names that JSON would have
    to escape."""
    return not any(character < " " or character in '"\\' for character in name)


class QueryFieldReader:
    """Decodes the fields that a query names, selected by their outermost names."""

    def __init__(self, names: Iterable[str]) -> None:
        plain = filter(is_plain_name, dict.fromkeys(names))  # the others are read from the whole tree
        self.attributes = {name: f"f{number}" for number, name in enumerate(plain)}
        row = msgspec.defstruct(
            "Row",
            [(attribute, Any, msgspec.UNSET) for attribute in self.attributes.values()],
            rename={attribute: name for name, attribute in self.attributes.items()},
            gc=False,
        )
        self.decode = msgspec.json.Decoder(row, float_hook=SpelledNumber).decode


class EventView(msgspec.Struct, gc=False):
    """An event with the parts of it that are decoded so far. A Struct, because one is made for each event
    that a search tests."""

    topic: str
    partition: int
    record: Record
    fields: Any = UNREAD
    """What `row` has returned; UNREAD before its first call."""
    _tree: Any = UNREAD

    def row(self, reader: QueryFieldReader) -> Any:
        """The decoded fields that the query names, as attributes; None if the payload is no JSON object. All
        calls must pass the same reader, because the result is kept."""
        if self.fields is UNREAD:
            try:
                self.fields = (
                    None if self.record.value is None else reader.decode(json_part(self.record.value))
                )
            except NOT_JSON:
                self.fields = None
        return self.fields

    def tree(self) -> Any:
        """The payload as JSON, numbers as spelled; UNSET if it is not JSON."""
        if self._tree is UNREAD:
            self._tree = json_of(self.record.value)
        return self._tree

    def is_json(self) -> bool:
        """Whether the whole payload is JSON. Call it only after `row` has returned fields."""
        value = self.record.value
        assert value is not None
        if len(value) < _SURELY_SHORT and value.isascii() and b"\\" not in value:
            return True
        return self.tree() is not msgspec.UNSET

    def texts(self) -> Iterator[str]:
        """Every text of the event: the scalars of a JSON payload or else its text, the key, header values."""
        record, tree = self.record, self.tree()
        if tree is not msgspec.UNSET:
            stack = [tree]
            while stack:  # `tokens.scalars` inlined, for speed on payloads with many strings
                value = stack.pop()
                kind = type(value)
                if kind is str:
                    yield value
                elif kind is dict:
                    stack.extend(value.values())
                elif kind is list:
                    stack.extend(value)
                else:
                    yield scalar_text(value)
        elif record.value is not None:
            yield text_of(record.value)
        if record.key is not None:
            yield text_of(record.key)
        for _, value in record.headers:
            if value is not None:
                yield text_of(value)


def path_matches(value: Any, path: tuple[str, ...], test: ScalarTest) -> bool:
    """Whether a scalar at the end of the path passes the test. Arrays on the way are searched, and JSON that
    was written into a string."""
    stack = [(value, 0)]
    path_length = len(path)
    while stack:
        value, depth = stack.pop()
        kind = type(value)
        if kind is list:
            stack.extend((child, depth) for child in value)
        elif kind is dict:
            if depth < path_length and path[depth] in value:
                stack.append((value[path[depth]], depth + 1))
        elif depth == path_length:
            if test(value):
                return True
        elif kind is str and looks_like_json(value):
            stack.append((json_of(value.encode()), depth))
    return False


def path_exists(value: Any, path: tuple[str, ...]) -> bool:
    """Whether a value other than null is at the end of the path. Empty arrays and objects count."""
    stack = [(value, 0)]
    while stack:
        value, depth = stack.pop()
        if depth == len(path):
            if value is not None:
                return True
        elif type(value) is list:
            stack.extend((child, depth) for child in value)
        elif type(value) is dict and path[depth] in value:
            stack.append((value[path[depth]], depth + 1))
        elif type(value) is str and looks_like_json(value):
            stack.append((json_of(value.encode()), depth))
    return False
