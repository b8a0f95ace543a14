"""The state machine of topics: names, ids, partition counts and settings.

Owns: which topics exist and existed. The id of a topic is random and never used again. A deleted topic leaves
a tombstone until the log has deleted its files, so that a start after a crash finishes the deletion, and
deleted events never reappear. Refuses: names that Kafka refuses, more than one replica, settings that this
server does not obey. The node passes changes on to the log.
"""

from __future__ import annotations

import random
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from mainstem.coordinator.errors import (
    InvalidPartitions,
    InvalidReplicaAssignment,
    InvalidReplicationFactor,
    InvalidRequest,
    InvalidTopicName,
    TopicAlreadyExists,
    UnknownTopicId,
)
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.topics import topic_configs
from mainstem.coordinator.topics.config_types import TopicDefaults, apply_change
from mainstem.coordinator.topics.types import (
    INTERNAL,
    RESERVED_PREFIX,
    ConfigChange,
    PartitionsAdded,
    TopicConfigured,
    TopicCreated,
    TopicDeleted,
    TopicMetadata,
    TopicPurged,
    TopicStatus,
    check_name,
    is_internal,
    unknown_topic_error,
)
from mainstem.log.config import PartitionConfig
from mainstem.promise import Promise

__all__ = [
    "INTERNAL",
    "ConfigChange",
    "PartitionsAdded",
    "TopicConfigured",
    "TopicCreated",
    "TopicDeleted",
    "TopicMetadata",
    "TopicPurged",
    "Topics",
    "check_name",
    "unknown_topic_error",
]

PARTITIONS_OF_TOPIC_MAX = 10_000
PARTITIONS_MAX = 200_000


def _collision_key(name: str) -> str:
    return name.replace(".", "_")


class Topics:
    """The state machine of topics. `runtime` is set once, before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (
        TopicCreated,
        PartitionsAdded,
        TopicConfigured,
        TopicDeleted,
        TopicPurged,
    )
    runtime: Runtime

    def __init__(self, defaults: TopicDefaults, rng: random.Random, *, node_id: int = 1) -> None:
        self._defaults = defaults
        self._rng = rng
        self._node_id = node_id
        self.on_deleted: list[Callable[[TopicMetadata], None]] = []
        """Callbacks for a topic whose deletion is durable."""
        self.on_grown: list[Callable[[TopicMetadata], None]] = []
        """Callbacks for a topic that is durable with further partitions, or is new."""
        self.on_configured: list[Callable[[TopicMetadata], None]] = []
        """Callbacks for a topic whose change of settings is durable."""
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self._by_name: dict[str, TopicMetadata] = {}
        self._by_id: dict[UUID, TopicMetadata] = {}
        self._by_collision_key: dict[str, str] = {}
        self._tombstones: dict[UUID, str] = {}
        self._sorted: list[TopicMetadata] | None = None
        self._partitions = 0
        """Number of partitions of all topics together."""
        self._durable_partitions: dict[UUID, int] = {}
        """Topic id -> number of its partitions whose creation is durable, while not all of them are."""

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        match record:
            case TopicCreated(id=id_, name=name, partitions=partitions, config=config):
                self._put(TopicMetadata(name, id_, partitions, dict(config), is_internal(name)))
            case PartitionsAdded(id=id_, partitions=partitions):
                old = self._by_id[id_]
                self._put(TopicMetadata(old.name, id_, partitions, old.config, old.internal))
            case TopicConfigured(id=id_, config=config):
                old = self._by_id[id_]
                self._put(TopicMetadata(old.name, id_, old.partitions, dict(config), old.internal))
            case TopicDeleted(id=id_, name=name):
                self._remove(id_)
                self._tombstones[id_] = name
            case TopicPurged(id=id_):
                self._tombstones.pop(id_, None)

    def _put(self, topic: TopicMetadata) -> None:
        old = self._by_id.get(topic.id)
        assert old is None or topic.partitions >= old.partitions, "a topic never loses partitions"
        self._partitions += topic.partitions - (old.partitions if old is not None else 0)
        self._by_id[topic.id] = self._by_name[topic.name] = topic
        self._by_collision_key[_collision_key(topic.name)] = topic.name
        self._sorted = None

    def _remove(self, topic_id: UUID) -> None:
        topic = self._by_id.pop(topic_id, None)
        if topic is None:
            return
        del self._by_name[topic.name]
        del self._by_collision_key[_collision_key(topic.name)]
        self._partitions -= topic.partitions
        assert self._partitions >= 0, "the number of partitions is the sum over all topics"
        self._sorted = None

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        topics = (
            TopicCreated(topic.id, topic.name, topic.partitions, dict(topic.config))
            for topic in list(self._by_id.values())
        )
        tombstones = (TopicDeleted(id_, name) for id_, name in list(self._tombstones.items()))
        return chain(topics, tombstones)

    # --- reading ------------------------------------------------------------------------------------------

    def get(self, name: str) -> TopicMetadata | None:
        """The topic of that name, which may not be durable yet: a reply to a client has to wait for
        `runtime.read`."""
        return self._by_name.get(name)

    def by_id(self, topic_id: UUID) -> TopicMetadata | None:
        """The topic with that id. See `get`."""
        return self._by_id.get(topic_id)

    def all(self) -> Sequence[TopicMetadata]:
        """All topics, sorted by name. The same object until a topic changes; not to be modified."""
        if self._sorted is None:
            self._sorted = [self._by_name[name] for name in sorted(self._by_name)]
        return self._sorted

    def status(self, topic_id: UUID) -> TopicStatus:
        """Whether a topic with this id exists, was deleted (its tombstone is kept), or is not known."""
        if topic_id in self._by_id:
            return "live"
        return "deleted" if topic_id in self._tombstones else "unknown"

    def durable_partitions(self, topic: TopicMetadata) -> int:
        """The number of the topic's partitions whose creation is durable. An event in another partition could
        be acknowledged and then lost, if the creation fails."""
        if not self._durable_partitions:
            return topic.partitions
        return self._durable_partitions.get(topic.id, topic.partitions)

    def _until_durable(
        self, name: str, write: Callable[[], Promise[TopicMetadata]]
    ) -> Promise[TopicMetadata]:
        """Run `write`, which may create the topic or add partitions, and note how many of its partitions are
        durable until all of them are. After a failed commit the reload of the state drops the note."""
        before = self._by_name.get(name)
        written = write()
        after = self._by_name.get(name)
        if written.done or after is None or after is before:
            return written
        durable = before.partitions if before is not None and before.id == after.id else 0
        self._durable_partitions.setdefault(after.id, durable)

        def on_durable(done: Promise[TopicMetadata]) -> None:
            if done.error is not None:
                return
            current = self._by_id.get(after.id)
            if current is None or current.partitions == after.partitions:
                self._durable_partitions.pop(after.id, None)
            else:
                self._durable_partitions[after.id] = after.partitions

        written.then(on_durable)
        return written

    def tombstones(self) -> list[UUID]:
        """The ids of deleted topics whose files the log may not have deleted yet."""
        return sorted(self._tombstones)

    def partition_config(self, topic: TopicMetadata) -> PartitionConfig:
        """The log's settings for the partitions of `topic`."""
        return topic_configs.partition_config(topic.config, self._defaults)

    def describe_config(
        self, topic: TopicMetadata, names: Iterable[str] | None = None
    ) -> list[topic_configs.ConfigEntry]:
        """The topic's settings and their sources; with `names`, only those of these names."""
        return topic_configs.describe_configs(topic.config, self._defaults, names)

    # --- writing ------------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        partitions: int = -1,
        config: Mapping[str, str | None] | None = None,
        *,
        replication_factor: int = -1,
        assignments: Sequence[tuple[int, Sequence[int]]] = (),
        validate_only: bool = False,
        reserved_id: UUID | None = None,
    ) -> Promise[TopicMetadata]:
        """Create a topic. -1: the default number of partitions or replicas. `assignments`: (partition,
        nodes). `reserved_id`: of one of the server's own, whose name no client can use.

        Fails with InvalidTopicName, TopicAlreadyExists, InvalidPartitions, InvalidReplicationFactor,
        InvalidReplicaAssignment, InvalidRequest, InvalidConfig, StorageError.
        """

        def decide() -> tuple[Sequence[msgspec.Struct], TopicMetadata]:
            if reserved_id is None:
                check_name(name)
            if name in self._by_name:
                raise TopicAlreadyExists(f"Topic '{name}' already exists.")
            other = self._by_collision_key.get(_collision_key(name))
            if other is not None:
                raise InvalidTopicName(f"Topic '{name}' collides with existing topic: {other}")
            count = self._partition_count(partitions, replication_factor, assignments)
            stored = topic_configs.validate_configs(config or {})
            record = TopicCreated(reserved_id or self._new_id(), name, count, stored)
            topic = TopicMetadata(name, record.id, count, stored, is_internal(name))
            return ((), topic) if validate_only else ((record,), topic)

        written = self._until_durable(name, lambda: self.runtime.write(decide))
        return written if validate_only else self._notify(written, self.on_grown)

    def _partition_count(
        self, partitions: int, replication_factor: int, assignments: Sequence[tuple[int, Sequence[int]]]
    ) -> int:
        if assignments:
            if partitions != -1:
                raise InvalidRequest(
                    "A manual partition assignment was specified, but num partitions was not set to -1."
                )
            if replication_factor != -1:
                raise InvalidRequest(
                    "A manual partition assignment was specified, but replication factor was not set to -1."
                )
            if sorted(index for index, _ in assignments) != list(range(len(assignments))):
                raise InvalidReplicaAssignment("partitions should be a consecutive 0-based integer sequence")
            self._check_nodes([nodes for _, nodes in assignments])
            partitions = len(assignments)
        if replication_factor not in (-1, 1):
            if replication_factor < 1:
                raise InvalidReplicationFactor(
                    "Replication factor must be larger than 0, or -1 to use the default value."
                )
            raise InvalidReplicationFactor(
                f"Unable to replicate the partition {replication_factor} time(s): The target replication"
                f" factor of {replication_factor} cannot be reached because only 1 broker(s) are registered."
            )
        if partitions == -1:
            partitions = self._defaults.num_partitions
        if partitions < 1:
            raise InvalidPartitions(
                "Number of partitions must be larger than 0, or -1 to use the default value."
            )
        self._check_limits(partitions, partitions)
        return partitions

    def _check_nodes(self, assignments: Iterable[Sequence[int]]) -> None:
        for nodes in assignments:
            if list(nodes) != [self._node_id]:
                raise InvalidReplicaAssignment(
                    f"Replicas {list(nodes)[:10]}: the only possible assignment is"
                    f" [{self._node_id}], the only node"
                )

    def _check_limits(self, of_topic: int, added: int) -> None:
        if of_topic > PARTITIONS_OF_TOPIC_MAX:
            raise InvalidPartitions(f"{of_topic} partitions: a topic has {PARTITIONS_OF_TOPIC_MAX} at most")
        if self._partitions + added > PARTITIONS_MAX:
            raise InvalidPartitions(
                f"{added} more partitions: there are {self._partitions}, and {PARTITIONS_MAX} at most on"
                " one server"
            )

    def _new_id(self) -> UUID:
        while True:
            new = UUID(int=self._rng.getrandbits(128), version=4)
            # Kafka's own ids never begin with a dash, which command lines would take for an option.
            if (
                new not in self._by_id
                and new not in self._tombstones
                and urlsafe_b64encode(new.bytes)[0] != ord("-")
            ):
                return new

    def delete(self, name_or_id: str | UUID) -> Promise[TopicMetadata]:
        """Delete a topic. Fails with UnknownTopicOrPartition, UnknownTopicId, StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], TopicMetadata]:
            topic = self.check_not_reserved(name_or_id)
            return (TopicDeleted(topic.id, topic.name),), topic

        return self._notify(self.runtime.write(decide), self.on_deleted)

    def purge(self, topic_id: UUID) -> Promise[None]:
        """Drop the tombstone of a deleted topic, after the log has deleted its files. Fails with
        StorageError."""
        return self.runtime.write(
            lambda: ((TopicPurged(topic_id),) if topic_id in self._tombstones else (), None)
        )

    def add_partitions(
        self,
        name: str,
        total: int,
        *,
        assignments: Sequence[Sequence[int]] | None = None,
        validate_only: bool = False,
    ) -> Promise[TopicMetadata]:
        """Increase a topic's partitions to `total`. Fails with UnknownTopicOrPartition, InvalidPartitions,
        InvalidReplicaAssignment."""

        def decide() -> tuple[Sequence[msgspec.Struct], TopicMetadata]:
            topic = self.check_not_reserved(name)
            more = total - topic.partitions
            if more == 0:
                raise InvalidPartitions(f"Topic already has {topic.partitions} partition(s).")
            if more < 0:
                raise InvalidPartitions(
                    f"The topic {name} currently has {topic.partitions} partition(s); {total} would not be"
                    " an increase."
                )
            self._check_limits(total, more)
            if assignments is not None:
                if len(assignments) != more:
                    raise InvalidReplicaAssignment(
                        f"Attempted to add {more} additional partition(s), but only {len(assignments)}"
                        " assignment(s) were specified."
                    )
                self._check_nodes(assignments)
            grown = TopicMetadata(topic.name, topic.id, total, topic.config, topic.internal)
            return ((), grown) if validate_only else ((PartitionsAdded(topic.id, total),), grown)

        written = self._until_durable(name, lambda: self.runtime.write(decide))
        return written if validate_only else self._notify(written, self.on_grown)

    def set_config(
        self, name: str, config: Mapping[str, str | None], *, validate_only: bool = False
    ) -> Promise[TopicMetadata]:
        """Replace all settings of a topic. Fails with UnknownTopicOrPartition, InvalidConfig,
        StorageError."""
        return self._configure(name, lambda _: topic_configs.validate_configs(config), validate_only)

    def alter_config(
        self, name: str, changes: Sequence[ConfigChange], *, validate_only: bool = False
    ) -> Promise[TopicMetadata]:
        """Change some settings of a topic and keep the others. Fails with UnknownTopicOrPartition,
        InvalidConfig, InvalidRequest, StorageError."""

        def new(topic: TopicMetadata) -> dict[str, str]:
            if len({change.name for change in changes}) != len(changes):
                raise InvalidRequest("Error due to duplicate config keys")
            config = dict(topic.config)
            for change in changes:
                setting = topic_configs.find_config(change.name)
                apply_change(config, change, setting, setting.default_in(self._defaults))
            # Only the changed settings are validated: an old invalid one must not prevent other changes.
            changed = {change.name: config[change.name] for change in changes if change.name in config}
            topic_configs.validate_configs(changed)
            return {name: value.strip() for name, value in config.items()}

        return self._configure(name, new, validate_only)

    def _configure(
        self, name: str, new: Callable[[TopicMetadata], dict[str, str]], validate_only: bool
    ) -> Promise[TopicMetadata]:
        def decide() -> tuple[Sequence[msgspec.Struct], TopicMetadata]:
            topic = self.check_not_reserved(name)
            config = new(topic)
            changed = TopicMetadata(topic.name, topic.id, topic.partitions, config, topic.internal)
            if validate_only or config == topic.config:
                return (), changed
            return (TopicConfigured(topic.id, config),), changed

        written = self.runtime.write(decide)
        return written if validate_only else self._notify(written, self.on_configured)

    def check_not_reserved(self, name_or_id: str | UUID) -> TopicMetadata:
        """The topic. InvalidRequest: it is the server's own, and no client may change it;
        UnknownTopicOrPartition, UnknownTopicId."""
        topic = self._require(name_or_id)
        if topic.name.startswith(RESERVED_PREFIX):
            raise InvalidRequest(
                f"Topic '{topic.name}' is the server's own: it cannot be changed or deleted."
            )
        return topic

    def _require(self, name_or_id: str | UUID) -> TopicMetadata:
        if isinstance(name_or_id, UUID):
            topic = self._by_id.get(name_or_id)
            if topic is None:
                raise UnknownTopicId(f"This server does not host a topic with the id {name_or_id}.")
            return topic
        topic = self._by_name.get(name_or_id)
        if topic is None:
            raise unknown_topic_error(name_or_id)
        return topic

    @staticmethod
    def _notify(
        written: Promise[TopicMetadata], listeners: Sequence[Callable[[TopicMetadata], None]]
    ) -> Promise[TopicMetadata]:
        def notify(topic: TopicMetadata) -> TopicMetadata:
            for listener in listeners:
                listener(topic)
            return topic

        return written.map(notify)
