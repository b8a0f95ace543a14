"""Executes one search: sends its units to the workers and turns their replies into updates.

Owns: which units are with the workers, the order of the matches (that of the units, whichever worker is
faster), the counts of what was searched, and stopping at the limit or the time budget. Refuses: to plan the
units (`local/search.py`, `cluster/plan.py`).

Memory is bounded: a few units are with the workers at a time, each with at most UNIT_MATCH_BYTES of matches.
A unit with more matches is submitted again for the rest once the caller has received those.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from mainstem.clock import Clock
from mainstem.contract import Event, Position
from mainstem.search.blocks.blocks import Block
from mainstem.search.contract import (
    PARTIAL_INTERVAL_S,
    PROGRESS_INTERVAL_S,
    Done,
    Facets,
    Hit,
    Progress,
    Reason,
    Remaining,
    SearchRequest,
    Totals,
    Unreadable,
    Update,
    ValueCount,
    encode_resume_token,
)
from mainstem.search.facets import FacetCounts
from mainstem.search.ipc import (
    FailureReply,
    Paused,
    Reply,
    Request,
    ScanDamage,
    ScanMatches,
    ScanReply,
    ScanRequest,
    Unit,
    ValueCounts,
)
from mainstem.search.match.own_terms import OwnTerms
from mainstem.search.targets import in_turns
from mainstem.search.workers.pool import WorkerJob, WorkerPool
from mainstem.search.workers.schedule import JobGroup
from mainstem.turns import next_turn

UNIT_MATCH_BYTES = 4 << 20
TOKEN_INTERVAL_S = 1e-4
"""Minimum time between resume tokens, per partition: building one costs 2 µs for each partition."""
NO_LIMIT = 1 << 31
NO_BATCH = "no batch has these offsets"
"""The reason of a range of offsets that no file has, or whose file is gone."""
UPDATES_A_TURN = 20
"""Maximum number of matches that are returned without letting other tasks of the event loop run: the caller
encodes each of them, and neither its client nor the workers may ever keep it waiting."""


@dataclass(slots=True)
class WorkItem:
    """A unit of a search: its batches, its place in the order of time, and how much of it was searched."""

    unit: Unit
    time_ms: int
    """About the newest time of the unit's events; negative: unknown."""
    block: Block
    job: WorkerJob | None = None
    excluded: bool = False
    """Whether no event of the unit can match; it is not sent to a worker then."""
    scanned_bytes: int = 0
    counted_matches: int = 0
    """Matches of the unit that are counted in the totals, if the search returns no events."""
    counted_baseline: int = 0
    """Matches of the baseline that are counted."""
    indexed: bool = False
    """Whether the full-text index was applied: the unit has only batches that may match, or is excluded."""
    covered: Unit | None = None
    """The unit and the range beside it that the index excluded: all of it is searched once the unit is. None:
    the index excluded no range."""

    @property
    def size(self) -> int:
        """Bytes of the log by which the search's progress advances when this unit is finished."""
        covered = self.covered or self.unit
        return covered.end - covered.start


class SearchExecution:
    """A search in progress. `items` are its units, in the order of the search. `remaining` are the offsets
    still to be searched; the search changes them as it advances, so that the caller must not use them any
    more. `output`: `events`, `count` or `fields`, as in ScanRequest."""

    def __init__(
        self,
        pool: WorkerPool,
        clock: Clock,
        request: SearchRequest,
        now_ms: int,
        items: Sequence[WorkItem],
        remaining: Sequence[Remaining],
        *,
        output: str = "events",
        fields: Sequence[str] = (),
        baseline: str | None = None,
        group: JobGroup[WorkerJob] | None = None,
        problems: Sequence[Unreadable] = (),
        is_removed: Callable[[Unit], bool] = lambda _: True,
    ) -> None:
        """`baseline`: a query whose matches are counted apart. `group`: the account of the search with the
        workers; several executions may be one search. `problems`: what the units leave out, because it
        cannot be read. `is_removed(unit)`: whether the log itself deleted the file of a unit that is not
        there; else it is damage."""
        self._group: JobGroup[WorkerJob] = JobGroup() if group is None else group
        self._problems, self._is_removed = problems, is_removed
        self._pool, self._clock, self._request, self._now_ms = pool, clock, request, now_ms
        self._pending = deque(items)
        self._active: deque[WorkItem] = deque()
        self._remaining = {(target.topic, target.partition): target for target in remaining}
        self._output, self._fields = output, tuple(fields)
        self._limit = NO_LIMIT if request.limit is None else request.limit
        self._started = self._last_progress = self._token_due = clock.monotonic()
        self._finished_bytes = 0
        self.totals = Totals(total_bytes=sum(item.size for item in items), partitions=len(remaining))
        self.facet_counts = FacetCounts(fields)
        self._baseline = baseline
        self.baseline_counts, self.baseline_matches = FacetCounts(fields), 0

    async def updates(self) -> AsyncGenerator[Update, None]:
        """Run the search, and yield its updates; Done is the last. Closing the generator cancels the requests
        to the workers."""
        returned = 0
        try:
            reason: Reason = "complete"
            for problem in self._problems:
                self.totals.undecodable += 1
                yield problem
            while self._dispatch():
                reply = await self._next_reply()
                if isinstance(reply, ValueCounts):
                    counts = self.baseline_counts if reply.of_baseline else self.facet_counts
                    counts.merge({reply.field: reply.counts})
                    await next_turn(self._clock)
                    continue  # the matches that were counted follow with Paused or ScanReply
                for update in self._handle_reply(reply):
                    yield update
                    returned += 1
                    if returned % UPDATES_A_TURN == 0:
                        await next_turn(self._clock)
                if self.totals.matches >= self._limit:
                    reason = "limit"
                    break
                now = self._clock.monotonic()
                if self._request.budget_s is not None and now - self._started >= self._request.budget_s:
                    reason = "budget"
                    break
                if now - self._last_progress >= PROGRESS_INTERVAL_S:
                    self._last_progress = now
                    token = await self._token() if now >= self._token_due else None
                    if token is not None:
                        self._token_due = now + TOKEN_INTERVAL_S * len(self._remaining)
                    yield Progress(self.totals_so_far(), token)
            if reason == "complete":
                self.totals.share = 1.0
            yield Done(reason, self.totals_so_far(), None if reason == "complete" else await self._token())
        finally:
            for item in self._active:
                if item.job is not None:
                    self._pool.cancel(item.job)

    async def facets(self, top: int) -> AsyncGenerator[Update | Facets, None]:
        """The updates of a search with output `fields`, and the `top` values of each field, also before
        Done."""
        partial_due = self._clock.monotonic() + PARTIAL_INTERVAL_S
        own_terms = None if self._fields else OwnTerms(self._request.query)
        async with aclosing(self.updates()) as updates:
            async for update in updates:
                is_due = isinstance(update, Progress) and self._clock.monotonic() >= partial_due
                if is_due or isinstance(update, Done):
                    yield await self._facets(top, own_terms)
                    partial_due = self._clock.monotonic() + PARTIAL_INTERVAL_S
                yield update

    async def _facets(self, top: int, own_terms: OwnTerms | None) -> Facets:
        """The values counted so far. `own_terms`: those of the query, which are left out."""
        values: dict[str, list[ValueCount]] = {}
        events = self.totals.matches
        for name in list(self.facet_counts.fields):
            is_named = None
            if own_terms is not None and own_terms.may_name(name):
                is_named = partial(own_terms.names, name)
            counted = self.facet_counts.top(name, top, is_named)
            if counted or is_named is None:
                values[name] = counted
            await next_turn(self._clock)
        return Facets(events, values)

    def totals_so_far(self) -> Totals:
        totals = replace(self.totals, elapsed_s=self._clock.monotonic() - self._started)
        finished_bytes = self._finished_bytes
        for item in self._active:
            progress = None if item.job is None else item.job.progress
            if progress is not None:
                totals.scanned_bytes += min(item.size, item.scanned_bytes + progress.bytes)
                finished_bytes += min(item.size, progress.bytes + progress.skipped_bytes)
        if totals.total_bytes and totals.share < 1:
            totals.share = min(1.0, finished_bytes / totals.total_bytes)
        return totals

    async def _token(self) -> str | None:
        if self._output != "events":
            return None
        ranges = [
            target
            async for target in in_turns(self._clock, list(self._remaining.values()))
            if target.low < target.high
        ]
        return encode_resume_token(self._request, ranges)

    # --- requests to the workers ---------------------------------------------------------------------------

    def _dispatch(self) -> bool:
        """Submit units until enough of them are with the workers. False: all units are finished."""
        # What is counted beyond a limit could not be taken back.
        counts_to_limit = self._output != "events" and self._limit != NO_LIMIT
        active_max = 1 if counts_to_limit else 2 * self._pool.workers + 2
        while self._pending and len(self._active) < active_max:
            item = self._pending.popleft()
            if not item.excluded:
                item.job = self._pool.submit(partial(self._scan_request, item.unit), self._group)
            self._active.append(item)
        return bool(self._active)

    def _scan_request(self, unit: Unit, job_id: int) -> Request:
        request = self._request
        return ScanRequest(
            job_id,
            unit,
            request.query,
            self._now_ms,
            request.since_ms,
            request.until_ms,
            request.newest_first,
            max(1, self._limit - self.totals.matches),
            UNIT_MATCH_BYTES,
            self._output,
            self._fields,
            self._baseline,
        )

    # --- replies from the workers -------------------------------------------------------------------------

    async def _next_reply(self) -> Reply | None:
        """The next reply about the first active unit. None: it is excluded, or no reply came within
        PROGRESS_INTERVAL_S."""
        job = self._active[0].job
        if job is None:
            return None
        if not job.replies.empty():
            return job.replies.get_nowait()
        try:
            async with asyncio.timeout(PROGRESS_INTERVAL_S):
                return await job.replies.get()
        except TimeoutError:
            return None

    def _handle_reply(self, reply: Reply | None) -> Iterator[Update]:
        item = self._active[0]
        unit, totals = item.unit, self.totals
        if item.job is None:
            totals.skipped_bytes += item.size
            totals.indexed_bytes += item.size if item.indexed else 0
            self._finish(item)
        elif isinstance(reply, ScanMatches):
            for row in reply.rows:
                if totals.matches >= self._limit:
                    return
                totals.matches += 1
                self._advance(unit, row[0])
                yield Hit(Event(unit.topic, unit.partition, *row))
        elif isinstance(reply, ScanDamage):
            totals.undecodable += 1
            yield Unreadable(Position(unit.topic, unit.partition, reply.offset), reply.reason)
        elif isinstance(reply, Paused):
            self._count_matches(item, reply.rest.so_far.matches, reply.rest.so_far.baseline_matches)
        elif isinstance(reply, ScanReply):
            self._handle_scan_reply(item, reply)
        elif isinstance(reply, FailureReply):
            if reply.data_deleted and self._is_removed(unit):
                totals.removed_bytes += item.size
            else:
                totals.undecodable += 1
                reason = NO_BATCH if reply.data_deleted else reply.reason
                yield Unreadable(Position(unit.topic, unit.partition, unit.low), reason)
            self._finish(item)

    def _handle_scan_reply(self, item: WorkItem, reply: ScanReply) -> None:
        unit, totals = item.unit, self.totals
        totals.events += reply.events
        item.scanned_bytes += reply.bytes
        self._count_matches(item, reply.matches, reply.baseline_matches)
        if self._output == "events" and reply.stopped_at is not None:
            rest = self._unscanned_part(unit, reply.stopped_at)
            if rest is not None:
                item.unit = rest
                item.job = self._pool.submit(partial(self._scan_request, rest), self._group)
                return
        scanned = min(unit.end - unit.start, item.scanned_bytes)
        totals.scanned_bytes += scanned
        totals.skipped_bytes += item.size - scanned
        totals.indexed_bytes += item.size - scanned if item.indexed else 0
        self._finish(item)

    def _count_matches(self, item: WorkItem, matches: int, baseline_matches: int) -> None:
        """Add the matches of an item that were not counted yet. `matches`: those since the start of its
        scan."""
        if self._output != "events":
            self.totals.matches += matches - item.counted_matches
            item.counted_matches = matches
            self.baseline_matches += baseline_matches - item.counted_baseline
            item.counted_baseline = baseline_matches

    def _unscanned_part(self, unit: Unit, stopped_at: int) -> Unit | None:
        """The part of a unit after this offset, in the order of the search. None: there is none."""
        assert unit.low <= stopped_at < unit.high, "a scan stops at an event of its unit"
        low, high = (unit.low, stopped_at) if self._request.newest_first else (stopped_at + 1, unit.high)
        return msgspec.structs.replace(unit, low=low, high=high) if low < high else None

    def _finish(self, item: WorkItem) -> None:
        self._active.popleft()
        self._finished_bytes += item.size
        covered = item.covered or item.unit
        self._advance(covered, covered.low if self._request.newest_first else covered.high - 1)
        if item.time_ms >= 0:
            self.totals.reached_ms = item.time_ms

    def _advance(self, unit: Unit, offset: int) -> None:
        """Record that the unit's partition is searched up to this offset, inclusive."""
        target = self._remaining[unit.topic, unit.partition]
        if self._request.newest_first:
            target.high = min(target.high, offset)
        else:
            target.low = max(target.low, offset + 1)
        assert target.low <= target.high, "a search does not advance past the end of a partition's range"
