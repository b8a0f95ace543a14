"""The state of key order, and what can be asked about it; `keys.py` changes it.

Owns: the fields, and questions. Refuses: rules about what is leased next.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from heapq import heappop

from mainstem.queues.key_lines import KeyLine, KeyOwner

PARKED_MAX = 100_000
"""Default of how many events may be parked behind others of their key."""
ROW_MAX = 10_000
"""How many events may be parked one after another without an event of a key that is free."""
SLOT_BITS = 20
"""At most 2**20 consumers have events of a view."""
SLOT_MASK = (1 << SLOT_BITS) - 1


class KeyState:
    """What is outstanding, by position and by key. Every position is in at most one of these places: unread
    (added, not looked at), leased, or pending (parked, given back, or waiting for a time)."""

    def __init__(self, parked_max: int = PARKED_MAX, row_max: int = ROW_MAX) -> None:
        self._parked_max = parked_max
        self._row_max = row_max
        self._lines: dict[int, KeyLine] = {}
        """By key: those of busy keys, without the keys in `_singles`."""
        self._singles: dict[int, int] = {}
        """Key with a single outstanding event, which is leased -> position << 20 | slot of its owner."""
        self._leased: dict[int, KeyLine | int] = {}
        """By position: its line, or its key if that is in `_singles`."""
        self._pending: dict[int, KeyLine] = {}
        self._waiting: set[int] = set()
        """Those of `_pending` that wait for a time."""
        self._owners: dict[str, KeyOwner] = {}
        self._slots: list[KeyOwner | None] = []
        self._free_slots: list[int] = []
        self._free_heads: list[int] = []
        """Heap: the first events of keys of which none is leased. Entries may be outdated."""
        self._row = 0
        """How many events in a row were parked and are parked still."""
        self._last = -1
        """The highest position that was added."""
        self._unread = array("q")
        self._unread_keys = array("q")
        self._unread_start = 0
        self._unread_done: set[int] = set()
        """Those of `_unread` that are done."""

    # ------------------------------------------------------------------------------------------------------
    # what a view asks

    @property
    def unread(self) -> int:
        """How many events were added and not looked at yet."""
        return len(self._unread) - self._unread_start - len(self._unread_done)

    @property
    def parked(self) -> int:
        """How many events are neither leased nor unread nor wait for a time: they were given back, or are
        behind an earlier event of their key. When their key becomes free they count until they are leased."""
        return len(self._pending) - len(self._waiting)

    @property
    def waiting(self) -> int:
        """How many events wait for a time."""
        return len(self._waiting)

    @property
    def busy_keys(self) -> int:
        """How many keys have something leased, parked or waiting. An event without a key counts as a key."""
        return len(self._lines) + len(self._singles)

    @property
    def is_full(self) -> bool:
        """Whether the scan is to stop: more events would only be parked. False again when a key has become
        free or fewer are parked."""
        return self._row >= self._row_max or self.parked >= self._parked_max

    def knows(self, position: int) -> bool:
        """Whether it was added and is not done."""
        return self._is_outstanding(position) or self._is_unread(position)

    def is_leased(self, position: int) -> bool:
        """Whether a consumer has it."""
        return position in self._leased

    def is_parked(self, position: int) -> bool:
        """Whether it counts in `parked`."""
        return position in self._pending and position not in self._waiting

    def blocker(self, position: int) -> int | None:
        """The earliest outstanding event of the same key before this one; None: there is none, or the
        position is unread or unknown."""
        line = self._pending.get(position) or self._leased.get(position)
        if not isinstance(line, KeyLine):
            return None
        live = (p for p in line.positions if self._pending.get(p) is line or self._leased.get(p) is line)
        return min((p for p in live if p < position), default=None)

    def may_take(self, consumer: str) -> bool:
        """Whether `KeyOrder.take` may return something for this consumer. False is certain."""
        owner = self._owners.get(consumer)
        if self._top(self._free_heads, None) is not None:
            return True
        if owner is not None and self._top(owner.heads, owner) is not None:
            return True
        index = self._unread_start
        while index < len(self._unread) and self._unread[index] in self._unread_done:
            index += 1
        if index == len(self._unread):
            return False
        key = self._unread_keys[index]
        line, packed = self._lines.get(key), self._singles.get(key)
        holder = line.owner if line is not None else None
        if packed is not None:
            holder = self._slots[packed & SLOT_MASK]
        return holder is None or holder is owner or not self.is_full

    def _is_outstanding(self, position: int) -> bool:
        return position in self._leased or position in self._pending

    def _is_unread(self, position: int) -> bool:
        index = bisect_left(self._unread, position, self._unread_start)
        is_there = index < len(self._unread) and self._unread[index] == position
        return is_there and position not in self._unread_done

    def _top(self, heads: list[int], owner: KeyOwner | None) -> int | None:
        """The first entry of a heap that is still the head of a line of this owner, and ready."""
        while heads:
            position = heads[0]
            line = self._pending.get(position)
            is_offered = line is not None and line.owner is owner and position not in self._waiting
            if is_offered and line is not None and self._head(line) == position:
                return position
            heappop(heads)
        return None

    def _head(self, line: KeyLine) -> int | None:
        """The first pending event of a line. Steps over those that are done."""
        positions, pending = line.positions, self._pending
        index = line.next
        while index < len(positions) and pending.get(positions[index]) is not line:
            index += 1
        line.next = index
        return positions[index] if index < len(positions) else None
