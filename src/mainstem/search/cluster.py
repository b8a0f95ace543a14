"""Search in any Kafka cluster, through the Stream contract: slower, for every event has to come here.

Owns: reading partitions from their ends backwards, in windows that grow, and comparing what comes. Refuses:
files. The command line uses it over `--at`, and `mainstem console --at` for all its searches.

Newest first, a partition's window of offsets is read forwards, then its matches are given backwards; the
windows of all partitions that are read together are merged by time. Bytes are those of keys and values.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from heapq import merge

from mainstem.clock import Clock
from mainstem.log.batch import Record
from mainstem.search import histogram as headers
from mainstem.search import places
from mainstem.search.facets import Tally, differences
from mainstem.search.matcher import Matcher
from mainstem.search.service import (
    PROGRESS_S,
    Bucket,
    Difference,
    Done,
    Facets,
    Hit,
    Left,
    Progress,
    Reason,
    SearchRequest,
    Totals,
    Unreadable,
    Update,
    resume_token,
)
from mainstem.stream import Engine, Event, OffsetOutOfRange, Position, Reader, UnknownTopic

WINDOW_EVENTS = 2_000
WINDOW_GROWTH = 4
WINDOW_EVENTS_MAX = 64_000
"""Of all partitions together: the matches of a window are held in memory."""
READ_EVENTS = 2_000
SILENCE_S = 5.0
"""So long without an event: what is left of the partitions holds none (markers of transactions, gaps of
compaction), or does not come. Reported, for it cannot be told which."""


class ClusterSearch:
    """Implements `service.Search` over any engine. Closing it leaves the engine open."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """See the contract."""
        matcher = Matcher.of(request.query, now_ms=self._clock.wall_ms())
        request, left = await places.find(self._engine, request, matcher)
        run = _Run(self._engine, self._clock, request, matcher, left)
        async with aclosing(run.updates()) as updates:
            async for update in updates:
                yield update

    async def histogram(
        self, topics: Sequence[str], since_ms: int | None, until_ms: int | None, buckets: int
    ) -> list[Bucket]:
        """See the contract; but from look-ups by time: exact where times rise with offsets."""
        left = await places.partitions(self._engine, SearchRequest(topics=topics))
        left = [each for each in left if each.low < each.high]
        if since_ms is None or until_ms is None:
            times = [await self._times(each) for each in left]
            known = [each for each in times if each is not None]
            if not known:
                return []
            since_ms = min(first for first, _ in known) if since_ms is None else since_ms
            until_ms = max(last for _, last in known) + 1 if until_ms is None else until_ms
        if since_ms >= until_ms or not left:
            return []
        edges = headers.edges_of(since_ms, until_ms, buckets)
        counts = [0.0] * (len(edges) - 1)
        for each in left:
            before = each.low
            for at, edge in enumerate(edges):
                found = await self._engine.offset_for_time(each.topic, each.partition, max(0, edge))
                offset = max(before, each.high if found is None else found)
                if at:
                    counts[at - 1] += offset - before
                before = offset
        return headers.buckets_of(edges, counts)

    async def _times(self, left: Left) -> tuple[int, int] | None:
        """Of the first and of the last event."""
        found = []
        for offset in (left.low, left.high - 1):
            reader = await self._engine.reader([Position(left.topic, left.partition, offset)])
            try:
                events = (await reader.read(max_events=1, wait_ms=int(SILENCE_S * 1000))).events
            finally:
                await reader.close()
            if not events:
                return None
            found.append(events[0].timestamp_ms)
        return min(found), max(found)

    async def facets(self, request: SearchRequest, fields: Sequence[str], top: int) -> Facets:
        """See the contract."""
        tally, events, complete = await self._tally(request, fields)
        return Facets(events, tally.top(top), complete)

    async def compare(
        self, selection: SearchRequest, baseline: SearchRequest, fields: Sequence[str] = (), top: int = 20
    ) -> list[Difference]:
        """See the contract."""
        selected, ours, _ = await self._tally(selection, fields)
        others, theirs, _ = await self._tally(baseline, fields)
        return differences(selected, ours, others, theirs, top)

    async def _tally(self, request: SearchRequest, fields: Sequence[str]) -> tuple[Tally, int, bool]:
        tally, events, complete = Tally(fields), 0, False
        async with aclosing(self.search(replace(request, only_count=False))) as updates:
            async for update in updates:
                if isinstance(update, Hit):
                    events += 1
                    tally.add(update.event.topic, update.event.partition, record_of(update.event))
                elif isinstance(update, Done):
                    complete = update.reason == "complete"
        return tally, events, complete

    async def close(self) -> None:
        """See the contract."""


def record_of(event: Event) -> Record:
    """An event as the log has it."""
    return Record(event.offset, event.timestamp_ms, event.key, event.value, event.headers)


class _Run:
    """One search."""

    def __init__(
        self, engine: Engine, clock: Clock, request: SearchRequest, matcher: Matcher, left: list[Left]
    ) -> None:
        self._engine, self._clock, self._request, self._matcher = engine, clock, request, matcher
        self._left = left
        self._all = sum(each.high - each.low for each in left)
        self._limit = request.limit
        self._started = self._told = clock.monotonic()
        self._totals = Totals(partitions=len(left))
        self._read_offsets = 0

    async def updates(self) -> AsyncGenerator[Update, None]:
        """All of them, Done last."""
        window = WINDOW_EVENTS
        backwards = self._request.newest_first and not self._request.only_count
        while self._reason() == "complete" and any(each.low < each.high for each in self._left):
            self._left[:] = await places.still_there(self._engine, self._left)
            share = max(1, window // max(1, len(self._left)))
            wanted = [
                replace(each, low=max(each.low, each.high - share) if backwards else each.low)
                for each in self._left
                if each.low < each.high
            ]
            if wanted:
                async with aclosing(self._backwards(wanted) if backwards else self._forwards(wanted)) as part:
                    async for update in part:
                        yield update
            window = min(WINDOW_EVENTS_MAX, window * WINDOW_GROWTH)
        reason = self._reason()
        if reason == "complete":
            self._totals.share = 1.0
        yield Done(reason, replace(self._now()), None if reason == "complete" else self._token())

    def _reason(self) -> Reason:
        if self._limit is not None and self._totals.matches >= self._limit:
            return "limit"
        budget_s = self._request.budget_s
        if budget_s is not None and self._clock.monotonic() - self._started >= budget_s:
            return "budget"
        return "complete"

    def _now(self) -> Totals:
        self._totals.elapsed_s = self._clock.monotonic() - self._started
        if self._totals.share < 1:
            self._totals.share = min(1.0, self._read_offsets / max(1, self._all))
        return self._totals

    def _token(self) -> str | None:
        return None if self._request.only_count else resume_token(self._request, self._left)

    def _progress(self) -> Iterator[Update]:
        now = self._clock.monotonic()
        if now - self._told >= PROGRESS_S:
            self._told = now
            yield Progress(replace(self._now()), self._token())

    # ------------------------------------------------------------------------------------------------------

    async def _forwards(self, wanted: list[Left]) -> AsyncGenerator[Update, None]:
        """Matches as they are read."""
        async with aclosing(self._events(wanted)) as chunks:
            async for events, unreadable in chunks:
                for place in unreadable:
                    yield place
                for event in events:
                    if self._is_match(event):
                        self._totals.matches += 1
                        if not self._request.only_count:
                            yield Hit(event)
                    self._found(event).low = event.offset + 1
                    if self._reason() == "limit":
                        return
                for update in self._progress():
                    yield update
                if self._reason() == "budget":
                    return
        for each in wanted:
            self._of(each).low = each.high

    async def _backwards(self, wanted: list[Left]) -> AsyncGenerator[Update, None]:
        """The matches of windows, newest first."""
        matches: dict[tuple[str, int], list[Event]] = {(each.topic, each.partition): [] for each in wanted}
        async with aclosing(self._events(wanted)) as chunks:
            async for events, unreadable in chunks:
                for place in unreadable:
                    yield place
                for event in events:
                    if self._is_match(event):
                        matches[event.topic, event.partition].append(event)
                for update in self._progress():
                    yield update
                if self._reason() == "budget":
                    return
        runs = [_falling(found) for found in matches.values()]
        for _, event in merge(*runs, key=lambda each: each[0]):
            if self._reason() == "limit":
                return
            self._totals.matches += 1
            self._found(event).high = event.offset
            yield Hit(event)
        times = [event.timestamp_ms for found in matches.values() for event in found[:1]]
        self._totals.reached_ms = min(times, default=self._totals.reached_ms)
        if self._reason() != "limit":
            for each in wanted:
                self._of(each).high = each.low

    def _is_match(self, event: Event) -> bool:
        request, time_ms = self._request, event.timestamp_ms
        self._totals.events += 1
        self._totals.scanned_bytes += len(event.key or b"") + len(event.value or b"")
        if request.since_ms is not None and time_ms < request.since_ms:
            return False
        if request.until_ms is not None and time_ms >= request.until_ms:
            return False
        return self._matcher.matches(event.topic, event.partition, record_of(event))

    def _found(self, event: Event) -> Left:
        return next(
            each for each in self._left if each.partition == event.partition and each.topic == event.topic
        )

    def _of(self, window: Left) -> Left:
        return next(
            each for each in self._left if each.partition == window.partition and each.topic == window.topic
        )

    async def _events(
        self, wanted: Sequence[Left]
    ) -> AsyncGenerator[tuple[list[Event], list[Unreadable]], None]:
        """All events of these windows, oldest first in each partition. What retention removes meanwhile is
        left out."""
        ends = {(each.topic, each.partition): each.high for each in wanted}
        try:
            reader = await self._engine.reader(
                [Position(each.topic, each.partition, each.low) for each in wanted]
            )
        except UnknownTopic:
            return  # deleted meanwhile; the next round leaves it out
        try:
            silent_since = self._clock.monotonic()
            before = sum(each.low for each in wanted)
            while True:
                try:
                    found = await reader.read(max_events=READ_EVENTS, wait_ms=500)
                except (OffsetOutOfRange, UnknownTopic):
                    await self._skip_removed(reader, ends)
                    continue
                inside = [each for each in found.events if each.offset < ends[each.topic, each.partition]]
                unreadable = [
                    Unreadable(each, "it cannot be decoded")
                    for each in found.unreadable
                    if each.offset < ends[each.topic, each.partition]
                ]
                now = self._clock.monotonic()
                silent_since = now if found else silent_since
                open_ends = [
                    each for each in reader.positions() if each.offset < ends[each.topic, each.partition]
                ]
                if now - silent_since > SILENCE_S:
                    unreadable += [Unreadable(each, "no event came from here on") for each in open_ends]
                    open_ends = []
                reached = sum(
                    min(each.offset, ends[each.topic, each.partition]) for each in reader.positions()
                )
                self._read_offsets += max(0, reached - before)
                before = reached
                self._totals.undecodable += len(unreadable)
                yield inside, unreadable
                if not open_ends:
                    return
        finally:
            await reader.close()

    async def _skip_removed(self, reader: Reader, ends: dict[tuple[str, int], int]) -> None:
        """Go on behind what was deleted while it was read."""
        for each in reader.positions():
            if each.offset < ends[each.topic, each.partition]:
                try:
                    begin = (await self._engine.bounds(each.topic, each.partition)).begin
                except UnknownTopic:
                    begin = ends[each.topic, each.partition]
                if begin > each.offset or begin >= ends[each.topic, each.partition]:
                    reader.seek(Position(each.topic, each.partition, begin))


def _falling(events: Sequence[Event]) -> Iterator[tuple[int, Event]]:
    """By falling offset, each with a key that rises, by time."""
    bound = 1 << 62
    for event in reversed(events):
        bound = min(bound, event.timestamp_ms)
        yield -bound, event
