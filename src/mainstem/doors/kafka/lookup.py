"""What several handlers look up in the same way.

Owns: the check of a client's leader epoch, and finding a partition by name.
Refuses: anything about bytes. Called by handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.coordinator.errors import UnknownTopicOrPartition
from mainstem.doors.kafka.errors import ErrorCode

if TYPE_CHECKING:
    from mainstem.doors.kafka.handler import HandlerContext
    from mainstem.log.partition.partition import Partition

NO_EPOCH = -1


def epoch_error(partition: Partition, current_leader_epoch: int) -> int:
    """0, or why a client that believes in this leader epoch is to fetch metadata again (KIP-320)."""
    if current_leader_epoch in (NO_EPOCH, partition.epoch):
        return 0
    if current_leader_epoch < partition.epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    return ErrorCode.UNKNOWN_LEADER_EPOCH


def partition_of(context: HandlerContext, name: str, index: int) -> Partition:
    """A partition by its topic's name. UnknownTopic."""
    topic = context.topics.get(name)
    if topic is None:
        raise UnknownTopicOrPartition(f"there is no topic {name}")
    return context.node.partition(topic, index)
