"""Where share groups begin: their views, which are opened as soon as a member has subscribed, and what an
admin sets.

Owns: the offset at which a group begins in a partition that it meets. Refuses: deliveries.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from itertools import islice
from typing import Any

from mainstem.coordinator.errors import UnknownSubscription, UnknownTopicOrPartition
from mainstem.coordinator.groups.group_configs import ShareGroupSettings
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.view_starts import OPENED_AT_ONCE, PartitionStart
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.log.partition.offset_lookup import TimedOffset
from mainstem.log.partition.partition import Partition
from mainstem.node import Node
from mainstem.promise import Promise, run_steps
from mainstem.share_contract import PartitionKey
from mainstem.turns import turn_of

RESET = -1
"""Begin where the settings of the group say."""

log = logging.getLogger(__name__)


class ShareStarts:
    """The views of share groups of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._machine = node.subscriptions
        node.share_groups.on_subscribed.append(self._open_soon)
        node.topics.on_grown.append(self._on_grown)

    def _open_soon(self, group: str) -> None:
        """A member has subscribed to a topic: what comes from now on is for the group, also where it begins
        at the end."""
        subscription = self._node.share_groups.find(group)
        if subscription is not None:
            self._log_error(run_steps(self._open_all(subscription, is_new=False)))

    def _on_grown(self, topic: TopicMetadata) -> None:
        """A topic was created or has further partitions, which begin at their beginning: the group has been
        there before."""
        for subscription in self._machine.all():
            if subscription.kind == "share group" and topic.name in subscription.settings.topics:
                self._log_error(run_steps(self._open_all(subscription, is_new=True)))

    @staticmethod
    def _log_error(opened: Promise[None]) -> None:
        def on_opened(done: Promise[None]) -> None:
            if done.error is not None:  # a fetch opens them, too
                log.warning("a share group cannot begin in a partition yet: %s", done.error)

        opened.then(on_opened)

    def _open_all(
        self, subscription: SubscriptionMetadata, *, is_new: bool
    ) -> Generator[Promise[Any], Any, None]:
        durable = self._node.topics.durable_partitions
        topics = [self._node.topics.get(name) for name in subscription.settings.topics]
        sizes = {topic.id: durable(topic) for topic in topics if topic is not None}
        if self._machine.views.count_of(subscription.id) >= sum(sizes.values()):
            return  # each member that joins asks for it
        settings = None if is_new else self._node.group_settings.of(subscription.name)
        keys = ((topic_id, index) for topic_id, size in sizes.items() for index in range(size))
        while part := list(islice(keys, OPENED_AT_ONCE)):
            starts: list[PartitionStart] = []
            for key in part:
                if self._machine.views.find((subscription.id, *key)) is None:
                    start = yield from self._start_of(key, settings)
                    starts.append(start)
            if starts:
                yield self._machine.open_views(subscription.name, starts)
            yield turn_of(self._node.clock)

    def open(
        self, subscription: SubscriptionMetadata, key: PartitionKey, *, is_new: bool = False
    ) -> Generator[Promise[Any], Any, tuple[SubscriptionView, Partition]]:
        """The view of a partition, which begins now if there is none: at the beginning of a new partition.
        Steps for `promise.run_steps`. UnknownTopicOrPartition, UnknownSubscription, StorageError."""
        partition = self._partition(key)
        view = self._machine.views.find((subscription.id, *key))
        if view is None:
            settings = None if is_new else self._node.group_settings.of(subscription.name)
            start = yield from self._start_of(key, settings)
            view = yield self._machine.open_view(subscription.name, *start)
            assert view is not None
        return view, partition

    def _start_of(
        self, key: PartitionKey, settings: ShareGroupSettings | None
    ) -> Generator[Promise[Any], Any, PartitionStart]:
        """Where a group with these settings begins; None: at the beginning of the partition."""
        partition = self._partition(key)
        offset = partition.log_start_offset
        if settings is not None:
            offset = yield from self._reset_offset(settings, partition)
        return PartitionStart(*key, offset, offset)

    def _partition(self, key: PartitionKey) -> Partition:
        topic_id, index = key
        topic = self._node.topics.by_id(topic_id)
        if topic is None or not 0 <= index < self._node.topics.durable_partitions(topic):
            raise UnknownTopicOrPartition(f"there is no partition {index} of the topic with id {topic_id}")
        return self._node.partition(topic, index)

    def _reset_offset(
        self, settings: ShareGroupSettings, partition: Partition
    ) -> Generator[Promise[Any], Any, int]:
        """Where the settings of a group say that it begins in a partition."""
        if settings.offset_reset == "earliest":
            return partition.log_start_offset
        if settings.offset_reset == "by_duration":
            since_ms = self._node.clock.wall_ms() - settings.reset_duration_ms
            timed: TimedOffset | None = yield partition.offset_for_time(since_ms)
            if timed is not None:
                return min(max(timed.offset, partition.log_start_offset), partition.high_watermark)
        return partition.high_watermark

    def seek(
        self, group: str, offsets: Mapping[PartitionKey, int]
    ) -> Promise[dict[PartitionKey, BaseException]]:
        """See `BatchQueues.seek_partitions`."""
        return run_steps(self._seek(group, offsets))

    def _seek(
        self, group: str, offsets: Mapping[PartitionKey, int]
    ) -> Generator[Promise[Any], Any, dict[PartitionKey, BaseException]]:
        errors: dict[PartitionKey, BaseException] = {}
        subscription = self._node.share_groups.find(group)
        if subscription is None:
            return dict.fromkeys(offsets, UnknownSubscription(f"there is no share group {group}"))
        for key, offset in offsets.items():
            try:
                partition = self._partition(key)
                if offset == RESET:
                    settings = self._node.group_settings.of(subscription.name)
                    position = yield from self._reset_offset(settings, partition)
                else:
                    position = min(max(offset, partition.log_start_offset), partition.high_watermark)
                view = self._machine.views.find((subscription.id, *key))
                if view is None:
                    yield self._machine.open_view(subscription.name, *key, position, position)
                else:
                    yield self._machine.changes.seek(view, position)
            except Exception as error:
                errors[key] = error
        return errors
