"""Share groups of this node as the contract shows groups: members, and how far each partition is.

Owns: the conversion. Refuses: changes, and what a subscription shows beside (`queues/`).
"""

from __future__ import annotations

from mainstem.contract import GroupInfo, GroupPosition, MemberInfo
from mainstem.coordinator.errors import GroupIdNotFound
from mainstem.coordinator.groups.share_types import SHARE, ShareGroupMember
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.node import Node


async def share_group_info(node: Node, name: str) -> GroupInfo | None:
    """The share group of that name; None: there is none. A position is the first record that is not done, and
    its lag the number of all that are not. StorageError."""
    view = await node.queue_runtime.read(node.share_groups.view(name))
    group = node.share_groups.find(name)
    if group is None or isinstance(view, GroupIdNotFound):
        return None
    members = tuple(_member(node, member) for member in view.members)
    positions = [
        _position(node, topic, part)
        for part in node.subscriptions.views.of_subscription(group.id)
        if (topic := node.topics.by_id(part.topic_id)) is not None and part.partition < topic.partitions
    ]
    in_order = tuple(sorted(positions, key=lambda position: (position.topic, position.partition)))
    return GroupInfo(name, view.state.value, view.assignor, members, in_order, SHARE)


def _member(node: Node, member: ShareGroupMember) -> MemberInfo:
    facts = member.facts
    assigned = tuple(
        sorted(
            (topic.name, index)
            for topic_id, partitions in member.assignment.items()
            if (topic := node.topics.by_id(topic_id)) is not None
            for index in partitions
        )
    )
    return MemberInfo(facts.member_id, facts.client_id, facts.client_host, None, assigned)


def _position(node: Node, topic: TopicMetadata, view: SubscriptionView) -> GroupPosition:
    partition = node.partition(topic, view.partition)
    sequence, end = view.sequence, partition.high_watermark
    ahead, oldest = sequence.ahead_and_oldest(partition.log_start_offset, end)
    lag = sequence.counts().outstanding + ahead
    arrived_ms = partition.arrival_of(oldest) if oldest < end else -1
    lag_ms = 0 if not lag else max(0, node.clock.wall_ms() - arrived_ms) if arrived_ms >= 0 else None
    return GroupPosition(topic.name, view.partition, oldest, end, lag, lag_ms)
