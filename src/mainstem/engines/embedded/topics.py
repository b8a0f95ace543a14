"""Caches the summaries of the list of topics, and renews only those of topics that changed.

Owns: one summary of each topic, and how a change is noticed. Refuses: notifications by the log, which would
make each append slower. Checking 10,000 partitions for a change takes 2 ms, in slices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from mainstem import base64url
from mainstem.contract import TopicSummary
from mainstem.coordinator.errors import UnknownTopicOrPartition
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.log.partition.partition import Partition
from mainstem.node import Node

CHECKED_PARTITIONS_PER_TURN = 1000
LISTED_TOPICS_PER_TURN = 200


@dataclass(slots=True)
class _ListedTopic:
    """One topic, its partitions and its current summary."""

    topic: TopicMetadata
    partitions: list[Partition]
    summary: TopicSummary

    def refresh(self) -> None:
        """Replace the topic's cached summary if its partitions have changed since."""
        summary = _summarise(self.topic, self.partitions)
        if summary != self.summary:
            self.summary = summary


@dataclass(slots=True)
class _TopicListing:
    """The cached list of all topics. A new listing replaces it when a topic is created, deleted or altered.
    The last three lists have an item for each partition."""

    topics: Sequence[TopicMetadata] = ()
    """The coordinator's own list: it makes another one when a topic changes."""
    items: list[_ListedTopic] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    owners: list[_ListedTopic] = field(default_factory=list)
    fingerprints: list[int] = field(default_factory=list)
    """A number for each partition, as it was when the partition was last checked; if it differs now, the
    topic's summary is renewed. It is a sum that every append, deletion, roll and truncation changes; all of
    them raise it, except the roll of a segment and the truncation of events that were never committed. -1:
    never checked."""


class TopicSummaries:
    """The summaries of all topics. A topic that did not change keeps its TopicSummary object."""

    def __init__(self, node: Node, yield_to_loop: Callable[[], Awaitable[None]]) -> None:
        self._node = node
        self._yield_to_loop = yield_to_loop
        self._listing = _TopicListing()

    async def all(self) -> list[TopicSummary]:
        """The summaries of all topics, internal ones too, sorted by name."""
        topics = await self._node.runtime.read(self._node.topics.all())
        listing = self._listing
        if listing.topics is not topics:
            listing = self._listing = await self._list(topics, listing)
        for start in range(0, len(listing.partitions), CHECKED_PARTITIONS_PER_TURN):
            if start:
                await self._yield_to_loop()
            _refresh_changed(listing, start, start + CHECKED_PARTITIONS_PER_TURN)
        return [item.summary for item in listing.items]

    async def _list(self, topics: Sequence[TopicMetadata], before: _TopicListing) -> _TopicListing:
        """A listing of `topics` that keeps the items of those that are in `before`."""
        items_before = {item.topic.name: item for item in before.items}
        listing = _TopicListing(topics)
        new_count = 0
        for topic in topics:
            item = items_before.get(topic.name)
            if item is None or item.topic is not topic:
                new_count += 1
                if not new_count % LISTED_TOPICS_PER_TURN:
                    await self._yield_to_loop()
                with contextlib.suppress(UnknownTopicOrPartition):  # it was deleted in the meantime
                    partitions = [self._node.partition(topic, index) for index in range(topic.partitions)]
                    item = _ListedTopic(topic, partitions, _summarise(topic, partitions))
                if item is None or item.topic is not topic:
                    continue
            listing.items.append(item)
            listing.partitions += item.partitions
            listing.owners += [item] * len(item.partitions)
        fingerprints = dict(zip(map(id, before.partitions), before.fingerprints, strict=True))
        listing.fingerprints = [fingerprints.get(id(partition), -1) for partition in listing.partitions]
        return listing


def _refresh_changed(listing: _TopicListing, start: int, end: int) -> None:
    """Refresh the topics of those partitions from `start` to `end` that changed."""
    fingerprints = [
        partition.high_watermark
        + partition.log_end_offset
        + partition.log_start_offset
        - len(partition.segments)
        for partition in listing.partitions[start:end]
    ]
    before = listing.fingerprints[start:end]
    if fingerprints == before:
        return
    listing.fingerprints[start:end] = fingerprints
    changed = {
        id(owner): owner
        for owner, fingerprint, old in zip(listing.owners[start:end], fingerprints, before, strict=True)
        if fingerprint != old
    }
    for owner in changed.values():
        owner.refresh()


def _summarise(topic: TopicMetadata, partitions: Sequence[Partition]) -> TopicSummary:
    events = written = size_bytes = 0
    for partition in partitions:
        written += partition.high_watermark
        events += partition.high_watermark - partition.log_start_offset
        size_bytes += partition.size_bytes()
    id_ = format_id(topic.id)
    return TopicSummary(topic.name, topic.partitions, events, topic.internal, written, size_bytes, id_)


def format_id(topic_id: UUID) -> str:
    """A topic's id as Kafka prints it: base64url, 22 characters."""
    return base64url.encode(topic_id.bytes)
