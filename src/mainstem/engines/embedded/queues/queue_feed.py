"""The feeds of a subscription: from partitions, or from the routes of a namespace.

Owns: the name for both kinds, and what both ask of retention. Refuses: everything else.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.engines.embedded.queues.feed import PartitionFeed
from mainstem.engines.embedded.queues.routed_feed import RoutedFeed
from mainstem.log.partition.partition import Partition

QueueFeed: TypeAlias = PartitionFeed | RoutedFeed
"""Both have the same methods; what differs is what a position is."""


class TrimsViews(Protocol):
    """Lets events that retention has deleted be done. Errors of the log and the coordinator."""

    async def trim(self, partition: Partition) -> None:
        """Those of a partition, in all its views."""

    async def trim_routed(self, sequence: RoutedSequence) -> None:
        """Those of a namespace, in all its queues."""
