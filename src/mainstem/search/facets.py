"""Counts the values of fields over matching events, in bounded memory.

A field with more than VALUES_MAX different values loses its rarest ones. Counts stay exact for fields with
fewer values, and close for the frequent values of the others.
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
    from mainstem.search.contract import ValueCount  # only for types: workers start faster without it

VALUES_MAX = 10_000
FIELDS_MAX = 200
VALUE_CHARACTERS_MAX = 200


class FieldValueCounter:
    """Counts the values of the given fields; without any, of the first FIELDS_MAX fields of the events."""

    def __init__(self, fields: Sequence[str] = ()) -> None:
        self._fields = frozenset(fields)
        self.counters: dict[str, Counter[str]] = {name: Counter() for name in fields}

    def add(self, topic: str, partition: int, record: Record) -> None:
        """Count the values of a matching event. A value that a field has several times counts once."""
        for name, value in set(_values(topic, partition, record)):
            if not self._fields or name in self._fields:
                self._count(name, value, 1)

    def merge(self, other: Mapping[str, Mapping[str, int]]) -> None:
        """Add the counts of another counter, by field and value, as a search worker returns them."""
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

    def top(self, limit: int) -> dict[str, list[ValueCount]]:
        """The most frequent values of each field, at most `limit`. Equal counts are ordered by value."""
        return {
            name: sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:limit]
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
    decoded = payload.decode(record.value)
    if decoded.kind == "json":
        for path, scalar in tokens.fields(decoded.parsed):
            yield format_path(path), tokens.scalar_text(scalar)[:VALUE_CHARACTERS_MAX]


def _text(content: bytes) -> str:
    return payload.text_of(content)[:VALUE_CHARACTERS_MAX]
