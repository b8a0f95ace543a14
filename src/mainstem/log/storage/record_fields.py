"""Parses the records of a batch in Python: slow, for batches that aiokafka's compiled parser refuses, and
for releases of aiokafka that have no such parser where it was.

That parser calls a batch damaged if the name of a header is not UTF-8, although any client may write such a
name: Kafka's Java client shows it with replacement characters, and so does this one. Owns: the fields of one
record (format v2). Refuses: batch headers and compression, which `record_batch.py` has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT_BYTES_MAX = 10


class RecordFields(NamedTuple):
    """The fields of a record as they are in a batch."""

    timestamp_delta: int
    offset_delta: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def parse_records(data: bytes, count: int) -> Iterator[RecordFields]:
    """The first `count` records in `data`, the decompressed records of a batch. ValueError: they are
    damaged."""
    reader = _RecordReader(data)
    for _ in range(count):
        length = reader.varint()
        end = reader.position + length
        reader.take(1)  # attributes, which are not used
        timestamp_delta, offset_delta = reader.varint(), reader.varint()
        key, value = reader.nullable_bytes(), reader.nullable_bytes()
        header_count = reader.varint()
        if not 0 <= header_count <= len(data):
            raise ValueError(f"a record of {header_count} headers")
        headers = []
        for _ in range(header_count):
            name = reader.take(reader.varint()).decode(errors="replace")
            headers.append((name, reader.nullable_bytes()))
        if reader.position != end:
            raise ValueError(f"a record of {length} bytes that ends {reader.position - end} bytes later")
        yield RecordFields(timestamp_delta, offset_delta, key, value, tuple(headers))


class _RecordReader:
    """Reads varints and byte strings. ValueError past the end of the data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def varint(self) -> int:
        """An integer in zigzag variable length."""
        value = 0
        for index in range(_VARINT_BYTES_MAX):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
        raise ValueError(f"a varint of more than {_VARINT_BYTES_MAX} bytes")

    def nullable_bytes(self) -> bytes | None:
        """Bytes with their length in front; null for a negative length."""
        length = self.varint()
        return None if length < 0 else self.take(length)

    def take(self, length: int) -> bytes:
        """The next bytes."""
        end = self.position + length
        if not self.position <= end <= len(self._data):
            raise ValueError(f"{length} bytes where {len(self._data) - self.position} are left")
        content = self._data[self.position : end]
        self.position = end
        return content
