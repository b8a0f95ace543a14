"""The index of waiting events: which are due, and when the next one is.

An event waits because its publisher gave it a due time, or because it failed and comes again later. Entries
of 16 bytes are collected in a heap. When that is full they are sorted and stored as a run; what is due within
the next 60 s stays in the heap. Of a run that is not near its time only a few numbers are in memory, so that
an event that waits for days costs 16 bytes of disk; its blocks are read when they are near.

Owns: the heap, the runs, and what was cancelled before its time. Refuses: to be the truth (the view is: a
position that it does not know as waiting is ignored there), to survive a restart (it is derived from the log
and built anew), and to read a clock or a disk: time is an argument, runs are read and written by a
`RunStore`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush, merge, nsmallest
from itertools import islice
from weakref import WeakSet

from mainstem.queues.delay_run import (
    BLOCK_ENTRIES,
    ENTRY_BYTES,
    RUN_ENTRIES,
    WaitingEntry,
    due_bound,
    encode_run,
    pack_entry,
    unpack_entries,
)
from mainstem.queues.stored_run import CANCEL_PAGE, BlockRead, RunStore, StoredRun, WaitingMoment

NEAR_MS = 60_000
"""What is due within this time is in the heap or in blocks that are read."""
SORTED_OF_STEP = 4_096
"""Entries that are sorted in a step."""


class DelayIndex:
    """What waits in one sequence."""

    def __init__(
        self,
        store: RunStore,
        sequence: int = 0,
        on_full: Callable[[], None] | None = None,
        first_run: int = 0,
    ) -> None:
        """`sequence`: the number of the view's sequence, 20 bits, which each entry names. `on_full`: called
        when entries are to be sorted and stored, which `steps` does; without it `add` does it at once.
        `first_run`: from which number on the store has room for runs."""
        self._store = store
        self._on_full = on_full
        self._sequence = sequence
        self.place = 0
        """The place in the log that entries come from now: a run says it, so that a reader can find out what
        it was derived from. The caller sets it; nothing here depends on it."""
        self._heap: list[bytes] = []
        self._runs: dict[int, StoredRun] = {}
        self._next_run_id = first_run
        self._spill: _Spill | None = None
        """Entries that are being sorted, to be a run."""
        self._near_end_ms = 0
        self._run_due = RUN_ENTRIES
        """A run is stored when the heap has this number of entries."""
        self._entries = 0
        self._dead = 0
        """How many of the entries will be dropped when they are popped."""
        self._cancelled: dict[int, int] = {}
        """Position // 4096 -> a bit for each position whose only entry is cancelled."""
        self._moments: WeakSet[WaitingMoment] = WeakSet()
        """What `entries` has returned and somebody still reads."""
        self._revised: dict[int, tuple[int | None, int]] = {}
        """Position that was cancelled and waits again -> the due time that counts, and its entries."""

    def __len__(self) -> int:
        """How many events wait."""
        return self._entries - self._dead

    @property
    def stored_runs(self) -> int:
        """How many runs the store has."""
        return len(self._runs)

    # ------------------------------------------------------------------------------------------------------
    # change

    def add(self, due_ms: int, position: int) -> None:
        """The event waits until this time, ms since 1970. It must not wait already.

        Raises:
            ValueError: a number is out of its range.
        """
        heappush(self._heap, pack_entry(due_ms, self._sequence, position))
        self._entries += 1
        if self._revised or self._cancelled:
            self._revise(due_ms, position)
        if len(self._heap) >= self._run_due:
            self._store_run()

    def _revise(self, due_ms: int, position: int) -> None:
        _, entries = self._revised.get(position, (None, 0))
        if self._clear_cancelled(position):
            entries = 1
        if entries:
            self._revised[position] = (due_ms, entries + 1)

    def cancel(self, position: int) -> None:
        """The event, which waits, does not wait any more. Its entry is dropped when it is popped."""
        self._dead += 1
        if position in self._revised:
            self._revised[position] = (None, self._revised[position][1])
        else:
            page, bit = divmod(position, CANCEL_PAGE)
            self._cancelled[page] = self._cancelled.get(page, 0) | 1 << bit
        if self._dead == self._entries:
            self.clear()

    def _clear_cancelled(self, position: int) -> bool:
        """Forget that the position's only entry is cancelled. False: it is not."""
        page, bit = divmod(position, CANCEL_PAGE)
        bits = self._cancelled.get(page, 0)
        if not bits >> bit & 1:
            return False
        if bits == 1 << bit:
            del self._cancelled[page]
        else:
            self._cancelled[page] = bits ^ 1 << bit
        return True

    def clear(self) -> None:
        """Nothing waits. Also the first step after `DamagedDelayRun`; the second is to add what waits."""
        for run in list(self._runs.values()):
            self._delete_run(run)
        self._heap = []
        self._spill = None
        self._cancelled.clear()
        self._revised.clear()
        self._entries = self._dead = 0
        self._run_due = RUN_ENTRIES

    def _store_run(self) -> None:
        """Let what is far in the heap become a run; what is near stays, unless that is most of it."""
        self._finish_spill()
        bound = due_bound(self._near_end_ms)
        near = [entry for entry in self._heap if entry < bound]
        if len(near) > RUN_ENTRIES // 2:
            near, far = self._heap[RUN_ENTRIES:], self._heap[:RUN_ENTRIES]
        else:
            far = [entry for entry in self._heap if entry >= bound]
            near += far[RUN_ENTRIES:]
            del far[RUN_ENTRIES:]
        heapify(near)
        self._heap = near
        self._run_due = RUN_ENTRIES + len(near)
        self._spill = _Spill(far)
        if self._on_full is None:
            self._finish_spill()
        else:
            self._on_full()

    def steps(self) -> Iterator[int]:
        """Sort and store what is to become a run, as `on_full` asks for: yields how many entries each step
        sorted."""
        spill = self._spill
        if spill is None:
            return
        for sorted_entries in spill.steps():
            yield sorted_entries
            if self._spill is not spill:
                return
        self._end_spill(spill)
        yield len(spill.entries)

    def _finish_spill(self) -> None:
        """Sort and store what is to become a run at once: it is needed, or the next one follows."""
        if (spill := self._spill) is not None:
            self._end_spill(spill)

    def _end_spill(self, spill: _Spill) -> None:
        self._spill = None
        if not self._add_run(b"".join(spill.sorted())):
            self._heap += spill.entries
            heapify(self._heap)
            self._run_due = len(self._heap) + RUN_ENTRIES

    def _add_run(self, data: bytes) -> bool:
        """Store entries, which are sorted. False: the store has refused them."""
        run = StoredRun(self._next_run_id, data)
        self._next_run_id += 1
        try:
            self._store.write(run.id, encode_run(run.id, self.place, data))
        except OSError:
            self._store.delete(run.id)
            return False
        self._runs[run.id] = run
        return True

    def load(self, data: bytes) -> None:
        """Add what `packed` has returned a part of, to an index that knows nothing of these positions.

        Raises:
            ValueError: these are no entries of this sequence.
        """
        if len(data) % ENTRY_BYTES:
            raise ValueError(f"{len(data)} bytes are no waiting events")
        count = len(data) // ENTRY_BYTES
        ends = unpack_entries(data[:ENTRY_BYTES] + data[-ENTRY_BYTES:])
        if any(entry.sequence != self._sequence for entry in ends) or ends[0].due_ms > ends[-1].due_ms:
            raise ValueError("waiting events are of another sequence, or not sorted")
        self._entries += count
        if RUN_ENTRIES // 2 <= count <= RUN_ENTRIES and self._add_run(data):
            return
        self._heap += _slices(data, 0, count)
        heapify(self._heap)
        if len(self._heap) >= self._run_due:
            self._store_run()

    # ------------------------------------------------------------------------------------------------------
    # what is due

    def next_due_ms(self) -> int | None:
        """No event is due before this time, ms since 1970; a cancelled one may have been. None: none
        waits."""
        floors = [run.floor for run in self._runs.values()]
        if self._heap:
            floors.append(self._heap[0])
        if self._spill is not None:
            floors.append(self._spill.floor)
        return unpack_entries(min(floors))[0].due_ms if floors else None

    def blocks_due_soon(self, now_ms: int) -> list[BlockRead]:
        """The parts of runs that will be needed within the next 60 s and are not in memory. A caller that
        must not wait for a disk reads them elsewhere and hands them to `supply`; what it does not supply is
        read when it is due."""
        near = due_bound(now_ms + NEAR_MS)
        reads: list[BlockRead] = []
        for run in self._runs.values():
            number = run.next // BLOCK_ENTRIES
            reads += [
                run.read(wanted)
                for wanted in range(number, min(number + 2, len(run.firsts)))
                if wanted not in run.blocks and max(run.floor, run.firsts[wanted]) < near
            ]
        return reads

    def supply(self, read: BlockRead, data: bytes) -> None:
        """A part of a run that `blocks_due_soon` named. Ignored if it is not needed any more.

        Raises:
            DamagedDelayRun: it is not what was written.
        """
        run = self._runs.get(read.run_id)
        if run is not None and 0 <= read.block - run.next // BLOCK_ENTRIES < 2:
            run.blocks[read.block] = run.decode(read.block, data)

    def pop_due(self, now_ms: int, max_entries: int | None = None) -> list[int]:
        """The positions that are due at this time, ms since 1970, in the order of their due times. They do
        not wait any more. `max_entries`: at most this number of entries, cancelled ones too; None: all.

        Raises:
            DamagedDelayRun: a run is damaged or lost.
        """
        self._near_end_ms = now_ms + NEAR_MS
        bound = due_bound(now_ms + 1)
        room = self._entries if max_entries is None else max_entries
        positions: list[int] = []
        if self._spill is not None and self._spill.floor < bound:
            self._finish_spill()
        while room > 0 and (popped := self._pop_round(bound, room)):
            room -= len(popped)
            self._entries -= len(popped)
            entries = unpack_entries(b"".join(popped))
            if self._dead:
                positions += [e.position for e in entries if self._is_alive(e)]
            else:
                positions += [entry.position for entry in entries]
        return positions

    def _is_alive(self, entry: WaitingEntry) -> bool:
        """Whether a popped entry is still meant; takes note that it is popped."""
        due_ms, entries = self._revised.get(entry.position, (None, 0))
        if not entries:
            is_alive = not self._clear_cancelled(entry.position)
        else:
            is_alive = due_ms == entry.due_ms
            if entries == 1:
                del self._revised[entry.position]
            else:
                self._revised[entry.position] = (None if is_alive else due_ms, entries - 1)
        self._dead -= not is_alive
        return is_alive

    def _pop_round(self, bound: bytes, room: int) -> list[bytes]:
        """The lowest entries below `bound`, ascending, as far as the present block of each run reaches."""
        due = [run for run in self._runs.values() if run.floor < bound]
        blocks = [self._next_block(run) for run in due]
        for run, block in zip(due, blocks, strict=True):
            last = block[-ENTRY_BYTES:]
            if last < bound and (run.next // BLOCK_ENTRIES + 1) * BLOCK_ENTRIES < run.entries:
                # The next block may go on right after this entry.
                bound = min(bound, last + b"\0")
        popped: list[bytes] = []
        heap = self._heap
        while heap and heap[0] < bound and len(popped) < room:
            popped.append(heappop(heap))
        from_heap = popped[:]
        for run, block in zip(due, blocks, strict=True):
            popped += _slices(block, run.next % BLOCK_ENTRIES, _entries_below(block, bound))
        popped.sort()
        if len(popped) > room:
            bound = popped[room - 1] + b"\0"
            del popped[bisect_left(popped, bound) :]
            for entry in from_heap[bisect_left(from_heap, bound) :]:
                heappush(heap, entry)
        for run, block in zip(due, blocks, strict=True):
            self._advance(run, block, _entries_below(block, bound))
        return popped

    def _next_block(self, run: StoredRun) -> bytes:
        """The block with a run's next entry."""
        number = run.next // BLOCK_ENTRIES
        block = run.blocks.get(number)
        if block is None:
            block = run.blocks[number] = self._read_block(run, number)
        return block

    def _read_block(self, run: StoredRun, number: int) -> bytes:
        _, _, start, size = run.read(number)
        return run.decode(number, self._store.read(run.id, start, size))

    def _advance(self, run: StoredRun, block: bytes, end: int) -> None:
        """The entries before this index of a run's present block are popped."""
        number = run.next // BLOCK_ENTRIES
        run.next = max(run.next, number * BLOCK_ENTRIES + end)
        if run.next == run.entries:
            self._delete_run(run)
        elif run.next // BLOCK_ENTRIES > number:
            del run.blocks[number]
            run.floor = run.firsts[number + 1]
        else:
            run.floor = block[end * ENTRY_BYTES : (end + 1) * ENTRY_BYTES]
            if run.floor >= due_bound(self._near_end_ms):
                run.blocks.clear()

    # ------------------------------------------------------------------------------------------------------
    # what waits

    def entries(self) -> Iterator[tuple[int, int]]:
        """(due time, position) of all that wait at the moment of the call, in any order. Runs are read while
        it is iterated, whatever happens to the index meanwhile.

        Raises:
            DamagedDelayRun: a run is damaged or lost.
        """
        moment = self._moment()
        return (entry for part in self._parts(moment) for entry in moment.alive(part))

    def packed(self) -> Iterator[bytes]:
        """As `entries`, packed as `delay_run.py` draws, in parts of which each is sorted. Of what is stored a
        part is a run.

        Raises:
            DamagedDelayRun: a run is damaged or lost.
        """
        return self._packed(self._moment())

    def _packed(self, moment: WaitingMoment) -> Iterator[bytes]:
        for part in self._parts(moment, RUN_ENTRIES):
            if not moment.is_clean:
                sequence = self._sequence
                part = [pack_entry(due_ms, sequence, position) for due_ms, position in moment.alive(part)]
            if part:
                yield b"".join(sorted(part))

    def _moment(self) -> WaitingMoment:
        heap = list(self._heap) if self._spill is None else self._heap + self._spill.entries
        moment = WaitingMoment(heap, list(self._runs.values()), self._cancelled, self._revised)
        self._moments.add(moment)
        return moment

    def _parts(self, moment: WaitingMoment, run_entries: int = 0) -> Iterator[list[bytes]]:
        """The entries of a moment, in parts; with `run_entries`, a run is one part."""
        try:
            for start in range(0, len(moment.heap), SORTED_OF_STEP):
                yield moment.heap[start : start + SORTED_OF_STEP]
            for run, first in moment.runs:
                part: list[bytes] = []
                for number in range(first // BLOCK_ENTRIES, len(run.firsts)):
                    block = self._block_of_moment(moment, run, number)
                    skipped = max(first - number * BLOCK_ENTRIES, 0)
                    part += _slices(block, skipped, len(block) // ENTRY_BYTES)
                    if not run_entries:
                        yield part
                        part = []
                if part:
                    yield part
        finally:
            for run_id in moment.orphans:
                self._store.delete(run_id)

    def _block_of_moment(self, moment: WaitingMoment, run: StoredRun, number: int) -> bytes:
        whole = moment.deleted.get(run.id)
        if whole is not None:
            _, _, start, size = run.read(number)
            return run.decode(number, whole[start : start + size])
        return run.blocks.get(number) or self._read_block(run, number)

    def _delete_run(self, run: StoredRun) -> None:
        """The run is not needed any more, but perhaps by what still reads `entries`."""
        moments = list(self._moments)
        del self._runs[run.id]
        if len(moments) == 1:
            moments[0].orphans.append(run.id)
            return
        for moment in moments:
            moment.deleted[run.id] = self._store.read(run.id, 0, run.size)
        self._store.delete(run.id)

    def _entries_of(self, run: StoredRun, after: bytes) -> Iterator[bytes]:
        """The entries of a run that are not popped and greater than these bytes, ascending."""
        for number in range(
            max(run.next // BLOCK_ENTRIES, bisect_right(run.firsts, after) - 1), len(run.firsts)
        ):
            block = run.blocks.get(number) or self._read_block(run, number)
            first = max(run.next - number * BLOCK_ENTRIES, _entries_below(block, after + b"\0"), 0)
            yield from _slices(block, first, len(block) // ENTRY_BYTES)

    def waiting(self, max_entries: int, after: WaitingEntry | None = None) -> list[WaitingEntry]:
        """What waits, in the order of due time and position: at most this number, from the beginning or after
        the last one of the list before. A list that is not full is the end. Changes nothing.

        Raises:
            DamagedDelayRun: a run is damaged or lost.
        """
        start = b"" if after is None else pack_entry(*after)
        self._finish_spill()
        in_heap = (entry for entry in self._heap if entry > start)
        # Cancelled entries are in the way of those that wait, so their number is added.
        parts = [iter(nsmallest(max_entries + min(self._dead, len(self._heap)), in_heap))]
        parts += [self._entries_of(run, start) for run in self._runs.values()]
        moment = WaitingMoment([], [], self._cancelled, self._revised)
        page = islice(moment.alive(merge(*parts)), max_entries)
        return [WaitingEntry(due_ms, self._sequence, position) for due_ms, position in page]


class _Spill:
    """Entries that become a run: sorted in steps, while the index goes on."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries
        """In any order."""
        self.floor = min(entries)
        self._parts: list[list[bytes]] = []
        self._taken = 0

    def steps(self) -> Iterator[int]:
        """Sort; yields how many entries were sorted or merged in each step."""
        while self._taken < len(self.entries):
            part = sorted(self.entries[self._taken : self._taken + SORTED_OF_STEP])
            self._taken += len(part)
            self._parts.append(part)
            yield len(part)
        while len(self._parts) > 1:
            merged = self._parts.pop(0) + self._parts.pop(0)
            merged.sort()  # two ascending parts: a comparison for each entry
            self._parts.append(merged)
            yield len(merged)

    def sorted(self) -> list[bytes]:
        """All of them, ascending: what the steps have not done is done now."""
        for _ in self.steps():
            pass
        return self._parts[0]


def _entries_below(block: bytes, bound: bytes) -> int:
    """How many entries of a block are less than these bytes."""
    return bisect_left(
        range(len(block) // ENTRY_BYTES),
        bound,
        key=lambda index: block[index * ENTRY_BYTES : (index + 1) * ENTRY_BYTES],
    )


def _slices(block: bytes, first: int, end: int) -> list[bytes]:
    """The entries of a block from one index to another."""
    return [
        block[start : start + ENTRY_BYTES]
        for start in range(first * ENTRY_BYTES, end * ENTRY_BYTES, ENTRY_BYTES)
    ]
