"""The node: the log and the coordinator of one server, opened and closed together.

Owns: the order of start and stop, the partitions of topics by name, the changes of the log that follow from
changes of topics, and the retention timer. Refuses: protocols and sockets.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from uuid import UUID

from mainstem.clock import Clock
from mainstem.coordinator.access.access import AccessControl
from mainstem.coordinator.access.quota_usage import QuotaUsage
from mainstem.coordinator.errors import (
    CoordinatorError,
    CreationDeferred,
    InvalidTopicName,
    UnknownTopicOrPartition,
)
from mainstem.coordinator.queues.delay_store import DelayStore
from mainstem.coordinator.queues.retention import QueueRetention
from mainstem.coordinator.queues.retention_runs import RetentionRuns
from mainstem.coordinator.queues.routed_floors import RoutedFloors
from mainstem.coordinator.queues.routed_sequences import RoutedSequences
from mainstem.coordinator.queues.space_relief import SpaceRelief
from mainstem.coordinator.queues.types import CARRIED_TOPIC
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.runtime.state_log import STATE_LOGS
from mainstem.coordinator.state_machines import StateMachines
from mainstem.coordinator.topics.topic_configs import check_publishers
from mainstem.coordinator.topics.topics import INTERNAL, TopicMetadata, check_name
from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.disk.contract import Disk
from mainstem.log.disk.disk_stall import StallMonitor
from mainstem.log.disk.space_guard import SpaceGuard
from mainstem.log.errors import DiskFull, InvalidBatch
from mainstem.log.log import Log
from mainstem.log.partition.commit_wait import COMMIT_WAIT_S, delete_when_committed
from mainstem.log.partition.partition import AppendedBatch, Partition
from mainstem.log.recovery.report import RecoveryReport
from mainstem.log.storage.record_batch import producer_id_of
from mainstem.promise import Promise, gather
from mainstem.rate_limit import RateLimit
from mainstem.settings import Settings

STATE_LOG_CONFIG = PartitionConfig(
    segment_bytes=32 << 20, max_message_bytes=32 << 20, retention_ms=-1, retention_bytes=-1
)
"""Of the state logs. Their segments are small, because whole segments are deleted after a snapshot."""
CREATED_PER_SECOND = 50
"""Topics that are created in a second for clients that only ask for them, over all connections and doors."""
RETRY_S = 60.0
"""Time after which a deletion or a record that the disk refused is tried again."""

NO_LOG_END = 1 << 63
"""The log end of a partition that does not exist. Its committed offsets are not clamped; they are deleted
with their topic."""

log = logging.getLogger(__name__)


class Node:
    """The log and the coordinator of one server. Created by `open`."""

    def __init__(self, settings: Settings, disk: Disk, clock: Clock, rng: random.Random, opened: Log) -> None:
        self.settings = settings
        self.clock = clock
        self.rng = rng
        self.log = opened
        machines = StateMachines.create(settings, clock, rng)
        self.topics = machines.topics
        self.producer_ids = machines.producer_ids
        self.groups = machines.groups
        self.subscriptions = machines.subscriptions
        self.group_settings = machines.group_settings
        self.share_groups = machines.share_groups
        self.publishers = machines.publishers
        self.access = AccessControl(settings, machines.users, machines.acls, machines.mask_rules)
        self.quotas = QuotaUsage(clock, machines.quotas)
        self.api_tokens = machines.api_tokens
        self.runtimes = [
            Runtime(disk, partition, clock, machines.of(kind), kind)
            for partition, kind in zip(opened.state_logs, STATE_LOGS, strict=True)
        ]
        """Those of all state logs, in the order in which they are loaded."""
        self.runtime, self.queue_runtime = self.runtimes
        machines.connect(self.runtimes)
        self.routed = RoutedSequences(
            disk, clock, self.subscriptions, self.partition_at, lambda: self.producer_ids.server_id
        )
        """The sequences of routed queues."""
        self.subscriptions.views.delays = DelayStore(disk, clock, self.queue_runtime.reload)
        self.topics.on_deleted.append(self._on_topic_deleted)
        self.topics.on_configured.append(self._on_topic_configured)
        self.runtime.on_reloaded.append(self._on_state_reloaded)
        self.queue_runtime.on_reloaded.append(self._on_queues_reloaded)
        self.recovery_report: RecoveryReport | None = None
        """The report of what the start found and repaired."""
        self._partitions: dict[tuple[UUID, int], Partition] = {}
        self._auto_creations = RateLimit(clock, CREATED_PER_SECOND)
        views = self.subscriptions.views
        self.queue_retention = QueueRetention(
            views, self.subscriptions.by_id, clock, RoutedFloors(self.subscriptions.topology, views.find)
        )
        """What subscriptions pin."""
        self.retention = RetentionRuns(
            opened,
            clock,
            self.queue_retention,
            self.queue_runtime,
            settings.log_retention_check_interval_ms / 1000,
        )
        self._closing: Promise[None] | None = None
        self.space_guard = SpaceGuard(
            disk, clock, settings.disk_reserve_bytes, settings.data_max_bytes, opened.total_bytes
        )
        self.space_guard.on_full.append(self.enforce_retention)
        self.space_relief = SpaceRelief(self.space_guard, clock, self.queue_retention, self)
        self.stall_monitor = StallMonitor(disk, clock, lambda: opened.pending_bytes)

    @classmethod
    def open(cls, settings: Settings, disk: Disk, clock: Clock, rng: random.Random) -> Promise[Node]:
        """Open the data folder and recover it. The promise is done when the node can serve. Blocks while it
        reads.

        Raises LogFolderError (in use, newer format, or damaged so that the content is not certain), OSError.
        """
        config = LogConfig(
            durability=settings.durability, producer_expiry_ms=settings.producer_id_expiration_ms
        )
        opened = Log.open(disk, clock, rng, config)
        for partition in opened.state_logs:
            opened.set_config(partition.topic_id, STATE_LOG_CONFIG)
        node = cls(settings, disk, clock, rng, opened)
        for runtime in node.runtimes:
            runtime.load()
        report = node.recovery_report = opened.recover(node.topics.status)
        may_lack_records = report.is_copy or (settings.durability == "os" and not report.clean)
        skipped = node.producer_ids.skip_lost_ids() if may_lack_records else None
        node._start()
        if skipped is not None:
            clamps = [
                node.groups.clamp_to_log_end(node._log_end_of),
                node.subscriptions.changes.clamp_to_log_end(node._end_of),
                node.subscriptions.changes.clamp_carried(node._end_of_carried(), node._log_start_of),
                node.subscriptions.end_epochs().map(lambda _: 0),
                skipped.map(lambda _: 0),
                node.subscriptions.routing.skip_lost_ids().map(lambda _: 0),
            ]
            gather(clamps).then(lambda done: node._on_clamped(done.result(), report.is_copy))
        return Promise.resolved(node)

    def _start(self) -> None:
        configs: dict[frozenset[tuple[str, str]], PartitionConfig] = {}  # most topics have the same settings
        for topic in self.topics.all():
            key = frozenset(topic.config.items())
            if key not in configs:
                configs[key] = self.topics.partition_config(topic)
            self.log.set_config(topic.id, configs[key])
        for topic_id in self.topics.tombstones():
            self._delete_from_log(topic_id)
        self.groups.start()
        self.routed.load(was_clean=self.recovery_report is not None and self.recovery_report.clean)
        self._start_queues()
        self.subscriptions.routing.adapt_to_log(self._end_of).then(self._log_deletion_error)
        self.subscriptions.changes.end_unknown(self._end_of).then(self._log_deletion_error)
        self._reserve_server_id()
        self.retention.start()
        self.space_guard.start()
        self.stall_monitor.start()

    def _start_queues(self) -> None:
        self.subscriptions.start(self._end_of)
        self.share_groups.start()

    def _reserve_server_id(self) -> None:
        """Record the server's own producer id, unless it is recorded. Retries until it succeeds."""
        if self._closing is not None:
            return

        def on_reserved(reserved: Promise[None]) -> None:
            if reserved.error is not None and self._closing is None:
                log.warning(
                    "the server's own producer id is not recorded yet; trying again in %.0f s: %s",
                    RETRY_S,
                    reserved.error,
                )
                self.clock.call_later(RETRY_S, self._reserve_server_id)

        self.producer_ids.reserve_server_id().then(on_reserved)

    def _log_end_of(self, topic_id: UUID, index: int) -> int:
        end = self._end_of(topic_id, index)
        return NO_LOG_END if end is None else end

    def _end_of(self, topic_id: UUID, index: int) -> int | None:
        """The end of a partition's log, or of the sequence of a namespace; None if there is no such one."""
        if (end := self.routed.log_end(topic_id)) is not None:
            return end
        topic = self.topics.by_id(topic_id)
        if topic is None or index >= topic.partitions:
            return None
        return self.partition(topic, index).log_end_offset

    def _log_start_of(self, topic_id: UUID, index: int) -> int | None:
        topic = self.topics.by_id(topic_id)
        return None if topic is None else self.partition(topic, index).log_start_offset

    def _end_of_carried(self) -> int:
        topic = self.topics.get(CARRIED_TOPIC)
        return 0 if topic is None else self.partition(topic, 0).log_end_offset

    def partition_at(self, place: tuple[UUID, int]) -> Partition | None:
        """The partition of a topic's id; None if it does not exist."""
        topic = self.topics.by_id(place[0])
        return self.partition(topic, place[1]) if topic is not None and place[1] < topic.partitions else None

    def _on_queues_reloaded(self) -> None:
        self.routed.bind()
        self._start_queues()

    def _on_clamped(self, clamped: list[Promise[int]], copied: bool) -> None:
        errors = [promise.error for promise in clamped if promise.error is not None]
        if copied and not errors:
            try:
                self.log.adopt()
            except OSError as error:
                log.error(
                    "the folder is still marked as a copy of another; the next start tries again: %s",
                    error,
                )
        for failure in errors:
            log.error(
                "the state could not be adapted to a log whose last records may be lost; the next start tries"
                " again: %s",
                failure,
            )
        offsets, positions, carried, *_ = (
            promise.result() if promise.error is None else 0 for promise in clamped
        )
        if offsets:
            log.warning(
                "%d committed offsets of groups were after the end of their partition and are set back to it,"
                " because its last events were lost",
                offsets,
            )
        if positions:
            log.warning(
                "subscriptions knew %d events after the end of their partition, and forgot them, because its"
                " last events were lost",
                positions,
            )
        if carried:
            log.warning("%d pinned events are lost, because the last events of their copies are", carried)

    # --- partitions ---------------------------------------------------------------------------------------

    def partition(self, topic: TopicMetadata, index: int) -> Partition:
        """Partition `index` of `topic`. UnknownTopicOrPartition: the topic was deleted, or has no partition
        of that index."""
        partition = self._partitions.get((topic.id, index))
        if partition is not None:
            return partition
        current = self.topics.by_id(topic.id)
        if current is None or not 0 <= index < current.partitions:
            raise UnknownTopicOrPartition(
                f"This server does not host partition {index} of the topic '{topic.name}'."
            )
        partition = self.log.partition(topic.id, index, self.topics.partition_config(current))
        self._partitions[topic.id, index] = partition
        return partition

    def partition_to_append(self, topic: TopicMetadata, index: int) -> Partition:
        """See `partition`; for appending a batch that this server builds. Clients retry both errors:
        UnknownTopicOrPartition also while the creation of the partition is not durable, DiskFull while the
        node rejects writes."""
        if (reason := self.refusal_of(topic)) is not None:
            raise DiskFull(reason)
        if index >= self.topics.durable_partitions(topic):
            raise UnknownTopicOrPartition(
                f"Partition {index} of the topic '{topic.name}' is not durable yet."
            )
        return self.partition(topic, index)

    def append_from_client(
        self, topic: TopicMetadata, index: int, batch: memoryview
    ) -> tuple[Partition, AppendedBatch]:
        """Append a batch that a client built. Every door that takes whole batches appends them by this
        method. Returns the partition, whose `when_committed` says when the batch is durable.

        Errors: as `partition_to_append` and `Partition.append`. Also InvalidBatch, which no client retries,
        if the batch has the producer id of the server's own batches; OnlyExchange.
        """
        check_publishers(topic)
        partition = self.partition_to_append(topic, index)
        if producer_id_of(batch) == self.producer_ids.server_id:
            raise InvalidBatch(
                f"producer id {self.producer_ids.server_id} is the server's own: only the server writes"
                " batches with it"
            )
        return partition, partition.append(batch)

    @property
    def rejection_reason(self) -> str | None:
        """Why writes to topics are rejected; None in normal operation."""
        return self.space_guard.rejection_reason or self.stall_monitor.rejection_reason

    def refusal_of(self, topic: TopicMetadata) -> str | None:
        """Why a topic accepts no events at the moment; None in normal operation."""
        return self.rejection_reason or self.space_relief.refusal_of(topic)

    def state_problems(self) -> Iterator[str]:
        """Why requests for a part of the coordinator's state fail at the moment, one line each: a state log
        is read-only, or its state is loaded again after a failed commit."""
        for runtime, partition in zip(self.runtimes, self.log.state_logs, strict=True):
            reason = partition.fence_reason or runtime.fenced
            if reason is not None:
                yield f"the {runtime.kind.title} ({runtime.kind.contents}) does not serve: {reason}"

    def auto_create(self, name: str) -> Promise[TopicMetadata]:
        """The topic of that name. Creates it with default settings if it does not exist and the settings
        permit that.

        Fails with UnknownTopicOrPartition (automatic creation is off), InvalidTopicName, CreationDeferred
        (too many are being created: try again), StorageError.
        """
        return self._get_or_create(name, validate_only=False)

    def check_auto_create(self, name: str) -> Promise[TopicMetadata]:
        """Fails as `auto_create` would, but for its rate, and creates nothing."""
        return self._get_or_create(name, validate_only=True)

    def _get_or_create(self, name: str, *, validate_only: bool) -> Promise[TopicMetadata]:
        topic = self.topics.get(name)
        if topic is not None:
            return self.runtime.read(topic)
        if not self.settings.auto_create_topics:
            return Promise.failed(UnknownTopicOrPartition(f"This server does not host this topic: '{name}'."))
        if name in INTERNAL:
            return Promise.failed(
                InvalidTopicName(f"'{name}' is an internal topic of Kafka: it is not created automatically")
            )
        try:
            check_name(name)
        except InvalidTopicName as error:
            return Promise.failed(error)
        if not validate_only:
            if self._auto_creations.delay_s():
                return Promise.failed(
                    CreationDeferred(
                        f"The topic '{name}' is not created yet: {CREATED_PER_SECOND} a second are created"
                        " automatically. Try again, or create it yourself."
                    )
                )
            self._auto_creations.take()
        return self.topics.create(name, validate_only=validate_only)

    # --- changes of topics --------------------------------------------------------------------------------

    def _on_topic_deleted(self, topic: TopicMetadata) -> None:
        for index in range(topic.partitions):
            self._partitions.pop((topic.id, index), None)
        self.groups.delete_topic_offsets(topic.id).then(self._log_deletion_error)
        self.subscriptions.changes.end_topic(topic.id).then(self._log_deletion_error)
        self.subscriptions.routing.leave_topic(topic.id).then(self._log_deletion_error)
        self.publishers.end_topic(topic.id).then(self._log_deletion_error)
        self._delete_from_log(topic.id)

    def _delete_from_log(self, topic_id: UUID) -> None:
        """Delete a topic from the log, then purge its tombstone. Retries until it succeeds."""
        if self._closing is not None:
            return

        def on_deleted(deleted: Promise[None]) -> None:
            if deleted.error is not None:
                log.error(
                    "not all files of the deleted topic %s are removed; trying again: %s",
                    topic_id,
                    deleted.error,
                )
                self.clock.call_later(RETRY_S, lambda: self._delete_from_log(topic_id))
            elif self._closing is None:
                self.topics.purge(topic_id).then(self._log_deletion_error)

        self.log.delete_topic(topic_id).then(on_deleted)

    def _on_topic_configured(self, topic: TopicMetadata) -> None:
        current = self.topics.by_id(topic.id)
        if current is not None:
            self.log.set_config(topic.id, self.topics.partition_config(current))

    @staticmethod
    def _log_deletion_error(done: Promise[None]) -> None:
        if done.error is not None:
            log.error("a record about a deleted topic could not be written: %s", done.error)

    def _on_state_reloaded(self) -> None:
        self._partitions.clear()
        self.groups.start()
        self.access.authorizer.changed()

    # --- retention ----------------------------------------------------------------------------------------

    def enforce_retention(self) -> Promise[int]:
        """See `RetentionRuns.enforce`."""
        return self.retention.enforce()

    def delete_records(
        self, partition: Partition, before: int, limit_s: float = COMMIT_WAIT_S
    ) -> Promise[int]:
        """Delete the events of a partition before an offset, also those that subscriptions pin. See
        `delete_when_committed`; fails with StorageError, too, if the subscriptions cannot note it."""
        subscriptions, key = self.subscriptions, (partition.topic_id, partition.index)
        try:
            self.topics.check_not_reserved(partition.topic_id)
        except CoordinatorError as error:
            return Promise.failed(error)

        def trim(log_start: int) -> Promise[int]:
            if not subscriptions.views.of_partition(*key):
                return Promise.resolved(log_start)
            end = log_start if before == -1 else min(before, log_start)
            return subscriptions.changes.trim(*key, end, with_carried=True).map(lambda _: log_start)

        return delete_when_committed(partition, self.clock, before, limit_s).chain(trim)

    # --- stop ---------------------------------------------------------------------------------------------

    def close(self) -> Promise[None]:
        """Stop serving, make everything durable and close the log. Done when the data folder is free."""
        if self._closing is None:
            self.retention.close()
            self.space_guard.stop()
            self.stall_monitor.stop()
            self.routed.close()
            for runtime in self.runtimes:
                runtime.close()
            self._closing = self.log.close()
        return self._closing
