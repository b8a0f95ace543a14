"""The contract over this machine's log and coordinator, in the same process: no sockets.

Owns: nothing but the way there; everything is the node's. Refuses: to be used from another thread or loop
than the node's. Doors other than Kafka and the tools inside the server use it; `byte_ranges` is for search,
which reads files.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from mainstem.contract import (
    NO_SETTINGS,
    Bounds,
    Broker,
    ClusterInfo,
    GroupInfo,
    GroupPosition,
    GroupSummary,
    Health,
    InvalidArgument,
    MemberInfo,
    NewEvent,
    NotReachable,
    PartitionInfo,
    Position,
    Setting,
    StreamError,
    TopicInfo,
    TopicSummary,
    UnknownGroup,
    UnknownTopic,
)
from mainstem.coordinator import errors as refusals
from mainstem.coordinator.groups.types import CommitRequest, GroupView, NewOffset, TopicRef
from mainstem.coordinator.topics.config_types import valid_values
from mainstem.coordinator.topics.topics import ConfigChange, TopicMetadata
from mainstem.engines.embedded.errors import translate
from mainstem.engines.embedded.member import EmbeddedMember, read_assignment
from mainstem.engines.embedded.publish import PublishResult, append, partition_of, results_of
from mainstem.engines.embedded.read import EmbeddedReader
from mainstem.engines.embedded.topics import TopicSummaries
from mainstem.log.partition.partition import Partition
from mainstem.promise import Promise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mainstem.node import Node

NODE_ID = 1


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Refusals of log and coordinator become the contract's."""
    try:
        yield
    except StreamError:
        raise
    except Exception as error:
        raise translate(error, what) from None


def _of_topic(name: str) -> AbstractContextManager[None]:
    return _translated(f"topic {name}")


def _id_text(topic_id: UUID) -> str:
    return base64.urlsafe_b64encode(topic_id.bytes).decode().rstrip("=")


class EmbeddedEngine:
    """Implements `mainstem.contract.Engine` on an open node. `at` is what `cluster` tells as its address."""

    def __init__(self, node: Node, *, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._node = node
        self._address = address
        self._turn = itertools.count()
        self._summaries = TopicSummaries(node, self._turn_of_others)

    # ------------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """See the contract."""
        if not events:
            return []
        with _of_topic(topic):
            known = await self._node.auto_create(topic)
        if self._node.rejection_reason is not None:
            raise NotReachable(f"topic {topic}: {self._node.rejection_reason}")
        any_partition = next(self._turn) % known.partitions
        by_partition: dict[int, list[int]] = {}
        for at, event in enumerate(events):
            index = event.partition
            if index is None:
                index = any_partition if event.key is None else partition_of(event.key, known.partitions)
            by_partition.setdefault(index, []).append(at)
        results: list[PublishResult | None] = [None] * len(events)
        now_ms = self._node.clock.wall_ms()
        waiting: list[tuple[list[int], list[Promise[list[PublishResult]]]]] = []
        for index, places in by_partition.items():
            try:
                partition = self._partition(topic, index)
            except UnknownTopic as error:
                for at in places:
                    results[at] = error
                continue
            waiting.append((places, append(topic, partition, [events[at] for at in places], now_ms)))
        for places, laters in waiting:
            found = itertools.chain.from_iterable(await results_of(laters))
            for at, result in zip(places, found, strict=True):
                results[at] = result
        return _all_written(results)

    async def partitions(self, topic: str) -> int:
        """See the contract."""
        return self._topic(topic).partitions

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """See the contract."""
        found = self._partition(topic, partition)
        return Bounds(found.log_start_offset, found.high_watermark)

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """See the contract."""
        with _of_topic(topic):
            found = await self._partition(topic, partition).offset_for_time(time_ms)
        return None if found is None else found.offset

    async def reader(self, start: Sequence[Position]) -> EmbeddedReader:
        """See the contract."""
        if not start:
            raise InvalidArgument("a reader needs at least one position")
        return EmbeddedReader(self._node.clock, self._partition, start)

    async def join(
        self, group: str, topics: Sequence[str], *, start: Literal["earliest", "latest"]
    ) -> EmbeddedMember:
        """See the contract."""
        for topic in topics:
            self._topic(topic)
        return EmbeddedMember(self._node, self._partition, group, topics, start)

    def partition_files(self, topic: str, partition: int) -> tuple[str, int, int, int, int]:
        """(folder, first offset, watermark, segments, bytes). No two topics ever have the same folder.
        UnknownTopic."""
        held = self._partition(topic, partition)
        return (
            held.folder, held.log_start_offset, held.high_watermark, len(held.segments), held.size_bytes()
        )  # fmt: skip

    async def byte_ranges(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> list[tuple[str, int, int]]:
        """(file, from, to) of the batches with these offsets, never past the watermark. `to_offset` is
        exclusive."""
        with _of_topic(topic):
            return self._partition(topic, partition).byte_ranges(from_offset, to_offset)

    async def indexed_topics(self) -> dict[str, str]:
        """Topics set `mainstem.search=indexed`: id (hexadecimal) by name."""
        return {
            topic.name: topic.id.hex
            for topic in self._node.topics.all()
            if topic.config.get("mainstem.search") == "indexed"
        }

    async def preview_settings(self, name: str, settings: Mapping[str, str | None]) -> list[Bounds]:
        """What each partition would hold once retention has looked at it under these settings (None: back
        to the default). Changes nothing. UnknownTopic, InvalidArgument."""
        changes = _config_changes(settings)
        with _of_topic(name):
            topic = await self._node.topics.alter_config(name, changes, validate_only=True)
            config = self._node.topics.partition_config(topic)
            held = [self._node.partition(topic, index) for index in range(topic.partitions)]
            return [Bounds(await each.preview_log_start(config), each.high_watermark) for each in held]

    # ------------------------------------------------------------------------------------------------------

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """See the contract."""
        return [each for each in await self._summaries.all() if internal or not each.internal]

    async def _turn_of_others(self) -> None:
        later: Promise[None] = Promise()
        self._node.clock.call_soon(lambda: later.resolve(None))
        await later

    async def topic(self, name: str) -> TopicInfo:
        """See the contract."""
        topic = await self._node.runtime.read(self._topic(name))
        partitions = []
        for index in range(topic.partitions):
            held = self._node.partition(topic, index)
            partitions.append(
                PartitionInfo(
                    index,
                    held.log_start_offset,
                    held.high_watermark,
                    NODE_ID,
                    (NODE_ID,),
                    (NODE_ID,),
                    held.size_bytes(),
                )
            )
        settings = [
            Setting(
                entry.config.name,
                entry.value,
                entry.config.name not in topic.config,
                doc=entry.config.documentation,
                default=entry.config.default_in(self._node.settings),
                type=entry.config.type,
                valid=valid_values(entry.config),
            )
            for entry in self._node.topics.describe_config(topic)
        ]
        return TopicInfo(
            name,
            _id_text(topic.id),
            topic.internal,
            tuple(partitions),
            tuple(sorted(settings, key=lambda each: each.name)),
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
            return await self._partition(topic, partition).delete_records(before)

    async def groups(self) -> list[GroupSummary]:
        """See the contract."""
        with _translated("consumer groups"):
            return [GroupSummary(each.group_id, each.state.value) for each in await self._node.groups.list()]

    async def group(self, name: str) -> GroupInfo:
        """See the contract."""
        with _translated(f"group {name}"):
            (view,) = await self._node.groups.describe([name])
        if view is None:
            raise UnknownGroup(f"group {name}: there is no such group")
        members = tuple(
            MemberInfo(
                each.member_id,
                each.client_id,
                each.client_host,
                each.instance_id,
                read_assignment(each.assignment),
            )
            for each in view.members
        )
        return GroupInfo(name, view.state.value, view.protocol, members, await self._positions(view, members))

    async def _positions(self, view: GroupView, members: Sequence[MemberInfo]) -> tuple[GroupPosition, ...]:
        offsets: dict[tuple[str, int], int] = {}
        for fetched in await self._node.groups.fetch_offsets(view.group_id):
            for one in fetched.partitions:
                if one.offset is not None:
                    offsets[fetched.topic.name, one.partition] = one.offset.offset
        topics = {topic for topic, _ in offsets} | {topic for each in members for topic, _ in each.assigned}
        positions = []
        now_ms = self._node.clock.wall_ms()
        for name in sorted(topics):
            topic = self._node.topics.get(name)
            for index in range(topic.partitions if topic is not None else 0):
                held = self._partition(name, index)
                offset, end = offsets.get((name, index)), held.high_watermark
                if offset is None:
                    positions.append(GroupPosition(name, index, None, end, None, None))
                    continue
                unread = max(offset, held.log_start_offset)
                lag_ms = max(0, now_ms - held.arrival_of(unread)) if unread < end else 0
                positions.append(GroupPosition(name, index, offset, end, max(0, end - offset), lag_ms))
        return tuple(positions)

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """See the contract."""
        topics = tuple(
            (TopicRef(each.topic), (NewOffset(each.partition, each.offset),)) for each in positions
        )
        with _translated(f"group {group}"):
            await self._check_no_members(group)
            verdicts = await self._node.groups.commit(CommitRequest(group_id=group, topics=topics))
            for verdict in itertools.chain.from_iterable(verdicts):
                if verdict is not None:
                    raise verdict

    async def _check_no_members(self, group: str) -> None:
        (view,) = await self._node.groups.describe([group])
        if view is not None and view.members:
            raise refusals.NonEmptyGroup("the group has members; stop them first")

    async def delete_group(self, name: str) -> None:
        """See the contract."""
        with _translated(f"group {name}"):
            await self._node.groups.delete(name)

    async def cluster(self) -> ClusterInfo:
        """See the contract."""
        return ClusterInfo(self._node.log.cluster_id, NODE_ID, (Broker(NODE_ID, *self._address),))

    async def health(self) -> Health:
        """See the contract."""
        problems = []
        if self._node.log.read_only:
            problems.append(f"the log is read-only: {self._node.log.read_only}")
        if self._node.rejection_reason:
            problems.append(f"topics take no events: {self._node.rejection_reason}")
        if self._node.stall_monitor.problem:
            problems.append(self._node.stall_monitor.problem)
        fenced = [each for each in self._node.log.partitions() if each.fenced]
        for held in fenced:
            topic = self._node.topics.by_id(held.topic_id)
            if topic is not None:
                problems.append(f"topic {topic.name}, partition {held.index} is read-only: {held.fenced}")
        return Health(not problems, tuple(problems))

    def metric_values(self) -> dict[str, float]:
        """What the log tells of itself, by names of metrics."""
        log, reserve, found = self._node.log, self._node.space_guard, self._node.recovery_report
        told: dict[str, float] = {
            "mainstem_log_read_only": log.read_only is not None,
            "mainstem_partitions_read_only": sum(each.fenced is not None for each in log.partitions()),
            "mainstem_uncommitted_bytes": log.pending_bytes,
            "mainstem_reserve_bytes": reserve.reserve_bytes,
            "mainstem_reserve_full": reserve.rejection_reason is not None,
        }
        if found is not None:
            told |= {
                "mainstem_recovery_clean": found.clean,
                "mainstem_recovery_replayed_bytes": found.replayed_bytes,
                "mainstem_recovery_quarantined_bytes": found.truncated_bytes,
                "mainstem_recovery_quarantined_partitions": len(found.quarantined),
            }
        return told

    async def close(self) -> None:
        """See the contract. The node is its owner's to close."""

    # -----------------------------------------------------------------------------------------------------

    def _topic(self, name: str) -> TopicMetadata:
        topic = self._node.topics.get(name)
        if topic is None:
            raise UnknownTopic(f"topic {name}: there is no such topic")
        return topic

    def _partition(self, name: str, index: int) -> Partition:
        topic = self._topic(name)
        if not 0 <= index < topic.partitions:
            raise UnknownTopic(f"topic {name}: there is no partition {index}")
        return self._node.partition(topic, index)


def _config_changes(settings: Mapping[str, str | None]) -> list[ConfigChange]:
    return [
        ConfigChange(name, "delete" if value is None else "set", value) for name, value in settings.items()
    ]


def _all_written(results: Sequence[PublishResult | None]) -> list[Position]:
    positions = [each for each in results if isinstance(each, Position)]
    if len(positions) < len(results):
        error = next(each for each in results if isinstance(each, StreamError))
        error.results = [each for each in results if each is not None]
        raise error
    return positions
