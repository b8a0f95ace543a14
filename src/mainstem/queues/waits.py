"""Positions that wait for a time: backoff after a failure, and events that are due later.

Owns: the protocol of such an index, and one in memory. An index that keeps far times elsewhere implements the
same protocol. Refuses: timers; the caller asks with the present time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Protocol

from mainstem.queues.delay_run import ENTRY_BYTES, pack_entry, unpack_entries

PACKED_ENTRIES = 4_096
"""Entries that are packed together."""


class WaitingPositions(Protocol):
    """An index of (due time, position). Times are in milliseconds since 1970."""

    def add(self, due_ms: int, position: int) -> None:
        """The position waits from now on, until it is due. It must not be waiting yet."""

    def cancel(self, position: int) -> None:
        """The position, which waits, does so no more, although it is not due."""

    def pop_due(self, now_ms: int, max_entries: int | None = None) -> list[int]:
        """Removes and returns the positions that are due by now, the earliest first; of at most `max_entries`
        entries, those of cancelled ones too. None: all."""

    def next_due_ms(self) -> int | None:
        """No position is due before this time; None if none waits."""

    def entries(self) -> Iterable[tuple[int, int]]:
        """(due time, position) of all that wait at the moment of the call, in any order. It can be read once,
        later too."""

    def packed(self) -> Iterator[bytes]:
        """As `entries`, as bytes (`delay_run.pack_entry`), in parts of which each is sorted."""

    def load(self, data: bytes) -> None:
        """Add a part that `packed` has returned. ValueError: it is damaged."""

    def __len__(self) -> int:
        """How many wait."""

    def clear(self) -> None:
        """Forgets all."""


class WaitHeap:
    """The index as a heap in memory: about 130 bytes a position that waits.

    Cancelled entries stay in the heap until they would be due. So that such an entry cannot wake a position
    that waits anew, a position that was cancelled has its valid due time beside the heap while old entries of
    it are there; and when half of the heap is cancelled, it is made anew.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._overrides: dict[int, tuple[int | None, int]] = {}
        """Position -> (the due time that counts, or None; its entries in the heap)."""
        self._stale = 0  # entries in the heap that do not count

    def __len__(self) -> int:
        return len(self._heap) - self._stale

    def add(self, due_ms: int, position: int) -> None:
        """See `WaitingPositions`."""
        if (override := self._overrides.get(position)) is not None:
            self._overrides[position] = (due_ms, override[1] + 1)
        heappush(self._heap, (due_ms, position))

    def cancel(self, position: int) -> None:
        """See `WaitingPositions`."""
        _, entries = self._overrides.get(position, (None, 1))
        self._overrides[position] = (None, entries)
        self._stale += 1
        if self._stale > 64 and self._stale * 2 > len(self._heap):
            self._heap = list(self.entries())
            heapify(self._heap)
            self._overrides.clear()
            self._stale = 0

    def pop_due(self, now_ms: int, max_entries: int | None = None) -> list[int]:
        """See `WaitingPositions`."""
        heap, due = self._heap, []
        room = len(heap) if max_entries is None else max_entries
        while heap and heap[0][0] <= now_ms and room > 0:
            room -= 1
            due_ms, position = heappop(heap)
            if self._overrides and not self._counts(due_ms, position):
                self._stale -= 1
            else:
                due.append(position)
        return due

    def _counts(self, due_ms: int, position: int) -> bool:
        """Whether an entry that leaves the heap is valid."""
        override = self._overrides.get(position)
        if override is None:
            return True
        valid_ms, entries = override
        counts = valid_ms == due_ms
        if entries > 1:
            self._overrides[position] = (None if counts else valid_ms, entries - 1)
        else:
            del self._overrides[position]
        return counts

    def next_due_ms(self) -> int | None:
        """See `WaitingPositions`."""
        return self._heap[0][0] if self._heap else None

    def entries(self) -> Iterator[tuple[int, int]]:
        """See `WaitingPositions`."""
        return _valid_entries(self._heap[:], dict(self._overrides))

    def packed(self) -> Iterator[bytes]:
        """See `WaitingPositions`."""
        return _packed(self.entries())

    def load(self, data: bytes) -> None:
        """See `WaitingPositions`."""
        if len(data) % ENTRY_BYTES:
            raise ValueError(f"{len(data)} bytes are no waiting events")
        for due_ms, _, position in unpack_entries(data):
            self.add(due_ms, position)

    def clear(self) -> None:
        """See `WaitingPositions`."""
        self._heap.clear()
        self._overrides.clear()
        self._stale = 0


def _packed(entries: Iterator[tuple[int, int]]) -> Iterator[bytes]:
    while part := list(islice(entries, PACKED_ENTRIES)):
        yield b"".join(sorted(pack_entry(due_ms, 0, position) for due_ms, position in part))


def _valid_entries(
    heap: list[tuple[int, int]], overrides: dict[int, tuple[int | None, int]]
) -> Iterator[tuple[int, int]]:
    seen: set[int] = set()
    for due_ms, position in heap:
        if (override := overrides.get(position)) is not None:
            if override[0] != due_ms or position in seen:
                continue
            seen.add(position)
        yield due_ms, position
