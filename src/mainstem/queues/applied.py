"""The durable half of a view: the states of its positions, and the changes that records make.

The `apply_` methods are the same while serving and while records are replayed; they need no lease to be
there. Positions below `start` are done and stay so; every method ignores them. A position that a record gives
a state before the scan has reached it has that state, and the scan leaves it as it is.

Owns: these changes, the counters by state, and snapshots. Refuses: decisions, scanning and acquiring
(`view.py`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from mainstem.queues.leases import LeaseTable
from mainstem.queues.page_table import PageTable
from mainstem.queues.pages import (
    AHEAD,
    DONE,
    DYING,
    FILL,
    LEASED,
    PAGE_MASK,
    PAGE_POSITIONS,
    PAGE_SHIFT,
    PARKED,
    READY,
    WAITING,
    OpenPage,
    PositionState,
    freeze,
    is_all_ready,
    thaw,
    undone_of,
    undone_states,
)
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, complement, decode_runs, encode_runs
from mainstem.queues.view_types import PageState, StateCounts, ViewHead, ViewSnapshot
from mainstem.queues.waits import WaitHeap, WaitingPositions


class AppliedView:
    """A subscription's view of a sequence, as far as records change it. See `SequenceView`."""

    def __init__(self, rules: DeliveryRules, start: int, waits: WaitingPositions | None = None) -> None:
        self.rules = rules
        """May be replaced at any time; what was decided by the old ones stays."""
        self.table = PageTable(start)
        self.waits: WaitingPositions = WaitHeap() if waits is None else waits
        self.marked = start
        """Positions below may have been delivered before a restart: see `apply_cursor`."""
        self.scan_recorded = start
        """Up to here a record or a snapshot says what the scan found."""
        self.leases = LeaseTable()
        self._cursor = start
        self._delivered_below = start  # an earlier life may have delivered them
        self._dying_pages: set[int] = set()
        """The pages that may have dying positions."""

    @property
    def start(self) -> int:
        """Positions below are done."""
        return self.table.start

    @property
    def scanned(self) -> int:
        """Where the scan goes on."""
        return self.table.scanned

    @property
    def cursor(self) -> int:
        """The end of what was ever acquired."""
        return self._cursor

    @property
    def oldest(self) -> int:
        """The lowest position that is not done; `scanned` if there is none."""
        return self.table.oldest

    def counts(self) -> StateCounts:
        """How many positions are in each state. The numbers are maintained, not computed."""
        counts = self.table.counts
        return StateCounts(counts[READY], counts[LEASED], counts[WAITING], counts[PARKED], counts[DYING])

    def freeze(self) -> None:
        """Freezes all pages: for a view that is idle, whose memory others need. Nothing else changes."""
        self.table.freeze_all()

    def state(self, position: int) -> PositionState:
        """The state of a position."""
        return PositionState(self.table.state(position))

    def runs_in(self, state: PositionState, first: int = 0, end: int | None = None) -> Iterator[Run]:
        """The runs of positions in a state, ascending, between two positions. Changes nothing; what changes
        while it is read may be missing."""
        pages_end = max(self.table.indexes(), default=-1) + 1 << PAGE_SHIFT
        return self.table.runs_in(int(state), first, max(self.scanned, pages_end) if end is None else end)

    def dying(self, limit: int) -> list[tuple[int, int]]:
        """(position, reason) of dying positions, the lowest first, not more than `limit`."""
        dying: list[tuple[int, int]] = []
        for index in sorted(self._dying_pages):
            page = self.table.page(index)
            base = index << PAGE_SHIFT
            offset = page.states.find(DYING) if page is not None else -1
            if page is None or offset < 0:
                self._dying_pages.discard(index)
                continue
            while offset >= 0:
                if len(dying) == limit:
                    return dying
                dying.append((base + offset, page.words[offset]))
                offset = page.states.find(DYING, offset + 1)
        return dying

    # ------------------------------------------------------------------------------------------------------
    # what a position's deliveries were

    def acquisitions(self, position: int) -> int:
        """How often the position was acquired; after a restart at least once, if it is below the mark."""
        page = self.table.page(position >> PAGE_SHIFT)
        before = int(self._may_have_been_delivered(position))
        if page is None:
            return before
        offset = position & PAGE_MASK
        if (entry := page.tries.get(offset)) is not None:
            return entry[0]
        # What waits without an entry was not delivered: its publisher, or a redrive, delayed it.
        return 0 if page.states[offset] == WAITING else before + (page.states[offset] == LEASED)

    def _may_have_been_delivered(self, position: int) -> bool:
        return self.start <= position < self._delivered_below

    def failures(self, position: int) -> int:
        """How many of the deliveries failed."""
        page = self.table.page(position >> PAGE_SHIFT)
        entry = page.tries.get(position & PAGE_MASK) if page is not None else None
        return entry[1] if entry is not None else 0

    # ------------------------------------------------------------------------------------------------------
    # apply: the same while serving and on replay

    def apply_acked(self, runs: Sequence[Run]) -> None:
        """T3, T10: these positions are done, whatever they were."""
        table, leases = self.table, self.leases
        open_pages, by_word, start = table.open_pages, leases.by_word, table.start
        counts = table.counts
        for first, end in runs:
            if end - first == 1 and first >= start:
                index, offset = first >> PAGE_SHIFT, first & PAGE_MASK
                page = open_pages.get(index)
                # While serving it is leased; on replay it is ready, or the scan has not reached it.
                if page is not None and (state := page.states[offset]) <= LEASED:
                    page.states[offset] = DONE
                    if state == LEASED:
                        lease = by_word[page.words[offset]]
                        if lease.left > 1:
                            lease.left -= 1
                        else:
                            leases.take(page.words[offset], 1)
                        counts[LEASED] -= 1
                    elif state == READY:
                        counts[READY] -= 1
                    if page.tries.used:
                        page.tries.clear(offset, offset + 1)
                    page.undone -= 1
                    if not page.undone:
                        table.drop_if_done(index)
                    continue
            self._finish(first, end)

    def _finish(self, first: int, end: int) -> None:
        """The positions are done."""
        table = self.table
        for low, high in table.pieces(first, end):
            index, base = low >> PAGE_SHIFT, low & ~PAGE_MASK
            page = table.page(index)
            if page is None and high <= table.scanned:
                whole = not (low | high) & PAGE_MASK
                if whole or not table.ready.within(low, high):
                    table.counts[READY] -= table.ready.remove(low, high)
                    continue
            page = page or table.open(index)
            low, high = low - base, high - base
            done = page.states.count(DONE, low, high)
            self._vacate(page, base, low, high)
            page.states[low:high] = FILL[DONE][: high - low]
            page.undone -= high - low - done
            if page.tries.used:
                page.tries.clear(low, high)
            if not page.undone:
                table.drop_if_done(index)

    def _vacate(self, page: OpenPage, base: int, low: int, high: int) -> None:
        """Takes a range of a page out of leases, waiting positions and counters; its states are set next."""
        part, counts = bytes(page.states[low:high]), self.table.counts
        if leased := part.count(LEASED):
            counts[LEASED] -= leased
            self._end_leases(page, low, high, leased)
        if leased == high - low:
            return
        for state in (READY, PARKED, DYING):
            counts[state] -= part.count(state)
        if waiting := part.count(WAITING):
            counts[WAITING] -= waiting
            for offset, state in enumerate(part, base + low):
                if state == WAITING:
                    self.waits.cancel(offset)

    def _end_leases(self, page: OpenPage, low: int, high: int, leased: int) -> None:
        """Positions of a range of a page, as many as are leased there, are so no more."""
        words = page.words[low:high]
        if leased == high - low and words == array("I", (words[0],)) * leased:
            self.leases.take(words[0], leased)
            return
        for word, state in zip(words, page.states[low:high], strict=True):
            if state == LEASED:
                self.leases.take(word, 1)

    def _pieces(self, runs: Iterable[Run]) -> Iterator[tuple[int, int, int]]:
        """(page, first, end) of the runs from `start` on, cut at the ends of pages; first and end in the
        page."""
        for first, end in runs:
            first = max(first, self.table.start)
            while first < end:
                index, low = first >> PAGE_SHIFT, first & PAGE_MASK
                high = min(end - first + low, PAGE_POSITIONS)
                yield index, low, high
                first += high - low

    def apply_released(self, runs: Sequence[Run], counts: bool, due_ms: int | None) -> None:
        """T4: these positions are ready again, or wait until they are due. Counts: it was a failure."""
        table, waits = self.table, self.waits
        target = READY if due_ms is None else WAITING
        for index, low, high in self._pieces(runs):
            page, base = table.open(index), index << PAGE_SHIFT
            part = bytes(page.states[low:high])
            if leased := part.count(LEASED):
                self._end_leases(page, low, high, leased)
            released = 0
            for offset, state in enumerate(part, low):
                if state in (DONE, DYING):
                    continue
                self._count_release(page, base, offset, state, counts)
                if state != AHEAD:
                    table.counts[state] -= 1
                if state == WAITING:
                    waits.cancel(base + offset)
                if due_ms is not None:
                    waits.add(due_ms, base + offset)
                page.states[offset] = target
                released += 1
            table.counts[target] += released
            if released and target == READY:
                table.ready_pages.add(index)
            table.drop_if_done(index)

    def _count_release(self, page: OpenPage, base: int, offset: int, state: int, counts: bool) -> None:
        """A position whose state was this is given back: its acquisition is recorded, and perhaps a
        failure."""
        entry = page.tries.get(offset)
        if entry is None:
            page.tries.put(offset, 1 + self._may_have_been_delivered(base + offset), int(counts))
        else:
            # On replay nothing is leased: the acquisition that led to the record is counted here.
            page.tries.put(offset, entry[0] + (state != LEASED), entry[1] + counts)
        if not self.rules.accepts_late_acks:
            page.words[offset] = 0

    def _void(self, positions: Iterable[int], *, delivered: bool = True) -> None:
        """Takes leased positions back: ready, without a failure and without a record. Delivered: their
        acquisition counts."""
        table = self.table
        for position in positions:
            page, offset = table.open(position >> PAGE_SHIFT), position & PAGE_MASK
            assert page.states[offset] == LEASED
            self.leases.take(page.words[offset], 1)
            if delivered:
                self._count_release(page, position - offset, offset, LEASED, False)
            elif (entry := page.tries.get(offset)) is not None:
                page.tries.put(offset, entry[0] - 1, entry[1])
            page.states[offset] = READY
            table.counts[LEASED] -= 1
            table.counts[READY] += 1
            table.ready_pages.add(position >> PAGE_SHIFT)

    def apply_rejecting(self, runs: Sequence[Run], reason: int, delivered: bool = True) -> None:
        """T6: these positions are dying, for a reason (a number from 0 below 2³²). Delivered: they were
        leased, which replay counts as an acquisition; otherwise they were ready, as what expires is."""
        for index, low, high in self._pieces(runs):
            page, base = self.table.open(index), index << PAGE_SHIFT
            for offset in range(low, high):
                state = page.states[offset]
                if state == DONE:
                    continue
                self._vacate(page, base, offset, offset + 1)
                if delivered:
                    self._count_release(page, base, offset, state, False)
                page.states[offset] = DYING
                page.words[offset] = reason
                self.table.counts[DYING] += 1
                self._dying_pages.add(index)
            self.table.drop_if_done(index)

    def apply_dead_lettered(self, position: int) -> None:
        """T7: the dead letter of a dying position is durable; the position is done."""
        self._finish(position, position + 1)

    def apply_redriven(self, runs: Sequence[Run]) -> None:
        """T11: these positions, which are done (`SequenceView.redrivable`), are ready again, as if they had
        never been delivered. On replay they may be ahead."""
        table = self.table
        for first, end in (piece for run in runs for piece in table.pieces(*run)):
            index, base = first >> PAGE_SHIFT, first & ~PAGE_MASK
            page = table.page(index)
            if page is None and not (first | end) & PAGE_MASK and end <= table.scanned:
                table.counts[READY] += table.ready.add(first, end)
                continue
            page = page or table.open(index)
            for offset in range(first - base, end - base):
                state = page.states[offset]
                if state in (DONE, AHEAD):
                    page.undone += state == DONE
                    page.states[offset] = READY
                    page.words[offset] = 0
                    page.tries.clear(offset, offset + 1)
                    table.counts[READY] += 1
            table.ready_pages.add(index)

    def apply_sought(self, position: int) -> None:
        """T10, T11: the view is as if it had been made now with this start. Its leases are over, and the scan
        goes on from there."""
        self.table = PageTable(position)
        self.leases = LeaseTable(self.leases.last_id)
        self.waits.clear()
        self._dying_pages.clear()
        self._cursor = self.marked = self.scan_recorded = position
        self._delivered_below = min(self._delivered_below, position)

    def apply_carried(self, positions: Iterable[int]) -> None:
        """The events at these positions are kept elsewhere when those around them are trimmed. On replay they
        may be ahead: they are ready then, as a scan had found."""
        table = self.table
        for position in positions:
            if position < table.start or table.state(position) != AHEAD:
                continue
            index = position >> PAGE_SHIFT
            page = table.open(index)
            page.states[position & PAGE_MASK] = READY
            table.counts[READY] += 1
            table.ready_pages.add(index)

    def apply_trimmed(self, start: int, carried: Sequence[int] = ()) -> None:
        """T10: positions below `start` are no more; nothing happens if the view starts there or above.
        Carried: ascending positions below `start` that stay as they are (`apply_carried`)."""
        if not carried:
            self._trim_to(start)
            return
        self._trim_to(carried[0])
        self._move_beyond(start)
        for first, end in complement(carried[0], start, [(position, position + 1) for position in carried]):
            self._finish(first, end)

    def _trim_to(self, start: int) -> None:
        table = self.table
        if start <= table.start:
            return
        below = [index for index in table.indexes() if index << PAGE_SHIFT < start]
        for index in below:
            page, base = table.open(index), index << PAGE_SHIFT
            high = min(start - base, PAGE_POSITIONS)
            self._vacate(page, base, 0, high)
            if high == PAGE_POSITIONS:
                table.drop(index)
            else:
                page.states[:high] = FILL[DONE][:high]
                page.undone = PAGE_POSITIONS - page.states.count(DONE)
                page.tries.clear(0, high)
        table.counts[READY] -= table.ready.remove(table.start, start)
        table.start = start
        self._move_beyond(start)
        if below:
            table.drop_if_done(below[-1])

    def _move_beyond(self, start: int) -> None:
        self.table.scanned = max(self.table.scanned, start)
        self._cursor = max(self._cursor, start)
        self.marked = max(self.marked, start)
        self.scan_recorded = max(self.scan_recorded, start)

    def apply_cursor(self, position: int) -> None:
        """The mark: from now on positions below may be delivered without a further record. It never falls."""
        self.marked = max(self.marked, position)

    # ------------------------------------------------------------------------------------------------------
    # a start of the server

    def restarted(self, end: int | None = None) -> None:
        """All records were applied: what is below the mark may have been delivered by an earlier life. End:
        where the sequence ends, from which on nothing was delivered yet."""
        below = max(self._cursor, self.marked)
        self._delivered_below = self._cursor = below if end is None else max(min(below, end), self.start)

    def forget_from(self, end: int) -> int:
        """The sequence ends here after a restart: what the view knows of later positions is of events that
        are no more. Returns how many positions had a state."""
        table = self.table
        forgotten = max(0, table.scanned - max(end, table.start))
        for index in table.indexes():
            base = index << PAGE_SHIFT
            if base + PAGE_POSITIONS <= end:
                continue
            page = table.open(index)
            low = max(end - base, 0)
            beyond = min(max(low, table.scanned - base), PAGE_POSITIONS)
            forgotten += PAGE_POSITIONS - beyond - page.states.count(AHEAD, beyond)
            self._vacate(page, base, low, PAGE_POSITIONS)
            page.states[low:] = FILL[AHEAD][low:]
            page.words[low:] = array("I", bytes(4 * (PAGE_POSITIONS - low)))
            page.undone = PAGE_POSITIONS - page.states.count(DONE)
            page.tries.clear(low, PAGE_POSITIONS)
            if not low:
                table.drop(index)
        table.counts[READY] -= table.ready.remove(end, max(end, table.scanned))
        table.start, table.scanned = min(table.start, end), min(table.scanned, end)
        self._cursor, self.marked = min(self._cursor, end), min(self.marked, end)
        self.scan_recorded = min(self.scan_recorded, end)
        self._delivered_below = min(self._delivered_below, end)
        return forgotten

    # ------------------------------------------------------------------------------------------------------
    # snapshots

    def snapshot(self) -> ViewSnapshot:
        """What survives a restart. Open pages are copied at once, about 3 µs each; they are encoded as they
        are read, and changes meanwhile do not show."""
        table = self.table
        head = ViewHead(table.start, table.scanned, self.marked, encode_runs(table.start, list(table.ready)))
        open_pages = [(index, page.copied()) for index, page in table.open_pages.items()]
        frozen = list(table.frozen.items())
        return ViewSnapshot(head, _durable_pages(open_pages, frozen), self.waits.packed())

    @classmethod
    def restore(
        cls,
        rules: DeliveryRules,
        head: ViewHead,
        pages: Iterable[PageState],
        waiting: Iterable[bytes] = (),
        waits: WaitingPositions | None = None,
    ) -> Self:
        """The view of a snapshot. Waits: an index that has some of the waiting positions already; `waiting`
        are the others. ValueError if the snapshot is damaged or contradicts itself."""
        view = cls(rules, head.start, waits)
        view.marked = head.marked
        table = view.table
        if not head.start <= head.scanned:
            raise ValueError("a damaged view: its scan is below its start")
        table.scanned = view.scan_recorded = head.scanned
        for first, end in decode_runs(head.start, head.ready):
            if end > head.scanned:
                raise ValueError("a damaged view: ready beyond the scan")
            table.ready.append(first, end)
            table.counts[READY] += end - first
        for page in sorted(pages, key=lambda page: page.index):
            view._restore_page(page.index, page.data)
        for part in waiting:
            view.waits.load(part)
        if len(view.waits) != table.counts[WAITING]:
            raise ValueError(f"a damaged view: {len(view.waits)} due times of {table.counts[WAITING]}")
        return view

    def _restore_page(self, index: int, data: bytes) -> None:
        table, base = self.table, index << PAGE_SHIFT
        if index in table.frozen or table.ready.within(base, base + PAGE_POSITIONS):
            raise ValueError(f"a damaged view: page {index} is there twice")
        if is_all_ready(data):
            table.counts[READY] += undone_of(data)
            table.add_frozen(index, data, may_be_ready=True)
            return
        states = undone_states(data)
        if LEASED in states or PARKED in states:
            raise ValueError(f"a damaged view: page {index} has states that no snapshot has")
        for state in (READY, WAITING, DYING):
            table.counts[state] += states.count(state)
        if DYING in states:
            self._dying_pages.add(index)
        table.add_frozen(index, data, may_be_ready=READY in states)


def _durable_pages(
    pages: Iterable[tuple[int, OpenPage]], frozen: Iterable[tuple[int, bytes]]
) -> Iterator[PageState]:
    for index, page in pages:
        yield PageState(index, freeze(page, durable=True))
    for index, data in frozen:
        yield PageState(index, data if is_all_ready(data) else freeze(thaw(data), durable=True))
