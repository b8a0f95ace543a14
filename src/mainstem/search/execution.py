"""One search on its way through the units of work.

Owns: which units are with the workers, that their answers come out in the order of the units whatever worker
is faster, what has been searched, and when it is enough. Refuses: planning (`local/search.py`). Memory is
bounded: a few units at once, each with at most UNIT_MATCH_BYTES of matches; a unit that has more is asked
again for the rest when somebody has taken those.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from mainstem.clock import Clock
from mainstem.contract import Event, Position
from mainstem.search.blocks.blocks import Block
from mainstem.search.contract import (
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
    encode_resume_token,
)
from mainstem.search.facets import FieldValueCounter
from mainstem.search.ipc import (
    Reply,
    Request,
    RequestFailed,
    ScanDamage,
    ScanMatches,
    ScanReply,
    ScanRequest,
    Unit,
)
from mainstem.search.targets import in_turns
from mainstem.search.workers.pool import WorkerJob, WorkerPool

UNIT_MATCH_BYTES = 4 << 20
TOKEN_INTERVAL_S = 1e-4
"""For each partition: so long no new token is told. Making one takes some 2 us for each of them."""
NO_LIMIT = 1 << 31


@dataclass(slots=True)
class WorkItem:
    """A unit and what it means for the progress."""

    unit: Unit
    time_ms: int
    """About the newest time in it."""
    block: Block
    job: WorkerJob | None = None
    excluded: bool = False
    """Nothing in it can match."""
    scanned_bytes: int = 0
    indexed: bool = False
    """An index has said which batches may match: the unit is of some of these, or excluded."""
    covered_bytes: int | None = None
    """Bytes: of the unit and of what lies beside it and was excluded by an index."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.unit.end - self.unit.start if self.covered_bytes is None else self.covered_bytes


class SearchExecution:
    """A search. `items` are in the order of the search; `remaining` is shared with nobody."""

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
    ) -> None:
        self._pool, self._clock, self._request, self._now_ms = pool, clock, request, now_ms
        self._pending = deque(items)
        self._active: deque[WorkItem] = deque()
        self._remaining = {(each.topic, each.partition): each for each in remaining}
        self._output, self._fields = output, tuple(fields)
        self._limit = NO_LIMIT if request.limit is None else request.limit
        self._started = self._last_progress = self._token_due = clock.monotonic()
        self._finished_bytes = 0
        self.totals = Totals(total_bytes=sum(each.size for each in items), partitions=len(remaining))
        self.value_counter = FieldValueCounter(fields)

    async def updates(self) -> AsyncGenerator[Update, None]:
        """All of them, Done last. Closing it gives up what is with the workers."""
        try:
            reason: Reason = "complete"
            while self._dispatch():
                for update in self._handle_reply(await self._next_reply()):
                    yield update
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
                    yield Progress(self._current_totals(), token)
            if reason == "complete":
                self.totals.share = 1.0
            yield Done(reason, self._current_totals(), None if reason == "complete" else await self._token())
        finally:
            for piece in self._active:
                if piece.job is not None:
                    self._pool.cancel(piece.job)

    async def facets(self, top: int) -> AsyncGenerator[Update | Facets, None]:
        """The updates of one that wants `fields`, with what it has counted before Done."""
        async with aclosing(self.updates()) as updates:
            async for update in updates:
                if isinstance(update, Done):
                    yield Facets(self.totals.matches, self.value_counter.top(top))
                yield update

    def _current_totals(self) -> Totals:
        totals = replace(self.totals, elapsed_s=self._clock.monotonic() - self._started)
        done = self._finished_bytes
        for piece in self._active:
            reached = None if piece.job is None else piece.job.progress
            if reached is not None:
                totals.scanned_bytes += min(piece.size, piece.scanned_bytes + reached.bytes)
                done += min(piece.size, reached.bytes + reached.skipped_bytes)
        if totals.total_bytes and totals.share < 1:
            totals.share = min(1.0, done / totals.total_bytes)
        return totals

    async def _token(self) -> str | None:
        if self._output != "events":
            return None
        left = [
            (each.topic, each.partition, each.low, each.high)
            async for each in in_turns(list(self._remaining.values()))
            if each.low < each.high
        ]
        return encode_resume_token(self._request, left)

    # --- units out ----------------------------------------------------------------------------------------

    def _dispatch(self) -> bool:
        """Keep the workers busy; False when nothing is left."""
        while self._pending and len(self._active) < 2 * self._pool.workers + 2:
            piece = self._pending.popleft()
            if not piece.excluded:
                piece.job = self._pool.submit(partial(self._scan_request, piece.unit))
            self._active.append(piece)
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
        )

    # --- answers in ---------------------------------------------------------------------------------------

    async def _next_reply(self) -> Reply | None:
        """The next answer of the first unit; None: it takes its time."""
        job = self._active[0].job
        if job is None:
            return None
        if not job.replies.empty():
            return job.replies.get_nowait()
        try:
            return await asyncio.wait_for(job.replies.get(), PROGRESS_INTERVAL_S)
        except TimeoutError:
            return None

    def _handle_reply(self, reply: Reply | None) -> Iterator[Update]:
        piece = self._active[0]
        unit, totals = piece.unit, self.totals
        if piece.job is None:
            totals.skipped_bytes += piece.size
            totals.indexed_bytes += piece.size if piece.indexed else 0
            self._finish(piece)
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
        elif isinstance(reply, ScanReply):
            self._handle_scan_reply(piece, reply)
        elif isinstance(reply, RequestFailed):
            if reply.data_deleted:
                totals.removed_bytes += piece.size
            else:
                totals.undecodable += 1
                yield Unreadable(Position(unit.topic, unit.partition, unit.low), reply.reason)
            self._finish(piece)

    def _handle_scan_reply(self, piece: WorkItem, reply: ScanReply) -> None:
        unit, totals = piece.unit, self.totals
        totals.events += reply.events
        piece.scanned_bytes += reply.bytes
        if self._output != "events":
            totals.matches += reply.matches
            self.value_counter.merge(reply.value_counts)
        elif reply.stopped_at is not None:
            rest = self._unscanned_part(unit, reply.stopped_at)
            if rest is not None:
                piece.unit = rest
                piece.job = self._pool.submit(partial(self._scan_request, rest))
                return
        scanned = min(unit.end - unit.start, piece.scanned_bytes)
        totals.scanned_bytes += scanned
        totals.skipped_bytes += piece.size - scanned
        totals.indexed_bytes += piece.size - scanned if piece.indexed else 0
        self._finish(piece)

    def _unscanned_part(self, unit: Unit, stopped_at: int) -> Unit | None:
        """What of a unit comes after this offset, in the order of the search."""
        low, high = (unit.low, stopped_at) if self._request.newest_first else (stopped_at + 1, unit.high)
        return msgspec.structs.replace(unit, low=low, high=high) if low < high else None

    def _finish(self, piece: WorkItem) -> None:
        self._active.popleft()
        self._finished_bytes += piece.size
        unit = piece.unit
        self._advance(unit, unit.low if self._request.newest_first else unit.high - 1)
        if piece.time_ms >= 0:
            self.totals.reached_ms = piece.time_ms

    def _advance(self, unit: Unit, offset: int) -> None:
        """The search has come to this offset of a partition, which is done."""
        left = self._remaining[unit.topic, unit.partition]
        if self._request.newest_first:
            left.high = min(left.high, offset)
        else:
            left.low = max(left.low, offset + 1)
