"""The live tail of a topic, as server-sent events.

Owns: the form of the stream: a `message` is an event, its id the position behind it; `skipped` says how many
were passed over, `unreadable` where damage was, `problem` why it ends. Refuses: to queue for a slow reader:
it reads on only when the client has taken what was sent, and with a `rate` it leaps to the newest instead of
falling behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.contract import Bounds, Event, Position, PositionOutOfRange, Reader, StreamError, UnknownTopic
from mainstem.doors.http import problem
from mainstem.doors.http.endpoint import Call, Endpoint, StreamedResponse, json_line
from mainstem.doors.http.events_json import EventJson, event_to_json_in_slices, parse_time
from mainstem.doors.http.field_types import PartitionNumber
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.routes.search import query_problem
from mainstem.search.query.errors import QueryError

MEDIA = "text/event-stream"
SLICE_EVENTS = 100
HEARTBEAT_S = 10.0
WAIT_MS = 500
PARTITIONS_MAX = 1_000
RATE = 500


class TailQuery(msgspec.Struct, rename={"start": "from"}):
    """Where to begin, what to show, and how fast."""

    q: Annotated[str, Meta(max_length=10_000, description="Only events that match; see docs/SEARCH.md.")] = ""
    start: Annotated[
        str,
        Meta(description="end; begin; -N: the last N events of each partition; or a time, ISO 8601."),
    ] = "end"
    partition: Annotated[PartitionNumber | None, Meta(description="Only this one; all, if left out.")] = None
    rate: Annotated[
        Annotated[int, Meta(ge=0, le=100_000)] | None,
        Meta(
            description=(
                "Events a second at most: what is more is passed over, and `skipped` says how many. 0: every"
                f" event, as fast as you read. If left out: {RATE} from the end, else 0."
            ),
        ),
    ] = None
    last_event_id: Annotated[
        str, Meta(description="As the header Last-Event-ID, which wins: go on behind this.")
    ] = ""


async def tail(call: Call) -> Response:
    """Follow a topic: its events as they come, as server-sent events."""
    query: TailQuery = call.query
    topic = call.path_parameter("topic")
    is_wanted = _filter(query.q, call.context.clock.wall_ms())
    count = await call.engine.partitions(topic)
    if query.partition is not None and query.partition >= count:
        raise Problem("unknown-topic", f"topic {topic}: there is no partition {query.partition}")
    wanted = list(range(count)) if query.partition is None else [query.partition]
    if len(wanted) > PARTITIONS_MAX:
        raise Problem("unfit", f"topic {topic} has {count} partitions", fix="Name one with partition=.")
    bounds = {each: await call.engine.bounds(topic, each) for each in wanted}
    known = _read_id(call.request.headers.get("last-event-id") or query.last_event_id)
    start = []
    for partition, held in bounds.items():
        offset = known.get(partition)
        if offset is None:
            offset = await _start(call, topic, partition, held, query.start)
        start.append(Position(topic, partition, max(held.begin, min(offset, held.end))))
    reader = await call.engine.reader(start)
    default = RATE if query.start == "end" else 0
    following = _TailStream(call, topic, reader, default if query.rate is None else query.rate, is_wanted)
    return StreamedResponse(following.stream(), MEDIA, reader.close)


def _filter(text: str, now_ms: int) -> Callable[[Event], bool] | None:
    if not text.strip():
        return None
    from mainstem.search.cluster.search import to_record  # only a filter pays for it
    from mainstem.search.match.matcher import Matcher

    try:
        matcher = Matcher.of(text, now_ms=now_ms)
    except QueryError as error:
        raise query_problem(error) from None
    return lambda event: matcher.matches(event.topic, event.partition, to_record(event))


async def _start(call: Call, topic: str, partition: int, held: Bounds, text: str) -> int:
    if text == "end":
        return held.end
    if text == "begin":
        return held.begin
    if text.startswith("-") and text[1:].isascii() and text[1:].isdigit() and len(text) < 20:
        return max(held.begin, held.end - int(text[1:]))
    found = await call.engine.offset_for_time(topic, partition, parse_time(text))
    return held.end if found is None else found


def _read_id(text: str) -> dict[int, int]:
    """`0:17,1:4` as offsets by partition; what is not one is left out."""
    found = {}
    for part in text.split(",") if len(text) < 64_000 else ():
        partition, _, offset = part.partition(":")
        if all(each.isascii() and each.isdigit() and len(each) < 20 for each in (partition, offset)):
            found[int(partition)] = int(offset)
    return found


class _TailStream:
    """One client's tail."""

    def __init__(
        self, call: Call, topic: str, reader: Reader, rate: int, is_wanted: Callable[[Event], bool] | None
    ) -> None:
        self._call = call
        self._topic = topic
        self._topic_id = ""
        self._reader = reader
        self._rate = rate
        self._is_wanted = is_wanted
        self._clock = call.context.clock
        self._second = self._spoke = self._clock.monotonic()
        self._left = rate

    async def stream(self) -> AsyncIterator[bytes]:
        """The bytes of the stream; ends with the server, or with a `problem`."""
        try:
            self._topic_id = (await self._call.engine.topic(self._topic)).id
            yield b"retry: 1000\n" + self._id() + b": tail\n\n"
            while not self._call.context.closing.is_set():
                async for part in self._step():
                    yield part
        except StreamError as error:
            yield _message("problem", json_line(problem.from_error(error).members()))

    async def _step(self) -> AsyncIterator[bytes]:
        most = SLICE_EVENTS
        if self._rate:
            if self._clock.monotonic() - self._second >= 1.0:
                self._second, self._left = self._clock.monotonic(), self._rate
            if not self._left:
                await self._call.context.pause(max(0.0, self._second + 1.0 - self._clock.monotonic()))
                skipped = await self._leap()
                if skipped:
                    yield self._skipped(skipped)
                return
            most = min(most, self._left)
        try:
            got = await self._reader.read(max_events=most, wait_ms=WAIT_MS)
        except PositionOutOfRange:
            yield self._skipped(await self._leap(over=0, to_begin=True))
            return
        for place in got.unreadable:
            told = {"partition": place.partition, "offset": place.offset}
            yield _message("unreadable", json_line(told))
        if got.events:
            self._left -= len(got.events)
            shown = [each for each in got.events if self._is_wanted is None or self._is_wanted(each)]
            if shown:
                self._spoke = self._clock.monotonic()
                yield await self._messages(shown)
            await self._call.context.yield_to_loop()
        elif self._clock.monotonic() - self._spoke >= HEARTBEAT_S:
            self._spoke = self._clock.monotonic()
            if (await self._call.engine.topic(self._topic)).id != self._topic_id:
                raise UnknownTopic(f"topic {self._topic}: it was deleted, and made again")
            yield b": alive\n\n"

    async def _messages(self, events: Sequence[Event]) -> bytes:
        turn = self._call.context.yield_to_loop
        parts = [
            b"data: " + json_line(await event_to_json_in_slices(each, turn)) + b"\n\n" for each in events
        ]
        parts[-1] = self._id() + parts[-1]
        return b"".join(parts)

    def _id(self) -> bytes:
        places = ",".join(f"{each.partition}:{each.offset}" for each in self._reader.positions())
        return f"id: {places}\n".encode()

    def _skipped(self, count: int) -> bytes:
        self._spoke = self._clock.monotonic()
        return self._id() + _message("skipped", json_line({"skipped": count}))

    async def _leap(self, over: int | None = None, *, to_begin: bool = False) -> int:
        """Go on nearer to the end, if more than `over` (a second's worth) wait; how many were passed over.
        `to_begin`: to the first that is kept."""
        over = self._rate if over is None else over
        behind = []
        for place in self._reader.positions():
            held = await self._call.engine.bounds(self._topic, place.partition)
            behind.append((place, held))
        waiting = sum(max(0, held.end - place.offset) for place, held in behind)
        if waiting <= over and not to_begin:
            return 0
        skipped = 0
        for place, held in behind:
            keep = over * max(0, held.end - place.offset) // waiting if waiting else 0
            target = held.begin if to_begin else max(held.begin, held.end - keep)
            if target > place.offset:
                skipped += target - place.offset
                self._reader.seek(Position(self._topic, place.partition, target))
        return skipped


def _message(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/topics/{topic}/tail",
        handle=tail,
        tag="events",
        query=TailQuery,
        reply=EventJson,
        media=MEDIA,
        problems=("unknown-topic", "query"),
    ),
)
