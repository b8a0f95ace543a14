"""Publishing again what is in the stream: what a search finds, or events that were chosen, also changed.

Owns: the form of request and answer, and that a job runs once at a time. Refuses: to make the target topic.
How a job that was broken off goes on is `mainstem.replay`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType
from starlette.responses import Response

from mainstem import replay as replaying
from mainstem.contract import Event, NewEvent, NotReachable, PositionOutOfRange, StreamError
from mainstem.doors.http import audit, problem
from mainstem.doors.http.endpoint import JSON, NDJSON, Call, Endpoint, StreamedResponse, json_line
from mainstem.doors.http.events_json import Encoding, HeaderJson, NewEventJson, event_from_json
from mainstem.doors.http.field_types import Offset, PartitionNumber
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.routes.export import MatchesJson, start_stream
from mainstem.doors.http.routes.read import read_page
from mainstem.doors.http.routes.search import search_slot
from mainstem.doors.http.routes.topics import TopicName
from mainstem.replay import Replay, ReplayJob, SourceItem
from mainstem.search.match.matcher import Matcher

CHOSEN_EVENTS_MAX = 1_000
_numbers = itertools.count(1)


class ChosenEventJson(msgspec.Struct, forbid_unknown_fields=True):
    """Where an event is, and what of it is published otherwise than it was; what is left out stays."""

    topic: str
    partition: PartitionNumber
    offset: Offset
    value: Annotated[Raw | UnsetType, Meta(description="As in an event to publish; null: no payload.")] = (
        UNSET
    )
    value_encoding: Encoding | None = None
    key: Annotated[str | UnsetType | None, Meta(description="null: no key.")] = UNSET
    key_encoding: Literal["text", "base64"] = "text"
    headers: Annotated[list[HeaderJson] | UnsetType, Meta(description="All of them.")] = UNSET

    def replacement(self) -> NewEvent:
        """What is given of it. Problem says what is wrong with that."""
        given = NewEventJson(
            value=self.value,
            value_encoding=self.value_encoding,
            key=None if self.key is UNSET else self.key,
            key_encoding=self.key_encoding,
            headers=[] if self.headers is UNSET else self.headers,
        )
        return event_from_json(given)

    def apply_to(self, event: Event) -> Event:
        """The event as it shall be."""
        wanted = self.replacement()
        return replace(
            event,
            value=event.value if self.value is UNSET else wanted.value,
            key=event.key if self.key is UNSET else wanted.key,
            headers=event.headers if self.headers is UNSET else wanted.headers,
        )

    @property
    def is_changed(self) -> bool:
        """Whether anything of it is."""
        return not (self.value is UNSET and self.key is UNSET and self.headers is UNSET)


class ReplayRequestJson(msgspec.Struct, forbid_unknown_fields=True):
    """Which events to publish again, where, and how fast: what `matches`, or the `events` named."""

    to: Annotated[TopicName, Meta(description="The topic; it must exist.")]
    matches: MatchesJson | None = None
    events: Annotated[list[ChosenEventJson], Meta(min_length=1, max_length=CHOSEN_EVENTS_MAX)] | None = None
    rate: Annotated[int, Meta(ge=1, le=1_000_000, description="Events a second at most.")] = 1_000
    job: Annotated[
        Annotated[str, Meta(pattern=replaying.JOB_PATTERN)] | None,
        Meta(
            description="A name for it, made up if left out. With the name of a replay that was broken off,"
            " and else the same request, it goes on: what was published before is left out."
        ),
    ] = None
    dry_run: Annotated[bool, Meta(description="Only tell how many there are.")] = False


class ReplayProgressJson(msgspec.Struct):
    """How far it is; each line is later than the one before, the last says done or why not."""

    to: str
    job: str
    dry_run: bool
    published: Annotated[int, Meta(description="By this request.")]
    published_before: Annotated[int, Meta(description="By earlier requests of this job.")]
    unreadable: Annotated[int, Meta(description="Stretches that could not be read: they are left out.")] = 0
    events: Annotated[int | None, Meta(description="Of a dry run: how many it would publish.")] = None
    done: bool = False
    problem: Annotated[dict[str, Any] | None, Meta(description="Why it ended before it was done.")] = None


async def replay(call: Call) -> Response:
    """Publish events again: chosen ones, or all that match. Key, payload and headers stay, unless a chosen
    event says otherwise, and a header `mainstem-replayed-from` says where each is from.

    Partitions are chosen anew by the key. Lines tell how far it is. Closing the connection stops it; what is
    published stays, and the same `job` goes on behind it."""
    wanted = await call.json_body(ReplayRequestJson)
    if (wanted.matches is None) == (wanted.events is None):
        raise Problem("unfit", "name what `matches`, or the `events`, one of them")
    places = set()
    for each in wanted.events or ():
        each.replacement()
        places.add((each.topic, each.partition, each.offset))
    if len(places) < len(wanted.events or ()):
        raise Problem("unfit", "an event is named twice")
    job = _job(call, wanted)
    await call.engine.partitions(wanted.to)  # UnknownTopic: a slip of the pen makes no topic
    if not wanted.dry_run:
        await call.engine.publish(wanted.to, [])  # NotAllowed, before an answer has begun
    context = call.context
    running, which = context.running_replays, (wanted.to, job.id)
    if which in running and not wanted.dry_run:
        told = f"job {job.id} into topic {wanted.to} is running already"
        raise Problem("busy", told, fix="Wait until it has ended.")
    run = Replay(context.engine, context.search(), context.clock, wanted.to, job)

    async def release() -> None:
        if not wanted.dry_run:
            run.when_idle(lambda: running.discard(which))

    if not wanted.dry_run:
        running.add(which)
    parts, end = await start_stream(_lines(call, wanted, run), release)
    return StreamedResponse(parts, NDJSON, end)


def _job(call: Call, wanted: ReplayRequestJson) -> ReplayJob:
    """Named, or by the time of the request."""
    name = wanted.job or f"{call.context.clock.wall_ms():x}-{next(_numbers)}"
    if wanted.matches is not None:
        return ReplayJob.of(name, wanted.matches.request())
    return ReplayJob.of(name, None, msgspec.json.encode(wanted.events))


def _source(call: Call, wanted: ReplayRequestJson) -> AsyncGenerator[SourceItem, None]:
    if wanted.matches is not None:
        return replaying.matching_events(call.context.search(), wanted.matches.request())
    return _chosen(call, wanted.events or [])


async def _chosen(call: Call, places: list[ChosenEventJson]) -> AsyncGenerator[SourceItem, None]:
    for place in places:
        bounds = await call.engine.bounds(place.topic, place.partition)
        found = await read_page(call, place.topic, place.partition, place.offset, limit=1, max_bytes=1)
        if not bounds.begin <= place.offset < bounds.end or not found.events:
            told = f"topic {place.topic}, partition {place.partition}: there is no event {place.offset}"
            raise PositionOutOfRange(told)
        if found.events[0].offset == place.offset:
            yield place.apply_to(found.events[0])


async def _lines(call: Call, wanted: ReplayRequestJson, run: Replay) -> AsyncGenerator[bytes, None]:
    """The answer, from finding what was done before to the end."""
    about: dict[str, audit.Value] = {"to": wanted.to, "job": run.job.id}
    if wanted.matches is not None:
        about |= wanted.matches.about()
    else:
        events = wanted.events or []
        about |= {"chosen": len(events), "changed": sum(each.is_changed for each in events)}
    with audit.action(call, "replay", dry_run=wanted.dry_run, **about) as line:
        async with search_slot(call):
            if wanted.matches is not None:  # a query that is wrong is a problem, not a broken replay
                Matcher.of(wanted.matches.query, now_ms=call.context.clock.wall_ms())
            if wanted.job is not None:
                await run.find_published()
            work = _counted if wanted.dry_run else _published
            async with aclosing(work(call, wanted, run, line)) as all_told:
                async for told in all_told:
                    yield json_line(told) + b"\n"


def _told(wanted: ReplayRequestJson, run: Replay, **more: Any) -> ReplayProgressJson:
    told = run.progress
    return ReplayProgressJson(
        wanted.to, run.job.id, wanted.dry_run, told.published, told.already_published, told.unreadable, **more
    )


async def _counted(
    call: Call, wanted: ReplayRequestJson, run: Replay, line: audit.AuditLine
) -> AsyncGenerator[ReplayProgressJson, None]:
    if wanted.matches is not None:
        events = await run.count(wanted.matches.request())
    else:
        events = await run.count_fresh(_source(call, wanted))
    line.count(events=events)
    yield _told(wanted, run, events=events, done=True)


async def _published(
    call: Call, wanted: ReplayRequestJson, run: Replay, line: audit.AuditLine
) -> AsyncGenerator[ReplayProgressJson, None]:
    yield _told(wanted, run)  # the job's name is known before anything is published
    context = call.context
    try:
        async with aclosing(run.run(_source(call, wanted), wanted.rate, context.pause)) as steps:
            async for told in steps:
                line.count(published=told.published, before=told.already_published)
                if context.closing.is_set():
                    raise NotReachable("the server is stopping")
                yield _told(wanted, run)
        end = _told(wanted, run, done=True)
    except (StreamError, Problem) as error:
        line.count(published=run.progress.published)
        line.ended_by(error)
        told_problem = error if isinstance(error, Problem) else problem.from_error(error)
        end = _told(wanted, run, problem=told_problem.members())
    yield end


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/replay",
        handle=replay,
        tag="search",
        bodies={JSON: ReplayRequestJson},
        reply=ReplayProgressJson,
        media=NDJSON,
        problems=("query", "busy", "unknown-topic", "out-of-range"),
    ),
)
