"""Subscriptions: list, create, describe, change and delete them; seek, purge and redrive.

Owns: the JSON of subscriptions, and what a dry run reports. Refuses: nothing itself; the engine refuses
invalid names and settings, and its errors become problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import Position
from mainstem.doors.http import audit
from mainstem.doors.http.dead_letters import LetterFilter, dead_letter_origins
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.push_json import push_from_json, push_to_json, report_to_json
from mainstem.doors.http.queue_sampler import RATES
from mainstem.doors.http.queues import (
    SUBSCRIPTION_PATH,
    SUBSCRIPTION_PROBLEMS,
    format_position,
    parse_position,
    queues_of,
    snapshot_of,
)
from mainstem.doors.http.rights import inside, on_subscription
from mainstem.http_api.push import PushSettingsJson
from mainstem.http_api.subscriptions import (
    ChangedSubscriptionJson,
    DeletedSubscriptionJson,
    DepthJson,
    NewSubscriptionJson,
    PurgeJson,
    QueueConsumerJson,
    RedriveJson,
    SeekJson,
    SettledEventsJson,
    SoughtJson,
    SubscriptionDetailJson,
    SubscriptionJson,
    SubscriptionSettingsJson,
    SubscriptionsJson,
    SubscriptionsQuery,
)
from mainstem.http_api.topics import DryRunQuery
from mainstem.queue_contract import (
    QueueDepth,
    Queues,
    SettingsHaveChanged,
    SnapshotName,
    SubscriptionInfo,
    SubscriptionSettings,
    SubscriptionTotals,
    no_such_place,
)
from mainstem.queues.push_settings import PushSettings, shown_endpoint
from mainstem.start_offset import resolve_offset
from mainstem.timespec import StartPoint, format_iso, parse_start_point

SUBSCRIPTIONS_PATH = "/api/v1/subscriptions"
CHANGE_TRIES = 10
"""How often a change is made for the present settings, while other requests change them."""
SETTINGS = SubscriptionSettingsJson.__struct_fields__
"""The names of the settings, in JSON and in the contract."""


def _depth(depth: QueueDepth) -> DepthJson:
    return DepthJson(depth.ready, depth.leased, depth.waiting, depth.parked, depth.dying, depth.ahead)


def _age_ms(call: Call, time_ms: int | None) -> int | None:
    return None if time_ms is None else max(0, call.context.clock.wall_ms() - time_ms)


def _detail(call: Call, info: SubscriptionInfo) -> SubscriptionDetailJson:
    return SubscriptionDetailJson(
        subscription=info.name,
        created=format_iso(info.created_ms),
        topics=list(info.settings.topics),
        settings=SubscriptionSettingsJson(
            **{name: getattr(info.settings, name) for name in SETTINGS}
            | {"push": push_to_json(info.settings.push)}
        ),
        depth=_depth(info.depth),
        oldest=None if info.oldest is None else format_position(info.oldest),
        oldest_age_ms=_age_ms(call, info.oldest_ms),
        since=format_iso(info.since_ms),
        delivered=info.delivered,
        redelivered=info.redelivered,
        acked=info.acked,
        nacked=info.nacked,
        rejected=info.rejected,
        expired=info.expired,
        failed=info.failed,
        dead_lettered=info.dead_lettered,
        dropped=info.dropped,
        trimmed=info.trimmed,
        expiring=info.expiring,
        unreadable=info.unreadable,
        consumers=[
            QueueConsumerJson(
                consumer.name,
                consumer.leased,
                consumer.leases,
                None if consumer.deadline_ms is None else format_iso(consumer.deadline_ms),
            )
            for consumer in info.consumers
        ],
        active_consumer=info.active_consumer,
        problems=list(info.problems),
        push=None if info.push is None else report_to_json(info.push),
        operations=call.operations_on(ResourceType.SUBSCRIPTION, info.name),
    )


async def list_subscriptions(call: Call) -> Response:
    """List subscriptions with how many of their events are outstanding."""
    query: SubscriptionsQuery = call.query
    queues, fragment = queues_of(call), query.q.lower()
    names = await queues.subscriptions() if query.topic is None else await _readers(queues, query.topic)
    matching = [name for name in names if fragment in name.lower()]
    remaining = [name for name in matching if name > query.after]
    page = remaining[: query.limit]
    rates = call.context.sampler.queues.rates
    rows = [_row(call, totals, rates) for totals in await queues.subscription_totals(page)]
    next_after = page[-1] if len(remaining) > len(page) else None
    return json_response(SubscriptionsJson(rows, len(matching), next_after))


async def _readers(queues: Queues, topic: str) -> list[str]:
    """The names of the subscriptions of a topic."""
    return [totals.name for totals in await queues.subscription_totals() if topic in totals.topics]


def _row(call: Call, totals: SubscriptionTotals, rates: Mapping[str, tuple[float, ...]]) -> SubscriptionJson:
    per_s = dict(zip(RATES, rates.get(totals.name, (0.0,) * len(RATES)), strict=True))
    return SubscriptionJson(
        subscription=totals.name,
        topics=list(totals.topics),
        depth=_depth(totals.depth),
        oldest_age_ms=_age_ms(call, totals.oldest_ms),
        consumers=totals.consumers,
        dead_lettered=sum(totals.dead_lettered.values()),
        delivered_per_s=round(per_s["delivered"], 2),
        acked_per_s=round(per_s["acked"], 2),
        problems=list(totals.problems),
    )


async def show_subscription(call: Call) -> Response:
    """Show a subscription: its settings, its depth by state, its counters and consumers."""
    info = await queues_of(call).subscription(call.path_parameter("subscription"))
    return json_response(_detail(call, info))


async def create_subscription(call: Call) -> Response:
    """Create a subscription of one or more topics."""
    queues = queues_of(call)
    body = await call.json_body(NewSubscriptionJson)
    call.rights.require(Operation.DESCRIBE, ResourceType.SUBSCRIPTION, body.subscription)  # for the reply
    changes = _changes(body.settings)
    with audit.action(
        call,
        "create-subscription",
        subscription=body.subscription,
        topics=",".join(body.topics),
        **_settings_detail(changes),
    ):
        settings = SubscriptionSettings(topics=tuple(body.topics), **_with_push(changes, None))
        await queues.create_subscription(body.subscription, settings)
    return json_response(_detail(call, await queues.subscription(body.subscription)), 201)


async def alter_subscription(call: Call) -> Response:
    """Change topics or settings of a subscription, and show it afterwards."""
    queues, name = queues_of(call), call.path_parameter("subscription")
    body = await call.json_body(ChangedSubscriptionJson)
    changes = _changes(body.settings)
    if body.topics is not UNSET:
        changes["topics"] = tuple(body.topics)
    dry_run = body.dry_run
    detail = _settings_detail(changes)
    with audit.action(call, "change-subscription", dry_run=dry_run, subscription=name, **detail):
        for tries_left in reversed(range(CHANGE_TRIES)):
            info = await queues.subscription(name)
            changed = replace(info.settings, **_with_push(changes, info.settings.push))
            try:
                await queues.alter_subscription(name, changed, expected=info.settings, dry_run=dry_run)
                break
            except SettingsHaveChanged:  # by another request: this one changes what it names, and no more
                if not tries_left:
                    raise
    info = replace(info, settings=changed) if dry_run else await queues.subscription(name)
    return json_response(_detail(call, info))


def _changes(settings: SubscriptionSettingsJson) -> dict[str, Any]:
    """The settings that a request gives."""
    return {name: value for name, value in msgspec.structs.asdict(settings).items() if value is not UNSET}


def _with_push(changes: dict[str, Any], present: PushSettings | None) -> dict[str, Any]:
    """Changes of settings, with push settings of the contract in place of those in JSON."""
    push = changes.get("push")
    return changes if push is None else changes | {"push": push_from_json(push, present)}


def _settings_detail(changes: dict[str, Any]) -> dict[str, Any]:
    """Settings as a detail of an audit line."""
    texts = [f"{name}={_text(value)}" for name, value in changes.items()]
    return {"settings": ", ".join(texts)} if texts else {}


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, PushSettingsJson):  # nothing secret
        return "changed" if value.endpoint is UNSET else shown_endpoint(value.endpoint)
    return "null" if value is None else str(value)


async def delete_subscription(call: Call) -> Response:
    """Delete a subscription with what it knows. No event is deleted."""
    queues, name = queues_of(call), call.path_parameter("subscription")
    dry_run: bool = call.query.dry_run
    with audit.action(call, "delete-subscription", dry_run=dry_run, subscription=name) as line:
        events = (await queues.subscription(name)).depth.outstanding
        line.count(events=events)
        if not dry_run:
            await queues.delete_subscription(name)
    return json_response(DeletedSubscriptionJson(name, dry_run, events))


# ----------------------------------------------------------------------------------------------------------


async def seek_subscription(call: Call) -> Response:
    """Let a subscription begin anew at another place: what follows is delivered, as if it never was."""
    queues, name = queues_of(call), call.path_parameter("subscription")
    body = await call.json_body(SeekJson)
    place = _place_of(call, body)
    to_text = f"snapshot {body.snapshot}" if body.to is None else body.to
    with audit.action(call, "seek", dry_run=body.dry_run, subscription=name, to=to_text) as line:
        info = await queues.subscription(name)
        if isinstance(place, SnapshotName):
            chosen = await snapshot_of(queues, name, place.name)
            events = chosen.events if body.dry_run else await queues.seek(name, place)
        elif body.dry_run:
            events = await _events_from(call, info, place)
        elif isinstance(place, Position):
            events = await queues.seek(name, place)
        else:
            to: Literal["earliest", "latest"] | int
            to = max(0, place.value) if place.kind == "time" else _named(place)
            events = await queues.seek(name, to)
        line.count(before=info.depth.outstanding, events=events)
    return json_response(SoughtJson(name, body.dry_run, info.depth.outstanding, events))


def _place_of(call: Call, body: SeekJson) -> StartPoint | Position | SnapshotName:
    if (body.to is None) == (body.snapshot is None):
        raise Problem("unfit", "give `to` or `snapshot`, and not both: each says where")
    return SnapshotName(body.snapshot or "") if body.to is None else _place(call, body.to)


def _named(place: StartPoint) -> Literal["earliest", "latest"]:
    return "earliest" if place.kind == "earliest" else "latest"


def _place(call: Call, to: str) -> StartPoint | Position:
    if "/" in to:
        return parse_position(to)
    try:
        return parse_start_point(to, call.context.clock.wall_ms())
    except (ValueError, OverflowError) as error:
        raise Problem("unfit", f"to: {str(error)[:300]}") from None


async def _events_from(call: Call, info: SubscriptionInfo, place: StartPoint | Position) -> int:
    """How many events follow a place, before a filter."""
    if isinstance(place, Position):
        if place.topic not in info.settings.topics:
            raise no_such_place(place)
        bounds = await call.engine.bounds(place.topic, place.partition)
        if not bounds.begin <= place.offset <= bounds.end:
            detail = f"offset {place.offset} is not within {bounds.begin} to {bounds.end}"
            raise Problem("out-of-range", detail, begin=bounds.begin, end=bounds.end)
        return bounds.end - place.offset
    events = 0
    for topic in info.settings.topics:
        for partition in range(await call.engine.partitions(topic)):
            offset = await resolve_offset(call.engine, topic, partition, place)
            events += (await call.engine.bounds(topic, partition)).end - offset
    return events


async def purge_subscription(call: Call) -> Response:
    """Let all events of a subscription be done, those that consumers have included. No event is deleted."""
    queues, name = queues_of(call), call.path_parameter("subscription")
    body = await call.json_body(PurgeJson)
    with audit.action(call, "purge", dry_run=body.dry_run, subscription=name) as line:
        events = (await queues.subscription(name)).depth.outstanding
        if not body.dry_run:
            events = await queues.purge(name)
        line.count(events=events)
    return json_response(SettledEventsJson(name, body.dry_run, events))


async def redrive_subscription(call: Call) -> Response:
    """Deliver dead letters of a subscription again, to it alone. No event is copied."""
    queues, name = queues_of(call), call.path_parameter("subscription")
    body = await call.json_body(RedriveJson)
    with audit.action(call, "redrive", dry_run=body.dry_run, subscription=name) as line:
        if body.positions is None:
            wanted = LetterFilter.of(body.since_ms, body.reason, body.q, call.context.clock.wall_ms())
            positions = await dead_letter_origins(call.engine, queues, name, wanted, with_redriven=body.again)
        elif body.since_ms is not None or body.reason or body.q or body.again:
            detail = "give positions, or what selects dead letters, not both: each says which events"
            raise Problem("unfit", detail)
        else:
            positions = [Position(place.topic, place.partition, place.offset) for place in body.positions]
        events = 0
        if positions:
            events = await queues.redrive(name, positions, dry_run=body.dry_run, per_s=body.per_s)
        line.count(events=events)
    return json_response(SettledEventsJson(name, body.dry_run, events))


_PROBLEMS = SUBSCRIPTION_PROBLEMS

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=SUBSCRIPTIONS_PATH,
        handle=list_subscriptions,
        rights=inside("lists the subscriptions that one may DESCRIBE"),
        tag="subscriptions",
        query=SubscriptionsQuery,
        reply=SubscriptionsJson,
        problems=("not-offered",),
        link_sources={"subscription": "/subscriptions/0/subscription"},
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTIONS_PATH,
        handle=create_subscription,
        rights=inside(
            "CREATE and DESCRIBE on the subscription, READ on its topics, WRITE on its dead-letter topic",
            (Operation.CREATE, ResourceType.SUBSCRIPTION),
        ),
        tag="subscriptions",
        bodies={JSON: NewSubscriptionJson},
        reply=SubscriptionDetailJson,
        status=201,
        problems=("not-offered", "subscription-exists", "unknown-topic"),
        link_sources={"subscription": "/subscription"},
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":seek",
        handle=seek_subscription,
        rights=on_subscription(Operation.ALTER),
        tag="subscriptions",
        bodies={JSON: SeekJson},
        reply=SoughtJson,
        problems=(*_PROBLEMS, "unknown-topic", "unknown-snapshot", "out-of-range"),
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":purge",
        handle=purge_subscription,
        rights=on_subscription(Operation.ALTER),
        tag="subscriptions",
        bodies={JSON: PurgeJson},
        reply=SettledEventsJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":redrive",
        handle=redrive_subscription,
        rights=on_subscription(
            Operation.ALTER, also="without positions also READ on it and on its dead-letter topic"
        ),
        tag="subscriptions",
        bodies={JSON: RedriveJson},
        reply=SettledEventsJson,
        problems=(*_PROBLEMS, "unknown-topic", "query"),
    ),
    Endpoint(
        method="GET",
        path=SUBSCRIPTION_PATH,
        handle=show_subscription,
        rights=on_subscription(Operation.DESCRIBE),
        tag="subscriptions",
        reply=SubscriptionDetailJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="PATCH",
        path=SUBSCRIPTION_PATH,
        handle=alter_subscription,
        rights=on_subscription(Operation.ALTER, also="READ on its topics, WRITE on its dead-letter topic"),
        tag="subscriptions",
        bodies={JSON: ChangedSubscriptionJson},
        reply=SubscriptionDetailJson,
        problems=(*_PROBLEMS, "unknown-topic", "settings-changed"),
    ),
    Endpoint(
        method="DELETE",
        path=SUBSCRIPTION_PATH,
        handle=delete_subscription,
        rights=on_subscription(Operation.DELETE),
        tag="subscriptions",
        query=DryRunQuery,
        reply=DeletedSubscriptionJson,
        problems=_PROBLEMS,
    ),
)
