"""The list of topics, kept: what has not moved since the last look is not made again.

Owns: one summary for each topic, and how it is seen that it is out of date. Refuses: to be told by the log,
whose path of a batch stays as short as it is: looking at 10,000 partitions takes 2 ms, in slices. Used by
the embedded engine only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mainstem.contract import TopicSummary
from mainstem.coordinator.errors import UnknownTopicOrPartition
from mainstem.log.partition.partition import Partition

if TYPE_CHECKING:
    from mainstem.coordinator.topics.topics import TopicMetadata
    from mainstem.node import Node

LOOK_PARTITIONS = 1000
"""So many are compared in one turn of the loop."""
MAKE_TOPICS = 200
"""So many new ones are made in one turn of the loop."""


@dataclass(slots=True)
class _ListedTopic:
    """One topic, as it is listed."""

    topic: TopicMetadata
    partitions: list[Partition]
    summary: TopicSummary

    def look(self) -> None:
        """Make the summary anew, if it is another one."""
        found = _summary(self.topic, self.partitions)
        if found != self.summary:
            self.summary = found


@dataclass(slots=True)
class _TopicListing:
    """All topics of one moment."""

    topics: Sequence[TopicMetadata] = ()
    """The coordinator's own list: it makes another one when a topic changes."""
    held: list[_ListedTopic] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    owners: list[_ListedTopic] = field(default_factory=list)
    """Of each of the partitions."""
    marks: list[int] = field(default_factory=list)
    """Of each of the partitions, when it was last looked at."""


class TopicSummaries:
    """All topics' summaries. A topic that has not moved keeps the very object that was given before."""

    def __init__(self, node: Node, turn: Callable[[], Awaitable[None]]) -> None:
        """`turn`: let everything else on the loop have its turn."""
        self._node = node
        self._turn = turn
        self._listed = _TopicListing()

    async def all(self) -> list[TopicSummary]:
        """By name, the internal ones too."""
        topics = await self._node.runtime.read(self._node.topics.all())
        listed = self._listed
        if listed.topics is not topics:
            listed = self._listed = await self._list(topics, listed)
        for at in range(0, len(listed.partitions), LOOK_PARTITIONS):
            if at:
                await self._turn()
            _look(listed, at, at + LOOK_PARTITIONS)
        return [each.summary for each in listed.held]

    async def _list(self, topics: Sequence[TopicMetadata], before: _TopicListing) -> _TopicListing:
        known = {each.topic.name: each for each in before.held}
        listed = _TopicListing(topics)
        made = 0
        for topic in topics:
            held = known.get(topic.name)
            if held is None or held.topic is not topic:
                made += 1
                if not made % MAKE_TOPICS:
                    await self._turn()
                with contextlib.suppress(UnknownTopicOrPartition):  # deleted meanwhile
                    partitions = [self._node.partition(topic, at) for at in range(topic.partitions)]
                    held = _ListedTopic(topic, partitions, _summary(topic, partitions))
                if held is None or held.topic is not topic:
                    continue
            listed.held.append(held)
            listed.partitions += held.partitions
            listed.owners += [held] * len(held.partitions)
        marks = dict(zip(map(id, before.partitions), before.marks, strict=True))
        listed.marks = [marks.get(id(each), -1) for each in listed.partitions]
        return listed


def _look(listed: _TopicListing, start: int, end: int) -> None:
    """Bring up to date what has moved of these partitions."""
    # Each event, deletion, roll and cut changes the sum: all but a roll and a cut of what was never
    # committed raise it.
    marks = [
        each.high_watermark + each.log_end_offset + each.log_start_offset - len(each.segments)
        for each in listed.partitions[start:end]
    ]
    before = listed.marks[start:end]
    if marks == before:
        return
    listed.marks[start:end] = marks
    moved = {
        id(owner): owner
        for owner, mark, was in zip(listed.owners[start:end], marks, before, strict=True)
        if mark != was
    }
    for owner in moved.values():
        owner.look()


def _summary(topic: TopicMetadata, partitions: Sequence[Partition]) -> TopicSummary:
    events = written = size_bytes = 0
    for held in partitions:
        written += held.high_watermark
        events += held.high_watermark - held.log_start_offset
        size_bytes += held.size_bytes()
    return TopicSummary(topic.name, topic.partitions, events, topic.internal, written, size_bytes)
