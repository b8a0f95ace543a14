"""Publishing again what is in the stream already: each event once, whatever breaks off on the way.

Owns: the two headers that a replayed event gets, the pace, and where a replay that was broken off goes on.
Refuses: to keep a note of its own about that: a note and the target could disagree after a crash. The target
alone says what is in it. Used by the HTTP door and by the command line, over any engine.

**How a job goes on.** Each event that a job publishes carries the job's id and the place it is from. A job
that is started again first looks for its events in the target (`find_published`), and leaves out what it
finds. Its
events are published slice by slice, in the order of the offsets of each source partition, a slice only when
all of the one before is durable. So if the n-th last offset found of a source partition is smaller than all
that one slice can hold, everything before it is there: WINDOW offsets are remembered, not all. What counts
into a slice is what was read, also if it is left out: else a job that is broken off again and again, with
holes to fill, could spread its holes over more and more offsets.

**What that holds against.** A client that dies, a server that is killed, a machine that loses its power: the
events that became durable are found, the others are published. Two things it does not hold against. Whoever
deletes or compacts the job's newest events in the target takes its memory with them. And an older run must
have ended: on this machine's log a second one is refused until the first one's last write is done; another
cluster may still take what a killed client had sent, so a job goes on there only after SETTLE_S.
"""

from __future__ import annotations

import asyncio
import heapq
import re
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeAlias

from mainstem.clock import Clock
from mainstem.contract import Event, EventLog, InvalidArgument, NewEvent, Position, StreamError
from mainstem.search.contract import Done, Hit, Search, SearchRequest, Unreadable

FROM_HEADER = "mainstem-replayed-from"
"""`topic/partition/offset` of the event that was replayed."""
JOB_HEADER = "mainstem-replay-job"
"""The job's id, a space, and the mark of what it replays: eight hex digits."""
JOB_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SLICE_EVENTS = 500
SLICE_BYTES = 1 << 20
WINDOW = 8 * SLICE_EVENTS
"""Offsets remembered of each source partition. More than a slice: versions to come may have larger ones."""
SETTLE_S = 2.0

SourceItem: TypeAlias = Event | Unreadable


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """What is replayed, by name: the same job again means the same events."""

    id: str
    fingerprint: int

    @classmethod
    def of(cls, job_id: str, request: SearchRequest | None, chosen: object = None) -> ReplayJob:
        """The job of this name that replays this. InvalidArgument: its name. `chosen`: any value whose
        repr says which events are meant, when no search does."""
        if not re.fullmatch(JOB_PATTERN, job_id):
            raise InvalidArgument(
                f"{job_id[:100]!r} is not a job's id: 1 to 64 letters, digits, dots and dashes"
            )
        what: object = chosen
        if request is not None:
            partitions = None if request.partitions is None else sorted(request.partitions)
            what = (request.query, sorted(request.topics), partitions, request.since_ms, request.until_ms)
        return cls(job_id, zlib.crc32(repr(what).encode()))

    @property
    def header(self) -> bytes:
        """What stands in JOB_HEADER."""
        return f"{self.id} {self.fingerprint:08x}".encode()


@dataclass(slots=True)
class ReplayProgress:
    """How far it is."""

    published: int = 0
    """By this run."""
    already_published: int = 0
    """Found in the target: published by earlier runs of this job."""
    unreadable: int = 0
    """Stretches of the source that could not be read, and so were left out."""


class _ReplayedOffsets:
    """Which offsets of a source are done, of each partition the WINDOW largest; those below are done too."""

    def __init__(self) -> None:
        self._floors: dict[tuple[str, int], int] = {}
        self._kept: dict[tuple[str, int], list[int]] = {}
        self._known: set[Position] = set()

    def add(self, place: Position) -> None:
        if place in self:
            return
        where = (place.topic, place.partition)
        kept = self._kept.setdefault(where, [])
        heapq.heappush(kept, place.offset)
        self._known.add(place)
        if len(kept) > WINDOW:
            floor = heapq.heappop(kept)
            self._floors[where] = floor
            self._known.discard(Position(*where, floor))

    def __contains__(self, place: Position) -> bool:
        return place in self._known or place.offset <= self._floors.get((place.topic, place.partition), -1)

    def __bool__(self) -> bool:
        return bool(self._known)


class Replay:
    """One run of a job into the topic `to`. `find_published` first if the job may have run before,
    then `run`."""

    def __init__(self, engine: EventLog, search: Search, clock: Clock, to: str, job: ReplayJob) -> None:
        self._engine = engine
        self._search = search
        self._clock = clock
        self._to = to
        self.job = job
        self._done = _ReplayedOffsets()
        self._writing: asyncio.Future[list[Position]] | None = None
        self.progress = ReplayProgress()

    async def find_published(self) -> int:
        """Find what earlier runs have published; how many. InvalidArgument: the job was another one then.
        StreamError: a stretch of the target cannot be read, so nobody knows."""
        request = SearchRequest(query=f'"{self.job.id}"', topics=(self._to,), limit=None, newest_first=False)
        async with aclosing(self._search.search(request)) as updates:
            async for update in updates:
                if isinstance(update, Unreadable):
                    at = update.position
                    raise StreamError(
                        f"job {self.job.id} cannot go on: what it published may lie in {at.topic}/"
                        f"{at.partition} from offset {at.offset} on, which cannot be read: {update.reason}"
                    )
                if isinstance(update, Hit):
                    self._recall(update.event)
        return self.progress.already_published

    def _recall(self, event: Event) -> None:
        """Only the last two headers count: an event may have been replayed before, by other jobs."""
        if len(event.headers) < 2 or event.headers[-1][0] != JOB_HEADER:
            return
        content = event.headers[-1][1] or b""
        if content.partition(b" ")[0] != self.job.id.encode():
            return
        if content != self.job.header:
            raise InvalidArgument(f"job {self.job.id} was begun with another query, or other topics or times")
        topic, _, rest = (event.headers[-2][1] or b"").decode("utf-8", "replace").partition("/")
        partition, _, offset = rest.partition("/")
        if event.headers[-2][0] == FROM_HEADER and partition.isdecimal() and offset.isdecimal():
            self._done.add(Position(topic, int(partition), int(offset)))
            self.progress.already_published += 1

    async def count(self, request: SearchRequest) -> int:
        """How many of the matches would be published."""
        if self.progress.already_published:
            return await self.count_fresh(matching_events(self._search, request))
        # None of them is done, nor one that the job published: their number is enough.
        async with aclosing(self._search.search(replace(request, only_count=True))) as updates:
            async for update in updates:
                if isinstance(update, Done):
                    self.progress.unreadable = update.totals.undecodable
                    return update.totals.matches
        raise StreamError("the search was cut off")

    async def count_fresh(self, source: AsyncGenerator[SourceItem, None]) -> int:
        """How many of them would be published."""
        count = 0
        async with aclosing(source):
            async for found in source:
                if isinstance(found, Unreadable):
                    self.progress.unreadable += 1
                else:
                    count += self._is_fresh(found)
        return count

    def _is_fresh(self, event: Event) -> bool:
        """Not published by this job, and not one that it published (into a topic that it reads)."""
        is_own = bool(event.headers) and event.headers[-1] == (JOB_HEADER, self.job.header)
        return not is_own and position_of(event) not in self._done

    async def run(
        self, source: AsyncGenerator[SourceItem, None], rate: int, pause: Callable[[float], Awaitable[None]]
    ) -> AsyncGenerator[ReplayProgress, None]:
        """Publish what `source` gives, `rate` events a second at most, telling how far it is after each
        slice. The offsets of each partition must rise, unless there are less than WINDOW. StreamError ends
        it; `progress` has what was published all the same."""
        began = self._clock.monotonic()
        slices = self._slices(source, max(1, min(SLICE_EVENTS, rate // 4)))
        async with aclosing(source), aclosing(slices):
            async for events in slices:
                if events:
                    await self._publish(events)
                    yield self.progress
                    await pause(max(0.0, began + self.progress.published / rate - self._clock.monotonic()))
        yield self.progress

    async def _slices(
        self, source: AsyncGenerator[SourceItem, None], most: int
    ) -> AsyncGenerator[list[Event], None]:
        fresh: list[Event] = []
        count = size_bytes = 0
        async for found in source:
            if isinstance(found, Unreadable):
                self.progress.unreadable += 1
                continue
            count += 1
            if self._is_fresh(found):
                fresh.append(found)
                size_bytes += len(found.value or b"") + len(found.key or b"")
            if len(fresh) >= most or count >= SLICE_EVENTS or size_bytes >= SLICE_BYTES:
                yield fresh
                fresh, count, size_bytes = [], 0, 0
        yield fresh

    async def _publish(self, events: Sequence[Event]) -> None:
        marked = [NewEvent(each.value, each.key, self._headers(each)) for each in events]
        self._writing = asyncio.ensure_future(self._engine.publish(self._to, marked))
        try:
            await asyncio.shield(self._writing)
        except StreamError as error:
            self.progress.published += sum(isinstance(each, Position) for each in error.results)
            raise
        self.progress.published += len(events)

    def _headers(self, event: Event) -> tuple[tuple[str, bytes | None], ...]:
        place = f"{event.topic}/{event.partition}/{event.offset}"
        return (*event.headers, (FROM_HEADER, place.encode()), (JOB_HEADER, self.job.header))

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call it when nothing is being written any more: at once, or after the slice that was on its way
        when the run was ended. Only then may the job run again."""

        def ended(writing: asyncio.Future[list[Position]]) -> None:
            if not writing.cancelled():
                writing.exception()  # nobody else asks for it any more
            call()

        if self._writing is None or self._writing.done():
            call()
        else:
            self._writing.add_done_callback(ended)


def position_of(event: Event) -> Position:
    """Where it is."""
    return Position(event.topic, event.partition, event.offset)


async def matching_events(search: Search, request: SearchRequest) -> AsyncGenerator[SourceItem, None]:
    """All events that match, oldest first in each partition, and what could not be read."""
    done = False
    async with aclosing(search.search(request)) as updates:
        async for update in updates:
            done = isinstance(update, Done)
            if isinstance(update, Hit):
                yield update.event
            elif isinstance(update, Unreadable):
                yield update
    if not done:
        raise StreamError("the search was cut off")
