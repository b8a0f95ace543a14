"""Consumer groups: list them with their lag in events and in time, show, reset and delete them.

Owns: the JSON of groups, and the offsets that a reset moves a group to. Refuses: to reset or delete a group
that has members.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import GroupInfo, GroupSummary, Position, StreamError, UnknownGroup
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import inside, on_group
from mainstem.http_api.groups import (
    DeletedGroupJson,
    GroupDetailJson,
    GroupJson,
    GroupPositionJson,
    GroupsJson,
    GroupsQuery,
    MemberJson,
    MoveJson,
    ResetDoneJson,
    ResetJson,
    StalledPositionJson,
)
from mainstem.http_api.topics import DryRunQuery
from mainstem.start_offset import resolve_offset
from mainstem.timespec import StartPoint, parse_start_point

GROUPS_PATH = "/api/v1/groups"
GROUP_PATH = "/api/v1/groups/{group:text}"
"""Kafka allows any character in the name of a group, including the slash, which a path writes as %2F."""


def _lag(info: GroupInfo) -> tuple[int | None, int | None]:
    """Unread events over all positions, and the longest wait in ms; None: not known."""
    lags = [position.lag for position in info.positions if position.lag is not None]
    waits_ms = [position.lag_ms for position in info.positions if position.lag_ms is not None]
    return (sum(lags) if lags else None), (max(waits_ms) if waits_ms else None)


def _stalls(call: Call, info: GroupInfo) -> tuple[float | None, list[StalledPositionJson]]:
    """The growth of the lag in events per second, and the positions that have stalled, the longest first."""
    sample = call.context.sampler.groups.get(info.name)
    if sample is None:
        return None, []
    growth = sample.stalls.lag_per_s
    if len(info.positions) < len(sample.info.positions):
        growth = None  # of topics, too, that the requester may not describe
    stalled = [
        StalledPositionJson(
            topic=stall.topic,
            partition=stall.partition,
            for_ms=stall.for_ms,
            client_id=stall.member.client_id if stall.member else None,
            host=stall.member.host if stall.member else None,
        )
        for stall in sample.stalls.stalled(info, call.context.clock.monotonic())
    ]
    return None if growth is None else round(growth, 3), stalled


def _row(call: Call, info: GroupInfo) -> GroupJson:
    lag, lag_ms = _lag(info)
    growth, stalled = _stalls(call, info)
    return GroupJson(
        group=info.name,
        state=info.state,
        members=len(info.members),
        topics=sorted({position.topic for position in info.positions}),
        lag=lag,
        lag_ms=lag_ms,
        lag_per_s=growth,
        stuck=stalled[0] if stalled else None,
        protocol_type=info.protocol_type,
    )


def _detail(call: Call, info: GroupInfo) -> GroupDetailJson:
    lag, lag_ms = _lag(info)
    growth, stalled = _stalls(call, info)
    return GroupDetailJson(
        group=info.name,
        state=info.state,
        assignor=info.assignor,
        lag=lag,
        lag_ms=lag_ms,
        lag_per_s=growth,
        stuck=stalled,
        members=[
            MemberJson(
                member.id,
                member.client_id,
                member.host,
                member.instance_id,
                list(member.assigned),
                member.undecoded_bytes,
            )
            for member in info.members
        ],
        operations=call.operations_on(ResourceType.GROUP, info.name),
        protocol_type=info.protocol_type,
        positions=[
            GroupPositionJson(
                topic=position.topic,
                partition=position.partition,
                offset=position.offset,
                end=position.end,
                lag=position.lag,
                lag_ms=position.lag_ms,
            )
            for position in info.positions
        ],
    )


def _undescribed(summary: GroupSummary, problem: str) -> GroupJson:
    """The row of a group that cannot be described: no reason to show no other group."""
    return GroupJson(
        group=summary.name,
        state=summary.state,
        members=0,
        topics=[],
        lag=None,
        lag_ms=None,
        lag_per_s=None,
        stuck=None,
        protocol_type=summary.protocol_type,
        problem=problem,
    )


async def list_groups(call: Call) -> Response:
    """List consumer groups with their lag."""
    query: GroupsQuery = call.query
    fragment = query.q.lower()
    matching = [group for group in await call.engine.groups() if fragment in group.name.lower()]
    remaining = [group for group in matching if group.name > query.after]
    page = remaining[: query.limit]
    rows = []
    for summary in page:
        try:
            rows.append(_row(call, await call.engine.group(summary.name)))
        except UnknownGroup:
            continue  # deleted since it was listed
        except StreamError as error:
            rows.append(_undescribed(summary, str(error)))
    next_after = page[-1].name if len(remaining) > len(page) else None
    return json_response(GroupsJson(rows, len(matching), next_after))


async def show_group(call: Call) -> Response:
    """Show a consumer group: positions, lag, members."""
    return json_response(_detail(call, await call.engine.group(call.path_parameter("group"))))


async def reset_group(call: Call) -> Response:
    """Set where a group continues to read. The group must have no members."""
    name = call.path_parameter("group")
    body = await call.json_body(ResetJson)
    try:
        start_point = parse_start_point(body.to, call.context.clock.wall_ms())
    except (ValueError, OverflowError) as error:
        raise Problem("unfit", f"to: {str(error)[:300]}") from None
    if body.partition is not None and len(body.topics) != 1:
        raise Problem("unfit", "with a partition, `topics` must name its topic and no other")
    with audit.action(call, "reset-group", dry_run=body.dry_run, group=name, to=body.to) as line:
        moves = await _moves(call, name, body, start_point)
        again = sum(max(0, move.old - move.new) for move in moves if move.old is not None)
        passed_over = sum(max(0, move.new - move.old) for move in moves if move.old is not None)
        line.count(partitions=len(moves), again=again, passed_over=passed_over)
        if not body.dry_run:
            positions = [Position(move.topic, move.partition, move.new) for move in moves]
            await call.engine.set_positions(name, positions)
    return json_response(ResetDoneJson(name, body.dry_run, again, passed_over, moves))


async def _moves(call: Call, name: str, body: ResetJson, start_point: StartPoint) -> list[MoveJson]:
    old_offsets = await _old_offsets(call, name, body.topics)
    moves = [
        MoveJson(
            topic=topic,
            partition=partition,
            old=old_offsets.get((topic, partition)),
            new=await resolve_offset(call.engine, topic, partition, start_point),
        )
        for topic, partition in await _partitions(call, body, old_offsets)
    ]
    if not moves:
        raise Problem("unfit", f"group {name} has no positions", fix="Name the topics in `topics`.")
    return moves


async def _old_offsets(call: Call, name: str, topics: Sequence[str]) -> dict[tuple[str, int], int | None]:
    """The group's offsets by (topic, partition). A group that does not exist yet has none, if topics are
    named."""
    try:
        info = await call.engine.group(name)
    except UnknownGroup:
        if not topics:
            raise
        return {}
    return {(position.topic, position.partition): position.offset for position in info.positions}


async def _partitions(
    call: Call, body: ResetJson, old_offsets: dict[tuple[str, int], int | None]
) -> list[tuple[str, int]]:
    """The (topic, partition) pairs to reset."""
    if body.partition is not None:
        await call.engine.bounds(body.topics[0], body.partition)  # raises UnknownTopic
        return [(body.topics[0], body.partition)]
    topics = set(body.topics) or {topic for topic, _ in old_offsets}
    return [
        (topic, partition)
        for topic in sorted(topics)
        for partition in range(await call.engine.partitions(topic))
    ]


async def delete_group(call: Call) -> Response:
    """Delete a group with its positions. The group must have no members."""
    name = call.path_parameter("group")
    with audit.action(call, "delete-group", dry_run=call.query.dry_run, group=name) as line:
        info = await call.engine.group(name)
        positions = sum(position.offset is not None for position in info.positions)
        line.count(positions=positions)
        if not call.query.dry_run:
            await call.engine.delete_group(name)
        elif info.members:
            raise Problem("group-in-use", f"group {name} has {len(info.members)} members")
    return json_response(DeletedGroupJson(name, call.query.dry_run, positions))


_PROBLEMS = ("unknown-group",)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=GROUPS_PATH,
        handle=list_groups,
        rights=inside("lists the groups, and positions in the topics, that one may DESCRIBE"),
        tag="groups",
        query=GroupsQuery,
        reply=GroupsJson,
        link_sources={"group": "/groups/0/group"},
    ),
    Endpoint(
        method="POST",
        path=GROUP_PATH + "/reset",
        handle=reset_group,
        rights=on_group(Operation.READ, also="READ on the topics"),
        tag="groups",
        bodies={JSON: ResetJson},
        reply=ResetDoneJson,
        link_sources={"group": "/group"},
        problems=(*_PROBLEMS, "unknown-topic", "group-in-use"),
    ),
    Endpoint(
        method="GET",
        path=GROUP_PATH,
        handle=show_group,
        rights=on_group(Operation.DESCRIBE),
        tag="groups",
        reply=GroupDetailJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="DELETE",
        path=GROUP_PATH,
        handle=delete_group,
        rights=on_group(Operation.DELETE),
        tag="groups",
        query=DryRunQuery,
        reply=DeletedGroupJson,
        problems=(*_PROBLEMS, "group-in-use"),
    ),
)
