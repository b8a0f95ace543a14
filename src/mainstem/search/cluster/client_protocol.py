"""The requests that a search sends to the brokers of a cluster, and what it reads from their replies.

Owns: eight requests, each in one or two versions that every broker since 2017 answers; of two, the newer one
identifies topics by id. Refuses: bytes (`kafka_protocol/message.py` encodes and decodes them) and sockets
(`broker_client.py`). The records of a Fetch reply stay as they are in the log, so that a search decompresses
as few batches as it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.kafka_protocol.schema import API_VERSIONS

FETCH, LIST_OFFSETS, METADATA, LEADER_EPOCH, LOG_DIRS = 1, 2, 3, 23, 35
SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36
FETCH_BY_NAME, FETCH_BY_ID = 4, 13
METADATA_WITHOUT_IDS, METADATA_WITH_IDS = 4, 12
LIST_OFFSETS_VERSION, LEADER_EPOCH_VERSION, LOG_DIRS_VERSION = 2, 2, 1
EARLIEST, LATEST = -2, -1
"""Timestamps of ListOffsets that mean the first offset, and the offset after the last committed event."""
ANY_REPLICA = -1
READ_COMMITTED = 1
CLIENT_ID = "mainstem-search"

VersionRanges = dict[int, tuple[int, int]]
"""The least and the largest version that a broker offers, by API key."""
TopicPartition = tuple[str, int]
"""Topic and partition."""


class BrokerRequest(NamedTuple):
    """A request to a broker: API key, version and content."""

    key: int
    version: int
    message: Message


class BrokerAddress(NamedTuple):
    """Where a broker listens."""

    id: int
    host: str
    port: int


class PartitionLeader(NamedTuple):
    """A partition and the id of the broker that leads it; -1: it has no leader."""

    partition: int
    leader: int


class ClusterTopic(NamedTuple):
    """A topic, as Metadata describes it."""

    name: str
    error: int
    id: UUID | None
    """None if the cluster has no topic ids."""
    internal: bool
    partitions: list[PartitionLeader]


class ClusterMetadata(NamedTuple):
    """The content of a Metadata reply: the brokers of a cluster and the requested topics."""

    brokers: list[BrokerAddress]
    topics: list[ClusterTopic]


class LookedUpOffset(NamedTuple):
    """The result of ListOffsets or OffsetForLeaderEpoch for one partition: (time, offset) or (epoch, end
    offset)."""

    error: int
    time_or_epoch: int
    offset: int


class FetchReply(NamedTuple):
    """The reply to a Fetch of one partition."""

    error: int
    throttled_ms: int
    last_stable_offset: int
    """Events from this offset on are not committed; -1: unknown."""
    aborted: list[tuple[int, int]]
    """(producer id, first offset) of the aborted transactions in these records."""
    records: memoryview
    """Batches, the last of which may be incomplete. A slice of the reply's frame, not a copy."""


def supports(versions: VersionRanges, key: int, version: int) -> bool:
    """Whether a broker that offers these versions accepts requests of this version."""
    least, largest = versions.get(key, (version + 1, version))
    return least <= version <= largest


def has_topic_ids(versions: VersionRanges) -> bool:
    """Whether a broker identifies topics by id, in Metadata and in Fetch."""
    return supports(versions, METADATA, METADATA_WITH_IDS) and supports(versions, FETCH, FETCH_BY_ID)


def _by_topic(
    partitions: Iterable[TopicPartition], row: Callable[[TopicPartition], Any]
) -> Iterable[tuple[str, list[Any]]]:
    """The rows of partitions, grouped by topic."""
    topics: dict[str, list[Any]] = {}
    for partition in partitions:
        topics.setdefault(partition[0], []).append(row(partition))
    return topics.items()


# ----------------------------------------------------------------------------------------------------------


def api_versions_request() -> BrokerRequest:
    """The request ApiVersions: which versions of each request does the broker offer?"""
    return BrokerRequest(API_VERSIONS, 0, Message())


def sasl_handshake_request(mechanism: str) -> BrokerRequest:
    """The request SaslHandshake: begins a login by the mechanism."""
    return BrokerRequest(SASL_HANDSHAKE, 1, Message(mechanism=mechanism))


def sasl_authenticate_request(message: bytes) -> BrokerRequest:
    """The request SaslAuthenticate with one message of the login."""
    return BrokerRequest(SASL_AUTHENTICATE, 1, Message(auth_bytes=message))


def api_versions_reply(reply: Message) -> VersionRanges:
    """The versions in a reply to ApiVersions."""
    return {row.api_key: (row.min_version, row.max_version) for row in reply.api_keys}


def metadata_request(topics: Sequence[str] | None, *, ids: bool) -> BrokerRequest:
    """The request Metadata for these topics; None: for all. It creates no topic. `ids`: whether the broker
    identifies topics by id (`has_topic_ids`)."""
    names = None if topics is None else [Message(name=name) for name in topics]
    version = METADATA_WITH_IDS if ids else METADATA_WITHOUT_IDS
    return BrokerRequest(METADATA, version, Message(topics=names, allow_auto_topic_creation=False))


def metadata_reply(reply: Message) -> ClusterMetadata:
    """The brokers and topics in a reply to Metadata."""
    brokers = [BrokerAddress(broker.node_id, broker.host, broker.port) for broker in reply.brokers]
    topics = [
        ClusterTopic(
            topic.name or "",
            topic.error_code,
            None if topic.topic_id == NO_UUID else topic.topic_id,
            topic.is_internal,
            [PartitionLeader(row.partition_index, row.leader_id) for row in topic.partitions],
        )
        for topic in reply.topics
    ]
    return ClusterMetadata(brokers, topics)


def list_offsets_request(times: Mapping[TopicPartition, int]) -> BrokerRequest:
    """The request ListOffsets: which is, in each partition, the first committed event at this time (ms) or
    later? The time may be EARLIEST or LATEST."""
    topics = [
        Message(name=topic, partitions=rows)
        for topic, rows in _by_topic(
            times, lambda where: Message(partition_index=where[1], timestamp=times[where])
        )
    ]
    message = Message(replica_id=ANY_REPLICA, isolation_level=READ_COMMITTED, topics=topics)
    return BrokerRequest(LIST_OFFSETS, LIST_OFFSETS_VERSION, message)


def list_offsets_reply(reply: Message) -> dict[TopicPartition, LookedUpOffset]:
    """The times and offsets in a reply to ListOffsets; offset -1 if there is no such event."""
    return {
        (topic.name, row.partition_index): LookedUpOffset(row.error_code, row.timestamp, row.offset)
        for topic in reply.topics
        for row in topic.partitions
    }


def leader_epoch_request(epochs: Mapping[TopicPartition, int]) -> BrokerRequest:
    """The request OffsetForLeaderEpoch (KIP-101): where does, in each partition, the last batch of this
    epoch, or of the nearest earlier one, end?"""
    topics = [
        Message(topic=topic, partitions=rows)
        for topic, rows in _by_topic(
            epochs, lambda where: Message(partition=where[1], leader_epoch=epochs[where])
        )
    ]
    return BrokerRequest(LEADER_EPOCH, LEADER_EPOCH_VERSION, Message(topics=topics))


def leader_epoch_reply(reply: Message) -> dict[TopicPartition, LookedUpOffset]:
    """The epochs and their end offsets in a reply to OffsetForLeaderEpoch."""
    return {
        (topic.topic, row.partition): LookedUpOffset(row.error_code, row.leader_epoch, row.end_offset)
        for topic in reply.topics
        for row in topic.partitions
    }


def log_dirs_request(partitions: Iterable[TopicPartition]) -> BrokerRequest:
    """The request DescribeLogDirs: how many bytes does the broker store of these partitions?"""
    topics = [
        Message(topic=topic, partitions=rows) for topic, rows in _by_topic(partitions, lambda where: where[1])
    ]
    return BrokerRequest(LOG_DIRS, LOG_DIRS_VERSION, Message(topics=topics))


def log_dirs_reply(reply: Message) -> dict[TopicPartition, int]:
    """The sizes in bytes in a reply to DescribeLogDirs; the larger one while a replica moves between two
    folders."""
    sizes: dict[TopicPartition, int] = {}
    for folder in reply.results:
        for topic in folder.topics:
            for row in topic.partitions:
                where = topic.name, row.partition_index
                sizes[where] = max(row.partition_size, sizes.get(where, 0))
    return sizes


def fetch_request(
    topic: str, topic_id: UUID | None, partition: int, offset: int, *, wait_ms: int, max_bytes: int
) -> BrokerRequest:
    """The request Fetch for the committed events of one partition from `offset` on. It names the topic by id,
    or by name if `topic_id` is None. The reply has at least one batch, whatever its size, if there is one."""
    row = Message(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes)
    message = Message(
        max_wait=wait_ms,
        min_bytes=1,
        max_bytes=max_bytes,
        isolation_level=READ_COMMITTED,
        topics=[Message(topic=topic, topic_id=topic_id, partitions=[row])],
    )
    return BrokerRequest(FETCH, FETCH_BY_NAME if topic_id is None else FETCH_BY_ID, message)


def fetch_reply(reply: Message) -> FetchReply:
    """The content of a reply to a Fetch of one partition."""
    rows = [row for topic in reply.responses for row in topic.partitions]
    if reply.error_code or not rows:
        return FetchReply(reply.error_code, reply.throttle_time, -1, [], memoryview(b""))
    row = rows[0]
    aborted = [
        (transaction.producer_id, transaction.first_offset) for transaction in row.aborted_transactions or ()
    ]
    records = memoryview(b"") if row.records is None else row.records
    return FetchReply(row.error_code, reply.throttle_time, row.last_stable_offset, aborted, records)
