"""Leases by ranges of positions: for consumers that receive whole batches and name what they answer by range.

A consumer may have many leases of a view; it answers for positions, whichever of its leases has them. Owns:
these operations on live leases, which need no record. Refuses: decisions and records.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby

from mainstem.queues.applied import AppliedView
from mainstem.queues.leases import WORD_MASK, DeliveryLease
from mainstem.queues.pages import (
    AHEAD,
    FILL,
    LEASED,
    PAGE_MASK,
    PAGE_POSITIONS,
    PAGE_SHIFT,
    READY,
    OpenPage,
)
from mainstem.queues.runs import Run, add_run


class RangeLeases(AppliedView):
    """A view whose consumers acquire, renew and answer ranges."""

    def _next_ready_page(self) -> int | None:
        """The page with the lowest ready position, which may have none left."""
        table = self.table
        index = table.ready_pages.lowest
        lowest = table.ready.lowest
        if lowest is not None and (index is None or lowest >> PAGE_SHIFT < index):
            return lowest >> PAGE_SHIFT
        return index

    def first_ready(self) -> int | None:
        """The lowest ready position, or None."""
        table = self.table
        while (index := self._next_ready_page()) is not None:
            page = table.page(index)
            if page is None:
                return table.ready.lowest
            offset = page.states.find(READY)
            if offset >= 0:
                return (index << PAGE_SHIFT) + offset
            table.ready_pages.discard(index)
        return None

    def acquire_runs(
        self, consumer: str, runs: Sequence[Run], now_ms: int, lock_ms: int | None = None
    ) -> DeliveryLease | None:
        """Leases to a consumer what of these runs, which are ascending and disjoint, is ready, and not more
        than may be in flight. None if that is nothing. Lock: see `SequenceView.acquire`."""
        room = self.rules.in_flight_max - self.table.counts[LEASED]
        if room <= 0:
            return None
        word = self.leases.next_word()
        leased: list[Run] = []
        for index, low, high in self._pieces(runs):
            room -= self._lease_ready(index, room, word, leased, low, high)
            if room <= 0:
                break
        return self._open_lease(consumer, leased, now_ms, lock_ms) if leased else None

    def _open_lease(self, consumer: str, runs: list[Run], now_ms: int, lock_ms: int | None) -> DeliveryLease:
        if runs[-1][1] > self._cursor:
            self._cursor = runs[-1][1]
        lock_ms = self.rules.lock_ms if lock_ms is None else lock_ms
        return self.leases.open(consumer, runs, now_ms, lock_ms)

    def _lease_ready(
        self, index: int, room: int, word: int, runs: list[Run], low: int = 0, high: int = PAGE_POSITIONS
    ) -> int:
        """Leases the ready positions of a page between two offsets, as many as there is room for; returns
        their number."""
        table, base = self.table, index << PAGE_SHIFT
        page = table.open_pages.get(index) or table.open(index)
        states, words = page.states, page.words
        leased = 0
        first = states.find(READY, low, high)
        while first >= 0 and leased < room:
            count = min(room - leased, high - first)
            if count > 1:
                part = states[first : first + count]
                if part.count(READY) != count:
                    count -= len(part.lstrip(b"\x01"))
            if count == 1:
                states[first] = LEASED
                words[first] = word
            else:
                states[first : first + count] = FILL[LEASED][:count]
                words[first : first + count] = array("I", (word,)) * count
            if page.tries.used:
                self._count_acquisitions(page, first, first + count)
            add_run(runs, base + first, base + first + count)
            leased += count
            first = states.find(READY, first + count, high)
        if first < 0 and high - low == PAGE_POSITIONS:
            table.ready_pages.discard(index)
        table.counts[READY] -= leased
        table.counts[LEASED] += leased
        return leased

    def restore_lease(
        self, lease_id: int, consumer: str, runs: Sequence[Run], now_ms: int, lock_ms: int
    ) -> DeliveryLease | None:
        """A lease of an earlier life of the server goes on, with its number, which is above those of all
        leases of this one, and what of these positions is ready or ahead. None: that is nothing. Right after
        a load."""
        self.leases.skip_to(lease_id)
        word, table = self.leases.next_word(), self.table
        assert word == lease_id & WORD_MASK, "it had this word before"
        leased: list[Run] = []
        for index, low, high in self._pieces(runs):
            page, base = table.open(index), index << PAGE_SHIFT
            for offset in range(low, high):
                state = page.states[offset]
                if state not in (READY, AHEAD):
                    continue
                if state == READY:
                    table.counts[READY] -= 1
                table.counts[LEASED] += 1
                page.states[offset], page.words[offset] = LEASED, word
                acquisitions, failures = page.tries.get(offset) or (0, 0)
                page.tries.put(offset, acquisitions + 1, failures)
                add_run(leased, base + offset, base + offset + 1)
        return self._open_lease(consumer, leased, now_ms, lock_ms) if leased else None

    @staticmethod
    def _count_acquisitions(page: OpenPage, first: int, end: int) -> None:
        for offset in page.tries.within(first, end):
            acquisitions, failures = page.tries.get(offset) or (0, 0)
            page.tries.put(offset, acquisitions + 1, failures)

    def has_leased(self, consumer: str, runs: Sequence[Run]) -> bool:
        """Whether live leases of a consumer have all positions of these runs. It looks at no more positions
        than are leased."""
        total = sum(end - first for first, end in runs)
        if total > self.table.counts[LEASED]:
            return False
        return all(
            (lease := self.leases.by_word.get(word)) is not None and lease.consumer == consumer
            for word, _ in self._lease_words(runs)
        )

    def _lease_words(self, runs: Sequence[Run]) -> Iterator[tuple[int, Run]]:
        """The word of the lease that has them, and the positions, for consecutive positions of the runs: 0
        for those that are not leased."""
        for index, low, high in self._pieces(runs):
            base, page = index << PAGE_SHIFT, self.table.page(index)
            if page is None or page.states.count(LEASED, low, high) != high - low:
                yield 0, (base + low, base + high)
                continue
            words = page.words[low:high]
            if words == array("I", (words[0],)) * len(words):
                yield words[0], (base + low, base + high)
                continue
            first = base + low
            for word, group in groupby(words):
                end = first + sum(1 for _ in group)
                yield word, (first, end)
                first = end

    def present_lease(self, lease_id: int, position: int) -> int:
        """The number of the lease that has a position, or had it last, if it is a part of the one with which
        it was acquired; else the number of that one."""
        if not self.leases.has_parts:
            return lease_id
        page = self.table.page(position >> PAGE_SHIFT)
        return lease_id if page is None else self.leases.part_with(lease_id, page.words[position & PAGE_MASK])

    def renew(self, runs: Sequence[Run], now_ms: int, lock_ms: int | None = None) -> list[DeliveryLease]:
        """The leases of these positions, which are all leased, end `lock_ms` from now (as the rules say, if
        it is not given). Where a lease has other positions too, those keep their deadline. Returns the leases
        that have these positions now."""
        lock_ms = self.rules.lock_ms if lock_ms is None else lock_ms
        renewed: list[DeliveryLease] = []
        parts: dict[int, list[Run]] = {}
        for word, run in self._lease_words(runs):
            parts.setdefault(word, []).append(run)
        for word, chosen in parts.items():
            lease = self.leases.by_word[word]
            count = sum(end - first for first, end in chosen)
            if count == lease.left:
                self.leases.extend(lease.id, now_ms, lock_ms)
                renewed.append(lease)
                continue
            new_word = self.leases.next_word()
            for index, low, high in self._pieces(chosen):
                self.table.open(index).words[low:high] = array("I", (new_word,)) * (high - low)
            renewed.append(self.leases.divide(word, chosen, now_ms, lock_ms))
        return renewed

    def failure_runs(self, runs: Sequence[Run]) -> list[tuple[int, int, int]]:
        """(first, end, failures) of runs, cut where the number of failed deliveries changes."""
        cut: list[tuple[int, int, int]] = []

        def add(first: int, end: int, failures: int) -> None:
            if first >= end:
                return
            if cut and cut[-1][1] == first and cut[-1][2] == failures:
                cut[-1] = cut[-1][0], end, failures
            else:
                cut.append((first, end, failures))

        for first, end in runs:
            while first < end:
                base = first & ~PAGE_MASK
                stop = min(end, base + PAGE_POSITIONS)
                page = self.table.page(first >> PAGE_SHIFT)
                if page is not None and page.tries.used:
                    for offset in page.tries.within(first - base, stop - base):
                        add(first, base + offset, 0)
                        add(base + offset, base + offset + 1, (page.tries.get(offset) or (0, 0))[1])
                        first = base + offset + 1
                add(first, stop, 0)
                first = stop
        return cut
