"""The feeds of a subscription: from partitions, or from the routes of a namespace.

Owns: the name for both kinds. Refuses: everything else.
"""

from __future__ import annotations

from typing import TypeAlias

from mainstem.engines.embedded.queues.feed import PartitionFeed
from mainstem.engines.embedded.queues.routed_feed import RoutedFeed

QueueFeed: TypeAlias = PartitionFeed | RoutedFeed
"""Both have the same methods; what differs is what a position is."""
