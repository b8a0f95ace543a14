"""What retention does to subscriptions: trims what it deleted, and warns of what it deletes soon.

Owns: the counts of both, by subscription. Refuses: to delete events, and to decide what is kept: the node
asks `QueueRetention` of the coordinator.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from dataclasses import replace
from uuid import UUID

from mainstem.contract import StreamError
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues.retention import count_dependent
from mainstem.coordinator.queues.routed_floors import RoutedNeed
from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.coordinator.queues.topology import Namespace
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.carried import CarriedEvents
from mainstem.engines.embedded.queues.counters import QueueCounters
from mainstem.engines.embedded.queues.routed_source import RoutedIndexReader
from mainstem.engines.embedded.queues.routed_trim import trim_namespace
from mainstem.log.config import PartitionConfig
from mainstem.log.errors import LogError
from mainstem.log.partition.partition import Partition
from mainstem.node import Node
from mainstem.turns import next_turn

WARNED_SHARE = 0.8
"""From this share of the time and the size of retention on, a subscription warns of what is not done."""
VIEWS_OF_TURN = 50
"""Views that are looked at in a turn of the loop."""

log = logging.getLogger(__name__)


class SubscriptionRetention:
    """Retention as the subscriptions of one service see it."""

    def __init__(
        self, node: Node, counters_of: defaultdict[int, QueueCounters], carried: CarriedEvents
    ) -> None:
        self.expiring: dict[int, int] = {}
        """Subscription -> events that are not done and that retention deletes soon, at its last run; only
        those that have some."""
        self._node = node
        self._machine = node.subscriptions
        self._counters_of = counters_of
        self._carried = carried
        self._trimmed: dict[tuple[UUID, int], int] = {}
        """Partition -> the log start offset that all its views know of."""
        self._looking = False
        self._finding: asyncio.Task[None] | None = None
        """In a copied folder: nothing is trimmed before the copies are found that views need."""
        node.subscriptions.changes.on_trimmed.append(self._on_trimmed)
        node.queue_runtime.on_reloaded.append(self._trimmed.clear)

    def _on_trimmed(self, subscription: int, events: int) -> None:
        self._counters_of[subscription].trimmed += events

    async def trim(self, partition: Partition) -> None:
        """Let the events of a partition that were deleted be done in all its views. Errors of the log and the
        coordinator."""
        await self._find_copies()
        key, log_start = (partition.topic_id, partition.index), partition.log_start_offset
        if log_start > self._trimmed.get(key, 0):
            await self._machine.changes.trim(*key, log_start)
            self._trimmed[key] = max(log_start, self._trimmed.get(key, 0))

    async def trim_routed(self, sequence: RoutedSequence) -> None:
        """As `trim`, for all queues of a namespace; NotReachable, too."""
        await self._find_copies()
        await trim_namespace(self._node, RoutedIndexReader(self._node, sequence), sequence)

    async def _find_copies(self) -> None:
        """In a copied folder: find the copies that views need before anything is trimmed."""
        report = self._node.recovery_report
        if report is not None and report.is_copy:
            if self._finding is None:
                self._finding = asyncio.ensure_future(self._carried.find_references())
            try:
                await asyncio.shield(self._finding)
            except Exception:
                self._finding = None  # the next call tries again
                raise

    async def count_expiring(self, view: SubscriptionView, partition: Partition) -> int:
        """How many events of a view are not done and would be deleted if retention kept a fifth less. Errors
        of the log."""
        return count_dependent(view, await self._soon(partition))

    async def _soon(self, partition: Partition) -> int:
        """Where a partition would begin if retention kept a fifth less."""
        limit = self._node.retention.preview_limit(partition, WARNED_SHARE)
        return await partition.preview_log_start(_shortened(partition.config), limit)

    async def look(self) -> None:
        """Look at all views after a run of retention: trim, count and warn, and let carried events be done
        that are not pinned any more."""
        if self._looking:
            return
        self._looking = True
        try:
            await self._look()
        finally:
            self._looking = False

    async def _trim_carried(self, view: SubscriptionView) -> None:
        pin_ms = self._node.queue_retention.pin_ms(view)
        if not view.carried or pin_ms < 0:
            return
        oldest_ms = self._node.clock.wall_ms() - pin_ms
        over = [position for position, copy in view.carried.items() if copy.arrived_ms <= oldest_ms]
        if over:
            await self._machine.changes.trim_carried(view, over)

    async def _look(self) -> None:
        expiring: Counter[int] = Counter()
        soon: dict[Partition, int] = {}
        for number, view in enumerate(self._machine.views.all(), 1):
            if number % VIEWS_OF_TURN == 0:
                await next_turn(self._node.clock)
            if self._machine.views.get(view.id) is not view:
                continue
            topic = self._node.topics.by_id(view.topic_id)
            if topic is None:
                await self._look_at_routed(view, soon, expiring)
                continue
            try:
                partition = self._node.partition(topic, view.partition)
                await self.trim(partition)
                await self._trim_carried(view)
                if partition not in soon:
                    soon[partition] = await self._soon(partition)
                expiring[view.subscription] += count_dependent(view, soon[partition])
            except (LogError, CoordinatorError, OSError) as error:
                log.warning(
                    "retention of subscriptions of topic %s is looked at later: %s", topic.name, error
                )
        before, self.expiring = self.expiring, {key: count for key, count in expiring.items() if count}
        for subscription in self.expiring.keys() - before.keys():
            stored = self._machine.by_id(subscription)
            if stored is not None:
                log.warning("subscription %s: %s", stored.name, _expiring(self.expiring[subscription]))
        await self._carried.shrink()

    async def _look_at_routed(
        self, view: SubscriptionView, soon: dict[Partition, int], expiring: Counter[int]
    ) -> None:
        """As for the view of a partition, for one of a routed queue."""
        namespace = self._machine.topology.by_sequence(view.topic_id)
        if namespace is None:
            return
        try:
            await self.trim_routed(self._node.routed.of(namespace))
            await self._trim_carried(view)
            expiring[view.subscription] += await self.count_expiring_routed(view, namespace, soon)
        except (LogError, CoordinatorError, StreamError, OSError) as error:
            log.warning("retention of namespace %s is looked at later: %s", namespace.name, error)

    async def count_expiring_routed(
        self, view: SubscriptionView, namespace: Namespace, soon: dict[Partition, int] | None = None
    ) -> int:
        """As `count_expiring`, for a routed queue. `soon`: where partitions begin soon, as far as that is
        known. Errors of the log, NotReachable."""
        soon = {} if soon is None else soon
        ends: dict[int, int] = {}
        for ordinal, place in list(namespace.partitions.items()):
            partition = self._node.partition_at(place)
            if partition is None:
                continue
            if partition not in soon:
                soon[partition] = await self._soon(partition)
            if soon[partition] > partition.log_start_offset:
                ends[ordinal] = soon[partition]
        return await self._carried.routed_needs.count_below(RoutedNeed(view, namespace, -1), ends)


def _shortened(config: PartitionConfig) -> PartitionConfig:
    """Settings by which retention would delete now what it deletes soon."""
    return replace(
        config,
        retention_ms=_share(config.retention_ms),
        retention_bytes=_share(config.retention_bytes),
    )


def _share(limit: int) -> int:
    return limit if limit < 0 else int(limit * WARNED_SHARE)


def expiring_problem(subject: str, events: int) -> str:
    """What a subscription says of events that are deleted soon. `subject`: which partition, or namespace."""
    return f"{subject}: {_expiring(events)}"


def _expiring(events: int) -> str:
    if events == 1:
        return "an event is not done, and retention deletes it soon"
    return f"{events:,} events are not done, and retention deletes them soon"
