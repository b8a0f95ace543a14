"""Counting values of fields over matches, in bounded memory.

Owns: which fields an event has, the counters and how they are merged. Refuses: to grow: a field
with more different values than VALUES_MAX loses its rarest ones, so that what is told stays exact for fields
with fewer and true for frequent values of the others. Used by the workers and by both kinds of search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mainstem.log.storage.record_batch import Record
from mainstem.search.query.ast import TermTarget
from mainstem.search.query.format import format_path, format_target
from mainstem.search.text import payload, tokens

if TYPE_CHECKING:
    from mainstem.search.contract import Value  # workers need nothing else of it

VALUES_MAX = 10_000
FIELDS_MAX = 200
VALUE_CHARACTERS_MAX = 200


class FieldValueCounter:
    """Counters of some fields, or (none given) of all that come, up to FIELDS_MAX."""

    def __init__(self, fields: Sequence[str] = ()) -> None:
        self._fields = frozenset(fields)
        self.counters: dict[str, Counter[str]] = {name: Counter() for name in fields}

    def add(self, topic: str, partition: int, record: Record) -> None:
        """Count an event: each value of a field once."""
        for name, value in set(_values(topic, partition, record)):
            if not self._fields or name in self._fields:
                self._count(name, value, 1)

    def merge(self, other: Mapping[str, Mapping[str, int]]) -> None:
        """Add what another one has counted."""
        for name, values in other.items():
            for value, count in values.items():
                self._count(name, value, count)

    def _count(self, name: str, value: str, count: int) -> None:
        counter = self.counters.get(name)
        if counter is None:
            if len(self.counters) >= FIELDS_MAX:
                return
            counter = self.counters[name] = Counter()
        counter[value] += count
        if len(counter) > 2 * VALUES_MAX:
            self.counters[name] = Counter(dict(counter.most_common(VALUES_MAX)))

    def top(self, most: int) -> dict[str, list[Value]]:
        """The most frequent values of each field; equal ones by their text."""
        return {
            name: sorted(counter.items(), key=lambda each: (-each[1], each[0]))[:most]
            for name, counter in self.counters.items()
        }


def _values(topic: str, partition: int, record: Record) -> Iterator[tuple[str, str]]:
    yield "topic", topic
    yield "partition", str(partition)
    if record.key is not None:
        yield "key", _text(record.key)
    for name, content in record.headers:
        if content is not None:
            yield format_target(TermTarget("header", (name,))), _text(content)
    found = payload.decode(record.value)
    if found.kind == "json":
        for path, scalar in tokens.fields(found.parsed):
            yield format_path(path), tokens.scalar_text(scalar)[:VALUE_CHARACTERS_MAX]


def _text(content: bytes) -> str:
    return payload.text_of(content)[:VALUE_CHARACTERS_MAX]
