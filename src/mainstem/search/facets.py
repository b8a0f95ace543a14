"""The counts of facets: the values of fields over matching events, in bounded memory.

Owns: what counts as one value, and a state that can be merged, whichever worker has counted which events.
Values that are equal count as one: numbers by their exact value (1.10 and 1.1), all others by their text. A
number is shown as it was spelled first, so that a search for what is shown finds what was counted. Refuses:
to read events (`match/field_counter.py`).

A field with more than VALUES_MAX different values loses its rarest ones. Counts stay exact for fields with
fewer values, and close for the frequent values of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nlargest, nsmallest
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from mainstem.search.contract import ValueCount  # only for types: workers start faster without it

VALUES_MAX = 10_000
FIELDS_MAX = 200
VALUE_CHARACTERS_MAX = 200


class FieldCounts(msgspec.Struct, array_like=True):
    """The values of one field with their number of events, as workers return them."""

    texts: dict[str, int]
    """Values other than numbers, and numbers without an exact value."""
    numbers: dict[str, int]
    """Numbers, in their canonical spelling."""
    spellings: dict[str, str]
    """How numbers are shown, if not in their canonical spelling."""

    def merge(self, other: FieldCounts) -> None:
        """Add the counts of other events."""
        for value, spelling in other.spellings.items():
            if value not in self.numbers:
                self.spellings[value] = spelling
        for mine, others in ((self.texts, other.texts), (self.numbers, other.numbers)):
            for value, count in others.items():
                mine[value] = mine.get(value, 0) + count
        self.prune()

    def split(self, size: int) -> Iterator[FieldCounts]:
        """The same counts in parts of at most `size` values."""
        for is_number, mine in ((False, self.texts), (True, self.numbers)):
            values = iter(mine.items())
            while part := dict(islice(values, size)):
                spellings = {value: self.spellings[value] for value in part if value in self.spellings}
                yield FieldCounts({}, part, spellings) if is_number else FieldCounts(part, {}, {})

    def prune(self) -> None:
        """Drop the rarest values if there are far too many."""
        if len(self.texts) + len(self.numbers) <= 2 * VALUES_MAX:
            return
        for mine in (self.texts, self.numbers):
            frequent = nlargest(VALUES_MAX, mine.items(), key=lambda item: item[1])
            mine.clear()
            mine.update(frequent)
        self.spellings = {
            value: spelling for value, spelling in self.spellings.items() if value in self.numbers
        }

    def shown(self, spellings: Mapping[str, str]) -> dict[str, int]:
        """The counts by the values as they are shown, with these spellings of numbers."""
        shown = dict(self.texts)
        for value, count in self.numbers.items():
            text = spellings.get(value, value)
            shown[text] = shown.get(text, 0) + count
        return shown


class FacetCounts:
    """The counts of all fields: the given ones, or without any the first FIELDS_MAX that are merged."""

    def __init__(self, fields: Sequence[str] = ()) -> None:
        self.fields: dict[str, FieldCounts] = {name: FieldCounts({}, {}, {}) for name in fields}
        self._is_open = not fields

    def merge(self, other: Mapping[str, FieldCounts]) -> None:
        """Add the counts of other events, by field. `other` must not be used any more."""
        for name, counts in other.items():
            mine = self.fields.get(name)
            if mine is not None:
                mine.merge(counts)
            elif self._is_open and len(self.fields) < FIELDS_MAX:
                self.fields[name] = counts

    def top(
        self, name: str, limit: int, is_left_out: Callable[[str], bool] | None = None
    ) -> list[ValueCount]:
        """The most frequent values of a field, at most `limit`, without those that are left out. Equal counts
        are ordered by value."""
        counts = self.fields[name]
        shown = counts.shown(counts.spellings)
        if is_left_out is None:
            return nsmallest(limit, shown.items(), key=_rank)
        ranked = sorted(shown.items(), key=_rank)
        return list(islice((item for item in ranked if not is_left_out(item[0])), limit))


def _rank(item: ValueCount) -> tuple[int, str]:
    value, count = item
    return -count, value
