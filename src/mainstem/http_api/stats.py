"""The JSON of statistics: rates, disk usage, and the history of the last 24 hours."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

BUSIEST_TOPICS_MAX = 20


class RatesJson(msgspec.Struct):
    """The present rates of the whole log in events per second, averaged over a few seconds."""

    in_per_s: Annotated[float, Meta(description="Events written per second.")]
    out_per_s: Annotated[float, Meta(description="Events read and committed by consumer groups per second.")]


class TopicRatesJson(msgspec.Struct):
    """The rates of one topic, in events per second."""

    topic: str
    in_per_s: float
    out_per_s: float


class DiskJson(msgspec.Struct):
    """Disk usage in bytes."""

    used_bytes: Annotated[int, Meta(description="Size of the files that hold the log's events, in bytes.")]
    free_bytes: Annotated[int, Meta(description="Bytes free on the log's file system.")]
    total_bytes: Annotated[int, Meta(description="Size of the log's file system, in bytes.")]


class RateHistoryJson(msgspec.Struct):
    """The rates of the last 24 hours in events per second, one value per minute from `from_ms` on; null: not
    known for that minute."""

    from_ms: int
    step_s: int
    in_per_s: list[float | None]
    out_per_s: list[float | None]


class LagHistoryJson(msgspec.Struct):
    """The lag of a consumer group in the last 24 hours, in events and ms: one value per minute from `from_ms`
    on; null: not known for that minute."""

    from_ms: int
    step_s: int
    lag: list[float | None]
    lag_ms: list[float | None]


class DepthHistoryJson(msgspec.Struct):
    """What a subscription had outstanding in the last 24 hours: one value per minute from `from_ms` on; null:
    not known for that minute. Only the 500 largest subscriptions have a history."""

    from_ms: int
    step_s: int
    ready: Annotated[list[float | None], Meta(description="Events that consumers could have.")]
    leased: list[float | None]
    waiting: list[float | None]
    parked: list[float | None]
    dying: list[float | None]
    ahead: Annotated[list[float | None], Meta(description="Events that were not looked at yet.")]
    oldest_age_ms: Annotated[list[float | None], Meta(description="Age of the oldest outstanding event, ms.")]
    delivered_per_s: list[float | None]
    acked_per_s: list[float | None]


class StatsJson(msgspec.Struct):
    """Statistics of the whole event log."""

    at_ms: Annotated[int, Meta(description="When the topics were last sampled, ms since 1970; 0: not yet.")]
    age_ms: Annotated[
        int | None,
        Meta(description="How old the figures of topics and rates are; null: there are none yet."),
    ]
    groups_age_ms: Annotated[
        int | None,
        Meta(description="How old the figures of groups are: the growth of their lag, and their stalls."),
    ]
    started_ms: int
    topics: int
    partitions: int
    events: int
    groups: int
    rates: RatesJson
    busiest: Annotated[
        list[TopicRatesJson],
        Meta(description=f"The {BUSIEST_TOPICS_MAX} topics with the most events written per second now."),
    ]
    disk: Annotated[
        DiskJson | None,
        Meta(
            description="Disk usage of the log; null if this server is a client of the cluster that has it."
        ),
    ]
    history: RateHistoryJson
