"""Publishing: one event, many, a stream of lines, CloudEvents. An answer means that all is durable.

Owns: the forms of a request and what its answer tells of each event. Refuses: nothing that the topic takes.
Bodies are bounded; lines (NDJSON) are published in slices as they come, so that a stream has no limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.doors.http import cloudevents, problem
from mainstem.doors.http.bodies import pieces, read_json, too_large
from mainstem.doors.http.endpoint import JSON, NDJSON, Call, Endpoint, answer, not_taken
from mainstem.doors.http.events_json import NewEventJson, from_json
from mainstem.doors.http.problem import Problem
from mainstem.stream import NewEvent, NotAllowed, NotReachable, Position, StreamError

Result: TypeAlias = Position | StreamError

SLICE_EVENTS = 500
SLICE_BYTES = 512 << 10
"""Of events that are published together."""
TURN_EVENTS = 500
"""Events that are made of JSON in one turn of the loop."""
EVENTS_MAX = 100_000
"""In one array."""
ERRORS_MAX = 100
"""Lines whose errors are told one by one; the rest is counted."""


class PlaceJson(msgspec.Struct):
    """Where an event is."""

    partition: int
    offset: int


class PublishedJson(msgspec.Struct):
    """All events are durable."""

    topic: str
    published: int
    events: Annotated[
        list[PlaceJson] | None, Meta(description="The place of each, in order. null for a stream of lines.")
    ]
    ends: Annotated[
        list[PlaceJson],
        Meta(description="The offset behind the last event published, of each partition that got any."),
    ]


async def publish(call: Call) -> Response:
    """Publish events: one, many, a stream of lines, or CloudEvents."""
    topic = call.part("topic")
    if call.media == NDJSON:
        return await _publish_lines(call, topic)
    events = await _events(call)
    results, error = await _publish_slices(call, topic, events)
    if error is not None:
        if len(events) > 1 and error.results:
            raise problem.of(error, events=_results(results)) from None
        raise error
    places = [each for each in results if isinstance(each, Position)]
    told = [PlaceJson(each.partition, each.offset) for each in places]
    return answer(PublishedJson(topic, len(places), told, _ends(places)))


async def _publish_slices(
    call: Call, topic: str, events: Sequence[NewEvent]
) -> tuple[list[Result], StreamError | None]:
    """What became of each event, and the first error. What is against a single event does not keep the others
    back; what the following would meet, too, does."""
    results: list[Result] = []
    first: StreamError | None = None
    for some in _slices(events):
        try:
            results += await call.engine.publish(topic, some)
        except StreamError as error:
            first = first or error
            results += error.results
            if not error.results or isinstance(error, (NotReachable, NotAllowed)):
                missing = len(events) - len(results)
                results += [type(error)(f"not tried, for an event before it failed: {error}")] * missing
                break
        await call.context.turn()
    return results, first


def _slices(events: Sequence[NewEvent]) -> Iterator[Sequence[NewEvent]]:
    """As many as may be published in one turn of the loop."""
    begin = size_bytes = 0
    for at, event in enumerate(events):
        size_bytes += len(event.value or b"")
        if at + 1 - begin >= SLICE_EVENTS or size_bytes >= SLICE_BYTES:
            yield events[begin : at + 1]
            begin, size_bytes = at + 1, 0
    if begin < len(events):
        yield events[begin:]


async def _events(call: Call) -> list[NewEvent]:
    media = call.media
    if cloudevents.is_binary(call.request.headers, media):
        return [cloudevents.from_headers(call.request.headers, await call.whole_body())]
    if media not in (JSON, cloudevents.ONE, cloudevents.MANY):
        raise not_taken(media, (JSON, NDJSON, cloudevents.ONE, cloudevents.MANY))
    data = await call.whole_body()
    make = _of_json if media == JSON else _of_cloudevent
    if media == cloudevents.ONE or (media == JSON and not data.lstrip(b" \t\r\n").startswith(b"[")):
        return [make(data)]
    if media == cloudevents.MANY and not data.lstrip(b" \t\r\n").startswith(b"["):
        raise Problem("invalid", "in the body: a batch is an array")
    return await _array(call, data, make)


def _of_json(data: bytes | msgspec.Raw) -> NewEvent:
    return from_json(read_json(data, NewEventJson))


def _of_cloudevent(data: bytes | msgspec.Raw) -> NewEvent:
    return cloudevents.from_json(read_json(data, dict[str, msgspec.Raw]))


async def _array(call: Call, data: bytes, make: Callable[[bytes | msgspec.Raw], NewEvent]) -> list[NewEvent]:
    """All events of an array, checked before any is published."""
    events: list[NewEvent] = []
    for some in pieces(data):
        await call.context.turn()
        for one in some:
            try:
                events.append(make(one))
            except Problem as error:
                error.detail = f"event {len(events)}: {error.detail}"
                raise
            if len(events) % TURN_EVENTS == 0:
                await call.context.turn()
        if len(events) > EVENTS_MAX:
            raise Problem("body-too-large", f"there are more than {EVENTS_MAX} events in one array")
    return events


def _results(results: Sequence[Result]) -> list[dict[str, object]]:
    return [
        {"partition": each.partition, "offset": each.offset}
        if isinstance(each, Position)
        else {"error": str(each)}
        for each in results
    ]


def _ends(places: Sequence[Position]) -> list[PlaceJson]:
    ends: dict[int, int] = {}
    for each in places:
        ends[each.partition] = max(ends.get(each.partition, 0), each.offset + 1)
    return [PlaceJson(partition, end) for partition, end in sorted(ends.items())]


# ----------------------------------------------------------------------------------------------------------
# lines


@dataclass(slots=True)
class _Lines:
    """What became of the lines so far."""

    published: int = 0
    failed: int = 0
    errors: list[dict[str, object]] = field(default_factory=list)
    ends: dict[int, Position] = field(default_factory=dict)
    waiting: list[tuple[int, NewEvent]] = field(default_factory=list)
    waiting_bytes: int = 0

    def fail(self, line: int, why: str) -> None:
        self.failed += 1
        if len(self.errors) < ERRORS_MAX:
            self.errors.append({"line": line, "detail": why})


async def _publish_lines(call: Call, topic: str) -> Response:
    lines = _Lines()
    number = 0
    rest = bytearray()
    async for chunk in call.chunks():
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
    return answer(PublishedJson(topic, lines.published, None, _ends(list(lines.ends.values()))))


async def _take_line(call: Call, topic: str, lines: _Lines, number: int, line: bytes) -> None:
    if not line.strip():
        return
    try:
        event = from_json(read_json(line, NewEventJson))
    except Problem as error:
        lines.fail(number, error.detail)
        return
    lines.waiting.append((number, event))
    lines.waiting_bytes += len(line)
    if len(lines.waiting) >= SLICE_EVENTS or lines.waiting_bytes >= SLICE_BYTES:
        await _flush(call, topic, lines)


async def _flush(call: Call, topic: str, lines: _Lines) -> None:
    """Publish what waits. Errors of single events are kept with their lines; one that all the following
    would meet, too, ends the request."""
    waiting, lines.waiting, lines.waiting_bytes = lines.waiting, [], 0
    results: Sequence[Result]
    try:
        results = await call.engine.publish(topic, [event for _, event in waiting])
    except StreamError as error:
        if not error.results or isinstance(error, (NotReachable, NotAllowed)):
            places = [each for each in error.results if isinstance(each, Position)]
            raise problem.of(error, published=lines.published + len(places), errors=lines.errors) from None
        results = error.results
    for (number, _), result in zip(waiting, results, strict=True):
        if isinstance(result, Position):
            lines.published += 1
            last = lines.ends.get(result.partition)
            if last is None or last.offset < result.offset:
                lines.ends[result.partition] = result
        else:
            lines.fail(number, str(result))
    await call.context.turn()


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/topics/{topic}/events",
        handle=publish,
        tag="events",
        bodies={
            JSON: NewEventJson | list[NewEventJson],
            NDJSON: NewEventJson,
            cloudevents.ONE: cloudevents.CloudEventJson,
            cloudevents.MANY: list[cloudevents.CloudEventJson],
        },
        reply=PublishedJson,
        problems=("unknown-topic", "event-too-large", "not-published", "slow-body"),
    ),
)
