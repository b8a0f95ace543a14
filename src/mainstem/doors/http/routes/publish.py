"""Publishing: one event, many, a stream of lines, CloudEvents. An answer means that all is durable.

Owns: the forms of a request and what its answer tells of each event. Refuses: nothing that the topic takes.
Bodies are bounded; lines (NDJSON) are published in slices as they come, so that a stream has no limit.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.contract import NewEvent, NotAllowed, NotReachable, Position, StreamError
from mainstem.doors.http import cloudevents, problem
from mainstem.doors.http.bodies import array_pieces, read_json, too_large
from mainstem.doors.http.endpoint import (
    JSON,
    NDJSON,
    Call,
    Endpoint,
    StreamedResponse,
    json_response,
    unsupported_media_type,
)
from mainstem.doors.http.events_json import NewEventJson, event_from_json
from mainstem.doors.http.problem import Problem

Result: TypeAlias = Position | StreamError

SLICE_EVENTS = 250
SLICE_BYTES = 512 << 10
"""Of events that are published together."""
EVENTS_MAX = 100_000
"""In one array."""
ANSWER_BYTES = 64 << 10
"""Of an answer, sent together."""
BLANKS_MAX = 64
"""So far it is looked for the bracket of an array."""
ERRORS_MAX = 100
"""Lines whose errors are told one by one; the rest is counted."""


class PartitionOffsetJson(msgspec.Struct):
    """Where an event is."""

    partition: int
    offset: int


class PublishedJson(msgspec.Struct):
    """All events are durable."""

    topic: str
    published: int
    events: Annotated[
        list[PartitionOffsetJson] | None,
        Meta(description="The place of each, in order. null for a stream of lines."),
    ]
    ends: Annotated[
        list[PartitionOffsetJson],
        Meta(description="The offset behind the last event published, of each partition that got any."),
    ]


@dataclass(slots=True)
class _PublishResults:
    """What became of the events so far, in order: 100,000 places are two arrays, not so many objects."""

    partitions: array[int] = field(default_factory=lambda: array("l"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    """-1: it failed."""
    errors: dict[int, StreamError] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    first: StreamError | None = None
    hopeless: StreamError | None = None
    """What all that follow would meet, too."""

    def add(self, result: Result) -> None:
        if isinstance(result, StreamError):
            self.errors[len(self.offsets)] = result
            self.partitions.append(-1)
            self.offsets.append(-1)
            return
        self.partitions.append(result.partition)
        self.offsets.append(result.offset)
        if result.offset >= self.ends.get(result.partition, 0):
            self.ends[result.partition] = result.offset + 1

    async def publish(self, call: Call, topic: str, events: Sequence[NewEvent]) -> None:
        """What is against a single event does not keep back the others."""
        results: Sequence[Result]
        try:
            if self.hopeless is not None:
                raise type(self.hopeless)(f"not tried, for an event before it failed: {self.hopeless}")
            results = await call.engine.publish(topic, events)
        except StreamError as error:
            self.first = self.first or error
            results = error.results or [error] * len(events)
            if not error.results or isinstance(error, (NotReachable, NotAllowed)):
                self.hopeless = self.hopeless or error
        for each in results:
            self.add(each)

    def told(self, at: int) -> dict[str, object]:
        """One event's outcome."""
        if at in self.errors:
            return {"error": str(self.errors[at])}
        return {"partition": self.partitions[at], "offset": self.offsets[at]}

    def places(self) -> list[PartitionOffsetJson]:
        """The ends."""
        return [PartitionOffsetJson(partition, end) for partition, end in sorted(self.ends.items())]


async def publish(call: Call) -> Response:
    """Publish events: one, many, a stream of lines, or CloudEvents."""
    topic = call.path_parameter("topic")
    if call.media == NDJSON:
        return await _publish_lines(call, topic)
    slices = await _slices(call)
    count = 0
    async for some in slices():  # all are right before any is published
        count += len(some)
        await call.context.yield_to_loop()
    if not count:
        await call.engine.partitions(topic)  # UnknownTopic, as with events
    done = _PublishResults()
    async for some in slices():
        await done.publish(call, topic, some)
        await call.context.yield_to_loop()
    if done.first is not None:
        if count > 1 and len(done.errors) < count:
            told = [done.told(at) async for at in _turning(call, count)]
            raise problem.from_error(done.first, events=told) from None
        raise done.first
    return StreamedResponse(_json(call, topic, done), JSON)


async def _json(call: Call, topic: str, done: _PublishResults) -> AsyncIterator[bytes]:
    """PublishedJson, in slices."""
    whole = msgspec.json.encode(PublishedJson(topic, len(done.offsets), [], done.places()))
    head, mark, tail = whole.partition(b'"events":[')
    yield head + mark
    part = bytearray()
    async for at in _turning(call, len(done.offsets)):
        part += b'%s{"partition":%d,"offset":%d}' % (
            b"," if at else b"",
            done.partitions[at],
            done.offsets[at],
        )
        if len(part) >= ANSWER_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part) + tail


async def _turning(call: Call, count: int) -> AsyncIterator[int]:
    """Numbers up to `count`, with turns of the loop for others."""
    for at in range(count):
        if at % SLICE_EVENTS == SLICE_EVENTS - 1:
            await call.context.yield_to_loop()
        yield at


async def _slices(call: Call) -> Callable[[], AsyncIterator[Sequence[NewEvent]]]:
    """The events of a request, in slices that may be published in one turn of the loop; again with each
    call, so that not all of them need be held."""
    media = call.media
    if cloudevents.is_binary(call.request.headers, media):
        event = cloudevents.from_headers(call.request.headers, await call.whole_body())
        return lambda: _alone(event)
    if media not in (JSON, cloudevents.STRUCTURED, cloudevents.BATCH):
        raise unsupported_media_type(media, (JSON, NDJSON, cloudevents.STRUCTURED, cloudevents.BATCH))
    data = await call.whole_body()
    is_array = data[:BLANKS_MAX].lstrip(b" \t\r\n").startswith(b"[")
    if media == cloudevents.BATCH and not is_array:
        raise Problem("invalid", "in the body: a batch is an array")
    make = _of_json if media == JSON else _of_cloudevent
    if is_array and media != cloudevents.STRUCTURED:
        return lambda: _array(call, data, make)
    one = make(data)
    await call.context.yield_to_loop()
    return lambda: _alone(one)


async def _alone(event: NewEvent) -> AsyncIterator[Sequence[NewEvent]]:
    yield [event]


def _of_json(data: bytes | msgspec.Raw) -> NewEvent:
    return event_from_json(read_json(data, NewEventJson))


def _of_cloudevent(data: bytes | msgspec.Raw) -> NewEvent:
    return cloudevents.from_json(read_json(data, dict[str, msgspec.Raw]))


async def _array(
    call: Call, data: bytes, make: Callable[[bytes | msgspec.Raw], NewEvent]
) -> AsyncIterator[Sequence[NewEvent]]:
    count = 0
    for piece in array_pieces(data):
        for begin in range(0, len(piece), SLICE_EVENTS):
            events = []
            for one in piece[begin : begin + SLICE_EVENTS]:
                try:
                    events.append(make(one))
                except Problem as error:
                    error.detail = f"event {count + len(events)}: {error.detail}"
                    raise
            count += len(events)
            if count > EVENTS_MAX:
                raise Problem("body-too-large", f"there are more than {EVENTS_MAX} events in one array")
            yield events
        await call.context.yield_to_loop()


# ----------------------------------------------------------------------------------------------------------
# lines


@dataclass(slots=True)
class _LineResults:
    """What became of the lines so far."""

    published: int = 0
    failed: int = 0
    errors: list[dict[str, object]] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    waiting: list[tuple[int, NewEvent]] = field(default_factory=list)
    waiting_bytes: int = 0

    def fail(self, line: int, why: str) -> None:
        self.failed += 1
        if len(self.errors) < ERRORS_MAX:
            self.errors.append({"line": line, "detail": why})


async def _publish_lines(call: Call, topic: str) -> Response:
    lines = _LineResults()
    number = 0
    rest = bytearray()
    async for chunk in call.body_chunks():
        rest += chunk
        *whole, tail = rest.split(b"\n")
        rest = bytearray(tail)
        if len(rest) > call.context.max_body_bytes:
            raise too_large(call.context.max_body_bytes)
        for line in whole:
            number += 1
            await _take_line(call, topic, lines, number, bytes(line))
    if rest:
        await _take_line(call, topic, lines, number + 1, bytes(rest))
    await _flush(call, topic, lines)
    if lines.failed:
        detail = f"{lines.failed} of {lines.failed + lines.published} lines were not published"
        raise Problem(
            "not-published", detail, published=lines.published, failed=lines.failed, errors=lines.errors
        )
    if not lines.published:
        await call.engine.partitions(topic)
    ends = [PartitionOffsetJson(partition, end) for partition, end in sorted(lines.ends.items())]
    return json_response(PublishedJson(topic, lines.published, None, ends))


async def _take_line(call: Call, topic: str, lines: _LineResults, number: int, line: bytes) -> None:
    if not line.strip():
        return
    try:
        event = event_from_json(read_json(line, NewEventJson))
    except Problem as error:
        lines.fail(number, error.detail)
        return
    lines.waiting.append((number, event))
    lines.waiting_bytes += len(line)
    if len(lines.waiting) >= SLICE_EVENTS or lines.waiting_bytes >= SLICE_BYTES:
        await _flush(call, topic, lines)


async def _flush(call: Call, topic: str, lines: _LineResults) -> None:
    """Publish what waits. Errors of single events are kept with their lines; one that all the following
    would meet, too, ends the request."""
    waiting, lines.waiting, lines.waiting_bytes = lines.waiting, [], 0
    results: Sequence[Result]
    try:
        results = await call.engine.publish(topic, [event for _, event in waiting])
    except StreamError as error:
        if not error.results or isinstance(error, (NotReachable, NotAllowed)):
            places = [each for each in error.results if isinstance(each, Position)]
            raise problem.from_error(
                error, published=lines.published + len(places), errors=lines.errors
            ) from None
        results = error.results
    for (number, _), result in zip(waiting, results, strict=True):
        if isinstance(result, Position):
            lines.published += 1
            if result.offset >= lines.ends.get(result.partition, 0):
                lines.ends[result.partition] = result.offset + 1
        else:
            lines.fail(number, str(result))
    await call.context.yield_to_loop()


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/topics/{topic}/events",
        handle=publish,
        tag="events",
        bodies={
            JSON: NewEventJson | list[NewEventJson],
            NDJSON: NewEventJson,
            cloudevents.STRUCTURED: cloudevents.CloudEventJson,
            cloudevents.BATCH: list[cloudevents.CloudEventJson],
        },
        reply=PublishedJson,
        problems=("unknown-topic", "event-too-large", "not-published", "slow-body"),
    ),
)
