"""The embedded engine: implements the contract on the node of the same process, without sockets.

Owns: the translation of the contract's calls into calls of the node. All state is the node's. Refuses: use
from another thread or event loop than the node's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from operator import attrgetter
from typing import Literal

from mainstem.contract import (
    NO_SETTINGS,
    Bounds,
    Broker,
    ByteRange,
    ClusterInfo,
    DamagedOffsets,
    GroupInfo,
    GroupPosition,
    GroupSummary,
    Health,
    InvalidArgument,
    MemberHooks,
    MemberInfo,
    NewEvent,
    NotReachable,
    PartitionFiles,
    PartitionInfo,
    Position,
    Setting,
    StreamError,
    TopicInfo,
    TopicSummary,
    UnknownGroup,
    UnknownTopic,
    no_partition,
)
from mainstem.coordinator.errors import NonEmptyGroup
from mainstem.coordinator.groups.types import CommitRequest, GroupView, NewOffset, TopicRef
from mainstem.coordinator.topics.config_types import valid_values
from mainstem.coordinator.topics.topic_configs import TOPIC_CONFIGS, check_publishers
from mainstem.coordinator.topics.topics import ConfigChange, TopicMetadata
from mainstem.coordinator.topics.types import RESERVED_PREFIX
from mainstem.door_contract import OnceResult, TopicChange
from mainstem.engines.embedded.errors import translate
from mainstem.engines.embedded.member import EmbeddedMember
from mainstem.engines.embedded.publish import PublishResult, append, partition_of, results_of
from mainstem.engines.embedded.publish_once import IdentifiedEvents, OncePublisher
from mainstem.engines.embedded.queues.engine import EmbeddedQueues
from mainstem.engines.embedded.read import EmbeddedReader
from mainstem.engines.embedded.share_group_info import share_group_info
from mainstem.engines.embedded.topics import TopicSummaries, format_id
from mainstem.engines.group_members import member_info
from mainstem.log.partition.commit_wait import when_end_committed
from mainstem.log.partition.partition import Partition
from mainstem.node import Node
from mainstem.promise import Promise, gather

NODE_ID = 1


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Convert errors of the log and the coordinator that the context raises to errors of the contract;
    `subject` begins the message."""
    try:
        yield
    except StreamError:
        raise
    except Exception as error:
        raise translate(error, subject) from None


def _of_topic(name: str) -> AbstractContextManager[None]:
    return _translated(f"topic {name}")


class EmbeddedEngine(EmbeddedQueues):
    """Implements `Engine`, its capabilities and `Queues` on an open node. `address`: (host, port) of the
    Kafka door, for `cluster`."""

    def __init__(self, node: Node, *, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(node)
        self._node = node
        self.address = address
        """See above; set when the door opens later than the engine."""
        self._publish_count = itertools.count()
        self._once = OncePublisher(node)
        self._summaries = TopicSummaries(node, self._yield_to_loop)

    # --- events -------------------------------------------------------------------------------------------

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """See the contract."""
        with _of_topic(topic):
            if events:
                metadata = await self._node.auto_create(topic)
                check_publishers(metadata)
            else:
                await self._node.check_auto_create(topic)
        if self._node.rejection_reason is not None:
            raise NotReachable(f"topic {topic}: {self._node.rejection_reason}")
        if not events:
            return []
        if (refusal := self._node.refusal_of(metadata)) is not None:
            raise NotReachable(f"topic {topic}: {refusal}")
        if metadata.name.startswith(RESERVED_PREFIX):
            raise InvalidArgument(f"topic {topic}: only the server writes to it")
        keyless_partition = next(self._publish_count) % metadata.partitions
        by_partition: dict[int, list[int]] = {}
        """Partition -> indexes in `events`."""
        results: list[PublishResult | None] = [None] * len(events)
        for i, event in enumerate(events):
            if event.timestamp_ms is not None and event.timestamp_ms < 0:
                before_1970 = (
                    f"topic {topic}: an event cannot have the time {event.timestamp_ms}: it is before 1970"
                )
                results[i] = InvalidArgument(before_1970)
                continue
            if event.partition is not None:
                partition_index = event.partition
            elif event.key is not None:
                partition_index = partition_of(event.key, metadata.partitions)
            else:
                partition_index = keyless_partition
            by_partition.setdefault(partition_index, []).append(i)
        now_ms = self._node.clock.wall_ms()
        pending: list[tuple[list[int], list[Promise[list[PublishResult]]]]] = []
        for partition_index, indexes in by_partition.items():
            try:
                partition = self._partition(topic, partition_index)
            except UnknownTopic as error:
                for i in indexes:
                    results[i] = error
                continue
            pending.append((indexes, append(topic, partition, [events[i] for i in indexes], now_ms)))
        for indexes, promises in pending:
            batch_results = itertools.chain.from_iterable(await results_of(promises))
            for i, result in zip(indexes, batch_results, strict=True):
                results[i] = result
        return _positions_or_raise(results)

    async def publish_once(
        self, topic: str, producer: str, events: IdentifiedEvents, *, ids_may_repeat: bool = False
    ) -> list[OnceResult]:
        """See the contract."""
        with _of_topic(topic):
            metadata = await self._node.auto_create(topic)
            if metadata.name.startswith(RESERVED_PREFIX):
                raise InvalidArgument(f"topic {topic}: only the server writes to it")
            return await self._once.publish(metadata, producer, events, ids_may_repeat)

    async def last_published(self, topic: str, producer: str) -> int | None:
        """See the contract."""
        with _of_topic(topic):
            return await self._once.last(self._topic(topic), producer)

    def watch_topics(self, callback: Callable[[TopicChange], None]) -> Callable[[], None]:
        """See the contract."""
        return self._topic_watch.watch(callback)

    async def close(self) -> None:
        """See the contract."""
        self._once.close()
        await super().close()

    async def partitions(self, topic: str) -> int:
        """See the contract."""
        return self._topic(topic).partitions

    async def topic_id(self, topic: str) -> str:
        """See the contract."""
        return format_id((await self._node.runtime.read(self._topic(topic))).id)

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """See the contract."""
        log_partition = self._partition(topic, partition)
        await self._end_committed(log_partition)
        return Bounds(log_partition.log_start_offset, log_partition.high_watermark)

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """See the contract."""
        log_partition = self._partition(topic, partition)
        await self._end_committed(log_partition)
        with _of_topic(topic):
            timed_offset = await log_partition.offset_for_time(time_ms)
        return None if timed_offset is None else timed_offset.offset

    async def reader(self, start: Sequence[Position]) -> EmbeddedReader:
        """See the contract."""
        if not start:
            raise InvalidArgument("a reader needs at least one position")
        return EmbeddedReader(self._node.clock, self._partition, start)

    async def join(
        self,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"],
        hooks: MemberHooks | None = None,
    ) -> EmbeddedMember:
        """See the contract."""
        for topic in topics:
            self._topic(topic)
        return EmbeddedMember(self._node, self._partition, group, topics, start, hooks)

    # --- capabilities -------------------------------------------------------------------------------------

    def partition_files(self, topic: str, partition: int) -> PartitionFiles:
        """See the contract."""
        log_partition = self._partition(topic, partition)
        return PartitionFiles(
            log_partition.folder,
            log_partition.log_start_offset,
            log_partition.high_watermark,
            len(log_partition.segments),
            log_partition.size_bytes(),
            log_partition.segments.acknowledged_end,
        )

    async def byte_ranges(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> list[ByteRange]:
        """See the contract."""
        with _of_topic(topic):
            return self._partition(topic, partition).byte_ranges(from_offset, to_offset)

    async def indexed_topics(self) -> dict[str, str]:
        """See the contract."""
        return {
            topic.name: topic.id.hex
            for topic in self._node.topics.all()
            if topic.config.get("mainstem.search") == "indexed"
        }

    async def preview_settings(self, name: str, settings: Mapping[str, str | None]) -> list[Bounds]:
        """See the contract."""
        changes = _config_changes(settings)
        with _of_topic(name):
            topic = await self._node.topics.alter_config(name, changes, validate_only=True)
            config = self._node.topics.partition_config(topic)
            partitions = [self._node.partition(topic, index) for index in range(topic.partitions)]
            return [
                Bounds(
                    await partition.preview_log_start(config, self._node.retention.preview_limit(partition)),
                    partition.high_watermark,
                )
                for partition in partitions
            ]

    # --- admin --------------------------------------------------------------------------------------------

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """See the contract."""
        return [summary for summary in await self._summaries.all() if internal or not summary.internal]

    async def _yield_to_loop(self) -> None:
        next_turn: Promise[None] = Promise()
        self._node.clock.call_soon(lambda: next_turn.resolve(None))
        await next_turn

    async def topic(self, name: str) -> TopicInfo:
        """See the contract."""
        topic = await self._node.runtime.read(self._topic(name))
        log_partitions = [self._node.partition(topic, index) for index in range(topic.partitions)]
        await self._end_committed(*log_partitions)
        partitions = []
        for index, partition in enumerate(log_partitions):
            partitions.append(
                PartitionInfo(
                    index,
                    partition.log_start_offset,
                    partition.high_watermark,
                    NODE_ID,
                    (NODE_ID,),
                    (NODE_ID,),
                    partition.size_bytes(),
                )
            )
        settings = [
            Setting(
                entry.config.name,
                entry.value,
                entry.config.name not in topic.config,
                doc=entry.config.documentation,
                default=TOPIC_CONFIGS[entry.config.name].default_in(self._node.settings),
                type=entry.config.type,
                valid=valid_values(entry.config),
            )
            for entry in self._node.topics.describe_config(topic)
        ]
        return TopicInfo(
            name,
            format_id(topic.id),
            topic.internal,
            tuple(partitions),
            tuple(sorted(settings, key=attrgetter("name"))),
        )

    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """See the contract."""
        with _of_topic(name):
            await self._node.topics.create(name, -1 if partitions is None else partitions, dict(settings))

    async def add_partitions(self, name: str, total: int) -> None:
        """See the contract."""
        with _of_topic(name):
            await self._node.topics.add_partitions(name, total)

    async def alter_topic(self, name: str, settings: Mapping[str, str | None]) -> None:
        """See the contract."""
        with _of_topic(name):
            await self._node.topics.alter_config(name, _config_changes(settings))

    async def delete_topic(self, name: str) -> None:
        """See the contract."""
        with _of_topic(name):
            await self._node.topics.delete(name)

    async def delete_records(self, topic: str, partition: int, before: int) -> int:
        """See the contract."""
        with _translated(f"topic {topic}, partition {partition}"):
            return await self._node.delete_records(self._partition(topic, partition), before)

    async def groups(self) -> list[GroupSummary]:
        """See the contract."""
        with _translated("consumer groups"):
            groups = [*await self._node.groups.list(), *await self._node.share_groups.list()]
        summaries = [GroupSummary(group.group_id, group.state.value, group.protocol_type) for group in groups]
        return sorted(summaries, key=attrgetter("name"))

    async def group(self, name: str) -> GroupInfo:
        """See the contract."""
        with _translated(f"group {name}"):
            (view,) = await self._node.groups.describe([name])
            shared = await share_group_info(self._node, name) if view is None else None
        if shared is not None:
            return shared
        if view is None:
            raise UnknownGroup(f"group {name}: there is no such group")
        members = tuple(
            member_info(
                view.protocol_type,
                member.member_id,
                member.client_id,
                member.client_host,
                member.instance_id,
                member.assignment,
            )
            for member in view.members
        )
        positions = await self._positions(view, members)
        return GroupInfo(name, view.state.value, view.protocol, members, positions, view.protocol_type)

    async def _positions(self, view: GroupView, members: Sequence[MemberInfo]) -> tuple[GroupPosition, ...]:
        offsets: dict[tuple[str, int], int] = {}
        for topic_offsets in await self._node.groups.fetch_offsets(view.group_id):
            for partition_offset in topic_offsets.partitions:
                if partition_offset.offset is not None:
                    key = topic_offsets.topic.name, partition_offset.partition
                    offsets[key] = partition_offset.offset.offset
        topics = {topic for topic, _ in offsets}
        topics |= {topic for member in members for topic, _ in member.assigned}
        positions = []
        now_ms = self._node.clock.wall_ms()
        for name in sorted(topics):
            topic = self._node.topics.get(name)
            for index in range(topic.partitions if topic is not None else 0):
                partition = self._partition(name, index)
                offset, end = offsets.get((name, index)), partition.high_watermark
                if offset is None:
                    positions.append(GroupPosition(name, index, None, end, None, None))
                    continue
                first_unread = max(offset, partition.log_start_offset)
                lag_ms = max(0, now_ms - partition.arrival_of(first_unread)) if first_unread < end else 0
                positions.append(GroupPosition(name, index, offset, end, max(0, end - offset), lag_ms))
        return tuple(positions)

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """See the contract."""
        topics = tuple(
            (TopicRef(position.topic), (NewOffset(position.partition, position.offset),))
            for position in positions
        )
        with _translated(f"group {group}"):
            await self._check_no_members(group)
            errors = await self._node.groups.commit(CommitRequest(group_id=group, topics=topics))
            for error in itertools.chain.from_iterable(errors):
                if error is not None:
                    raise error

    async def _check_no_members(self, group: str) -> None:
        (view,) = await self._node.groups.describe([group])
        if view is not None and view.members:
            raise NonEmptyGroup("the group has members; stop them first")

    async def delete_group(self, name: str) -> None:
        """See the contract."""
        with _translated(f"group {name}"):
            is_share = self._node.share_groups.find(name) is not None
            await (self._node.share_groups if is_share else self._node.groups).delete(name)

    async def cluster(self) -> ClusterInfo:
        """See the contract."""
        return ClusterInfo(self._node.log.cluster_id, NODE_ID, (Broker(NODE_ID, *self.address),))

    async def health(self) -> Health:
        """See the contract."""
        problems = []
        if self._node.log.read_only:
            problems.append(f"the log is read-only: {self._node.log.read_only}")
        if self._node.rejection_reason:
            problems.append(f"topics accept no events: {self._node.rejection_reason}")
        if self._node.stall_monitor.problem:
            problems.append(self._node.stall_monitor.problem)
        problems += [*self._node.state_problems(), *self._node.space_relief.problems()]
        for partition in self._node.log.partitions():
            topic = self._node.topics.by_id(partition.topic_id) if partition.fence_reason else None
            if topic is not None:
                problems.append(
                    f"topic {topic.name}, partition {partition.index} is read-only: {partition.fence_reason}"
                )
        return Health(not problems, tuple(problems), tuple(self._damaged_offsets()))

    def _damaged_offsets(self) -> Iterator[DamagedOffsets]:
        for partition, first, following in self._node.log.damaged_offsets():
            topic = self._node.topics.by_id(partition.topic_id)
            if topic is not None:
                yield DamagedOffsets(topic.name, partition.index, first, following - 1)

    def metric_values(self) -> dict[str, float]:
        """See the contract."""
        log, space_guard, recovery = self._node.log, self._node.space_guard, self._node.recovery_report
        values: dict[str, float] = {
            "mainstem_log_read_only": log.read_only is not None,
            "mainstem_partitions_read_only": sum(
                partition.fence_reason is not None for partition in log.partitions()
            ),
            "mainstem_damaged_offsets": sum(
                following - first for _, first, following in log.damaged_offsets()
            ),
            "mainstem_uncommitted_bytes": log.pending_bytes,
            "mainstem_reserve_bytes": space_guard.reserve_bytes,
            "mainstem_reserve_full": space_guard.rejection_reason is not None,
        }
        if recovery is not None:
            values |= {
                "mainstem_recovery_clean": recovery.clean,
                "mainstem_recovery_replayed_bytes": recovery.replayed_bytes,
                "mainstem_recovery_journal_damage": recovery.journal_damage,
                "mainstem_recovery_quarantined_bytes": recovery.truncated_bytes,
                "mainstem_recovery_quarantined_partitions": len(recovery.quarantined),
            }
        return values

    async def _end_committed(self, *partitions: Partition) -> None:
        """Wait until what Kafka's clients have appended with acks=0 or acks=1 can be read. While the disk
        fails or does not answer, readers get what is committed."""
        if self._node.stall_monitor.problem:
            return
        behind = [part for part in partitions if part.log_end_offset > part.high_watermark]
        await gather([when_end_committed(partition, self._node.clock) for partition in behind])

    # --- lookups ------------------------------------------------------------------------------------------

    def _topic(self, name: str) -> TopicMetadata:
        topic = self._node.topics.get(name)
        if topic is None:
            raise UnknownTopic(f"topic {name}: there is no such topic")
        return topic

    def _partition(self, name: str, index: int) -> Partition:
        topic = self._topic(name)
        if not 0 <= index < topic.partitions:
            raise UnknownTopic(no_partition(name, index, topic.partitions))
        return self._node.partition(topic, index)


def _config_changes(settings: Mapping[str, str | None]) -> list[ConfigChange]:
    return [
        ConfigChange(name, "delete" if value is None else "set", value) for name, value in settings.items()
    ]


def _positions_or_raise(results: Sequence[PublishResult | None]) -> list[Position]:
    positions = [result for result in results if isinstance(result, Position)]
    if len(positions) < len(results):
        error = next(result for result in results if isinstance(result, StreamError))
        error.results = [result for result in results if result is not None]
        raise error
    return positions
