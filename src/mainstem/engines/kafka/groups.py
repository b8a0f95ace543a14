"""Consumer groups of a cluster: their members, positions and lag, for the Kafka engine.

Owns: the part of the contract's Admin that is about groups. Refuses: librdkafka's description of groups
(`group_reader.py` says why); it uses librdkafka for offsets only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from mainstem.contract import GroupInfo, GroupPosition, GroupSummary, InvalidArgument, Position, UnknownTopic
from mainstem.engines.kafka.admin_calls import AdminCalls
from mainstem.engines.kafka.errors import translate
from mainstem.engines.kafka.group_reader import GroupReader, SharedPartition
from mainstem.engines.kafka.reachability import parse_addresses
from mainstem.engines.kafka.read import event_headers_at


class KafkaGroups:
    """The consumer groups of the cluster that `admin` calls."""

    def __init__(self, admin: AdminCalls) -> None:
        self._admin = admin
        self._reader = GroupReader(
            parse_addresses(admin.address), admin.clock, admin.timeout_s, admin.security
        )

    async def list(self) -> list[GroupSummary]:
        """See `Admin.groups`."""
        return await self._admin.in_thread(self._reader.list)

    async def describe(self, name: str) -> GroupInfo:
        """See `Admin.group`."""
        group = await self._admin.in_thread(self._reader.describe, name)
        if group.protocol_type == "share":
            shared = await self._shared_positions(group.shared)
            return GroupInfo(name, group.state, group.assignor, group.members, shared, group.protocol_type)
        topics = {topic for member in group.members for topic, _ in member.assigned}
        positions = await self._positions(name, topics)
        return GroupInfo(name, group.state, group.assignor, group.members, positions, group.protocol_type)

    async def _shared_positions(self, partitions: Sequence[SharedPartition]) -> tuple[GroupPosition, ...]:
        """The positions of a share group; how long records have waited is not known."""
        bounds = await self._admin.bounds(
            {(part.topic, part.partition) for part in partitions}, missing_ok=True
        )
        return tuple(
            GroupPosition(
                part.topic,
                part.partition,
                part.start,
                bounds[part.topic, part.partition].end,
                part.lag,
                0 if part.lag == 0 else None,
            )
            for part in sorted(partitions, key=lambda part: (part.topic, part.partition))
            if (part.topic, part.partition) in bounds
        )

    async def _positions(self, name: str, topics: set[str]) -> tuple[GroupPosition, ...]:
        """The positions in all partitions of the topics that the group has read or that are assigned to
        it."""
        request = [ConsumerGroupTopicPartitions(name)]
        futures = self._admin.client.list_consumer_group_offsets(request, **self._admin.timeout)
        committed = await self._admin.single_result(futures, f"group {name}")
        offsets = {
            (partition.topic, partition.partition): partition.offset
            for partition in committed.topic_partitions
            if partition.offset >= 0
        }
        keys = set(offsets)
        for topic in topics | {topic for topic, _ in offsets}:
            # It was deleted, and the group still has its positions; or a member has a name that is none.
            with contextlib.suppress(UnknownTopic, InvalidArgument):
                keys |= {(topic, partition) for partition in range(await self._admin.partitions(topic))}
        bounds = await self._admin.bounds(keys, missing_ok=True)
        behind = [
            Position(*key, max(offset, bounds[key].begin))  # what is before the begin was deleted
            for key, offset in offsets.items()
            if key in bounds and max(offset, bounds[key].begin) < bounds[key].end
        ]
        times: dict[tuple[str, int], int] = {}
        if behind:
            times = await self._admin.in_thread(
                event_headers_at, self._admin.common, self._admin.clock, behind, self._admin.timeout_s
            )
        now_ms = self._admin.clock.wall_ms()
        positions = []
        for key in sorted(keys):
            offset = offsets.get(key)
            end = bounds[key].end if key in bounds else offset or 0
            if offset is None:
                positions.append(GroupPosition(*key, None, end, None, None))
                continue
            time_ms = times.get(key, -1)
            lag_ms = 0 if offset >= end else max(0, now_ms - time_ms) if time_ms >= 0 else None
            positions.append(GroupPosition(*key, offset, end, max(0, end - offset), lag_ms))
        return tuple(positions)

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """See the contract's Admin."""
        if not positions:
            return
        offsets = [
            TopicPartition(position.topic, position.partition, position.offset) for position in positions
        ]
        request = [ConsumerGroupTopicPartitions(group, offsets)]
        futures = self._admin.client.alter_consumer_group_offsets(request, **self._admin.timeout)
        altered = await self._admin.single_result(futures, f"group {group}")
        for partition in altered.topic_partitions:
            if partition.error is not None:
                subject = f"group {group}, {partition.topic} partition {partition.partition}"
                raise translate(partition.error, subject)

    async def delete(self, name: str) -> None:
        """See the contract's Admin."""
        await self._admin.change(f"group {name}", self._admin.client.delete_consumer_groups, [name])

    async def close(self) -> None:
        """Close the connections to the brokers."""
        await self._admin.in_thread(self._reader.close)
