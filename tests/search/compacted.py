"""Logs that were compacted: batches that hold fewer records than they span, batches without records, several
leader epochs; in a cluster also offsets that no batch has.

In this machine's log every offset belongs to a batch (FORMAT.md, part "Removed ranges"): `append` writes such
a batch. Apache Kafka's compaction leaves gaps; `RewrittenPartition` makes the door return the compacted
batches of a cluster in place of the log's own.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from crc32c import crc32c

from mainstem.log.errors import OffsetOutOfRange
from mainstem.log.partition.partition import Partition
from mainstem.log.partition.reader import BatchSlice
from mainstem.log.storage import codecs
from mainstem.log.storage.record_batch import (
    CRC_FROM,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    build,
    iter_batches,
    read_header,
)
from tests.search.search_rig import Row, SearchRig

_LENGTH, _CRC, _COUNT = struct.Struct(">i"), struct.Struct(">I"), struct.Struct(">i")
_ATTRIBUTES = struct.Struct(">h")
_TIMESTAMP = struct.Struct(">q")


def keeping(batch: bytes, kept_deltas: Collection[int]) -> bytes:
    """The batch with only the records at these offset deltas, as Kafka's log cleaner writes it. Offsets,
    times and codec stay; the largest time is that of the remaining records. Without records, only the header
    remains, with no codec and no first time."""
    header = read_header(batch)
    plain = bytes(codecs.decompress(header.codec, memoryview(batch)[HEADER_BYTES:], 64 << 20))
    remaining = [(time, record) for delta, time, record in _records(plain) if delta in kept_deltas]
    data = b"".join(record for _, record in remaining)
    if data and header.codec:
        data = codecs.compress(header.codec, data)
    out = bytearray(batch[:HEADER_BYTES]) + data
    if not remaining:
        _ATTRIBUTES.pack_into(out, 21, header.attributes & ~0x07)
        _TIMESTAMP.pack_into(out, 27, -1)
    else:
        _TIMESTAMP.pack_into(out, 35, header.base_timestamp + max(time for time, _ in remaining))
    _LENGTH.pack_into(out, 8, len(out) - LENGTH_OVERHEAD)
    _COUNT.pack_into(out, 57, len(remaining))
    _CRC.pack_into(out, 17, crc32c(memoryview(out)[CRC_FROM:]))
    return bytes(out)


def _records(plain: bytes) -> list[tuple[int, int, bytes]]:
    """Offset delta, time delta and bytes (with the length) of each record."""
    records, position = [], 0
    while position < len(plain):
        length, start = _varint(plain, position)
        time, after_time = _varint(plain, start + 1)  # after the attributes
        delta, _ = _varint(plain, after_time)
        records.append((delta, time, plain[position : start + length]))
        position = start + length
    return records


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position


def random_deltas(rng: random.Random, count: int) -> set[int]:
    """The offset deltas of the records that a cleaner keeps: all, none, or some."""
    share = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    return {delta for delta in range(count) if rng.random() < share}


async def append(
    rig: SearchRig, topic: str, partition: int, rows: Sequence[Row], kept_deltas: Collection[int], codec: str
) -> int:
    """Append a batch that lacks records, and return its base offset."""
    log = rig.partition(topic, partition)
    # The log refuses such a batch from clients, so its validation is replaced.
    with patch("mainstem.log.partition.partition.validate", read_header):
        batch = bytearray(keeping(bytes(build(rows, codec=codec)), kept_deltas))
        appended = log.append(memoryview(batch))
    await log.when_committed(appended.next_offset)
    return appended.base_offset


def begin_epoch(log: Partition) -> None:
    """Raise the leader epoch, as after an election."""
    log.epoch += 1
    log.derived.epochs.begin(log.epoch, log.log_end_offset)


@dataclass
class RewrittenPartition:
    """A partition whose readers get the batches that a log cleaner has left."""

    partition: Partition
    clean_to: int = 0
    """First offset that was never cleaned."""
    batches: dict[int, bytes] = field(default_factory=dict)
    """The remaining batches before `clean_to`, by base offset."""
    _original_read: Any = None

    def __post_init__(self) -> None:
        self._original_read = self.partition.reader.read
        self.partition.reader.read = self.read  # type: ignore[method-assign]

    def read(self, offset: int, max_bytes: int, past_watermark: bool) -> BatchSlice:
        """See `Partition.read`. A removed offset is answered with the next batch."""
        if not self.partition.log_start_offset <= offset <= self.partition.high_watermark:
            raise OffsetOutOfRange(str(offset))
        if offset >= self.clean_to:
            return self._read_log(offset, max_bytes)
        slices: list[bytes] = []
        next_offset, size = self.clean_to, 0
        for batch in self.batches.values():
            after = read_header(batch).next_offset
            if after <= offset:
                continue
            if slices and size + len(batch) > max_bytes:
                break
            slices.append(batch)
            size += len(batch)
            next_offset = after
        return (
            BatchSlice(b"".join(slices), next_offset) if slices else self._read_log(self.clean_to, max_bytes)
        )

    def _read_log(self, offset: int, max_bytes: int) -> BatchSlice:
        reader = self.partition.reader
        reader.read = self._original_read  # type: ignore[method-assign]
        try:
            return reader.read_blocking(offset, max_bytes, False)
        finally:
            reader.read = self.read  # type: ignore[method-assign]

    def clean(self, rng: random.Random) -> set[int]:
        """Remove records before the newest batch, and return their offsets."""
        removed: set[int] = set()
        offset, end = max(self.clean_to, self.partition.log_start_offset), self.partition.high_watermark
        fresh: dict[int, bytes] = {}
        while offset < end:
            read = self._read_log(offset, 1 << 20)
            for position, header in iter_batches(read.data):
                fresh[header.base_offset] = bytes(read.data[position : position + header.total_bytes])
            offset = read.next_offset
        if fresh:
            newest = max(fresh)
            del fresh[newest]
            self.clean_to = newest
        remaining: dict[int, bytes] = {}
        for base, batch in (self.batches | fresh).items():
            header = read_header(batch)
            plain = codecs.decompress(header.codec, memoryview(batch)[HEADER_BYTES:], 64 << 20)
            deltas = [delta for delta, _, _ in _records(bytes(plain))]
            chosen = random_deltas(rng, len(deltas))
            kept_deltas = {delta for i, delta in enumerate(deltas) if i in chosen}
            removed |= {base + delta for delta in deltas if delta not in kept_deltas}
            if kept_deltas or rng.random() < 0.3:
                remaining[base] = keeping(batch, kept_deltas)
        self.batches = remaining
        return removed
