"""Kafka's protocol as far as a search of a cluster needs it: six requests to bytes, their replies from bytes.

Owns: ApiVersions, Metadata, ListOffsets, Fetch, OffsetForLeaderEpoch and DescribeLogDirs, each in one or two
versions that all brokers since 2017 speak: the newer of two names topics by id. Refuses: sockets, and replies
that do not fit: MalformedReply; nothing is allocated for a count before its bytes are there. Used by
`broker_client.py`, whose caller gets batches as they lie in the log, so that a search opens as few as it can.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, LEADER_EPOCH, LOG_DIRS = 1, 2, 3, 18, 23, 35
EARLIEST, LATEST = -2, -1
CLIENT_ID = b"mainstem-search"
READ_COMMITTED = 1
NO_ID = UUID(int=0)

_HEAD = struct.Struct(">hhih")
_I16, _I32, _I64 = struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">q")
Versions = dict[int, tuple[int, int]]
TopicPartition = tuple[str, int]
"""Topic and partition."""


class MalformedReply(Exception):
    """A reply that is none."""


class BrokerAddress(NamedTuple):
    """Where a broker listens."""

    id: int
    host: str
    port: int


class PartitionLeader(NamedTuple):
    """A partition and who leads it; -1: nobody."""

    partition: int
    leader: int


class ClusterTopic(NamedTuple):
    """A topic as Metadata has it."""

    name: str
    error: int
    id: UUID | None
    """None: the cluster has no ids."""
    internal: bool
    partitions: list[PartitionLeader]


class ClusterMetadata(NamedTuple):
    """Brokers and topics."""

    brokers: list[BrokerAddress]
    topics: list[ClusterTopic]


class OffsetLookup(NamedTuple):
    """An answer to ListOffsets or OffsetForLeaderEpoch: (time, offset), or (epoch, end offset)."""

    error: int
    time_or_epoch: int
    offset: int


class FetchReply(NamedTuple):
    """What a Fetch of one partition gave."""

    error: int
    throttled_ms: int
    stable_end: int
    """The last stable offset: what follows is not committed."""
    aborted: list[tuple[int, int]]
    """(producer id, first offset) of transactions that were given up, in this stretch."""
    records: memoryview


class ReplyReader:
    """Fields from bytes. `flexible`: the compact kinds of Kafka's newer versions."""

    def __init__(self, data: memoryview, *, flexible: bool = False) -> None:
        self._data, self._at, self._flexible = data, 0, flexible

    def _number(self, kind: struct.Struct) -> int:
        try:
            (value,) = kind.unpack_from(self._data, self._at)
        except struct.error:
            raise MalformedReply("it ends too early") from None
        self._at += kind.size
        found: int = value
        return found

    def i8(self) -> int:
        """One byte, also a boolean."""
        return self.take(1)[0]

    def i16(self) -> int:
        """Two bytes."""
        return self._number(_I16)

    def i32(self) -> int:
        """Four bytes."""
        return self._number(_I32)

    def i64(self) -> int:
        """Eight bytes."""
        return self._number(_I64)

    def take(self, size: int) -> memoryview:
        """So many bytes."""
        if size < 0 or self._at + size > len(self._data):
            raise MalformedReply("it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.i8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise MalformedReply("a number has too many bytes")

    def count(self) -> int:
        """Of an array; null counts as empty. Each element has a byte at least."""
        found = self._varint() - 1 if self._flexible else self.i32()
        if found > len(self._data) - self._at:
            raise MalformedReply(f"{found} elements cannot be in it")
        return max(0, found)

    def text(self) -> str:
        """A string; null is empty."""
        size = self._varint() - 1 if self._flexible else self.i16()
        try:
            return str(self.take(max(0, size)), "utf-8")
        except UnicodeDecodeError:
            raise MalformedReply("a text is not UTF-8") from None

    def blob(self) -> memoryview:
        """Records; null is empty."""
        return self.take(max(0, self._varint() - 1 if self._flexible else self.i32()))

    def uuid(self) -> UUID:
        """Sixteen bytes."""
        return UUID(bytes=bytes(self.take(16)))

    def tags(self) -> None:
        """Pass over tagged fields."""
        for _ in range(self._varint() if self._flexible else 0):
            self._varint()
            self.take(self._varint())


def request(api: int, version: int, correlation: int, body: bytes, *, flexible: bool = False) -> bytes:
    """A whole frame."""
    tags = b"\0" if flexible else b""
    rest = _HEAD.pack(api, version, correlation, len(CLIENT_ID)) + CLIENT_ID + tags + body
    return _I32.pack(len(rest)) + rest


def _text(value: str) -> bytes:
    raw = value.encode()
    return _I16.pack(len(raw)) + raw


def _uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _by_topic(where: Iterable[tuple[TopicPartition, bytes]]) -> bytes:
    """Rows of partitions, grouped by topic."""
    topics: dict[str, list[bytes]] = {}
    for (topic, _), row in where:
        topics.setdefault(topic, []).append(row)
    parts = [_I32.pack(len(topics))]
    for topic, rows in topics.items():
        parts += (_text(topic), _I32.pack(len(rows)), *rows)
    return b"".join(parts)


# ----------------------------------------------------------------------------------------------------------


def api_versions(data: memoryview) -> Versions:
    """ApiVersions v0: by key, the least and the largest version."""
    reader = ReplyReader(data)
    reader.i16()
    return {reader.i16(): (reader.i16(), reader.i16()) for _ in range(reader.count())}


def has_ids(versions: Versions) -> bool:
    """The broker knows topics by id, for metadata and for fetching."""
    return versions.get(METADATA, (0, 0))[1] >= 12 and versions.get(FETCH, (0, 0))[1] >= 13


def metadata_request(topics: Sequence[str] | None, *, ids: bool) -> bytes:
    """Metadata, v12 with ids, else v4. None: all topics. It makes no topic."""
    if not ids:
        names = b"".join(map(_text, topics or ()))
        return _I32.pack(-1 if topics is None else len(topics)) + names + b"\0"
    if topics is None:
        return b"\0\0\0\0"
    rows = b"".join(NO_ID.bytes + _uvarint(len(name.encode()) + 1) + name.encode() + b"\0" for name in topics)
    return _uvarint(len(topics) + 1) + rows + b"\0\0\0"


def metadata_reply(data: memoryview, *, ids: bool) -> ClusterMetadata:
    """Its answer."""
    reader = ReplyReader(data, flexible=ids)
    reader.tags()  # of the header
    reader.i32()
    brokers = []
    for _ in range(reader.count()):
        brokers.append(BrokerAddress(reader.i32(), reader.text(), reader.i32()))
        reader.text()
        reader.tags()
    reader.text()
    reader.i32()
    topics = []
    for _ in range(reader.count()):
        error, name = reader.i16(), reader.text()
        topic_id = reader.uuid() if ids else None
        internal = bool(reader.i8())
        partitions = [_leader(reader, ids=ids) for _ in range(reader.count())]
        if ids:
            reader.i32()
        reader.tags()
        topics.append(ClusterTopic(name, error, topic_id, internal, partitions))
    return ClusterMetadata(brokers, topics)


def _leader(reader: ReplyReader, *, ids: bool) -> PartitionLeader:
    reader.i16()
    found = PartitionLeader(reader.i32(), reader.i32())
    if ids:
        reader.i32()
    for _ in range(3 if ids else 2):
        reader.take(4 * reader.count())
    reader.tags()
    return found


def list_offsets_request(times: dict[TopicPartition, int]) -> bytes:
    """ListOffsets v2: of each partition, the first event of this time or later, EARLIEST or LATEST. It sees
    what is committed."""
    rows = [(at, _I32.pack(at[1]) + _I64.pack(time_ms)) for at, time_ms in times.items()]
    return _I32.pack(-1) + bytes([READ_COMMITTED]) + _by_topic(rows)


def list_offsets_reply(data: memoryview) -> dict[TopicPartition, OffsetLookup]:
    """Its answer: offset -1 where there is no such event."""
    reader = ReplyReader(data)
    reader.i32()
    found = {}
    for _ in range(reader.count()):
        topic = reader.text()
        for _ in range(reader.count()):
            partition = reader.i32()
            found[topic, partition] = OffsetLookup(reader.i16(), reader.i64(), reader.i64())
    return found


def leader_epoch_request(epochs: dict[TopicPartition, int]) -> bytes:
    """OffsetForLeaderEpoch v2: where the last batch of this epoch or an earlier one ends."""
    return _by_topic(
        (at, _I32.pack(at[1]) + _I32.pack(-1) + _I32.pack(epoch)) for at, epoch in epochs.items()
    )


def leader_epoch_reply(data: memoryview) -> dict[TopicPartition, OffsetLookup]:
    """Its answer: the epoch that was found, and the end."""
    reader = ReplyReader(data)
    reader.i32()
    found = {}
    for _ in range(reader.count()):
        topic = reader.text()
        for _ in range(reader.count()):
            error, partition = reader.i16(), reader.i32()
            found[topic, partition] = OffsetLookup(error, reader.i32(), reader.i64())
    return found


def log_dirs_request(where: Iterable[TopicPartition]) -> bytes:
    """DescribeLogDirs v1: how large these partitions are on one broker."""
    return _by_topic((at, _I32.pack(at[1])) for at in where)


def log_dirs_reply(data: memoryview) -> dict[TopicPartition, int]:
    """Its answer: bytes."""
    reader = ReplyReader(data)
    reader.i32()
    found: dict[TopicPartition, int] = {}
    for _ in range(reader.count()):
        reader.i16()
        reader.text()
        for _ in range(reader.count()):
            topic = reader.text()
            for _ in range(reader.count()):
                partition, size = reader.i32(), reader.i64()
                reader.i64()
                reader.i8()
                found[topic, partition] = max(size, found.get((topic, partition), 0))
    return found


def fetch_request(
    topic: str, topic_id: UUID | None, partition: int, offset: int, *, wait_ms: int, max_bytes: int
) -> bytes:
    """Fetch of one partition, v13 by id, v4 by name: what is committed, as Kafka's clients call it, and the
    first batch whatever its size."""
    start = struct.pack(">iiiib", -1, wait_ms, 1, max_bytes, READ_COMMITTED)
    if topic_id is None:
        row = struct.pack(">iiqi", 1, partition, offset, max_bytes)
        return start + _I32.pack(1) + _text(topic) + row
    row = struct.pack(">iiqiqi", partition, -1, offset, -1, -1, max_bytes)
    session = struct.pack(">ii", 0, -1)
    return start + session + b"\2" + topic_id.bytes + b"\2" + row + b"\0\0" + b"\1" + b"\1" + b"\0"


def fetch_reply(data: memoryview, *, ids: bool) -> FetchReply:
    """Its answer."""
    reader = ReplyReader(data, flexible=ids)
    reader.tags()
    throttled_ms = reader.i32()
    error = 0
    if ids:
        error = reader.i16()
        reader.i32()
    nothing = FetchReply(error, throttled_ms, -1, [], memoryview(b""))
    if error or not reader.count():
        return nothing
    if ids:
        reader.uuid()
    else:
        reader.text()
    if not reader.count():
        return nothing
    reader.i32()
    error = reader.i16()
    reader.i64()
    stable_end = reader.i64()
    if ids:
        reader.i64()
    aborted = []
    for _ in range(reader.count()):
        aborted.append((reader.i64(), reader.i64()))
        reader.tags()
    if ids:
        reader.i32()
    return FetchReply(error, throttled_ms, stable_end, aborted, reader.blob())
