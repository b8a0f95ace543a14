"""Publishing events again: the matches of a query, or chosen events, which may also be changed.

Owns: the form of the reply, and that a job runs only once at a time. Refuses: to create the target topic. How
a job continues after an interruption is explained in `mainstem.replay`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from mainstem.access_contract import Operation, ResourceType
from mainstem.audit.events import AuditValue
from mainstem.contract import Event, NewEvent, NotReachable, PositionOutOfRange, StreamError
from mainstem.doors.http import audit, problem
from mainstem.doors.http.endpoint import (
    JSON,
    NDJSON,
    Call,
    Endpoint,
    StreamedResponse,
    json_line,
    start_stream,
)
from mainstem.doors.http.events_json import event_from_json
from mainstem.doors.http.page_reader import read_page
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import READ_TOPIC, inside
from mainstem.doors.http.search_slots import search_slot
from mainstem.http_api.events import NewEventJson
from mainstem.http_api.replay import ChosenEventJson, ReplayProgressJson, ReplayRequestJson
from mainstem.replay import Replay, ReplayJob, SourceItem, matching_events
from mainstem.search.match.matcher import Matcher

_job_numbers = itertools.count(1)


async def replay(call: Call) -> Response:
    """Publish events again: all matches, or chosen events. Key, payload and headers stay, unless a chosen
    event replaces them. A header `mainstem-replayed-from` is added that says where each event is from.

    The key chooses the partition anew. Each line reports the progress. Closing the connection stops the
    replay; events that were published stay, and a request with the same `job` continues after them."""
    body = await call.json_body(ReplayRequestJson)
    if (body.matches is None) == (body.events is None):
        raise Problem("unfit", "give either `matches` or `events`")
    positions = set()
    for chosen in body.events or ():
        _replacement(chosen)  # raises the problem of a wrong replacement before anything is published
        positions.add((chosen.topic, chosen.partition, chosen.offset))
    if len(positions) < len(body.events or ()):
        raise Problem("unfit", "`events` names an event twice")
    job = _job(call, body)
    await call.engine.partitions(body.to)  # raises UnknownTopic: a misspelt name creates no topic
    if not body.dry_run:
        await call.engine.publish(body.to, [])  # raises NotAllowed before the response has begun
    context = call.context
    key = (body.to, job.id)
    if key in context.running_replays and not body.dry_run:
        detail = f"job {job.id} into topic {body.to} is running already"
        raise Problem("busy", detail, fix="Wait until it has ended.")
    run = Replay(call.engine, call.search(), context.clock, body.to, job)

    async def release() -> None:
        if not body.dry_run:
            run.when_idle(lambda: context.running_replays.discard(key))

    if not body.dry_run:
        context.running_replays.add(key)
    parts, end = await start_stream(call, _lines(call, body, run), release)
    return StreamedResponse(parts, NDJSON, end)


def _job(call: Call, body: ReplayRequestJson) -> ReplayJob:
    """The job of a request; if the request has no name for it, the name is made of the time and a number."""
    name = body.job or f"{call.context.clock.wall_ms():x}-{next(_job_numbers)}"
    if body.matches is not None:
        return ReplayJob.of(name, body.matches.request())
    return ReplayJob.of(name, None, msgspec.json.encode(body.events))


def _replacement(chosen: ChosenEventJson) -> NewEvent:
    """The parts of a chosen event that are replaced. Raises Problem."""
    return event_from_json(
        NewEventJson(
            value=chosen.value,
            value_encoding=chosen.value_encoding,
            key=None if chosen.key is UNSET else chosen.key,
            key_encoding=chosen.key_encoding,
            headers=[] if chosen.headers is UNSET else chosen.headers,
        )
    )


def _replaced(event: Event, chosen: ChosenEventJson) -> Event:
    """The event with the parts that `chosen` replaces."""
    replacement = _replacement(chosen)
    return msgspec.structs.replace(
        event,
        value=event.value if chosen.value is UNSET else replacement.value,
        key=event.key if chosen.key is UNSET else replacement.key,
        headers=event.headers if chosen.headers is UNSET else replacement.headers,
    )


async def _source(call: Call, body: ReplayRequestJson) -> AsyncGenerator[SourceItem, None]:
    """The events to copy. NotAuthorized: fields of one are masked for the requester, so the copy would not be
    what it copies."""
    if body.matches is not None:
        items = matching_events(call.search(), body.matches.request())
    else:
        items = _chosen_events(call, body.events or [])
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Event):
                call.masks.require_plain([item.topic], "replay its events")
            yield item


async def _chosen_events(
    call: Call, chosen_events: list[ChosenEventJson]
) -> AsyncGenerator[SourceItem, None]:
    for chosen in chosen_events:
        bounds = await call.engine.bounds(chosen.topic, chosen.partition)
        events = await read_page(call, chosen.topic, chosen.partition, chosen.offset, limit=1, max_bytes=1)
        if not bounds.begin <= chosen.offset < bounds.end or not events:
            place = f"topic {chosen.topic}, partition {chosen.partition}"
            raise PositionOutOfRange(f"{place}: there is no event with offset {chosen.offset}")
        if events[0].offset == chosen.offset:
            yield _replaced(events[0], chosen)


async def _lines(call: Call, body: ReplayRequestJson, run: Replay) -> AsyncGenerator[bytes, None]:
    """The lines of the reply. Finds what earlier runs of the job have published, then publishes the rest (in
    a dry run: counts it) and reports the progress."""
    details: dict[str, AuditValue] = {"to": body.to, "job": run.job.id}
    if body.matches is not None:
        details |= audit.matches_details(body.matches)
    else:
        events = body.events or []
        details |= {"chosen": len(events), "changed": sum(chosen.is_changed for chosen in events)}
    with audit.action(call, "replay", dry_run=body.dry_run, **details) as line:
        async with search_slot(call):
            if body.matches is not None:  # a wrong query is a problem, not a replay that failed
                Matcher.of(body.matches.query, now_ms=call.context.clock.wall_ms())
            if body.job is not None:
                await run.find_published()
            work = _count if body.dry_run else _publish
            async with aclosing(work(call, body, run, line)) as reports:
                async for report in reports:
                    yield json_line(report) + b"\n"


def _report(body: ReplayRequestJson, run: Replay, **fields: Any) -> ReplayProgressJson:
    progress = run.progress
    return ReplayProgressJson(
        to=body.to,
        job=run.job.id,
        dry_run=body.dry_run,
        published=progress.published,
        published_before=progress.already_published,
        unreadable=progress.unreadable,
        **fields,
    )


async def _count(
    call: Call, body: ReplayRequestJson, run: Replay, line: audit.AuditLine
) -> AsyncGenerator[ReplayProgressJson, None]:
    if body.matches is not None:
        events = await run.count(body.matches.request())
    else:
        events = await run.count_fresh(_source(call, body))
    line.count(events=events)
    yield _report(body, run, events=events, done=True)


async def _publish(
    call: Call, body: ReplayRequestJson, run: Replay, line: audit.AuditLine
) -> AsyncGenerator[ReplayProgressJson, None]:
    yield _report(body, run)  # the client learns the job's name before anything is published
    context = call.context
    try:
        async with aclosing(run.run(_source(call, body), body.rate, context.pause)) as steps:
            async for progress in steps:
                line.count(published=progress.published, before=progress.already_published)
                if context.closing.is_set():
                    raise NotReachable("the server is stopping")
                yield _report(body, run)
        end = _report(body, run, done=True)
    except (StreamError, Problem) as error:
        line.count(published=run.progress.published)
        line.fail_with(error)
        ended_by = error if isinstance(error, Problem) else problem.from_error(error)
        end = _report(body, run, problem=ended_by.members())
    yield end


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/replay",
        handle=replay,
        rights=inside(
            "READ on the topics of the events, READ and WRITE on the one published to",
            READ_TOPIC,
            (Operation.WRITE, ResourceType.TOPIC),
        ),
        tag="search",
        bodies={JSON: ReplayRequestJson},
        reply=ReplayProgressJson,
        media=NDJSON,
        problems=("query", "busy", "unknown-topic", "out-of-range"),
    ),
)
