"""A view: what a subscription knows about the positions of a sequence, and every change of it.

Each position is in a single state (`PositionState`), and changes it as docs/QUEUES.md draws. Deciding
(`ackable`, `releasable`, `plan_release`) changes nothing. What survives a restart changes in the `apply_`
methods only, which are the same while serving and while records are replayed; leases, waking and scanning
need no record. A lease is never durable: after a restart its positions are ready.

Owns: the transitions, and the counters by state. Refuses: clocks (times are arguments, in milliseconds since
1970, and never fall by much), records, filters (the scan says what it skips).
Positions below `start` are done and stay so; every method ignores them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from mainstem.queues.expiry import ExpiringView
from mainstem.queues.leases import WORD_MASK, DeliveryLease, LeaseTable
from mainstem.queues.pages import (
    AHEAD,
    DONE,
    FILL,
    LEASED,
    PAGE_MASK,
    PAGE_POSITIONS,
    PAGE_SHIFT,
    READY,
    WAITING,
    PositionState,
)
from mainstem.queues.release_plan import ReleasePlan
from mainstem.queues.runs import Run, add_run, complement, merge_runs

_RUNS_WITHOUT_PAGE_MAX = 32
"""A page whose scan left more runs of ready positions is made a page: its bitmap is smaller."""

_WOKEN_OF_PART = 16
"""Positions that are woken before the cost is looked at."""
_FROZEN_COST = 200
"""What it costs to open a frozen page, in positions that are woken in an open one."""


class SequenceView(ExpiringView):
    """A subscription's view of a sequence, from the position `start` on."""

    deals_by_position = True
    """Whether `acquire` takes the lowest ready positions, whatever they are."""

    # ------------------------------------------------------------------------------------------------------
    # T1: scan

    @property
    def is_full(self) -> bool:
        """Whether the scan is to wait: what follows could not be offered to anybody. In key order only."""
        return False

    def may_offer(self, consumer: str) -> bool:
        """Whether `acquire` may return something to this consumer. False is certain."""
        return self.table.counts[READY] > 0

    def ahead_and_oldest(self, log_start: int, end: int) -> tuple[int, int]:
        """Of the positions of a log: how many are ahead, and the lowest that is not done; `end` if there is
        none. Exact also before the scan has come to what records say is done, as after a start. Changes
        nothing."""
        ahead, lowest = self.table.ahead_in(max(self.scanned, log_start), end)
        is_below = self.oldest < self.scanned
        return ahead, min(end, max(self.oldest, log_start)) if is_below else lowest

    def blocker(self, position: int) -> int | None:
        """The earlier outstanding position of the same key for which this one waits; None: there is none. In
        key order only."""
        return None

    def scan(
        self,
        end: int,
        skipped: Iterable[Run] = (),
        due_ms: Mapping[int, int] | None = None,
    ) -> None:
        """The positions from `scanned` to `end` were looked at: they become ready, but for the skipped runs,
        which are done, and those with a due time, which wait and are not among the skipped. A position that a
        record gave a state stays as it is. ValueError if `end` is below `scanned`."""
        table = self.table
        if end < table.scanned:
            raise ValueError(f"the scan is at {table.scanned}, beyond {end}")
        skips = merge_runs(skipped)
        due_by_page: dict[int, list[tuple[int, int]]] = {}
        for position, time_ms in (due_ms or {}).items():
            due_by_page.setdefault(position >> PAGE_SHIFT, []).append((position, time_ms))
        skip_index = 0
        pages = None
        if end - table.scanned > 16 * PAGE_POSITIONS:
            pages = sorted({*table.indexes(), *due_by_page})
        while table.scanned < end:
            low = table.scanned
            while skip_index < len(skips) and skips[skip_index][1] <= low:
                skip_index += 1
            skip = skips[skip_index] if skip_index < len(skips) else (end, end)
            if pages is not None and self._scan_whole_pages(low, end, skip, pages):
                continue
            index = low >> PAGE_SHIFT
            high = min(end, (index + 1) << PAGE_SHIFT)
            ready: list[Run] = []
            while skip_index < len(skips) and skips[skip_index][0] < high:
                first, stop = skips[skip_index]
                if low < first:
                    ready.append((low, first))
                low = max(low, stop)
                if stop > high:
                    break
                skip_index += 1
            if low < high:
                ready.append((low, high))
            self._scan_piece(index, high, ready, due_by_page.get(index, ()))

    def begin_anew(self, old: SequenceView) -> None:
        """T11: this view takes the place of another one, as if none of its positions had been delivered."""
        self._cursor = self.marked = self.start
        self._delivered_below = min(old._delivered_below, self.start)
        self.leases = LeaseTable(old.leases.last_id)

    def apply_scanned(self, first: int, end: int, matched: Sequence[Run]) -> None:
        """T1: the scan went from `first` to `end`, and found that these positions are to be delivered. On
        replay the view is scanned so; while serving it is already. Ignored if no record says what was found
        before `first`."""
        if first > self.scan_recorded or end <= self.scan_recorded:
            return
        self.scan_recorded = end
        if end > self.scanned:
            self._scan_again(end, complement(self.scanned, end, matched))

    def _scan_again(self, end: int, skipped: Sequence[Run]) -> None:
        """Scan as a record says."""
        self.scan(end, skipped)

    def _scan_whole_pages(self, low: int, end: int, skip: Run, pages: list[int]) -> bool:
        """Scans the pages from `low` on that are all to be ready or all to be skipped, if there are any: a
        range without pages of its own (`pages`, with those that get one) costs the same however long it
        is."""
        is_skipped = skip[0] <= low
        high = min(end, skip[1] if is_skipped else skip[0])
        place = bisect_left(pages, low >> PAGE_SHIFT)
        if place < len(pages):
            high = min(high, pages[place] << PAGE_SHIFT)
        high &= ~PAGE_MASK
        if high <= low:
            return False
        if not is_skipped:
            self.table.ready.append(low, high)
            self.table.counts[READY] += high - low
        self.table.scanned = high
        return True

    def _scan_piece(self, index: int, high: int, ready: list[Run], due: Sequence[tuple[int, int]]) -> None:
        """Scans up to `high`, which is in this page or its end."""
        table, base = self.table, index << PAGE_SHIFT
        has_page = index in table.open_pages or index in table.frozen
        if not has_page and not due:
            runs = len(ready)
            if runs > 1 or (runs and ready[0] != (table.scanned, high)):
                runs += len(table.ready.within(base, table.scanned))
            if runs <= _RUNS_WITHOUT_PAGE_MAX:
                for first, end in ready:
                    table.ready.append(first, end)
                    table.counts[READY] += end - first
                table.scanned = high
                return
        page = table.open(index)
        states = page.states
        for position, due_ms in due:
            if table.scanned <= position < high and states[position - base] == AHEAD:
                states[position - base] = WAITING
                table.counts[WAITING] += 1
                self.waits.add(due_ms, position)
        for first, end in ready:
            if count := states.count(AHEAD, first - base, end - base):
                states[first - base : end - base] = states[first - base : end - base].replace(
                    FILL[AHEAD][:1], FILL[READY][:1]
                )
                table.counts[READY] += count
                table.ready_pages.add(index)
        low = table.scanned - base
        page.undone -= states.count(AHEAD, low, high - base)
        states[low : high - base] = states[low : high - base].replace(FILL[AHEAD][:1], FILL[DONE][:1])
        table.scanned = high
        table.drop_if_done(index)

    # ------------------------------------------------------------------------------------------------------
    # T2: acquire

    def acquire(
        self, consumer: str, max_events: int, now_ms: int, lock_ms: int | None = None
    ) -> DeliveryLease | None:
        """Leases ready positions to a consumer, the lowest first: so what is delivered again comes before
        what is new. None if nothing is ready or enough is in flight. Lock: as the rules say, if it is not
        given; 0 is without a deadline."""
        table = self.table
        room = min(max_events, self.rules.in_flight_max - table.counts[LEASED])
        if room <= 0:
            return None
        word = self.leases.next_word()
        runs: list[Run] = []
        while room > 0 and (index := self._next_ready_page()) is not None:
            room -= self._lease_ready(index, room, word, runs)
        return self._open_lease(consumer, runs, now_ms, lock_ms) if runs else None

    def _lease_positions(
        self, positions: Sequence[int], consumer: str, now_ms: int, lock_ms: int | None
    ) -> DeliveryLease:
        """Leases these positions, which are ready, ascending and not none: for an order that is not
        theirs."""
        table, word = self.table, self.leases.next_word()
        runs: list[Run] = []
        for position in positions:
            page, offset = table.open(position >> PAGE_SHIFT), position & PAGE_MASK
            assert page.states[offset] == READY
            page.states[offset] = LEASED
            page.words[offset] = word
            if page.tries.used:
                self._count_acquisitions(page, offset, offset + 1)
            add_run(runs, position, position + 1)
        table.counts[READY] -= len(positions)
        table.counts[LEASED] += len(positions)
        return self._open_lease(consumer, runs, now_ms, lock_ms)

    def acquisitions_of(self, runs: Sequence[Run]) -> list[int]:
        """Of all positions of the runs, how often each was acquired: see `acquisitions`."""
        counts: list[int] = []
        for first, end in runs:
            while first < end:
                page, low = self.table.page(first >> PAGE_SHIFT), first & PAGE_MASK
                high = min(end - first + low, PAGE_POSITIONS)
                stop = first + high - low
                is_first_time = (
                    page is not None
                    and not page.tries.used
                    and first >= self._delivered_below
                    and page.states.count(LEASED, low, high) == high - low
                )
                counts += (1,) * (high - low) if is_first_time else map(self.acquisitions, range(first, stop))
                first = stop
        return counts

    # ------------------------------------------------------------------------------------------------------
    # decide

    def lease(self, lease_id: int) -> DeliveryLease | None:
        """A live lease."""
        return self.leases.get(lease_id)

    def releasable(self, lease_id: int, runs: Sequence[Run]) -> list[Run]:
        """The parts of the runs that this lease still has: they may be released, rejected, acknowledged."""
        word = lease_id & WORD_MASK
        lease = self.leases.by_word.get(word)
        return [] if lease is None or lease.id != lease_id else self._parts(runs, word, b"\x02")

    def is_leased(self, lease_id: int, position: int) -> bool:
        """Whether this lease still has a position: `releasable`, for a single one."""
        page = self.table.open_pages.get(position >> PAGE_SHIFT)
        if page is None:
            return bool(self.releasable(lease_id, [(position, position + 1)]))
        offset, word = position & PAGE_MASK, lease_id & WORD_MASK
        if page.states[offset] != LEASED or page.words[offset] != word or position < self.table.start:
            return False
        return self.leases.by_word[word].id == lease_id

    def ackable(self, lease_id: int, runs: Sequence[Run]) -> list[Run]:
        """The parts of the runs that an acknowledgement with this lease may take: what the lease still has,
        and, where the rules accept late ones, what is ready or waiting since that lease, with none after it.
        Lease 0 is any lease of an earlier life of the server, also before the scan has come by again."""
        if not self.rules.accepts_late_acks:
            word = lease_id & WORD_MASK  # as `releasable`, without a call: it is the hot path
            lease = self.leases.by_word.get(word)
            return [] if lease is None or lease.id != lease_id else self._parts(runs, word, b"\x02")
        if not lease_id:
            delivered = [(first, min(end, self._delivered_below)) for first, end in runs]
            return self._parts(delivered, 0, b"\x00\x01\x03")
        age = self.leases.last_id - lease_id
        if not 0 <= age <= WORD_MASK:
            return []
        return self._parts(runs, lease_id & WORD_MASK, b"\x01\x02\x03")

    def _parts(self, runs: Sequence[Run], word: int, states: bytes) -> list[Run]:
        """The parts of the runs whose lease has this word and whose state is one of these."""
        parts: list[Run] = []
        table = self.table
        open_pages = table.open_pages
        for first, end in runs:
            if end - first == 1:
                page = open_pages.get(first >> PAGE_SHIFT)
                if page is not None:
                    offset = first & PAGE_MASK
                    if page.words[offset] == word and page.states[offset] in states and first >= table.start:
                        if parts and parts[-1][1] == first:
                            parts[-1] = (parts[-1][0], end)
                        else:
                            parts.append((first, end))
                    continue
            first = max(first, table.start)
            while first < end:
                index = first >> PAGE_SHIFT
                stop = min(end, (index + 1) << PAGE_SHIFT)
                self._parts_of_page(index, first, stop, word, states, parts)
                first = stop
        return parts

    def _parts_of_page(
        self, index: int, first: int, end: int, word: int, states: bytes, parts: list[Run]
    ) -> None:
        page, base = self.table.page(index), index << PAGE_SHIFT
        if page is None:
            if not word and READY in states:
                for run in self.table.ready.within(first, end):
                    add_run(parts, *run)
            if not word and AHEAD in states and (low := max(first, self.scanned)) < end:
                add_run(parts, low, end)
            return
        part = page.states[first - base : end - base]
        words = page.words[first - base : end - base]
        if part.count(LEASED) == end - first and words == array("I", (word,)) * (end - first):
            if LEASED in states:
                add_run(parts, first, end)
            return
        for offset, state in enumerate(part):
            if state in states and words[offset] == word:
                add_run(parts, first + offset, first + offset + 1)

    def redrivable(self, runs: Sequence[Run]) -> list[Run]:
        """The parts of the runs that are done, below the end of the scan: only these may be redriven. A
        record of others would, on replay, free what waits or is rejected."""
        below = [(first, min(end, self.scanned)) for first, end in merge_runs(runs)]
        return merge_runs(part for run in below for part in self.runs_in(PositionState.DONE, *run))

    def plan_release(
        self,
        runs: Sequence[Run],
        counts: bool,
        now_ms: int,
        spread: float = 0.0,
        delay_ms: int | None = None,
    ) -> ReleasePlan:
        """What releasing the runs, which are releasable, comes to: when they are due, and which have failed
        as often as the rules allow. Counts: whether it is a failure, which has the rules' backoff. A delay is
        in place of the backoff. Spread: see `DeliveryRules.backoff_ms`."""
        plan = ReleasePlan(self.rules, counts, now_ms, spread, delay_ms)
        for first, end, failures in self.failure_runs(runs):
            plan.add(first, end, failures)
        return plan

    # ------------------------------------------------------------------------------------------------------
    # soft state: no record

    def extend(self, lease_id: int, now_ms: int, lock_ms: int | None = None) -> bool:
        """T5: a live lease ends `lock_ms` from now (as the rules say if it is not given). False: it is
        over."""
        return self.leases.extend(lease_id, now_ms, self.rules.lock_ms if lock_ms is None else lock_ms)

    def withdraw(self, lease_id: int, runs: Sequence[Run]) -> list[Run]:
        """What of these positions the lease still has never reached its consumer: it is ready again, and this
        acquisition does not count. Returns it."""
        withdrawn = self.releasable(lease_id, merge_runs(runs))
        self._void((position for run in withdrawn for position in range(*run)), delivered=False)
        return withdrawn

    def expired(self, now_ms: int, max_positions: int | None = None) -> list[DeliveryLease]:
        """The leases whose deadline has passed. They keep their positions, and are returned again, until
        these are released."""
        return self.leases.expired(now_ms, max_positions)

    def next_deadline_ms(self) -> int | None:
        """When the next lease expires."""
        return self.leases.next_deadline_ms()

    def detach(self, consumer: str) -> list[DeliveryLease]:
        """The leases of a consumer that is there no more. They keep their positions until these are
        released."""
        return self.leases.of_consumer(consumer)

    def wake_due(self, now_ms: int, max_entries: int | None = None) -> int:
        """T8: what is due by now becomes ready; returns how many positions did. `max_entries`: at most of
        this number, with those that were cancelled, and fewer if their pages are frozen, since opening one
        costs as much as 200 of them; `next_due_ms` says whether there are more."""
        return len(self._wake_due(now_ms, max_entries))

    def _wake_due(self, now_ms: int, max_entries: int | None) -> list[int]:
        """T8; returns what is ready now."""
        table, woken, room = self.table, list[int](), max_entries
        if self._began_ms:
            # What was due when the server began may have been delivered before that.
            woken, room = self._pop_due(min(now_ms, self._began_ms), room)
            due_ms = self.waits.next_due_ms()
            if due_ms is None or due_ms > self._began_ms:
                self._began_ms = 0  # that was all of it
        later, _ = self._pop_due(now_ms, room)
        self._note_undelivered(later)
        woken += later
        table.counts[WAITING] -= len(woken)
        table.counts[READY] += len(woken)
        return woken

    def _pop_due(self, now_ms: int, max_entries: int | None) -> tuple[list[int], int | None]:
        """Let what is due at a time be ready, of at most this number of entries; also returns how many more
        there is room for. The counters are those of the caller."""
        table, waits = self.table, self.waits
        woken: list[int] = []
        room = max_entries
        while room is None or room > 0:
            due = waits.pop_due(now_ms, None if room is None else min(room, _WOKEN_OF_PART))
            if not due:
                break
            if room is not None:
                frozen = {p >> PAGE_SHIFT for p in due}.difference(table.open_pages)
                room -= len(due) + _FROZEN_COST * len(frozen)
            for position in due:
                index, offset = position >> PAGE_SHIFT, position & PAGE_MASK
                page = table.page(index)
                if page is not None and page.states[offset] == WAITING:
                    page.states[offset] = READY
                    table.ready_pages.add(index)
                    woken.append(position)
        return woken, room

    def next_due_ms(self) -> int | None:
        """Nothing that waits is due before this time; None if nothing waits."""
        return self.waits.next_due_ms()
