"""Replay: publishes events of the stream again, each of them once, even if the replay is interrupted.

Owns: the two headers of a replayed event, the rate, and how an interrupted replay is resumed. Refuses: a
progress file of its own, which could disagree with the target topic after a crash. The target alone says
which events it has. Works over any engine.

**How a job is resumed.** Each event that a job publishes carries the job's id and its source position. A job
that starts again first searches the target for its own events (`find_published`) and skips them. A run
publishes slice by slice, in the order of the offsets of each source partition, and a slice only when all of
the one before is durable. So if WINDOW offsets of a source partition are found, which is more than a slice
can hold, everything before them is in the target as well, and only these offsets have to be remembered. A
slice counts the events that were read, also those that were skipped: otherwise a job that is interrupted
again and again could spread its gaps over more and more offsets. Each event names the id of its source topic,
too: if that topic was deleted and created again, its offsets are those of other events, and the job is
refused.

**What this survives.** A client that dies, a server that is killed, a machine that loses power: the events
that became durable are found, the others are published. It does not survive two things. Deleting or
compacting the job's newest events in the target loses its progress. And an older run must have ended: on
this machine's log a second run is refused until the last write of the first is done; another cluster may
still accept what a killed client has sent, so a job is resumed there only after SETTLE_S.
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
from mainstem.contract import Event, EventLog, InvalidArgument, NewEvent, Position, StreamError, UnknownTopic
from mainstem.search.contract import Done, Hit, Search, SearchRequest, Unreadable

FROM_HEADER = "mainstem-replayed-from"
"""Header with the source position of a replayed event: `topic/partition/offset`."""
JOB_HEADER = "mainstem-replay-job"
"""Header with the job's id, its fingerprint as eight hex digits, and the source topic's id as Kafka prints it
(NO_ID: the cluster has no topic ids), with spaces between them."""
NO_ID = "-"
JOB_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SLICE_EVENTS = 500
SLICE_BYTES = 1 << 20
WINDOW = 8 * SLICE_EVENTS
"""Offsets remembered of each source partition. More than a slice, in case a later version has larger ones."""
SETTLE_S = 2.0

SourceItem: TypeAlias = Event | Unreadable


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """The name of a replay and a fingerprint of its source. The same job always replays the same events."""

    id: str
    fingerprint: int

    @classmethod
    def of(cls, job_id: str, request: SearchRequest | None, selection: object = None) -> ReplayJob:
        """The job with this name and source: a search, or a selection of events, of which any value with a
        stable `repr` will do. InvalidArgument: the name."""
        if not re.fullmatch(JOB_PATTERN, job_id):
            raise InvalidArgument(
                f"{job_id[:100]!r} is not a job's id: 1 to 64 letters, digits, dots and dashes"
            )
        source = selection
        if request is not None:
            partitions = None if request.partitions is None else sorted(request.partitions)
            source = (request.query, sorted(request.topics), partitions, request.since_ms, request.until_ms)
        return cls(job_id, zlib.crc32(repr(source).encode()))

    def header(self, topic_id: str) -> bytes:
        """The value of JOB_HEADER in an event from the topic with this id."""
        return f"{self.id} {self.fingerprint:08x} {topic_id}".encode()


@dataclass(slots=True)
class ReplayProgress:
    """The counts of a replay: what it has published and skipped."""

    published: int = 0
    """Events that this run has published."""
    already_published: int = 0
    """Events that earlier runs of this job have published, as found in the target."""
    unreadable: int = 0
    """Ranges of the source that could not be read and were skipped."""


class _ReplayedOffsets:
    """The source positions that are in the target: the WINDOW largest of each partition. All positions below
    these count as replayed too."""

    def __init__(self) -> None:
        self._floors: dict[tuple[str, int], int] = {}
        """(topic, partition) -> the highest offset that was dropped from the window."""
        self._windows: dict[tuple[str, int], list[int]] = {}
        """(topic, partition) -> a heap of the offsets in the window."""
        self._positions: set[Position] = set()

    def add(self, position: Position) -> None:
        if position in self:
            return
        key = (position.topic, position.partition)
        window = self._windows.setdefault(key, [])
        heapq.heappush(window, position.offset)
        self._positions.add(position)
        if len(window) > WINDOW:
            floor = heapq.heappop(window)
            assert floor > self._floors.get(key, -1), "the window of replayed offsets only moves up"
            self._floors[key] = floor
            self._positions.discard(Position(*key, floor))

    def __contains__(self, position: Position) -> bool:
        floor = self._floors.get((position.topic, position.partition), -1)
        return position in self._positions or position.offset <= floor

    def __bool__(self) -> bool:
        return bool(self._positions)


class Replay:
    """One run of a job into the topic `target`. If the job may have run before, call `find_published` before
    `run`."""

    def __init__(self, engine: EventLog, search: Search, clock: Clock, target: str, job: ReplayJob) -> None:
        self._engine = engine
        self._search = search
        self._clock = clock
        self._target = target
        self.job = job
        self._replayed = _ReplayedOffsets()
        self._published_ids: set[tuple[str, str]] = set()
        """(source topic, its id) of what earlier runs have published."""
        self._topic_ids: dict[str, str] = {}
        """The ids of source topics that were looked up; NO_ID: there is no such topic, or it has no id."""
        self._publishing: asyncio.Future[list[Position]] | None = None
        self.progress = ReplayProgress()

    async def find_published(self) -> int:
        """Find the events that earlier runs have published, and return their number. InvalidArgument: the
        job had another source then, or a source topic was created again. StreamError: a range of the target
        cannot be read, so that some of the job's events may be missed."""
        request = SearchRequest(
            query=f'"{self.job.id}"', topics=(self._target,), limit=None, newest_first=False
        )
        async with aclosing(self._search.search(request)) as updates:
            async for update in updates:
                if isinstance(update, Unreadable):
                    start = update.position
                    raise StreamError(
                        f"job {self.job.id} cannot go on: what it published may lie in {start.topic}/"
                        f"{start.partition} from offset {start.offset} on, which cannot be read:"
                        f" {update.reason}"
                    )
                if isinstance(update, Hit):
                    self._add_published(update.event)
        for topic, published_id in sorted(self._published_ids):
            current_id = await self._topic_id(topic)
            if published_id != current_id and NO_ID not in (published_id, current_id):
                raise InvalidArgument(
                    f"job {self.job.id}: topic {topic} was deleted and created again since the job began;"
                    " start another job"
                )
        return self.progress.already_published

    async def _topic_id(self, topic: str) -> str:
        if topic not in self._topic_ids:
            try:
                self._topic_ids[topic] = await self._engine.topic_id(topic) or NO_ID
            except UnknownTopic:
                self._topic_ids[topic] = NO_ID
        return self._topic_ids[topic]

    def _add_published(self, event: Event) -> None:
        """Note an event if this job published it. Only the last two headers count, because other jobs may
        have replayed the event before."""
        if len(event.headers) < 2 or event.headers[-1][0] != JOB_HEADER:
            return
        job_header = event.headers[-1][1] or b""
        if job_header.partition(b" ")[0] != self.job.id.encode():
            return
        if job_header.count(b" ") != 2:
            raise InvalidArgument(
                f"job {self.job.id}: what it has published does not name the ids of its source topics; start"
                " another job"
            )
        topic_id = job_header.rpartition(b" ")[2].decode("utf-8", "replace")
        if job_header != self.job.header(topic_id):
            raise InvalidArgument(f"job {self.job.id} was begun with another query, or other topics or times")
        topic, _, rest = (event.headers[-2][1] or b"").decode("utf-8", "replace").partition("/")
        partition, _, offset = rest.partition("/")
        if event.headers[-2][0] == FROM_HEADER and partition.isdecimal() and offset.isdecimal():
            self._published_ids.add((topic, topic_id))
            self._replayed.add(Position(topic, int(partition), int(offset)))
            self.progress.already_published += 1

    async def count(self, request: SearchRequest) -> int:
        """Count the matches that the job would publish."""
        if self.progress.already_published:
            return await self.count_fresh(matching_events(self._search, request))
        # The job has published none of the matches and none of its own events matches: their number is
        # enough.
        async with aclosing(self._search.search(replace(request, only_count=True))) as updates:
            async for update in updates:
                if isinstance(update, Done):
                    self.progress.unreadable = update.totals.undecodable
                    return update.totals.matches
        raise StreamError("the search ended before it had read all events")

    async def count_fresh(self, source: AsyncGenerator[SourceItem, None]) -> int:
        """Count the events of `source` that the job would publish."""
        count = 0
        async with aclosing(source):
            async for item in source:
                if isinstance(item, Unreadable):
                    self.progress.unreadable += 1
                else:
                    count += self._is_fresh(item)
        return count

    def _is_fresh(self, event: Event) -> bool:
        """Whether the job has not published the event, and the event is not a copy that the job published
        into a topic that it also reads."""
        name, value = event.headers[-1] if event.headers else ("", b"")
        is_copy = name == JOB_HEADER and (value or b"").startswith(self.job.header(""))
        return not is_copy and position_of(event) not in self._replayed

    async def run(
        self,
        source: AsyncGenerator[SourceItem, None],
        rate: int,
        pause: Callable[[float], Awaitable[None]],
    ) -> AsyncGenerator[ReplayProgress, None]:
        """Publish the events of `source`, at most `rate` events a second, and yield the progress after each
        slice. The offsets of each partition must increase, unless there are fewer than WINDOW. StreamError
        ends the run; `progress` still counts what was published."""
        started_at = self._clock.monotonic()
        slices = self._slices(source, max(1, min(SLICE_EVENTS, rate // 4)))
        async with aclosing(source), aclosing(slices):
            async for events in slices:
                if events:
                    await self._publish(events)
                    yield self.progress
                    due_at = started_at + self.progress.published / rate
                    await pause(max(0.0, due_at - self._clock.monotonic()))
        yield self.progress

    async def _slices(
        self, source: AsyncGenerator[SourceItem, None], max_events: int
    ) -> AsyncGenerator[list[Event], None]:
        fresh: list[Event] = []
        read_count = size_bytes = 0
        async for item in source:
            if isinstance(item, Unreadable):
                self.progress.unreadable += 1
                continue
            read_count += 1
            if self._is_fresh(item):
                fresh.append(item)
                size_bytes += len(item.value or b"") + len(item.key or b"")
            if len(fresh) >= max_events or read_count >= SLICE_EVENTS or size_bytes >= SLICE_BYTES:
                yield fresh
                fresh, read_count, size_bytes = [], 0, 0
        yield fresh

    async def _publish(self, events: Sequence[Event]) -> None:
        for topic in {event.topic for event in events}:
            await self._topic_id(topic)
        copies = [NewEvent(event.value, event.key, self._headers(event)) for event in events]
        self._publishing = asyncio.ensure_future(self._engine.publish(self._target, copies))
        try:
            await asyncio.shield(self._publishing)
        except StreamError as error:
            self.progress.published += sum(isinstance(result, Position) for result in error.results)
            raise
        self.progress.published += len(events)

    def _headers(self, event: Event) -> tuple[tuple[str, bytes | None], ...]:
        source = f"{event.topic}/{event.partition}/{event.offset}"
        return (
            *event.headers,
            (FROM_HEADER, source.encode()),
            (JOB_HEADER, self.job.header(self._topic_ids[event.topic])),
        )

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call `callback` when no publish is in progress: now, or after the slice that was being published
        when the run was ended. Only then may the job run again."""

        def on_published(publishing: asyncio.Future[list[Position]]) -> None:
            if not publishing.cancelled():
                publishing.exception()  # retrieve it, or asyncio logs it as never retrieved
            callback()

        if self._publishing is None or self._publishing.done():
            callback()
        else:
            self._publishing.add_done_callback(on_published)


def position_of(event: Event) -> Position:
    """The event's position."""
    return Position(event.topic, event.partition, event.offset)


async def matching_events(search: Search, request: SearchRequest) -> AsyncGenerator[SourceItem, None]:
    """All events that match, each partition in the order of its offsets, and the ranges that cannot be
    read."""
    done = False
    async with aclosing(search.search(request)) as updates:
        async for update in updates:
            done = isinstance(update, Done)
            if isinstance(update, Hit):
                yield update.event
            elif isinstance(update, Unreadable):
                yield update
    if not done:
        raise StreamError("the search ended before it had read all events")
