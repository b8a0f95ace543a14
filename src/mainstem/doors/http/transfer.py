"""Taking what a search finds elsewhere: into a file (export), into a topic (replay).

Owns: the two forms of a file, the pace of a replay, and the header that says where a replayed event is from.
Refuses: to end a file as if it were whole when it is not: the connection is cut instead.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.doors.http import problem
from mainstem.doors.http.endpoint import JSON, NDJSON, Call, Endpoint, Streamed, json_line
from mainstem.doors.http.events_json import EventJson, to_json
from mainstem.doors.http.kinds import Millis, Offset, PartitionNumber
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.read import some_events
from mainstem.doors.http.search import Glob, Updates, begin
from mainstem.doors.http.topics import Name
from mainstem.moments import iso
from mainstem.search.service import Done, Hit, SearchRequest
from mainstem.stream import Event, NewEvent, NotReachable, OffsetOutOfRange, Position, StreamError

FROM_HEADER = "mainstem-replayed-from"
"""`topic/partition/offset` of the event that was replayed."""
SLICE_EVENTS = 500
SLICE_BYTES = 1 << 20
CHOSEN_MAX = 1_000
CSV = "text/csv"
CSV_COLUMNS = ("topic", "partition", "offset", "time", "key", "value")


class MatchesJson(msgspec.Struct, forbid_unknown_fields=True):
    """All events that match, in the order of their offsets."""

    query: Annotated[str, Meta(max_length=10_000, description="See docs/SEARCH.md; empty: every event.")] = ""
    topics: Annotated[list[Glob], Meta(description="Globs; none: all but internal ones.")] = []
    partitions: list[PartitionNumber] | None = None
    since_ms: Annotated[Millis | None, Meta(description="Events of this time or later.")] = None
    until_ms: Annotated[Millis | None, Meta(description="Events before this time.")] = None

    def request(self, *, only_count: bool = False) -> SearchRequest:
        """As the search takes it."""
        return SearchRequest(
            query=self.query,
            topics=self.topics,
            partitions=self.partitions,
            since_ms=self.since_ms,
            until_ms=self.until_ms,
            limit=None,
            newest_first=False,
            only_count=only_count,
        )


# ----------------------------------------------------------------------------------------------------------
# export


class ExportJson(MatchesJson, forbid_unknown_fields=True):
    """What to write to a file, and how."""

    format: Annotated[
        Literal["ndjson", "csv"], Meta(description="ndjson: exact; csv: without headers of events.")
    ] = "ndjson"


async def export(call: Call) -> Response:
    """Write all events that match to a file: NDJSON or CSV. A file that is not whole ends with an error."""
    wanted = await call.body(ExportJson)
    updates, release = await begin(call, wanted.request())
    call.audit(f"exported what matches {wanted.query[:200]!r} of {', '.join(wanted.topics) or 'all topics'}")
    parts, media = (_csv(updates), CSV) if wanted.format == "csv" else (_ndjson(updates), NDJSON)
    name = f'attachment; filename="events.{wanted.format}"'
    return Streamed(parts, media, release, content_disposition=name)


async def _hits(updates: Updates) -> AsyncIterator[Event]:
    done = False
    async for update in updates:
        done = isinstance(update, Done)
        if isinstance(update, Hit):
            yield update.event
    if not done:
        raise ConnectionError("the search was cut off")


async def _ndjson(updates: Updates) -> AsyncIterator[bytes]:
    async for event in _hits(updates):
        yield json_line(to_json(event)) + b"\n"


async def _csv(updates: Updates) -> AsyncIterator[bytes]:
    yield _csv_line(CSV_COLUMNS)
    async for event in _hits(updates):
        time = iso(event.timestamp_ms)
        yield _csv_line(
            (event.topic, event.partition, event.offset, time, _cell(event.key), _cell(event.value))
        )


def _cell(content: bytes | None) -> str:
    """Its characters; base64 where it is not UTF-8."""
    try:
        return (content or b"").decode()
    except UnicodeDecodeError:
        return base64.b64encode(content or b"").decode()


def _csv_line(cells: tuple[object, ...]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().encode()


# ----------------------------------------------------------------------------------------------------------
# replay


class PlaceJson(msgspec.Struct, forbid_unknown_fields=True):
    """Where an event is."""

    topic: str
    partition: PartitionNumber
    offset: Offset


class ReplayJson(msgspec.Struct, forbid_unknown_fields=True):
    """Which events to publish again, where, and how fast: what `matches`, or the `events` named."""

    to: Annotated[Name, Meta(description="The topic; it must exist.")]
    matches: MatchesJson | None = None
    events: Annotated[list[PlaceJson], Meta(min_length=1, max_length=CHOSEN_MAX)] | None = None
    rate: Annotated[int, Meta(ge=1, le=1_000_000, description="Events a second at most.")] = 1_000
    dry_run: Annotated[bool, Meta(description="Only tell how many there are.")] = False


class ReplayedJson(msgspec.Struct):
    """How far it is; each line is later than the one before, the last says done or why not."""

    to: str
    dry_run: bool
    published: int
    events: Annotated[int | None, Meta(description="Of a dry run: how many it would publish.")] = None
    done: bool = False
    problem: Annotated[dict[str, Any] | None, Meta(description="Why it ended before it was done.")] = None


async def replay(call: Call) -> Response:
    """Publish events again: chosen ones, or all that match. Key, payload and headers stay, and a header
    `mainstem-replayed-from` says where each is from.

    Partitions are chosen anew by the key. Lines tell how far it is. Closing the connection stops it; what is
    published stays."""
    wanted = await call.body(ReplayJson)
    if (wanted.matches is None) == (wanted.events is None):
        raise Problem("invalid", "name what `matches`, or the `events`, one of them")
    await call.engine.partitions(wanted.to)  # UnknownTopic: a slip of the pen makes no topic
    if not wanted.dry_run:
        await call.engine.publish(wanted.to, [])  # NotAllowed, before an answer has begun
    release: Callable[[], Awaitable[None]] = _nothing
    if wanted.matches is None:
        source = _chosen(call, wanted.events or [])
        if wanted.dry_run:
            found = [each async for each in source]
            return _counted(wanted, len(found))
    else:
        updates, release = await begin(call, wanted.matches.request(only_count=wanted.dry_run))
        if wanted.dry_run:
            try:
                return _counted(wanted, await _count(updates))
            finally:
                await release()
        source = _hits(updates)
    what = (
        f"{len(wanted.events or [])} events" if wanted.matches is None else repr(wanted.matches.query[:200])
    )
    call.audit(f"began to replay {what} into topic {wanted.to}")
    return Streamed(_replayed(call, wanted, source), NDJSON, release)


async def _nothing() -> None:
    pass


def _counted(wanted: ReplayJson, events: int) -> Response:
    told = ReplayedJson(wanted.to, True, 0, events, True)
    return Response(json_line(told) + b"\n", media_type=NDJSON)


async def _count(updates: Updates) -> int:
    matches = 0
    async for update in updates:
        if isinstance(update, Done):
            matches = update.totals.matches
    return matches


async def _chosen(call: Call, places: list[PlaceJson]) -> AsyncIterator[Event]:
    for place in places:
        bounds = await call.engine.bounds(place.topic, place.partition)
        found = await some_events(call, place.topic, place.partition, place.offset, limit=1, max_bytes=1)
        if not bounds.begin <= place.offset < bounds.end or not found.events:
            told = f"topic {place.topic}, partition {place.partition}: there is no event {place.offset}"
            raise OffsetOutOfRange(told)
        if found.events[0].offset == place.offset:
            yield found.events[0]


async def _replayed(call: Call, wanted: ReplayJson, source: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    clock = call.context.clock
    began, published = clock.monotonic(), 0
    most = max(1, min(SLICE_EVENTS, wanted.rate // 4))
    try:
        async for events in _slices(source, most):
            await call.engine.publish(wanted.to, events)
            published += len(events)
            yield json_line(ReplayedJson(wanted.to, False, published)) + b"\n"
            if call.context.closing.is_set():
                raise NotReachable("the server is stopping")
            await call.context.pause(max(0.0, began + published / wanted.rate - clock.monotonic()))
        told = ReplayedJson(wanted.to, False, published, done=True)
    except StreamError as error:
        published += sum(isinstance(each, Position) for each in error.results)
        told = ReplayedJson(wanted.to, False, published, problem=problem.of(error).members())
    except ConnectionError as error:
        failed = Problem("failed", str(error))
        told = ReplayedJson(wanted.to, False, published, problem=failed.members())
    yield json_line(told) + b"\n"


async def _slices(source: AsyncIterator[Event], most: int) -> AsyncIterator[list[NewEvent]]:
    events: list[NewEvent] = []
    size_bytes = 0
    async for event in source:
        place = f"{event.topic}/{event.partition}/{event.offset}"
        headers = (*event.headers, (FROM_HEADER, place.encode()))
        events.append(NewEvent(event.value, event.key, headers))
        size_bytes += len(event.value or b"") + len(event.key or b"")
        if len(events) >= most or size_bytes >= SLICE_BYTES:
            yield events
            events, size_bytes = [], 0
    if events:
        yield events


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/export",
        handle=export,
        tag="search",
        bodies={JSON: ExportJson},
        reply=EventJson,
        media=NDJSON,
        other_media=(CSV,),
        problems=("query", "busy"),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/replay",
        handle=replay,
        tag="search",
        bodies={JSON: ReplayJson},
        reply=ReplayedJson,
        media=NDJSON,
        problems=("query", "busy", "unknown-topic", "out-of-range"),
    ),
)
