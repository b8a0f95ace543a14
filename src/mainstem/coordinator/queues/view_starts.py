"""Where the views of a subscription begin in partitions that it meets for the first time.

Owns: the records of these views. Refuses: to write them, and to know the ends of partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from mainstem.coordinator.queues.records import ViewStarted
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionViews

OPENED_AT_ONCE = 500
"""Views that are begun in a turn of the event loop, with one record batch: some milliseconds."""


class PartitionStart(NamedTuple):
    """Where a subscription may begin in a partition."""

    topic_id: UUID
    partition: int
    log_start: int
    high_watermark: int
    """Where it begins if its settings say `from_latest`."""


def first_views(
    subscription: SubscriptionMetadata,
    next_id: int,
    views: SubscriptionViews,
    starts: Sequence[PartitionStart],
) -> list[ViewStarted]:
    """Records of the views that the subscription does not have yet. `next_id`: the number of the first."""
    new = {
        (subscription.id, start.topic_id, start.partition): start
        for start in starts
        if views.find((subscription.id, start.topic_id, start.partition)) is None
    }
    is_latest = subscription.settings.from_latest
    return [
        ViewStarted(next_id + number, *place, start.high_watermark if is_latest else start.log_start)
        for number, (place, start) in enumerate(new.items())
    ]
