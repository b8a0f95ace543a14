"""A stored run of waiting events, the store of such runs, and what waited at a moment.

Owns: what of a run is in memory. Refuses: to decide what is due (`delays.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from mainstem.queues.delay_run import (
    BLOCK_ENTRIES,
    ENTRY_BYTES,
    HEADER_BYTES,
    DamagedDelayRun,
    block_range,
    decode_block,
    decode_header,
    unpack_entries,
)

CANCEL_PAGE = 4096
"""Positions whose cancellations share one number."""


class RunStore(Protocol):
    """Where runs are. Nothing has to be durable: a run that is lost is damage, and the index is built
    anew."""

    def write(self, run_id: int, data: bytes) -> None:
        """Store a run under a number that is not in use. OSError: it is not stored."""

    def read(self, run_id: int, start: int, size: int) -> bytes:
        """These bytes of a run; fewer or none where it ends or is not there."""

    def delete(self, run_id: int) -> None:
        """The run is not needed any more; nothing happens if it is not there."""


class BlockRead(NamedTuple):
    """A part of a run that is needed soon."""

    run_id: int
    block: int
    start: int
    size: int
    """In bytes, as `RunStore.read` takes them."""


class StoredRun:
    """A run, and how far it is popped."""

    __slots__ = ("blocks", "entries", "firsts", "floor", "id", "next")

    def __init__(self, run_id: int, data: bytes) -> None:
        """`data`: its entries."""
        self.id = run_id
        self.entries = len(data) // ENTRY_BYTES
        self.next = 0
        """Index of the first entry that is not popped."""
        self.floor = data[:ENTRY_BYTES]
        """That entry."""
        block_bytes = BLOCK_ENTRIES * ENTRY_BYTES
        self.firsts = [data[start : start + ENTRY_BYTES] for start in range(0, len(data), block_bytes)]
        """The first entry of each block."""
        self.blocks: dict[int, bytes] = {}
        """The blocks that are in memory: that with the next entry, and perhaps the one after it."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(block_range(self.entries, len(self.firsts) - 1))

    def read(self, number: int) -> BlockRead:
        """Where a block is; the first one with the header before it."""
        start, size = block_range(self.entries, number)
        return BlockRead(self.id, number, start, size) if number else BlockRead(self.id, 0, 0, start + size)

    def decode(self, number: int, data: bytes) -> bytes:
        """The entries of a block that was read so.

        Raises:
            DamagedDelayRun: it is not what was written.
        """
        if number == 0:
            header = decode_header(self.id, data)
            if header.entries != self.entries:
                raise DamagedDelayRun(self.id, f"has {header.entries} entries, not {self.entries}")
            data = data[HEADER_BYTES:]
        return decode_block(self.id, self.entries, number, data)


class WaitingMoment:
    """What waited at a moment, for a reader of `entries`."""

    def __init__(
        self,
        heap: list[bytes],
        runs: list[StoredRun],
        cancelled: dict[int, int],
        revised: dict[int, tuple[int | None, int]],
    ) -> None:
        self.heap = heap
        self.runs = [(run, run.next) for run in runs]
        self.deleted: dict[int, bytes] = {}
        """The bytes of those runs that the store has no more."""
        self.orphans: list[int] = []
        """Those of its runs that are not needed any more when it is read."""
        self._cancelled = dict(cancelled)
        self._revised = dict(revised)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was cancelled."""
        return not self._cancelled and not self._revised

    def alive(self, entries: Iterable[bytes]) -> Iterator[tuple[int, int]]:
        """(due time, position) of those that are not cancelled."""
        for packed in entries:
            due_ms, _, position = unpack_entries(packed)[0]
            page, bit = divmod(position, CANCEL_PAGE)
            if self._cancelled.get(page, 0) >> bit & 1:
                continue
            if position in self._revised:
                if self._revised[position][0] != due_ms:
                    continue
                # An older entry may have the same time.
                self._revised[position] = (None, 0)
            yield due_ms, position
