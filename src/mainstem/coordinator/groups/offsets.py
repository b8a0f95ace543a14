"""The committed offsets of all groups, by topic id and partition.

Owns: the offsets in memory, and the rules for committing, fetching, deleting and expiring them. Refuses: to
decide who may commit (`group.py`) and when a decision is durable (`groups.py`).

Semantics: Apache Kafka's OffsetMetadataManager; KIP-211 for the expiry of offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeAlias
from uuid import UUID

import msgspec

from mainstem.coordinator.errors import (
    CommitTooLarge,
    CoordinatorError,
    GroupSubscribed,
    OffsetMetadataTooLarge,
    UnknownTopicId,
    UnknownTopicOrPartition,
)
from mainstem.coordinator.groups.group import ClassicGroup
from mainstem.coordinator.groups.types import (
    CONSUMER_PROTOCOL,
    NO_TOPIC_ID,
    CommitRequest,
    CommittedOffset,
    GroupState,
    OffsetsCommitted,
    OffsetsDeleted,
    PartitionOffset,
    TopicOffsets,
    TopicRef,
)
from mainstem.coordinator.runtime.walked_map import Versioned, WalkedMap
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.log.storage.arrival_index import age_ms

SNAPSHOT_OFFSETS_MAX = 500
"""Offsets in one record of a snapshot, at most."""
COMMIT_BYTES_MAX = 24 << 20
"""Most bytes of one commit, which is one record: less than a batch of the state log may have."""
OFFSET_BYTES = 100
"""Most bytes of a committed offset in a record, without its metadata."""

PartitionErrors = list[list[CoordinatorError | None]]
"""For each topic of a request and each of its partitions, in the order of the request: an error or None."""


GroupOffsets: TypeAlias = Versioned[UUID, Versioned[int, CommittedOffset]]
"""The committed offsets of one group, by topic id and partition."""
_NO_OFFSETS: GroupOffsets = Versioned()
_NO_PARTITIONS: Versioned[int, CommittedOffset] = Versioned()


class TopicLookup(Protocol):
    """The part of `Topics` that finds a topic."""

    def get(self, name: str) -> TopicMetadata | None:
        """The topic of that name; None if there is none."""

    def by_id(self, topic_id: UUID) -> TopicMetadata | None:
        """The topic with that id; None if there is none."""


class CommittedOffsets:
    """The offsets of all groups. Only `apply_commit`, `apply_deletion` and `remove_group` change them."""

    def __init__(self, topics: TopicLookup, metadata_max: int) -> None:
        self._topics = topics
        self._metadata_max = metadata_max
        self._groups: WalkedMap[GroupOffsets] = WalkedMap()

    def clear(self) -> None:
        """Remove all offsets."""
        self._groups.clear()

    # --- records ------------------------------------------------------------------------------------------

    def apply_commit(self, record: OffsetsCommitted) -> None:
        """Apply a state record of committed offsets."""
        group = self._groups.change(record.group_id)
        for topic_id, partition, offset in record.offsets:
            assert partition >= 0, "a committed offset is of a partition that existed"
            self._groups.to_change(group, topic_id)[partition] = offset

    def apply_deletion(self, record: OffsetsDeleted) -> None:
        """Apply a state record of deleted offsets."""
        group = self._groups.change(record.group_id)
        for topic_id, partition in record.partitions:
            partitions = self._groups.to_change(group, topic_id)
            partitions.pop(partition, None)
            if not partitions:
                del group[topic_id]
        if not group:
            self._groups.remove(record.group_id)

    def remove_group(self, group_id: str) -> None:
        """Remove all offsets of a group."""
        self._groups.remove(group_id)

    def snapshot(self) -> Iterator[OffsetsCommitted]:
        """Records of all offsets of this moment, each with SNAPSHOT_OFFSETS_MAX at most. See
        `StateMachine.snapshot`."""
        return _snapshot_records(self.all_groups())

    def all_groups(self) -> Iterator[tuple[str, GroupOffsets]]:
        """The offsets of all groups, as they are now: they do not change while the caller walks over them,
        and must not be changed by it."""
        return self._groups.walk()

    def has(self, group_id: str) -> bool:
        """Whether the group has committed offsets."""
        return group_id in self._groups

    def count(self, group_id: str) -> int:
        """The number of the group's committed offsets."""
        return sum(len(partitions) for partitions in (self._groups.get(group_id) or _NO_OFFSETS).values())

    # --- requests -----------------------------------------------------------------------------------------

    def _find_topic(self, ref: TopicRef) -> TopicMetadata:
        topic = self._topics.get(ref.name) if ref.name else self._topics.by_id(ref.id)
        if topic is not None:
            return topic
        if ref.name or ref.id == NO_TOPIC_ID:
            raise UnknownTopicOrPartition(f"there is no topic {ref.name}")
        raise UnknownTopicId(f"there is no topic with id {ref.id}")

    def commit(self, request: CommitRequest, now_ms: int) -> tuple[list[OffsetsCommitted], PartitionErrors]:
        """The record of the offsets that can be committed, and the error of each partition.
        CommitTooLarge."""
        expire_ms = -1 if request.retention_ms < 0 else now_ms + request.retention_ms
        left_bytes = COMMIT_BYTES_MAX
        offsets: list[tuple[UUID, int, CommittedOffset]] = []
        errors: PartitionErrors = []
        for ref, partitions in request.topics:
            try:
                topic = self._find_topic(ref)
            except CoordinatorError as unknown:
                errors.append([unknown] * len(partitions))
                continue
            errors.append([])
            for new in partitions:
                error = self._commit_error(topic, new.partition, new.metadata)
                errors[-1].append(error)
                if error is None:
                    offset = CommittedOffset(new.offset, new.leader_epoch, new.metadata, now_ms, expire_ms)
                    offsets.append((topic.id, new.partition, offset))
                    characters = len(new.metadata)
                    left_bytes -= OFFSET_BYTES + (characters if new.metadata.isascii() else 4 * characters)
        if left_bytes < 0:
            raise CommitTooLarge(f"{len(offsets)} offsets have more than {COMMIT_BYTES_MAX} bytes together")
        return [OffsetsCommitted(request.group_id, tuple(offsets))] if offsets else [], errors

    def _commit_error(self, topic: TopicMetadata, partition: int, metadata: str) -> CoordinatorError | None:
        if not 0 <= partition < topic.partitions:
            return UnknownTopicOrPartition(f"topic {topic.name} has no partition {partition}")
        if len(metadata) > self._metadata_max:
            return OffsetMetadataTooLarge(f"{len(metadata)} characters; {self._metadata_max} are allowed")
        return None

    def fetch(
        self, group_id: str, selection: Sequence[tuple[TopicRef, Sequence[int]]] | None
    ) -> list[TopicOffsets]:
        """The group's offsets of these partitions; None: of all. An unknown name has no offsets, an unknown
        id an error."""
        committed = self._groups.get(group_id) or _NO_OFFSETS
        if selection is None:
            return self._fetch_all(committed)
        fetched = []
        for ref, partitions in selection:
            try:
                topic = self._find_topic(ref)
            except UnknownTopicOrPartition:
                topic = None
            except UnknownTopicId as error:
                fetched.append(
                    TopicOffsets(ref, tuple(PartitionOffset(index, None, error) for index in partitions))
                )
                continue
            offsets = _NO_PARTITIONS if topic is None else committed.get(topic.id, _NO_PARTITIONS)
            full_ref = ref if topic is None else TopicRef(topic.name, topic.id)
            partition_offsets = tuple(PartitionOffset(index, offsets.get(index)) for index in partitions)
            fetched.append(TopicOffsets(full_ref, partition_offsets))
        return fetched

    def _fetch_all(self, committed: GroupOffsets) -> list[TopicOffsets]:
        fetched = []
        for topic_id, offsets in committed.items():
            topic = self._topics.by_id(topic_id)
            if topic is not None:
                partitions = tuple(PartitionOffset(index, offsets[index]) for index in sorted(offsets))
                fetched.append(TopicOffsets(TopicRef(topic.name, topic_id), partitions))
        return sorted(fetched, key=lambda topic_offsets: topic_offsets.topic.name)

    def delete(
        self, group: ClassicGroup, selection: Sequence[tuple[TopicRef, Sequence[int]]]
    ) -> tuple[list[OffsetsDeleted], PartitionErrors]:
        """The record of the offsets that can be deleted, and the error of each partition: GroupSubscribed,
        UnknownTopicOrPartition. Deleting an offset that does not exist succeeds."""
        committed = self._groups.get(group.group_id) or _NO_OFFSETS
        deleted: list[tuple[UUID, int]] = []
        errors: PartitionErrors = []
        for ref, partitions in selection:
            error: CoordinatorError | None = None
            try:
                topic = self._find_topic(ref)
            except CoordinatorError as unknown:
                errors.append([unknown] * len(partitions))
                continue
            if group.members and group.may_read(topic.name):
                error = GroupSubscribed(f"group {group.group_id} reads {topic.name}")
            else:
                offsets = committed.get(topic.id, _NO_PARTITIONS)
                deleted += [(topic.id, index) for index in partitions if index in offsets]
            errors.append([error] * len(partitions))
        return [OffsetsDeleted(group.group_id, tuple(deleted))] if deleted else [], errors

    # --- walks over all groups ----------------------------------------------------------------------------

    def clamp_records(self, end_of: Callable[[UUID, int], int]) -> Iterator[OffsetsCommitted]:
        """Records that set committed offsets beyond the end of their partition back to that end, for all
        groups."""
        for group_id, topics in self.all_groups():
            beyond = (
                (topic_id, index, msgspec.structs.replace(offset, offset=end))
                for topic_id, index, offset in _offsets_of(topics)
                if offset.offset > (end := end_of(topic_id, index))
            )
            while clamped := tuple(islice(beyond, SNAPSHOT_OFFSETS_MAX)):
                yield OffsetsCommitted(group_id, clamped)

    def topic_deletion_records(self, topic_ids: Collection[UUID]) -> Iterator[OffsetsDeleted | None]:
        """Records that delete the offsets of topics, in every group; None for a group without any."""
        for group_id, topics in self.all_groups():
            deleted = tuple(
                (topic_id, partition)
                for topic_id in (topic_ids if len(topic_ids) < len(topics) else topics)
                if topic_id in topic_ids and topic_id in topics
                for partition in topics[topic_id]
            )
            yield OffsetsDeleted(group_id, deleted) if deleted else None

    def expired(
        self,
        group: ClassicGroup,
        topic_id: UUID,
        reads: frozenset[str] | None,
        now_ms: int,
        retention_ms: int,
    ) -> OffsetsDeleted | None:
        """The record that deletes the group's offsets of a topic that are too old (KIP-211) or whose topic
        does not exist; None if there are none. `reads`: `group.subscribed_topics()`."""
        partitions = (self._groups.get(group.group_id) or _NO_OFFSETS).get(topic_id, _NO_PARTITIONS)
        topic, since_ms = self._topics.by_id(topic_id), -1
        if topic is not None:
            is_empty = group.state is GroupState.EMPTY
            is_unread = (
                group.state is GroupState.STABLE
                and group.protocol_type == CONSUMER_PROTOCOL
                and reads is not None
                and topic.name not in reads
            )
            if group.protocol_type is not None and not is_empty and not is_unread:
                return None
            if group.protocol_type is not None and is_empty:
                since_ms = group.state_since_ms
        expired = tuple(
            (topic_id, partition)
            for partition, offset in partitions.items()
            if topic is None or _is_expired(offset, since_ms, now_ms, retention_ms)
        )
        return OffsetsDeleted(group.group_id, expired) if expired else None


def _is_expired(offset: CommittedOffset, since_ms: int, now_ms: int, retention_ms: int) -> bool:
    """Whether an offset is too old. Its age counts from `since_ms`; -1: from its commit. A time that the
    client gave counts from the commit."""
    if offset.expire_ms >= 0:
        return age_ms(offset.commit_ms, now_ms) >= offset.expire_ms - offset.commit_ms
    return age_ms(offset.commit_ms if since_ms < 0 else since_ms, now_ms) >= retention_ms


def _offsets_of(topics: GroupOffsets) -> Iterator[tuple[UUID, int, CommittedOffset]]:
    for topic_id, partitions in topics.items():
        for partition, offset in partitions.items():
            yield topic_id, partition, offset


def _snapshot_records(groups: Iterator[tuple[str, GroupOffsets]]) -> Iterator[OffsetsCommitted]:
    for group_id, topics in groups:
        offsets = _offsets_of(topics)
        while chunk := tuple(islice(offsets, SNAPSHOT_OFFSETS_MAX)):
            yield OffsetsCommitted(group_id, chunk)
