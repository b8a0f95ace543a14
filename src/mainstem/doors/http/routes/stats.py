"""Statistics: rates, disk, and what was in the last 24 hours."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.doors.http.endpoint import Call, DiskUsage, Endpoint, json_response
from mainstem.doors.http.sampler import STEP_S, EventRate, MinuteSeries, Sampler

BUSIEST = 20


class RatesJson(msgspec.Struct):
    """Events a second, now (a mean over some seconds)."""

    in_per_s: float
    out_per_s: Annotated[float, Meta(description="Read and committed by consumer groups.")]


class TopicRatesJson(msgspec.Struct):
    """One topic's."""

    topic: str
    in_per_s: float
    out_per_s: float


class DiskJson(msgspec.Struct):
    """Bytes."""

    used_bytes: Annotated[int, Meta(description="By the log.")]
    free_bytes: Annotated[int, Meta(description="On its file system.")]
    total_bytes: Annotated[int, Meta(description="Of its file system.")]


class FlowHistoryJson(msgspec.Struct):
    """A number for each minute since `from_ms`; null: not known."""

    from_ms: int
    step_s: int
    in_per_s: list[float | None]
    out_per_s: list[float | None]


class LagHistoryJson(msgspec.Struct):
    """A number for each minute since `from_ms`; null: not known."""

    from_ms: int
    step_s: int
    lag: list[float | None]
    lag_ms: list[float | None]


class StatsJson(msgspec.Struct):
    """All in one."""

    at_ms: Annotated[int, Meta(description="When the topics were last looked at, ms since 1970; 0: not yet.")]
    started_ms: int
    topics: int
    partitions: int
    events: int
    groups: int
    rates: RatesJson
    busiest: Annotated[
        list[TopicRatesJson], Meta(description=f"The {BUSIEST} topics with the most coming in.")
    ]
    disk: Annotated[DiskJson | None, Meta(description="null: the log is on another machine.")]
    history: FlowHistoryJson


def _now(flow: EventRate | None) -> float:
    return 0.0 if flow is None else round(flow.per_s, 2)


def _history(sampler: Sampler, into: MinuteSeries | None, out_of: MinuteSeries | None) -> FlowHistoryJson:
    first, count = sampler.window()
    nothing = MinuteSeries()
    return FlowHistoryJson(
        first * STEP_S * 1000,
        STEP_S,
        (into or nothing).values(first, count),
        (out_of or nothing).values(first, count),
    )


def _disk(use: DiskUsage | None) -> DiskJson | None:
    return None if use is None else DiskJson(use.used_bytes, use.free_bytes, use.total_bytes)


async def show_stats(call: Call) -> Response:
    """Show rates, disk and the last 24 hours of everything together."""
    context = call.context
    sampler = context.sampler
    moving = [each for each in sampler.inbound.items() if each[1].per_s]  # few of 10,000
    busy = sorted(moving, key=lambda each: (-each[1].per_s, each[0]))[:BUSIEST]
    return json_response(
        StatsJson(
            sampler.sampled_ms,
            sampler.started_ms,
            len(sampler.topics),
            sum(each.partitions for each in sampler.topics),
            sum(each.events for each in sampler.topics),
            sampler.groups_total,
            RatesJson(_now(sampler.total_inbound), _now(sampler.total_outbound)),
            [TopicRatesJson(name, _now(flow), _now(sampler.outbound.get(name))) for name, flow in busy],
            _disk(None if context.disk_usage is None else context.disk_usage()),
            _history(sampler, sampler.total_inbound.history, sampler.total_outbound.history),
        )
    )


async def show_topic_stats(call: Call) -> Response:
    """Show the last 24 hours of a topic."""
    name = call.path_parameter("topic")
    sampler = call.context.sampler
    if name not in sampler.inbound:
        await call.engine.partitions(name)  # UnknownTopic; else it is new, and nothing is known yet
    into, out_of = sampler.inbound.get(name), sampler.outbound.get(name)
    return json_response(
        _history(sampler, into.history if into else None, out_of.history if out_of else None)
    )


async def show_group_stats(call: Call) -> Response:
    """Show the last 24 hours of a consumer group's lag."""
    name = call.path_parameter("group")
    seen = call.context.sampler.groups.get(name)
    if seen is None:
        await call.engine.group(name)  # UnknownGroup; else it is new, and nothing is known yet
    first, count = call.context.sampler.window()
    lag, lag_ms = (seen.lag, seen.lag_ms) if seen else (MinuteSeries(), MinuteSeries())
    return json_response(
        LagHistoryJson(first * STEP_S * 1000, STEP_S, lag.values(first, count), lag_ms.values(first, count))
    )


ENDPOINTS = (
    Endpoint(method="GET", path="/api/v1/stats", handle=show_stats, tag="statistics", reply=StatsJson),
    Endpoint(
        method="GET",
        path="/api/v1/stats/topics/{topic}",
        handle=show_topic_stats,
        tag="statistics",
        reply=FlowHistoryJson,
        problems=("unknown-topic",),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/stats/groups/{group:text}",
        handle=show_group_stats,
        tag="statistics",
        reply=LagHistoryJson,
        problems=("unknown-group",),
    ),
)
