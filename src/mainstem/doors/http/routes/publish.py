"""Publishing: one event, an array, a stream of lines, CloudEvents.

Owns: the forms of a request, and what the reply reports of each event. A successful reply means that all
events are durable. Refuses: bodies above the limits, but no single event that the topic would accept.
The size of a body is limited, except for lines (NDJSON): they are published in slices as they arrive.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec
from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.contract import NewEvent, NotAllowed, NotReachable, Position, StreamError
from mainstem.door_contract import OnceResult, PublishesOnce
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
from mainstem.doors.http.events_json import event_from_json
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import on_topic
from mainstem.http_api.events import NewEventJson, PartitionOffsetJson, PublishedJson, PublishQuery

PublishResult: TypeAlias = OnceResult
"""None only with a producer: the event was stored before."""

SLICE_EVENTS = 250
"""Maximum number of events that are published together."""
SLICE_BYTES = 512 << 10
"""Lines are published together when they have this many bytes."""
EVENTS_MAX = 100_000
"""Maximum number of events in one array."""
REPLY_PART_BYTES = 64 << 10
"""A part of a reply is sent when it has this many bytes."""
BLANKS_MAX = 64
"""Maximum number of blanks before the opening bracket of an array."""
ERRORS_MAX = 100
"""Maximum number of lines whose errors are reported one by one; further ones are only counted."""


def _is_fatal(error: StreamError) -> bool:
    """Whether all further events would fail with the same error."""
    return not error.results or isinstance(error, (NotReachable, NotAllowed))


@dataclass(slots=True)
class _PublishResults:
    """The results of the events that one request has published so far, in order. They are two arrays, because
    100,000 positions would be too many objects."""

    partitions: array[int] = field(default_factory=lambda: array("l"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    """The offset of each event; -1: the event failed."""
    errors: dict[int, StreamError] = field(default_factory=dict)
    """The error of each event that failed, by the index of the event."""
    ends: dict[int, int] = field(default_factory=dict)
    """The offset after the last event published, by partition."""
    first_error: StreamError | None = None
    fatal_error: StreamError | None = None
    """An error with which all further events would fail."""
    duplicates: int = 0

    def add(self, result: PublishResult) -> None:
        if result is None:
            self.duplicates += 1
            self.partitions.append(-1)
            self.offsets.append(-1)
            return
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
        """Publish these events and add their results. An error of one event does not stop the others."""
        if self.fatal_error is not None:
            cause = f"not tried, because an earlier event failed: {self.fatal_error}"
            published = _SliceResults([type(self.fatal_error)(cause)] * len(events))
        else:
            published = await _publish_slice(call, topic, events, itertools.count(len(self.offsets)))
        self.first_error = self.first_error or published.error
        if published.is_fatal:
            self.fatal_error = published.error
        assert len(published.results) == len(events), "each event has one result"
        for result in published.results:
            self.add(result)

    def result_json(self, index: int) -> dict[str, object]:
        """The result of one event, as the problem of a partial failure reports it."""
        if index in self.errors:
            return {"error": str(self.errors[index])}
        if self.offsets[index] < 0:
            return {"duplicate": True}
        return {"partition": self.partitions[index], "offset": self.offsets[index]}


@dataclass(frozen=True, slots=True)
class _SliceResults:
    """What became of some events that were published together."""

    results: Sequence[PublishResult]
    error: StreamError | None = None
    """That of the first event that failed."""
    is_fatal: bool = False
    """Whether all further events would fail with the same error."""


async def _publish_slice(
    call: Call, topic: str, events: Sequence[NewEvent], numbers: Iterable[int]
) -> _SliceResults:
    """Publish events, which have these numbers in the request, from 0 on."""
    query: PublishQuery = call.query
    results: Sequence[PublishResult]
    try:
        if query.producer is None or query.publish_id is None:
            return _SliceResults(await call.engine.publish(topic, events))
        assert isinstance(call.engine, PublishesOnce), "another engine was refused before"
        first = query.publish_id
        identified = [(first + number, event) for number, event in zip(numbers, events, strict=False)]
        results = await call.engine.publish_once(topic, query.producer, identified)
    except StreamError as error:
        return _SliceResults(error.results or [error] * len(events), error, _is_fatal(error))
    failed = next((result for result in results if isinstance(result, StreamError)), None)
    return _SliceResults(results, failed, isinstance(failed, (NotReachable, NotAllowed)))


def _check_producer(call: Call) -> None:
    query: PublishQuery = call.query
    if (query.producer is None) != (query.publish_id is None):
        raise Problem("unfit", "producer and publish_id are given together")
    if query.producer is not None and not isinstance(call.engine, PublishesOnce):
        raise Problem("not-offered", "this event log does not know events by their producer's ids")


def _ends_json(ends: dict[int, int]) -> list[PartitionOffsetJson]:
    return [PartitionOffsetJson(partition, end) for partition, end in sorted(ends.items())]


async def publish(call: Call) -> Response:
    """Publish events: one, an array, a stream of lines, or CloudEvents."""
    topic = call.path_parameter("topic")
    _check_producer(call)
    await call.engine.publish(topic, [])  # a topic that takes no events is refused before its body is read
    if call.media == NDJSON:
        return await _publish_lines(call, topic)
    slices = await _slices(call)
    count = 0
    async for events in slices():  # all events are checked before any is published
        count += len(events)
        await call.context.yield_to_loop()
    if not count:
        await call.engine.partitions(topic)  # raises UnknownTopic, as a request with events does
    results = _PublishResults()
    async for events in slices():
        await results.publish(call, topic, events)
        await call.context.yield_to_loop()
    if results.first_error is not None:
        if count > 1 and len(results.errors) < count:
            outcomes = [results.result_json(index) async for index in _indices(call, count)]
            raise problem.from_error(results.first_error, events=outcomes) from None
        raise results.first_error
    return StreamedResponse(_json_parts(call, topic, results), JSON)


async def _json_parts(call: Call, topic: str, results: _PublishResults) -> AsyncIterator[bytes]:
    """A PublishedJson, encoded in parts so that other tasks can run in between."""
    published = len(results.offsets) - results.duplicates
    without_events = PublishedJson(topic, published, [], _ends_json(results.ends), results.duplicates)
    head, events_field, tail = msgspec.json.encode(without_events).partition(b'"events":[')
    yield head + events_field
    part = bytearray()
    async for index in _indices(call, len(results.offsets)):
        part += b"," if index else b""
        if results.offsets[index] < 0:
            part += b"null"
        else:
            part += b'{"partition":%d,"offset":%d}' % (results.partitions[index], results.offsets[index])
        if len(part) >= REPLY_PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part) + tail


async def _indices(call: Call, count: int) -> AsyncIterator[int]:
    """The numbers from 0 to `count` - 1; other tasks run after each slice of them."""
    for index in range(count):
        if index % SLICE_EVENTS == SLICE_EVENTS - 1:
            await call.context.yield_to_loop()
        yield index


async def _slices(call: Call) -> Callable[[], AsyncIterator[Sequence[NewEvent]]]:
    """A function that returns the events of a request in slices. It can be called twice and decodes them each
    time, so that they need not all be held in memory."""
    media = call.media
    if cloudevents.is_binary(call.request.headers, media):
        binary_event = cloudevents.from_headers(call.request.scope["headers"], await call.whole_body())
        return lambda: _single(binary_event)
    if media not in (JSON, cloudevents.STRUCTURED, cloudevents.BATCH):
        raise unsupported_media_type(media, (JSON, NDJSON, cloudevents.STRUCTURED, cloudevents.BATCH))
    data = await call.whole_body()
    is_array = data[:BLANKS_MAX].lstrip(b" \t\r\n").startswith(b"[")
    if media == cloudevents.BATCH and not is_array:
        raise Problem("invalid", "in the body: a batch is an array")
    decode = _event if media == JSON else _cloud_event
    if is_array and media != cloudevents.STRUCTURED:
        return lambda: _array(call, data, decode)
    event = decode(data)
    await call.context.yield_to_loop()
    return lambda: _single(event)


async def _single(event: NewEvent) -> AsyncIterator[Sequence[NewEvent]]:
    yield [event]


def _event(data: bytes | msgspec.Raw) -> NewEvent:
    return event_from_json(read_json(data, NewEventJson))


def _cloud_event(data: bytes | msgspec.Raw) -> NewEvent:
    return cloudevents.from_json(read_json(data, dict[str, msgspec.Raw]))


async def _array(
    call: Call, data: bytes, decode: Callable[[bytes | msgspec.Raw], NewEvent]
) -> AsyncIterator[Sequence[NewEvent]]:
    count = 0
    for piece in array_pieces(data):
        for start in range(0, len(piece), SLICE_EVENTS):
            events = []
            for element in piece[start : start + SLICE_EVENTS]:
                try:
                    events.append(decode(element))
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
    """The results of the lines that one request has sent so far, and the events that are not published
    yet."""

    published: int = 0
    duplicates: int = 0
    failed: int = 0
    errors: list[dict[str, object]] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    pending: list[tuple[int, NewEvent]] = field(default_factory=list)
    """The line number and the event of each line that is not published yet."""
    pending_bytes: int = 0

    def fail(self, line_number: int, why: str) -> None:
        self.failed += 1
        if len(self.errors) < ERRORS_MAX:
            self.errors.append({"line": line_number, "detail": why})


async def _publish_lines(call: Call, topic: str) -> Response:
    results = _LineResults()
    line_number = 0
    partial_line = bytearray()
    async for chunk in call.body_chunks():
        lines, line_end, rest = chunk.rpartition(b"\n")  # only new bytes are searched
        await call.body_memory.hold(len(partial_line) + len(chunk) + results.pending_bytes)
        if line_end:
            partial_line += lines
            for line in partial_line.split(b"\n"):
                line_number += 1
                await _add_line(call, topic, results, line_number, bytes(line))
            partial_line.clear()
        partial_line += rest
        if len(partial_line) > call.context.max_body_bytes:
            raise too_large(call.context.max_body_bytes)
    if partial_line:
        await _add_line(call, topic, results, line_number + 1, bytes(partial_line))
    await _flush(call, topic, results)
    if results.failed:
        tried = results.failed + results.published + results.duplicates
        detail = f"{results.failed} of {tried} lines were not published"
        raise Problem(
            "not-published", detail, published=results.published, failed=results.failed, errors=results.errors
        )
    if not results.published and not results.duplicates:
        await call.engine.partitions(topic)  # raises UnknownTopic, as a request with events does
    return json_response(
        PublishedJson(topic, results.published, None, _ends_json(results.ends), results.duplicates)
    )


async def _add_line(call: Call, topic: str, results: _LineResults, line_number: int, line: bytes) -> None:
    if not line.strip():
        return
    try:
        event = _event(line)
    except Problem as error:
        results.fail(line_number, error.detail)
        return
    results.pending.append((line_number, event))
    results.pending_bytes += len(line)
    if len(results.pending) >= SLICE_EVENTS or results.pending_bytes >= SLICE_BYTES:
        await _flush(call, topic, results)


async def _flush(call: Call, topic: str, lines: _LineResults) -> None:
    """Publish the pending events. Errors of single events are recorded with their line numbers; an error with
    which all further lines would fail ends the request."""
    pending, lines.pending, lines.pending_bytes = lines.pending, [], 0
    numbers = (line_number - 1 for line_number, _ in pending)
    flushed = await _publish_slice(call, topic, [event for _, event in pending], numbers)
    if flushed.error is not None and flushed.is_fatal:
        published = lines.published + sum(isinstance(result, Position) for result in flushed.results)
        raise problem.from_error(flushed.error, published=published, errors=lines.errors) from None
    for (line_number, _), result in zip(pending, flushed.results, strict=True):
        if result is None:
            lines.duplicates += 1
        elif isinstance(result, Position):
            lines.published += 1
            if result.offset >= lines.ends.get(result.partition, 0):
                lines.ends[result.partition] = result.offset + 1
        else:
            lines.fail(line_number, str(result))
    await call.context.yield_to_loop()


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/topics/{topic}/events",
        handle=publish,
        rights=on_topic(Operation.WRITE),
        tag="events",
        query=PublishQuery,
        bodies={
            JSON: NewEventJson | list[NewEventJson],
            NDJSON: NewEventJson,
            cloudevents.STRUCTURED: cloudevents.CloudEventJson,
            cloudevents.BATCH: list[cloudevents.CloudEventJson],
        },
        reply=PublishedJson,
        problems=("unknown-topic", "event-too-large", "not-published", "not-offered", "slow-body"),
    ),
)
