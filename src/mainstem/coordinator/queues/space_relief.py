"""What happens when the disk or the data limit is nearly reached, before all publishers are refused.

Owns: the order of the measures. Retention runs; the oldest segments of topics set
`mainstem.retention.early=true` are deleted, as far as no subscription needs an event of them; topics of which
subscriptions pin events that retention would delete accept no further ones, or, set
`mainstem.queue.overflow=drop`, lose them. Refuses: to know how full the disk is (`SpaceGuard`).
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from typing import Protocol
from uuid import UUID

from mainstem.clock import Clock
from mainstem.coordinator.queues.retention import QueueRetention
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.topics.topics import TopicMetadata, Topics
from mainstem.log.disk.space_guard import SpaceGuard
from mainstem.log.errors import LogError
from mainstem.log.partition.partition import Partition
from mainstem.promise import Promise, gather

RETENTION_S = 10.0
"""Interval between two runs of retention while space is nearly used up."""
EARLY_S = 2.0
"""Interval between two early deletions meanwhile: a deleted file takes some time to free its blocks."""

log = logging.getLogger(__name__)


class RelievedNode(Protocol):
    """What the measures need of a `Node`."""

    topics: Topics
    subscriptions: Subscriptions
    queue_runtime: Runtime

    def partition(self, topic: TopicMetadata, index: int) -> Partition: ...
    def enforce_retention(self) -> Promise[int]: ...


class SpaceRelief:
    """The measures in one node."""

    def __init__(
        self, guard: SpaceGuard, clock: Clock, retention: QueueRetention, node: RelievedNode
    ) -> None:
        self._guard = guard
        self._clock = clock
        self._retention = retention
        self._node = node
        self._next_retention_s = self._next_early_s = 0.0
        self._is_running = False
        guard.on_nearly_full.append(self._relieve)
        retention.drops_pinned = self._drops_pinned

    def refusal_of(self, topic: TopicMetadata) -> str | None:
        """Why a topic accepts no events because of what subscriptions pin; None if it does."""
        if not self._guard.excess_bytes:
            return None
        pinned = next(iter(self._retention.pinned.get(topic.id, {}).values()), None)
        subscription = None if pinned is None else self._node.subscriptions.by_id(pinned.subscription)
        if subscription is None:
            return None
        return (
            f"space is nearly used up, and subscription {subscription.name} pins events of this topic that"
            " retention would delete"
        )

    def problems(self) -> Iterator[str]:
        """The topics that accept no events because of what subscriptions pin, one line each."""
        for topic_id in self._retention.pinned:
            topic = self._node.topics.by_id(topic_id)
            if topic is not None and (reason := self.refusal_of(topic)) is not None:
                yield f"topic {topic.name} accepts no events: {reason}"

    def _drops_pinned(self, topic_id: UUID) -> bool:
        topic = self._node.topics.by_id(topic_id) if self._guard.excess_bytes else None
        return topic is not None and topic.config.get("mainstem.queue.overflow") == "drop"

    def _relieve(self) -> None:
        now_s = self._clock.monotonic()
        if now_s >= self._next_retention_s:
            self._next_retention_s = now_s + RETENTION_S
            self._node.enforce_retention()
        elif now_s >= self._next_early_s:
            self._next_early_s = now_s + EARLY_S
            self.free(self._guard.excess_bytes)

    def _partitions(self) -> Iterator[Partition]:
        for topic in self._node.topics.all():
            if topic.config.get("mainstem.retention.early") == "true":
                yield from (self._node.partition(topic, index) for index in range(topic.partitions))

    def free(self, excess_bytes: int) -> Promise[None]:
        """Delete the oldest segments over all partitions, until these are `excess_bytes` or none is left that
        may be deleted. Does nothing while an earlier call has not finished."""
        if self._is_running:
            return Promise.resolved(None)
        chosen: dict[Partition, int] = {}
        left = excess_bytes
        for _, partition, end, size in heapq.merge(*map(self._segments, self._partitions()), key=_arrival):
            if left <= 0:
                break
            chosen[partition] = end
            left -= size
        if not chosen:
            return Promise.resolved(None)
        self._is_running = True

        def delete(_: None) -> Promise[list[Promise[int]]]:
            return gather([self._delete(partition, end) for partition, end in chosen.items()])

        # As in `RetentionRuns`: what was not needed may be what a power cut takes back.
        durable: Promise[None] = self._node.queue_runtime.read(None)
        finished: Promise[None] = Promise()

        def on_deleted(deleted: Promise[list[Promise[int]]]) -> None:
            self._is_running = False
            self._log_deleted(deleted)
            finished.resolve(None)

        durable.chain(delete).then(on_deleted)
        return finished

    def _segments(self, partition: Partition) -> Iterator[tuple[int, Partition, int, int]]:
        """(time of the last arrival, partition, end, bytes) of the segments that may be deleted."""
        segments = partition.segments
        needed = self._retention.first_needed(partition, partition.log_start_offset, partition.high_watermark)
        for segment in segments[:-1]:
            end = segments.end_of(segment)
            if end > needed or partition.deleted or partition.fence_reason is not None:
                return
            yield partition.arrival_of(end - 1), partition, end, segment.size

    def _delete(self, partition: Partition, end: int) -> Promise[int]:
        try:
            end = self._retention.first_needed(partition, partition.log_start_offset, end)
            return partition.delete_records(end)
        except LogError as error:
            return Promise.failed(error)

    @staticmethod
    def _log_deleted(deleted: Promise[list[Promise[int]]]) -> None:
        done = deleted.result() if deleted.error is None else []
        errors = [error for error in (deleted.error, *(promise.error for promise in done)) if error]
        if errors:
            log.warning("segments could not be deleted early: %s", errors[0])
        if len(errors) < len(done):
            log.warning(
                "the oldest segments of %d partitions are deleted early, for space is nearly used up",
                len(done) - len(errors),
            )


def _arrival(entry: tuple[int, Partition, int, int]) -> int:
    return entry[0]
