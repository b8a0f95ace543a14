"""One event while it is matched: read only as far as the query asks.

Owns: the lazy decoding of an event, and the walk along a field's path.

The fields that a query names are first read alone: msgspec then skips the rest in C, 3 times as fast. It does
not check all of what it skips (UTF-8, for one), and an event whose payload is not JSON has no fields; so a
field that matches counts only after `is_json`. One that does not match needs no such check: either way it
does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from mainstem.log.storage.record_batch import Record
from mainstem.search.match.values import ScalarTest
from mainstem.search.text.numbers import SpelledNumber
from mainstem.search.text.payload import NOT_JSON, decode_for_matching, text_of
from mainstem.search.text.tokens import scalar_text

_UNREAD: Any = object()
_SURELY_SHORT = 4_000
"""No number in so few bytes is too long for msgspec, and no nesting too deep for what follows."""


class FieldReader:
    """Reads the fields that a query names, by their outermost names."""

    def __init__(self, names: Iterable[str]) -> None:
        # msgspec takes no names that JSON would have to escape: those are found the slow way.
        plain = [name for name in dict.fromkeys(names) if not any(at < " " or at in '"\\' for at in name)]
        self.attributes = {name: f"f{number}" for number, name in enumerate(plain)}
        row = msgspec.defstruct(
            "Row",
            [(attribute, Any, msgspec.UNSET) for attribute in self.attributes.values()],
            rename={attribute: name for name, attribute in self.attributes.items()},
            gc=False,
        )
        self.decode = msgspec.json.Decoder(row, float_hook=SpelledNumber).decode


class EventView:
    """An event and what is known of it so far."""

    __slots__ = ("_row", "_tree", "partition", "record", "topic")

    def __init__(self, topic: str, partition: int, record: Record) -> None:
        self.topic = topic
        self.partition = partition
        self.record = record
        self._row = self._tree = _UNREAD

    def row(self, reader: FieldReader) -> Any:
        """The named fields of an object; None where that is not known (no object, no payload, not JSON).

        One query has one reader."""
        if self._row is _UNREAD:
            try:
                self._row = None if self.record.value is None else reader.decode(self.record.value)
            except NOT_JSON:
                self._row = None
        return self._row

    def tree(self) -> Any:
        """The payload as JSON, numbers as spelled; UNSET where it is none."""
        if self._tree is _UNREAD:
            try:
                self._tree = (
                    msgspec.UNSET if self.record.value is None else decode_for_matching(self.record.value)
                )
            except NOT_JSON:
                self._tree = msgspec.UNSET
        return self._tree

    def is_json(self) -> bool:
        """Whether all of the payload is JSON, given that `row` has read it."""
        value = self.record.value
        assert value is not None
        if len(value) < _SURELY_SHORT and value.isascii() and b"\\" not in value:
            return True
        return self.tree() is not msgspec.UNSET

    def texts(self) -> Iterator[str]:
        """Every text of the event: scalars of a JSON payload or the payload's text, key, header values."""
        record, tree = self.record, self.tree()
        if tree is not msgspec.UNSET:
            waiting = [tree]
            while waiting:  # `scalars`, in line: all of this is for the many strings of large payloads
                value = waiting.pop()
                kind = type(value)
                if kind is str:
                    yield value
                elif kind is dict:
                    waiting.extend(value.values())
                elif kind is list:
                    waiting.extend(value)
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
    """Whether a scalar at the end of the path passes the test. Arrays are looked through at every step."""
    waiting = [(value, 0)]
    depth = len(path)
    while waiting:
        value, at = waiting.pop()
        kind = type(value)
        if kind is list:
            waiting.extend((below, at) for below in value)
        elif kind is dict:
            if at < depth and path[at] in value:
                waiting.append((value[path[at]], at + 1))
        elif at == depth and test(value):
            return True
    return False


def path_exists(value: Any, path: tuple[str, ...]) -> bool:
    """Whether there is anything but null at the end of the path; an array or object counts, even an empty
    one."""
    waiting = [(value, 0)]
    while waiting:
        value, at = waiting.pop()
        if at == len(path):
            if value is not None:
                return True
        elif type(value) is list:
            waiting.extend((below, at) for below in value)
        elif type(value) is dict and path[at] in value:
            waiting.append((value[path[at]], at + 1))
    return False
