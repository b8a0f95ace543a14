"""Consumer groups: their lag in events and in time, resetting and deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.contract import GroupInfo, Position, UnknownGroup
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.field_types import PartitionNumber
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.routes.topics import DryRunQuery
from mainstem.timespec import StartPoint, parse_start_point

GROUPS_PATH = "/api/v1/groups"
GROUP_PATH = "/api/v1/groups/{group:text}"
"""Kafka allows any character in a group's name, the slash too: it is written %2F."""


class GroupsQuery(msgspec.Struct):
    """Which groups."""

    q: Annotated[str, Meta(description="Only names that contain this, in any case.")] = ""
    limit: Annotated[int, Meta(ge=1, le=500, description="At most so many.")] = 100
    after: Annotated[str, Meta(description="Only names after this one: `next` of the page before.")] = ""


class StalledPositionJson(msgspec.Struct):
    """A position that has unread events and has not moved for 40 seconds or more, and whose turn it is."""

    topic: str
    partition: int
    for_ms: Annotated[int, Meta(description="So long, as far as this server has seen.")]
    client_id: Annotated[str | None, Meta(description="null: the partition is assigned to nobody.")]
    host: str | None


class GroupJson(msgspec.Struct):
    """A group in a list."""

    group: str
    state: str
    members: int
    topics: list[str]
    lag: Annotated[int | None, Meta(description="Events not read; null: it has no position yet.")]
    lag_ms: Annotated[int | None, Meta(description="How long the oldest unread event has waited, ms.")]
    lag_per_s: Annotated[
        float | None, Meta(description="How fast the lag grows, events a second; below 0: it catches up.")
    ]
    stuck: Annotated[
        StalledPositionJson | None, Meta(description="What has stood still longest; null: nothing does.")
    ]


class GroupsJson(msgspec.Struct):
    """A page of groups, by name."""

    groups: list[GroupJson]
    total: int
    next: str | None


class MemberJson(msgspec.Struct):
    """A member."""

    id: str
    client_id: str
    host: str
    instance_id: str | None
    assigned: list[tuple[str, int]]


class GroupPositionJson(msgspec.Struct):
    """How far a partition is read."""

    topic: str
    partition: int
    offset: int | None
    end: int
    lag: int | None
    lag_ms: int | None


class GroupDetailJson(msgspec.Struct):
    """A group in full."""

    group: str
    state: str
    assignor: str
    lag: int | None
    lag_ms: int | None
    lag_per_s: float | None
    stuck: Annotated[list[StalledPositionJson], Meta(description="What stands still, the longest first.")]
    members: list[MemberJson]
    positions: list[GroupPositionJson]


def _lag(info: GroupInfo) -> tuple[int | None, int | None]:
    lags = [each.lag for each in info.positions if each.lag is not None]
    waits = [each.lag_ms for each in info.positions if each.lag_ms is not None]
    return (sum(lags) if lags else None), (max(waits) if waits else None)


def _watched(call: Call, info: GroupInfo) -> tuple[float | None, list[StalledPositionJson]]:
    """How fast its lag grows, and what stands still."""
    seen = call.context.sampler.groups.get(info.name)
    if seen is None:
        return None, []
    grows = seen.stalls.lag_per_s
    stuck = [
        StalledPositionJson(
            each.topic,
            each.partition,
            each.for_ms,
            each.member.client_id if each.member else None,
            each.member.host if each.member else None,
        )
        for each in seen.stalls.stalled(info, call.context.clock.monotonic())
    ]
    return None if grows is None else round(grows, 3), stuck


def _row(call: Call, info: GroupInfo) -> GroupJson:
    lag, lag_ms = _lag(info)
    grows, stuck = _watched(call, info)
    topics = sorted({each.topic for each in info.positions})
    return GroupJson(
        info.name,
        info.state,
        len(info.members),
        topics,
        lag,
        lag_ms,
        grows,
        stuck[0] if stuck else None,
    )


def _detail(call: Call, info: GroupInfo) -> GroupDetailJson:
    lag, lag_ms = _lag(info)
    grows, stuck = _watched(call, info)
    return GroupDetailJson(
        info.name,
        info.state,
        info.assignor,
        lag,
        lag_ms,
        grows,
        stuck,
        [
            MemberJson(each.id, each.client_id, each.host, each.instance_id, list(each.assigned))
            for each in info.members
        ],
        [
            GroupPositionJson(each.topic, each.partition, each.offset, each.end, each.lag, each.lag_ms)
            for each in info.positions
        ],
    )


async def list_groups(call: Call) -> Response:
    """List consumer groups with their lag."""
    query: GroupsQuery = call.query
    wanted = query.q.lower()
    found = [each for each in await call.engine.groups() if wanted in each.name.lower()]
    rest = [each for each in found if each.name > query.after]
    page = rest[: query.limit]
    rows = []
    for each in page:
        try:
            rows.append(_row(call, await call.engine.group(each.name)))
        except UnknownGroup:
            continue  # deleted since it was listed
    return json_response(GroupsJson(rows, len(found), page[-1].name if len(rest) > len(page) else None))


async def show_group(call: Call) -> Response:
    """Show a consumer group: positions, lag, members."""
    return json_response(_detail(call, await call.engine.group(call.path_parameter("group"))))


class ResetJson(msgspec.Struct, forbid_unknown_fields=True):
    """Where a group shall go on."""

    JSON_SCHEMA: ClassVar = {"examples": [{"to": "earliest", "topics": ["orders"], "dry_run": True}]}

    to: Annotated[
        str,
        Meta(
            pattern=r"^(earliest|latest|[0-9]{1,18}|-([0-9]+(ms|s|m|h|d|w))+|[0-9]{4}-[0-9]{2}.*)$",
            max_length=100,
            description="earliest, latest, an offset, a time (ISO 8601, else UTC) or an age (-10m).",
        ),
    ]
    topics: Annotated[
        list[str],
        Meta(description="Only these; needed for those that it has not read yet. Else all it reads."),
    ] = []
    partition: Annotated[PartitionNumber | None, Meta(description="Only this one of one topic.")] = None
    dry_run: Annotated[bool, Meta(description="Only tell what would be done.")] = False


class MoveJson(msgspec.Struct):
    """One position's move."""

    topic: str
    partition: int
    old: Annotated[int | None, Meta(description="null: it had none.")]
    new: int


class ResetDoneJson(msgspec.Struct):
    """What a reset does."""

    group: str
    dry_run: bool
    again: Annotated[int, Meta(description="Events that will be read again.")]
    passed_over: Annotated[int, Meta(description="Events that will not be read.")]
    moves: list[MoveJson]


async def reset_group(call: Call) -> Response:
    """Set how far a group has read. It must have no members."""
    name = call.path_parameter("group")
    wanted = await call.json_body(ResetJson)
    try:
        moment = parse_start_point(wanted.to, call.context.clock.wall_ms())
    except (ValueError, OverflowError) as error:
        raise Problem("unfit", f"to: {str(error)[:300]}") from None
    if wanted.partition is not None and len(wanted.topics) != 1:
        raise Problem("unfit", "a partition is named; name its topic alone, too")
    with audit.action(call, "reset-group", dry_run=wanted.dry_run, group=name, to=wanted.to) as line:
        moves = await _moves(call, name, wanted, moment)
        again = sum(max(0, each.old - each.new) for each in moves if each.old is not None)
        passed_over = sum(max(0, each.new - each.old) for each in moves if each.old is not None)
        line.count(partitions=len(moves), again=again, passed_over=passed_over)
        if not wanted.dry_run:
            places = [Position(each.topic, each.partition, each.new) for each in moves]
            await call.engine.set_positions(name, places)
    return json_response(ResetDoneJson(name, wanted.dry_run, again, passed_over, moves))


async def _moves(call: Call, name: str, wanted: ResetJson, moment: StartPoint) -> list[MoveJson]:
    known = await _known(call, name, wanted.topics)
    moves = [
        MoveJson(
            topic, partition, known.get((topic, partition)), await _offset_of(call, topic, partition, moment)
        )
        for topic, partition in await _places(call, wanted, known)
    ]
    if not moves:
        raise Problem("unfit", f"group {name} has no positions", fix="Name the topics to set it on.")
    return moves


async def _known(call: Call, name: str, topics: Sequence[str]) -> dict[tuple[str, int], int | None]:
    try:
        info = await call.engine.group(name)
    except UnknownGroup:
        if not topics:
            raise
        return {}
    return {(each.topic, each.partition): each.offset for each in info.positions}


async def _places(
    call: Call, wanted: ResetJson, known: dict[tuple[str, int], int | None]
) -> list[tuple[str, int]]:
    if wanted.partition is not None:
        await call.engine.bounds(wanted.topics[0], wanted.partition)  # UnknownTopic
        return [(wanted.topics[0], wanted.partition)]
    topics = set(wanted.topics) or {topic for topic, _ in known}
    return [(topic, each) for topic in sorted(topics) for each in range(await call.engine.partitions(topic))]


async def _offset_of(call: Call, topic: str, partition: int, moment: StartPoint) -> int:
    bounds = await call.engine.bounds(topic, partition)
    if moment.kind == "earliest":
        return bounds.begin
    if moment.kind == "offset":
        return max(bounds.begin, min(moment.value, bounds.end))
    if moment.kind == "time":
        found = await call.engine.offset_for_time(topic, partition, max(0, moment.value))
        return bounds.end if found is None else found
    return bounds.end


class DeletedGroupJson(msgspec.Struct):
    """What a deletion removes."""

    group: str
    dry_run: bool
    positions: int


async def delete_group(call: Call) -> Response:
    """Delete a group with its positions. It must have no members."""
    name = call.path_parameter("group")
    with audit.action(call, "delete-group", dry_run=call.query.dry_run, group=name) as line:
        info = await call.engine.group(name)
        held = sum(each.offset is not None for each in info.positions)
        line.count(positions=held)
        if not call.query.dry_run:
            await call.engine.delete_group(name)
        elif info.members:
            raise Problem("group-in-use", f"group {name} has {len(info.members)} members")
    return json_response(DeletedGroupJson(name, call.query.dry_run, held))


_UNKNOWN = ("unknown-group",)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=GROUPS_PATH,
        handle=list_groups,
        tag="groups",
        query=GroupsQuery,
        reply=GroupsJson,
        link_sources={"group": "/groups/0/group"},
    ),
    Endpoint(
        method="POST",
        path=GROUP_PATH + "/reset",
        handle=reset_group,
        tag="groups",
        bodies={JSON: ResetJson},
        reply=ResetDoneJson,
        link_sources={"group": "/group"},
        problems=(*_UNKNOWN, "unknown-topic", "group-in-use"),
    ),
    Endpoint(
        method="GET",
        path=GROUP_PATH,
        handle=show_group,
        tag="groups",
        reply=GroupDetailJson,
        problems=_UNKNOWN,
    ),
    Endpoint(
        method="DELETE",
        path=GROUP_PATH,
        handle=delete_group,
        tag="groups",
        query=DryRunQuery,
        reply=DeletedGroupJson,
        problems=(*_UNKNOWN, "group-in-use"),
    ),
)
