"""The live tail of a topic, as server-sent events.

Owns: the form of the stream. A `message` is an event; the last one of those that are sent together has an id,
the position after it. `skipped` reports how many events were skipped, `reset` that reading begins again,
`unreadable` where damage is, `problem` why the stream ends. Refuses: to queue
events for a slow client. It reads further events only after the client has received those that were sent, and
with a `rate` it skips to the newest events instead of falling behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.contract import (
    Bounds,
    Event,
    Position,
    PositionOutOfRange,
    Reader,
    StreamError,
    UnknownTopic,
    no_partition,
)
from mainstem.doors.http import problem
from mainstem.doors.http.endpoint import Call, Endpoint, StreamedResponse, json_line
from mainstem.doors.http.events_json import parse_time
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import on_topic
from mainstem.doors.http.search_slots import query_problem
from mainstem.http_api.event_encoding import event_to_json_in_slices
from mainstem.http_api.events import TAIL_RATE, EventJson, TailQuery
from mainstem.search.query.errors import QueryError

MEDIA = "text/event-stream"
SLICE_EVENTS = 100
"""Maximum number of events that are read and sent together."""
SLICE_BYTES = 256 << 10
"""Fewer events are read together if they would have more bytes, as large as the last ones were."""
FIRST_SLICE_EVENTS = 10
"""Events that are read together before it is known how large they are."""
HEARTBEAT_S = 10.0
"""A comment is sent after this time without an event, so that the client sees that the connection lives."""
WAIT_MS = 500
"""How long one read waits for events."""
PARTITIONS_MAX = 1_000
EVENT_ID_CHARACTERS_MAX = 64_000


async def tail(call: Call) -> Response:
    """Follow a topic: its events as they are published, as server-sent events."""
    end_wait = call.context.waiting.take("tail")
    if end_wait is None:
        raise call.context.waiting.refusal("tail")
    try:
        return await _tail(call, end_wait)
    except BaseException:
        end_wait()
        raise


async def _tail(call: Call, end_wait: Callable[[], None]) -> Response:
    query: TailQuery = call.query
    topic = call.path_parameter("topic")
    matches = _filter(query.q, call.context.clock.wall_ms())
    info = await call.engine.topic(topic)
    count = len(info.partitions)
    if query.partition is not None and query.partition >= count:
        raise Problem("unknown-topic", no_partition(topic, query.partition, count))
    partitions = [row for row in info.partitions if query.partition in (None, row.partition)]
    if len(partitions) > PARTITIONS_MAX:
        raise Problem("unfit", f"topic {topic} has {count} partitions", fix="Choose one with partition=.")
    last = _EventId.parse(call.request.headers.get("last-event-id") or query.last_event_id)
    start, resumed = [], _Resumed()
    for partition in partitions:
        bounds = Bounds(partition.begin, partition.end)
        offset = last.offsets.get(partition.partition)
        if offset is None:
            offset = await _start_offset(call, topic, partition.partition, bounds, query.start)
        else:
            is_same = not last.topic_id or last.topic_id == info.id
            position = Position(topic, partition.partition, offset)
            offset = resumed.offset(position, bounds, is_same=is_same)
        start.append(Position(topic, partition.partition, offset))
    reader = await call.engine.reader(start)
    default_rate = TAIL_RATE if query.start == "end" else 0
    rate = default_rate if query.rate is None else query.rate
    stream = _TailStream(call, topic, info.id, reader, rate, matches)

    async def end() -> None:
        end_wait()
        await reader.close()

    return StreamedResponse(stream.parts(resumed), MEDIA, end)


def _filter(query: str, now_ms: int) -> Callable[[Event], bool] | None:
    """A function that returns whether an event matches the query; None if there is no query."""
    if not query.strip():
        return None
    from mainstem.search.match.matcher import Matcher  # imported only if there is a query

    try:
        matcher = Matcher.of(query, now_ms=now_ms)
    except QueryError as error:
        raise query_problem(error) from None
    return matcher.matches_event


async def _start_offset(call: Call, topic: str, partition: int, bounds: Bounds, start: str) -> int:
    if start == "end":
        return bounds.end
    if start == "begin":
        return bounds.begin
    if start.startswith("-") and start[1:].isascii() and start[1:].isdigit() and len(start) < 20:
        return max(bounds.begin, bounds.end - int(start[1:]))
    offset = await call.engine.offset_for_time(topic, partition, parse_time(start))
    return bounds.end if offset is None else offset


@dataclass(frozen=True, slots=True)
class _EventId:
    """The id of a message: the topic's id and the position in each partition, `TOPIC_ID/0:17,1:4`. A topic
    that is deleted and created again has another id."""

    topic_id: str = ""
    """Empty: not known."""
    offsets: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> _EventId:
        """The id in a request. Parts that are malformed are ignored."""
        if len(text) > EVENT_ID_CHARACTERS_MAX:
            return cls()
        topic_id, _, positions = text.rpartition("/")
        offsets = {}
        for part in positions.split(","):
            partition, _, offset = part.partition(":")
            if all(
                digits.isascii() and digits.isdigit() and len(digits) < 20 for digits in (partition, offset)
            ):
                offsets[int(partition)] = int(offset)
        return cls(topic_id, offsets)

    def __str__(self) -> str:
        positions = ",".join(f"{partition}:{offset}" for partition, offset in self.offsets.items())
        return f"{self.topic_id}/{positions}" if self.topic_id else positions


@dataclass(slots=True)
class _Resumed:
    """What must be reported about positions at which reading could not continue."""

    skipped: int = 0
    """Events that retention has deleted since."""
    resets: list[tuple[Position, int]] = field(default_factory=list)
    """Each position that the topic does not have, and the offset at which reading begins again."""

    def offset(self, position: Position, bounds: Bounds, *, is_same: bool = True) -> int:
        """The offset at which reading goes on, as a consumer does it that begins again when its offset is out
        of range. `is_same`: the position is of this topic, not of a deleted one of the same name."""
        if not is_same or position.offset > bounds.end:
            self.resets.append((position, bounds.begin))
            return bounds.begin
        self.skipped += max(0, bounds.begin - position.offset)
        return max(bounds.begin, position.offset)


class _TailStream:
    """The server-sent events of one client that follows a topic."""

    def __init__(
        self,
        call: Call,
        topic: str,
        topic_id: str,
        reader: Reader,
        rate: int,
        matches: Callable[[Event], bool] | None,
    ) -> None:
        self._call = call
        self._topic = topic
        self._topic_id = topic_id
        self._reader = reader
        self._rate = rate
        """Maximum number of events per second; 0: no limit."""
        self._matches = matches
        self._clock = call.context.clock
        self._second_started_s = self._last_sent_s = self._clock.monotonic()
        self._left_in_second = rate
        self._slice_events = FIRST_SLICE_EVENTS

    async def parts(self, resumed: _Resumed) -> AsyncIterator[bytes]:
        """The bytes of the stream, first what is to be reported about its start. It ends when the server
        stops, or with a `problem`."""
        try:
            yield b"retry: 1000\n" + self._id_line() + b": tail\n\n"
            for part in self._reports(resumed):
                yield part
            while not self._call.context.closing.is_set():
                async for part in self._step():
                    yield part
        except StreamError as error:
            yield _message("problem", json_line(problem.from_error(error).members()))

    async def _step(self) -> AsyncIterator[bytes]:
        """Read once and send what was read."""
        max_events = self._slice_events
        if self._rate:
            if self._clock.monotonic() - self._second_started_s >= 1.0:
                self._second_started_s, self._left_in_second = self._clock.monotonic(), self._rate
            if not self._left_in_second:
                next_second_s = self._second_started_s + 1.0
                await self._call.context.pause(max(0.0, next_second_s - self._clock.monotonic()))
                skipped = await self._skip_backlog(self._rate)
                if skipped:
                    yield self._skipped(skipped)
                return
            max_events = min(max_events, self._left_in_second)
        try:
            batch = await self._reader.read(max_events=max_events, wait_ms=WAIT_MS)
        except PositionOutOfRange:
            for part in self._reports(await self._continue_in_range()):
                yield part
            return
        for position in batch.unreadable:
            place = {"partition": position.partition, "offset": position.offset}
            yield _message("unreadable", json_line(place))
        if batch.events:
            self._left_in_second -= len(batch.events)
            size = sum(len(event.value or b"") + len(event.key or b"") for event in batch.events)
            self._slice_events = max(1, min(SLICE_EVENTS, SLICE_BYTES * len(batch.events) // max(1, size)))
            matching = [event for event in batch.events if self._matches is None or self._matches(event)]
            if matching:
                self._last_sent_s = self._clock.monotonic()
                yield await self._messages(matching)
            await self._call.context.yield_to_loop()
        elif self._clock.monotonic() - self._last_sent_s >= HEARTBEAT_S:
            self._last_sent_s = self._clock.monotonic()
            if (await self._call.engine.topic(self._topic)).id != self._topic_id:
                raise UnknownTopic(f"topic {self._topic} was deleted and created again")
            yield b": alive\n\n"

    async def _messages(self, events: Sequence[Event]) -> bytes:
        await self._call.context.yield_to_loop()  # an event wakes all tails of its topic at once
        messages = []
        for event in events:
            event_json = await event_to_json_in_slices(event, self._call.context.yield_to_loop)
            messages.append(b"data: " + json_line(event_json) + b"\n\n")
        messages[-1] = self._id_line() + messages[-1]
        return b"".join(messages)

    def _id_line(self) -> bytes:
        """The id of the last message."""
        offsets = {position.partition: position.offset for position in self._reader.positions()}
        return f"id: {_EventId(self._topic_id, offsets)}\n".encode()

    def _reports(self, resumed: _Resumed) -> Iterator[bytes]:
        for position, begin in resumed.resets:
            place = {"partition": position.partition, "offset": position.offset, "begin": begin}
            yield self._id_line() + _message("reset", json_line(place))
        if resumed.skipped:
            yield self._skipped(resumed.skipped)

    def _skipped(self, count: int) -> bytes:
        self._last_sent_s = self._clock.monotonic()
        return self._id_line() + _message("skipped", json_line({"skipped": count}))

    async def _skip_backlog(self, keep: int) -> int:
        """If more than `keep` events are unread, skip all but the newest ones, in proportion to the backlog
        of each partition. Returns how many were skipped."""
        bounds = [
            (position, await self._call.engine.bounds(self._topic, position.partition))
            for position in self._reader.positions()
        ]
        backlogs = [max(0, partition_bounds.end - position.offset) for position, partition_bounds in bounds]
        unread = sum(backlogs)
        if unread <= keep:
            return 0
        skipped = 0
        for (position, partition_bounds), backlog in zip(bounds, backlogs, strict=True):
            target = max(partition_bounds.begin, partition_bounds.end - keep * backlog // unread)
            skipped += self._seek_forward(position, target)
        return skipped

    async def _continue_in_range(self) -> _Resumed:
        """Continue after the events that retention has deleted; begin again where the log is shorter than
        the position."""
        resumed = _Resumed()
        for position in self._reader.positions():
            bounds = await self._call.engine.bounds(self._topic, position.partition)
            offset = resumed.offset(position, bounds)
            if offset != position.offset:
                self._reader.seek(Position(self._topic, position.partition, offset))
        if not resumed.resets and not resumed.skipped:
            await self._call.context.pause(WAIT_MS / 1000)  # a broker of the cluster knows more than another
        return resumed

    def _seek_forward(self, position: Position, target: int) -> int:
        """Continue at offset `target` unless the position is after it. Returns how many offsets were
        skipped."""
        if target <= position.offset:
            return 0
        self._reader.seek(Position(self._topic, position.partition, target))
        return target - position.offset


def _message(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/topics/{topic}/tail",
        handle=tail,
        rights=on_topic(Operation.READ),
        tag="events",
        query=TailQuery,
        reply=EventJson,
        media=MEDIA,
        problems=("unknown-topic", "query"),
    ),
)
