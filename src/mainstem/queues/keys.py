"""Key order: which events a view in key order may lease next.

Events of a key are offered in the order of their positions, to one consumer at a time. Later events of a key
may be leased to the consumer that has the earlier ones, so that the rate of a key does not depend on how fast
single events are acknowledged. If one of them comes back, the later ones come back with it, and nothing of
the key is leased until the earliest is. Events of other keys pass.

Owns: the line of outstanding events of each busy key, and the events that were added and not looked at yet.
A key is busy while an event of it is leased, waits for a time, is parked behind another, or was given back.
A key that is not busy takes no memory.

Refuses: to know states, leases, deadlines and counts (the view has them), and to survive a restart: keys are
derived from the log, so the view adds what is outstanding again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from heapq import heappop, heappush

from mainstem.queues.key_lines import KeyLine, KeyOwner
from mainstem.queues.key_state import SLOT_BITS, SLOT_MASK, KeyState
from mainstem.queues.runs import Run

KEY_END = 1 << 63
"""Key hashes are below this."""
_SMALL = 64
"""Lines with fewer dead entries are not compacted, nor the arrays of unread events with fewer read ones."""


class KeyOrder(KeyState):
    """Selects what is leased next."""

    # ------------------------------------------------------------------------------------------------------
    # what becomes outstanding

    def add(self, position: int, key: int | None) -> None:
        """The event is outstanding and may be leased.

        `key`: hash, 0 <= key < KEY_END; None: an event without a key, which waits for no other. Positions
        rise; a lower one than before (a redrive) joins its key's line in front of what is not leased. Adding
        what is outstanding changes nothing.

        Raises:
            ValueError: the key is out of range.
        """
        key = self._checked(position, key)
        if position > self._last:
            self._last = position
            self._unread.append(position)
            self._unread_keys.append(key)
        elif not self._is_outstanding(position):
            self._unread_done.discard(position)
            if not self._is_unread(position):
                self._join(position, key)

    def add_waiting(self, position: int, key: int | None) -> None:
        """As `add`, for an event that waits for a time: it and later events of its key are not leased before
        `wake`."""
        key = self._checked(position, key)
        if not self._is_outstanding(position) and not self._is_unread(position):
            self._last = max(self._last, position)
            self._waiting.add(position)
            self._join(position, key)

    def _checked(self, position: int, key: int | None) -> int:
        """The key; for an event without a key a number that no other has."""
        if key is None:
            return -1 - position
        if not 0 <= key < KEY_END:
            raise ValueError(f"a key hash is at least 0 and below 2**63, not {key}")
        return key

    def _join(self, position: int, key: int) -> None:
        """Make the event pending in its key's line."""
        line = self._line(key)
        if line is None:
            line = self._lines[key] = KeyLine(key)
        elif position <= line.high:
            # It may have been in the line before; a dead entry would come to life.
            self._compact(line)
        positions = line.positions
        if line.next == len(positions) or positions[-1] < position:
            line.is_mixed = line.is_mixed or (bool(positions) and positions[-1] > position)
            positions.append(position)
        else:
            index = bisect_left(positions, position, line.next)
            positions.insert(index, position)
            line.is_mixed = line.is_mixed or (index > 0 and positions[index - 1] > position)
        line.high = max(line.high, position)
        line.pending += 1
        self._pending[position] = line
        if self._head(line) == position:
            self._offer_head(line)

    # ------------------------------------------------------------------------------------------------------
    # lease

    def take(self, consumer: str, max_events: int) -> list[int]:
        """Leases at most this number of events to a consumer: always the lowest position that it may have.
        Events that it may not have are parked. Returns the positions, ascending."""
        owner = self._owners.get(consumer) or self._enter(consumer)
        taken: list[int] = []
        while len(taken) < max_events:
            heads = self._lowest(owner)
            end = heads[0] if heads else KEY_END
            if not self._read(owner, taken, max_events, end):
                self._take_ahead(owner, taken, max_events)
                break
            if not heads or len(taken) >= max_events:
                break
            self._lease_head(heappop(heads), owner)
            taken.append(end)
        if not owner.keys:
            self._leave(owner)
        return taken

    def _enter(self, consumer: str) -> KeyOwner:
        """A consumer that has nothing yet."""
        slot = self._free_slots.pop() if self._free_slots else len(self._slots)
        if slot > SLOT_MASK:
            raise ValueError(f"more than {slot} consumers have events")
        owner = self._owners[consumer] = KeyOwner(consumer, slot)
        self._slots[slot : slot + 1] = [owner]
        return owner

    def _leave(self, owner: KeyOwner) -> None:
        """The consumer has nothing any more."""
        del self._owners[owner.consumer]
        self._slots[owner.slot] = None
        self._free_slots.append(owner.slot)

    def _line(self, key: int) -> KeyLine | None:
        """The line of a key; made of its only event if it has none yet. None: the key is free."""
        packed = self._singles.pop(key, None)
        if packed is None:
            return self._lines.get(key)
        position = packed >> SLOT_BITS
        line = self._lines[key] = self._leased[position] = KeyLine(key)
        line.owner = self._slots[packed & SLOT_MASK]
        line.positions.append(position)
        line.high = position
        line.next = line.leased = 1
        return line

    def _take_ahead(self, owner: KeyOwner, taken: list[int], max_events: int) -> None:
        """The next unread event must not be parked: lease what is ready beyond it, as far as it is of keys
        that no unread event has."""
        unread_keys = set(self._unread_keys[self._unread_start :]) if len(taken) < max_events else set()
        behind: list[KeyLine] = []
        while len(taken) < max_events and (heads := self._lowest(owner)):
            position = heappop(heads)
            line = self._pending[position]
            if line.key in unread_keys:
                behind.append(line)
            else:
                self._lease_head(position, owner)
                taken.append(position)
        for line in behind:
            self._offer_head(line)

    def _lowest(self, owner: KeyOwner) -> list[int]:
        """The heap on top of which is the lowest event that a consumer may have; empty: there is none."""
        mine, free = self._top(owner.heads, owner), self._top(self._free_heads, None)
        if free is None or (mine is not None and mine < free):
            return owner.heads
        return self._free_heads

    def _offer_head(self, line: KeyLine) -> None:
        """Put the first pending event into the heap of those who may lease it, unless it waits for a time."""
        head = self._head(line)
        if head is not None and head not in self._waiting:
            heappush(self._free_heads if line.owner is None else line.owner.heads, head)

    def _lease_head(self, position: int, owner: KeyOwner) -> None:
        line = self._pending.pop(position)
        line.pending -= 1
        line.next += 1
        self._own(line, owner, position)
        self._row = max(0, self._row - 1)
        if line.pending:
            self._offer_head(line)

    def _own(self, line: KeyLine, owner: KeyOwner, position: int) -> None:
        self._leased[position] = line
        line.leased += 1
        if line.owner is None:
            line.owner = owner
            owner.keys += 1

    def _read(self, owner: KeyOwner, taken: list[int], max_events: int, end: int) -> bool:
        """Looks at unread events below `end`: leases or parks them. False: enough are leased, or the next one
        would have to be parked and must not be."""
        unread, keys, lines, singles = self._unread, self._unread_keys, self._lines, self._singles
        index, stop = self._unread_start, len(unread)
        is_through = True
        while index < stop and (position := unread[index]) < end:
            if len(taken) >= max_events:
                is_through = False
                break
            if self._unread_done and position in self._unread_done:
                self._unread_done.remove(position)
                index += 1
                continue
            key = keys[index]
            if key not in singles and key not in lines:
                singles[key] = position << SLOT_BITS | owner.slot
                self._leased[position] = key
                owner.keys += 1
                taken.append(position)
                self._row = 0
            elif self._extend(key, position, owner):
                taken.append(position)
            elif self.is_full:
                is_through = False
                break
            else:
                self._row += 1
                self._join(position, key)
            index += 1
        self._unread_start = index
        if index > _SMALL and index * 2 > stop:
            del unread[:index], keys[:index]
            self._unread_start = 0
        return is_through

    def _extend(self, key: int, position: int, owner: KeyOwner) -> bool:
        """Leases an unread event of a busy key, if this consumer has the key or none has it, and no earlier
        event of the key is pending."""
        line = self._line(key)
        assert line is not None
        if line.owner is not None and line.owner is not owner:
            return False
        if line.pending:
            head = self._head(line)
            assert head is not None
            if head < position:
                return False
        else:
            del line.positions[line.next :]  # dead
        positions = line.positions
        line.is_mixed = line.is_mixed or (line.next > 0 and positions[line.next - 1] > position)
        positions.insert(line.next, position)
        line.high = max(line.high, position)
        line.next += 1
        was_free = line.owner is None
        self._own(line, owner, position)
        if was_free and line.pending:
            self._offer_head(line)
        return True

    # ------------------------------------------------------------------------------------------------------
    # what happens to events that are outstanding

    def done(self, positions: Iterable[int]) -> None:
        """Acknowledged, rejected, purged: the events are not outstanding any more. A rejected event frees its
        key before its dead letter is written, for it is not offered again. Others are ignored."""
        for position in positions:
            line = self._leased.pop(position, None)
            if line is None:
                if position in self._pending:
                    self._remove_pending(position)
                elif self._is_unread(position):
                    self._unread_done.add(position)
            elif isinstance(line, KeyLine):
                line.leased -= 1
                live = line.leased + line.pending
                if not line.leased:
                    self._set_free(line)
                elif len(line.positions) - live > max(_SMALL, live):
                    self._compact(line)
            else:
                owner = self._slots[self._singles.pop(line) & SLOT_MASK]
                assert owner is not None
                owner.keys -= 1
                if not owner.keys:
                    self._leave(owner)

    def done_runs(self, runs: Iterable[Run]) -> None:
        """As `done`, for runs of positions, most of which may be unknown."""
        known = len(self._leased) + len(self._pending) + len(self._unread) - self._unread_start
        positions: list[int] = []
        for first, end in runs:
            if end - first <= known:
                positions += range(first, end)
            elif known:
                places = (self._leased, self._pending, self._unread[self._unread_start :])
                positions += [p for place in places for p in place if first <= p < end]
        self.done(positions)

    def give_back(self, positions: Iterable[int]) -> list[int]:
        """Leases of these events ended without an acknowledgement: they are at the head of their keys again.

        Returns, ascending, the later leased events of the same keys: their leases are void too, and they are
        offered again after them. Positions that are not leased are ignored.
        """
        return self._return(positions, is_waiting=False)

    def hold_back(self, positions: Iterable[int]) -> list[int]:
        """As `give_back`; the events (not those that are returned) wait for a time, until `wake`."""
        return self._return(positions, is_waiting=True)

    def wake(self, positions: Iterable[int]) -> None:
        """The time of these events has come. Those that do not wait are ignored."""
        for position in positions:
            if position in self._waiting:
                self._waiting.remove(position)
                line = self._pending[position]
                if self._head(line) == position:
                    self._offer_head(line)

    def _return(self, positions: Iterable[int], is_waiting: bool) -> list[int]:
        named = {position for position in positions if position in self._leased}
        first: dict[KeyLine, int] = {}
        for position in named:
            place = self._leased[position]
            line = place if isinstance(place, KeyLine) else self._line(place)
            assert line is not None
            index = self._leased_index(line, position)
            first[line] = min(index, first.get(line, index))
        returned: list[int] = []
        for line, index in first.items():
            returned += self._take_back(line, index, named if is_waiting else frozenset())
        return sorted(position for position in returned if position not in named)

    def _leased_index(self, line: KeyLine, position: int) -> int:
        if line.is_mixed:
            self._compact(line)
            return line.positions.index(position)
        return bisect_left(line.positions, position, 0, line.next)

    def _take_back(self, line: KeyLine, index: int, waiting: set[int] | frozenset[int]) -> list[int]:
        """Everything that is leased from this place of the line on becomes pending. Returns it."""
        returned = [p for p in line.positions[index : line.next] if self._leased.get(p) is line]
        for position in returned:
            del self._leased[position]
            self._pending[position] = line
            if position in waiting:
                self._waiting.add(position)
        line.leased -= len(returned)
        line.pending += len(returned)
        line.next = index
        if line.is_mixed:
            line.positions[index:] = sorted(line.positions[index:])
            line.is_mixed = line.positions != sorted(line.positions)
        if line.leased:
            self._offer_head(line)
        else:
            self._set_free(line)
        return returned

    def _set_free(self, line: KeyLine) -> None:
        """None of the line is leased any more."""
        owner = line.owner
        assert owner is not None
        line.owner = None
        owner.keys -= 1
        if not owner.keys:
            self._leave(owner)
        if line.pending:
            self._row = 0
            self._offer_head(line)
        else:
            del self._lines[line.key]

    def _remove_pending(self, position: int) -> None:
        line = self._pending[position]
        was_head = self._head(line) == position
        del self._pending[position]
        self._waiting.discard(position)
        line.pending -= 1
        self._row = max(0, self._row - 1)
        if line.leased + line.pending == 0:
            del self._lines[line.key]
        elif was_head:
            self._offer_head(line)

    def _compact(self, line: KeyLine) -> None:
        """Forget those that are done."""
        leased = [p for p in line.positions[: line.next] if self._leased.get(p) is line]
        pending = [p for p in line.positions[line.next :] if self._pending.get(p) is line]
        line.positions = leased + pending
        line.next = len(leased)
