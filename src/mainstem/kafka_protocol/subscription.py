"""Subscriptions and assignments, which the members of a consumer group exchange through its coordinator.

Owns: decoding ConsumerProtocolSubscription and ConsumerProtocolAssignment in any version (only the fields
that all versions begin with), and encoding version 0. A coordinator passes these bytes on without changes; it
decodes them only to know which topics a group reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

EMPTY_ASSIGNMENT = b"\x00\x00" + b"\x00\x00\x00\x00" + b"\xff\xff\xff\xff"
"""ConsumerProtocolAssignment version 0 without topics, with null user data."""

_VERSION_BYTES = 2
_NULL_USER_DATA = struct.pack(">i", -1)


def write_subscription(topics: Iterable[str]) -> bytes:
    """Encode the topics that a member subscribes to."""
    encoded = [topic.encode() for topic in topics]
    body = b"".join(struct.pack(f">h{len(name)}s", len(name), name) for name in encoded)
    return struct.pack(">hi", 0, len(encoded)) + body + _NULL_USER_DATA


def read_subscription(data: bytes) -> frozenset[str] | None:
    """Decode the topics that a member subscribes to; None if the bytes are not a subscription."""
    reader = _FieldReader(data, _VERSION_BYTES)
    try:
        return frozenset([reader.string() for _ in range(reader.count())])
    except (struct.error, UnicodeDecodeError):
        return None


def write_assignment(partitions: Sequence[tuple[str, int]]) -> bytes:
    """Encode the (topic, partition) pairs that are assigned to a member."""
    by_topic: dict[str, list[int]] = {}
    for topic, partition in partitions:
        by_topic.setdefault(topic, []).append(partition)
    parts = [struct.pack(">hi", 0, len(by_topic))]
    for topic, indexes in by_topic.items():
        name = topic.encode()
        parts.append(struct.pack(f">h{len(name)}si", len(name), name, len(indexes)))
        parts.append(struct.pack(f">{len(indexes)}i", *indexes))
    return b"".join(parts) + _NULL_USER_DATA


def read_assignment(data: bytes) -> tuple[tuple[str, int], ...] | None:
    """Decode the (topic, partition) pairs that are assigned to a member, sorted; None if the bytes are not an
    assignment."""
    reader = _FieldReader(data, _VERSION_BYTES)
    partitions: list[tuple[str, int]] = []
    try:
        for _ in range(reader.count()):
            topic = reader.string()
            partitions += [(topic, reader.int32()) for _ in range(reader.count())]
    except (struct.error, UnicodeDecodeError):
        return None
    return tuple(sorted(partitions))


class _FieldReader:
    """Reads big-endian numbers, strings and arrays with a length in front. struct.error for a negative
    length, and past the end of the data."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def int32(self) -> int:
        (value,) = struct.unpack_from(">i", self._data, self._position)
        self._position += 4
        return int(value)

    def count(self) -> int:
        """The number of elements of an array, each of at least 2 bytes."""
        count = self.int32()
        if not 0 <= count * 2 <= len(self._data) - self._position:
            raise struct.error(f"an array of {count} elements")
        return count

    def string(self) -> str:
        (length,) = struct.unpack_from(">h", self._data, self._position)
        if length < 0:
            raise struct.error(f"a string of {length} bytes")
        (encoded,) = struct.unpack_from(f">{length}s", self._data, self._position + 2)
        self._position += 2 + length
        return bytes(encoded).decode()
