"""Statistics: rates, disk usage, and the history of the last 24 hours.

Owns: the JSON of the statistics. Refuses: to measure anything for a request: the numbers are those that the
sampler has collected, and only the disk usage is read anew.
"""

from __future__ import annotations

from starlette.responses import Response

from mainstem.access_contract import Operation, ResourceType
from mainstem.doors.contract import DiskUsage
from mainstem.doors.http.endpoint import Call, Endpoint, json_response
from mainstem.doors.http.minute_series import STEP_S, MinuteSeries
from mainstem.doors.http.queue_sampler import SubscriptionHistory
from mainstem.doors.http.queues import SUBSCRIPTION_PROBLEMS, queues_of
from mainstem.doors.http.rights import inside, on_group, on_subscription, on_topic
from mainstem.doors.http.sampler import EventRate, Sampler
from mainstem.http_api.stats import (
    BUSIEST_TOPICS_MAX,
    DepthHistoryJson,
    DiskJson,
    LagHistoryJson,
    RateHistoryJson,
    RatesJson,
    StatsJson,
    TopicRatesJson,
)


def _per_s(rate: EventRate | None) -> float:
    return 0.0 if rate is None else round(rate.per_s, 2)


def _history(
    sampler: Sampler, inbound: MinuteSeries | None, outbound: MinuteSeries | None
) -> RateHistoryJson:
    first, count = sampler.history_window()
    unknown = MinuteSeries()
    return RateHistoryJson(
        from_ms=first * STEP_S * 1000,
        step_s=STEP_S,
        in_per_s=(inbound or unknown).values(first, count),
        out_per_s=(outbound or unknown).values(first, count),
    )


def _disk(usage: DiskUsage | None) -> DiskJson | None:
    return None if usage is None else DiskJson(usage.used_bytes, usage.free_bytes, usage.total_bytes)


async def show_stats(call: Call) -> Response:
    """Show the whole event log: current rates, disk usage, and the rates of the last 24 hours."""
    context = call.context
    sampler = context.sampler
    active = [
        (name, rate)
        for name, rate in sampler.inbound.items()
        if rate.per_s and call.sees(ResourceType.TOPIC, name)  # few of 10,000
    ]
    busiest = sorted(active, key=lambda item: (-item[1].per_s, item[0]))[:BUSIEST_TOPICS_MAX]
    totals = await context.visible_totals.of(call.rights)
    disk = context.disk_usage() if totals.has_all and context.disk_usage is not None else None
    return json_response(
        StatsJson(
            at_ms=sampler.sampled_ms,
            age_ms=sampler.topics_age_ms(),
            groups_age_ms=sampler.groups_age_ms(),
            started_ms=sampler.started_ms,
            topics=totals.topics,
            partitions=totals.partitions,
            events=totals.events,
            groups=totals.groups,
            rates=RatesJson(round(totals.in_per_s, 2), round(totals.out_per_s, 2)),
            busiest=[
                TopicRatesJson(name, _per_s(rate), _per_s(sampler.outbound.get(name)))
                for name, rate in busiest
            ],
            disk=_disk(disk),
            history=RateHistoryJson(
                from_ms=sampler.history_window()[0] * STEP_S * 1000,
                step_s=STEP_S,
                in_per_s=totals.inbound,
                out_per_s=totals.outbound,
            ),
        )
    )


async def show_topic_stats(call: Call) -> Response:
    """Show a topic's events per second, written and read by groups, for each minute of the last 24 hours."""
    name = call.path_parameter("topic")
    sampler = call.context.sampler
    if name not in sampler.inbound:
        await call.engine.partitions(name)  # raises UnknownTopic unless the topic is too new to be sampled
    inbound, outbound = sampler.inbound.get(name), sampler.outbound.get(name)
    return json_response(
        _history(sampler, inbound.history if inbound else None, outbound.history if outbound else None)
    )


async def show_group_stats(call: Call) -> Response:
    """Show the lag of a consumer group in the last 24 hours. It is not known to a requester that may not
    describe all of the group's topics."""
    name = call.path_parameter("group")
    sample = call.context.sampler.groups.get(name)
    if sample is None:
        await call.engine.group(name)  # raises UnknownGroup unless the group is too new to be sampled
    first, count = call.context.sampler.history_window()
    lag, lag_ms = MinuteSeries(), MinuteSeries()
    topics = {position.topic for position in sample.info.positions} if sample is not None else set()
    if sample is not None and all(call.sees(ResourceType.TOPIC, topic) for topic in topics):
        lag, lag_ms = sample.lag, sample.lag_ms
    return json_response(
        LagHistoryJson(first * STEP_S * 1000, STEP_S, lag.values(first, count), lag_ms.values(first, count))
    )


async def show_subscription_stats(call: Call) -> Response:
    """Show the depth by state, the age of the oldest event and the rates of a subscription in the last 24
    hours."""
    name, sampler = call.path_parameter("subscription"), call.context.sampler
    if name not in sampler.queues.totals:
        await queues_of(call).subscription(name)  # raises NoSuchSubscription unless it is too new
    history = sampler.queues.histories.get(name) or SubscriptionHistory()
    first, count = sampler.history_window()
    names = [field for field in DepthHistoryJson.__struct_fields__ if field not in ("from_ms", "step_s")]
    numbers = {field: history.values(field, first, count) for field in names}
    return json_response(DepthHistoryJson(from_ms=first * STEP_S * 1000, step_s=STEP_S, **numbers))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/stats",
        handle=show_stats,
        rights=inside("totals of what one may DESCRIBE; of all, and the disk, with DESCRIBE on the cluster"),
        tag="statistics",
        reply=StatsJson,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/stats/topics/{topic}",
        handle=show_topic_stats,
        rights=on_topic(Operation.DESCRIBE),
        tag="statistics",
        reply=RateHistoryJson,
        problems=("unknown-topic",),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/stats/groups/{group:text}",
        handle=show_group_stats,
        rights=on_group(Operation.DESCRIBE),
        tag="statistics",
        reply=LagHistoryJson,
        problems=("unknown-group",),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/stats/subscriptions/{subscription:word}",
        handle=show_subscription_stats,
        rights=on_subscription(Operation.DESCRIBE),
        tag="statistics",
        reply=DepthHistoryJson,
        problems=SUBSCRIPTION_PROBLEMS,
    ),
)
