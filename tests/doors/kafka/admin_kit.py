"""A Kafka door on the real state machines of topics and producer ids; state log and partitions are in
memory."""

from __future__ import annotations

import random
from typing import Any, cast
from uuid import UUID

from mainstem.coordinator.errors import UnknownTopicOrPartition
from mainstem.coordinator.groups.group_settings import GroupSettings
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.runtime.state_log import QUEUE_LOG
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.kafka_protocol.message import Message
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import OffsetOutOfRange
from mainstem.log.partition.commit_wait import delete_when_committed
from mainstem.promise import Promise
from mainstem.settings import Settings
from tests.coordinator.state_rig import StateRig
from tests.doors.kafka.kit import DoorClient, MemoryLog, MemoryPartition
from tests.support.fake_state import FakeStateDisk, FakeStateLog

OK, UNKNOWN_TOPIC, INVALID_TOPIC, TOPIC_EXISTS, INVALID_PARTITIONS = 0, 3, 17, 36, 37
INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG, INVALID_REQUEST = 38, 39, 40, 42
OFFSET_OUT_OF_RANGE, STORAGE_ERROR, UNKNOWN_TOPIC_ID = 1, 56, 100


class AdminPartition(MemoryPartition):
    """A partition whose log start can be moved."""

    def delete_records(self, before: int) -> Promise[int]:
        before = self.high_watermark if before == -1 else before
        if not 0 <= before <= self.high_watermark:
            return Promise.failed(OffsetOutOfRange(f"{before} is past the watermark"))
        self.log_start_offset = max(self.log_start_offset, before)
        return Promise.resolved(self.log_start_offset)


class AdminNode:
    """The parts of a node that the handlers use."""

    def __init__(self, kit: StateRig) -> None:
        self.kit = kit
        self.settings, self.clock, self.runtime = kit.settings, kit.clock, kit.runtime
        self.topics, self.producer_ids = kit.topics, kit.producer_ids
        subscriptions = Subscriptions(kit.clock, random.Random(3))
        self.group_settings = GroupSettings(subscriptions)
        machines = subscriptions, self.group_settings
        disk = cast(Disk, FakeStateDisk())
        self.queue_runtime = Runtime(disk, FakeStateLog(), kit.clock, machines, QUEUE_LOG)
        subscriptions.runtime = self.group_settings.runtime = self.queue_runtime
        self.queue_runtime.load()
        self.log = MemoryLog()
        self.rng = random.Random(3)
        self.parts: dict[tuple[UUID, int], AdminPartition] = {}

    def partition(self, topic: TopicMetadata, index: int) -> AdminPartition:
        if not 0 <= index < topic.partitions:
            raise UnknownTopicOrPartition(f"no partition {index}")
        return self.parts.setdefault((topic.id, index), AdminPartition())

    def delete_records(self, partition: AdminPartition, before: int, limit_s: float) -> Promise[int]:
        return delete_when_committed(partition, self.clock, before, limit_s)


class AdminClient(DoorClient):
    """An administrator's connection. `auto=False`: appends wait for `kit.log.commit()`."""

    def __init__(self, *, auto: bool = True, settings: Settings | None = None) -> None:
        self.kit = StateRig(auto_commit=auto, settings=settings)
        node: Any = AdminNode(self.kit)
        super().__init__(node)

    def create(self, *names: str, version: int = 7, **fields: Any) -> list[Message]:
        """Create topics with one request. Returns the topics of the reply."""
        topics = [new_topic(name, **fields) for name in names]
        answer = self.call(19, version, Message(topics=topics, timeout=1000, validate_only=False))
        return list(answer.topics)


def new_topic(name: str, **fields: Any) -> Message:
    """One topic of a CreateTopics request."""
    defaults: dict[str, Any] = {
        "num_partitions": 1,
        "replication_factor": 1,
        "assignments": [],
        "configs": [],
    }
    return Message(name=name, **{**defaults, **fields})


def config(name: str, value: str | None, **fields: Any) -> Message:
    """One setting of a request."""
    return Message(name=name, value=value, **fields)
