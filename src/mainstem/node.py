"""One machine: the log and the coordinator, opened together.

Owns: the order of start and stop, partitions of topics by name, what the log is told when topics change,
and the timer of retention. Refuses: protocols and sockets. Doors and the embedded engine call it;
`mainstem.serve.server` opens it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from uuid import UUID

from mainstem.clock import Clock, Timer
from mainstem.coordinator.errors import InvalidTopicName, UnknownTopicOrPartition
from mainstem.coordinator.groups.groups import Groups
from mainstem.coordinator.producer_ids import ProducerIds
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.topics.topics import INTERNAL, TopicMetadata, Topics
from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.disk.contract import Disk
from mainstem.log.disk.disk_stall import StallMonitor
from mainstem.log.disk.space_guard import SpaceGuard
from mainstem.log.errors import DiskFull, LogError, PartitionDeleted
from mainstem.log.log import Log
from mainstem.log.partition.partition import Partition
from mainstem.log.recovery.report import RecoveryReport
from mainstem.promise import Promise, gather
from mainstem.settings import Settings

STATE_LOG_CONFIG = PartitionConfig(
    segment_bytes=32 << 20, max_message_bytes=32 << 20, retention_ms=-1, retention_bytes=-1
)
"""Of the state log. What a snapshot makes needless goes segment by segment, so that they are small."""
DELETION_RETRY_S = 60.0
RETENTION_SLICE_PARTITIONS = 50
"""Partitions that retention looks at in one turn of the loop."""

NO_END = 1 << 63
"""Of a partition that is not there: its offsets are left to those who look for deleted topics."""

log = logging.getLogger(__name__)


class Node:
    """The log and what is remembered beside it. Made by `open`."""

    def __init__(self, settings: Settings, disk: Disk, clock: Clock, rng: random.Random, opened: Log) -> None:
        self.settings = settings
        self.clock = clock
        self.rng = rng
        self.log = opened
        self.topics = Topics(settings, rng)
        self.producer_ids = ProducerIds()
        self.groups = Groups(settings, clock, rng, self.topics)
        machines = (self.topics, self.producer_ids, self.groups)
        self.runtime = Runtime(disk, opened.state, clock, machines)
        self.topics.runtime = self.producer_ids.runtime = self.groups.runtime = self.runtime
        self.topics.on_deleted.append(self._deleted)
        self.topics.on_configured.append(self._configured)
        self.runtime.on_reloaded.append(self._reloaded)
        self.recovery_report: RecoveryReport | None = None
        """What the start found."""
        self._partitions: dict[tuple[UUID, int], Partition] = {}
        self._retention: Timer | None = None
        self._closing: Promise[None] | None = None
        self.space_guard = SpaceGuard(
            disk, clock, settings.disk_reserve_bytes, settings.data_max_bytes, opened.total_bytes
        )
        self.space_guard.on_full.append(self.enforce_retention)
        self.stall_monitor = StallMonitor(disk, clock, lambda: opened.pending_bytes)

    @classmethod
    def open(cls, settings: Settings, disk: Disk, clock: Clock, rng: random.Random) -> Promise[Node]:
        """Open the data folder and recover it; done when it serves. Blocks while it reads.

        Raises LogFolderError (in use, newer format, damaged beyond what may be guessed), OSError.
        """
        config = LogConfig(
            durability=settings.durability, producer_expiry_ms=settings.producer_id_expiration_ms
        )
        opened = Log.open(disk, clock, rng, config)
        opened.set_config(opened.state.topic_id, STATE_LOG_CONFIG)
        node = cls(settings, disk, clock, rng, opened)
        node.runtime.load()
        report = node.recovery_report = opened.recover(node.topics.status)
        node._start()
        if report.is_copy or (settings.durability == "os" and not report.clean):
            node.groups.clamp_to_log_end(node._end_of).then(lambda done: node._clamped(done, report.is_copy))
        return Promise.resolved(node)

    def _start(self) -> None:
        made: dict[frozenset[tuple[str, str]], PartitionConfig] = {}  # most topics have the same settings
        for topic in self.topics.all():
            key = frozenset(topic.config.items())
            if key not in made:
                made[key] = self.topics.partition_config(topic)
            self.log.set_config(topic.id, made[key])
        for topic_id in self.topics.tombstones():
            self._forget(topic_id)
        self.groups.start()
        self._wait_for_retention()
        self.space_guard.start()
        self.stall_monitor.start()

    def _end_of(self, topic_id: UUID, index: int) -> int:
        topic = self.topics.by_id(topic_id)
        if topic is None or index >= topic.partitions:
            return NO_END
        return self.partition(topic, index).log_end_offset

    def _clamped(self, done: Promise[int], copied: bool) -> None:
        if copied and done.error is None:
            try:
                self.log.adopt()
            except OSError as error:
                log.error("the data folder stays a copy until the next start: %s", error)
        if done.error is not None:
            log.error("committed offsets after the end of the log could not be set back: %s", done.error)
        elif done.result():
            log.warning("%d committed offsets were after the end of the log: set back to it", done.result())

    # --- partitions ---------------------------------------------------------------------------------------

    def partition(self, topic: TopicMetadata, index: int) -> Partition:
        """Partition `index` of `topic`. UnknownTopicOrPartition: it has none of that number, or was
        deleted."""
        found = self._partitions.get((topic.id, index))
        if found is not None:
            return found
        current = self.topics.by_id(topic.id)
        if current is None or not 0 <= index < current.partitions:
            raise UnknownTopicOrPartition(
                f"This server does not host partition {index} of the topic '{topic.name}'."
            )
        found = self.log.partition(topic.id, index, self.topics.partition_config(current))
        self._partitions[topic.id, index] = found
        return found

    def partition_to_append(self, topic: TopicMetadata, index: int) -> Partition:
        """As `partition`, for who appends: also UnknownTopicOrPartition, which clients try again, while it is
        not
        durable yet that there is this partition; DiskFull, which they try again too."""
        if self.rejection_reason is not None:
            raise DiskFull(self.rejection_reason)
        if index >= self.topics.durable_partitions(topic):
            raise UnknownTopicOrPartition(
                f"Partition {index} of the topic '{topic.name}' is not durable yet."
            )
        return self.partition(topic, index)

    @property
    def rejection_reason(self) -> str | None:
        """Why topics take no events; None in normal work."""
        return self.space_guard.rejection_reason or self.stall_monitor.rejection_reason

    def auto_create(self, name: str) -> Promise[TopicMetadata]:
        """The topic of that name, made with the default settings if there is none. Fails with
        UnknownTopicOrPartition
        when topics are not made by themselves, InvalidTopicName, StorageError."""
        topic = self.topics.get(name)
        if topic is not None:
            return self.runtime.read(topic)
        if not self.settings.auto_create_topics:
            return Promise.failed(UnknownTopicOrPartition(f"This server does not host this topic: '{name}'."))
        if name in INTERNAL:
            return Promise.failed(
                InvalidTopicName(f"'{name}' is a name of Kafka's own: it is not made by itself")
            )
        return self.topics.create(name)

    # --- what the log is told -----------------------------------------------------------------------------

    def _deleted(self, topic: TopicMetadata) -> None:
        for index in range(topic.partitions):
            self._partitions.pop((topic.id, index), None)
        self.groups.delete_topic_offsets(topic.id).then(self._complain)
        self._forget(topic.id)

    def _forget(self, topic_id: UUID) -> None:
        """Have the log remove what it has of a deleted topic, then drop the tombstone; try until it can."""
        if self._closing is not None:
            return

        def gone(done: Promise[None]) -> None:
            if done.error is not None:
                log.error("topic %s is deleted but not all of it is removed: %s", topic_id, done.error)
                self.clock.call_later(DELETION_RETRY_S, lambda: self._forget(topic_id))
            elif self._closing is None:
                self.topics.purge(topic_id).then(self._complain)

        self.log.delete_topic(topic_id).then(gone)

    def _configured(self, topic: TopicMetadata) -> None:
        current = self.topics.by_id(topic.id)
        if current is not None:
            self.log.set_config(topic.id, self.topics.partition_config(current))

    @staticmethod
    def _complain(done: Promise[None]) -> None:
        if done.error is not None:
            log.error("after the deletion of a topic: %s", done.error)

    def _reloaded(self) -> None:
        self._partitions.clear()
        self.groups.start()

    # --- retention ----------------------------------------------------------------------------------------

    def _wait_for_retention(self) -> None:
        if self._closing is None:
            seconds = self.settings.log_retention_check_interval_ms / 1000
            self._retention = self.clock.call_later(seconds, self._look_at_retention)

    def _look_at_retention(self) -> None:
        self.enforce_retention().then(lambda _: self._wait_for_retention())

    def enforce_retention(self) -> Promise[int]:
        """Remove what is too old or too much, of all partitions, some in each turn of the loop. The bytes
        removed."""
        out: Promise[int] = Promise()
        self._retain([one for one in self.log.partitions() if one is not self.log.state], 0, out)
        return out

    def _retain(self, left: Sequence[Partition], removed: int, out: Promise[int]) -> None:
        if not left or self._closing is not None:
            out.resolve(removed)
            return
        now, after = left[:RETENTION_SLICE_PARTITIONS], left[RETENTION_SLICE_PARTITIONS:]

        def done(results: Promise[list[Promise[int]]]) -> None:
            total = removed + sum(one.result() for one in results.result() if one.error is None)
            self.clock.call_soon(lambda: self._retain(after, total, out))

        gather([self._retain_one(partition) for partition in now]).then(done)

    def _retain_one(self, partition: Partition) -> Promise[int]:
        try:
            later = partition.enforce_retention()
        except (LogError, OSError) as error:
            later = Promise.failed(error)
        later.then(lambda done: self._report(partition, done.error))
        return later

    @staticmethod
    def _report(partition: Partition, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, PartitionDeleted):
            log.warning("retention of %s-%d: %s", partition.topic_id, partition.index, error)

    # --- stop ---------------------------------------------------------------------------------------------

    def close(self) -> Promise[None]:
        """Take no more requests, make everything durable, close the log. Done when the folder is free."""
        if self._closing is None:
            if self._retention is not None:
                self._retention.cancel()
            self.space_guard.stop()
            self.stall_monitor.stop()
            self.runtime.close()
            self._closing = self.log.close()
        return self._closing
