"""The contract of queues at the level of batches, for doors that forward stored batches as they are.

It is beside `mainstem.queue_contract`: the consumers of a subscription acquire whole batches, name what
they answer by offsets, and a wait ends with a promise, not a task. The Kafka door serves share groups
(KIP-932) with it. Owns: the types and the protocol. Refuses: imports of an engine, the log or a wire
protocol. Errors of a partition are those of the log and the coordinator. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable
from uuid import UUID

from mainstem.promise import Promise
from mainstem.queues.range_answer import RangeAnswer

__all__ = [
    "AcquiredRun",
    "BatchDelivery",
    "BatchPull",
    "BatchQueues",
    "OffersBatchQueues",
    "PartitionKey",
    "RangeAnswer",
]

PartitionKey: TypeAlias = tuple[UUID, int]
"""A topic's id and a partition."""


@dataclass(frozen=True, slots=True)
class BatchPull:
    """What a consumer wants to acquire."""

    group: str
    consumer: str
    partitions: Sequence[PartitionKey]
    """In the order in which they are asked."""
    max_events: int
    """Events that all partitions together give. `exact`: never more; otherwise the last batch is acquired
    whole."""
    max_bytes: int
    """Bytes of batches that all partitions together give, but at least one batch."""
    min_bytes: int
    """The wait is over when about this number of bytes is ready."""
    wait_ms: int
    """Longest wait for them; then what is ready is given."""
    exact: bool = False
    batch_size: int = 1 << 31
    """Acquired runs are cut at the begin of a batch as soon as they have this many events."""


class AcquiredRun(NamedTuple):
    """Consecutive offsets that a consumer acquired."""

    first: int
    last: int
    """Included."""
    deliveries: int
    """Of each of its events, this one included."""


@dataclass(slots=True)
class BatchDelivery:
    """What a pull acquired in one partition. Events of the batches that no run names were not acquired."""

    partition: PartitionKey
    pieces: list[memoryview]
    """Whole batches, ascending, as they are stored."""
    acquired: list[AcquiredRun]
    error: BaseException | None = None
    """Why there is nothing."""


class BatchQueues(Protocol):
    """Subscriptions whose consumers acquire batches and answer by offsets."""

    def pull_batches(self, pull: BatchPull) -> tuple[Promise[list[BatchDelivery]], Callable[[], None]]:
        """Acquire ready events, or wait for them. The value has the partitions with something, or an error;
        it is there when all that it says is durable. Never fails. The second result ends the wait: nothing is
        acquired from then on, and `release` gives back what was."""

    def answer_ranges(
        self, group: str, consumer: str, answers: Mapping[PartitionKey, Sequence[RangeAnswer]]
    ) -> Promise[dict[PartitionKey, BaseException]]:
        """Answer for events, by partition, ascending. All answers about a partition count, or none: the value
        has the partitions of which none does, and why. Done when it is durable. Never fails."""

    def seek_partitions(
        self, group: str, offsets: Mapping[PartitionKey, int]
    ) -> Promise[dict[PartitionKey, BaseException]]:
        """Begin anew at these offsets, or at the nearest that there are; -1: where the settings of the group
        say. What consumers have is theirs no more. The value has the partitions of which that failed, and
        why. Done when it is durable. Never fails."""

    def release(self, group: str, consumer: str) -> None:
        """Give back all that a consumer has: it is there no more. A failure of each event."""


@runtime_checkable
class OffersBatchQueues(Protocol):
    """An engine that has queues at this level."""

    @property
    def batch_queues(self) -> BatchQueues: ...
