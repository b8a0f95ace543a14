"""Logs that were compacted: batches that hold fewer records than they span, batches without records, several
leader epochs; in a cluster also offsets that no batch has.

In this machine's log every offset belongs to a batch (FORMAT.md, part "Removed ranges"): `append` writes such
a batch. Apache Kafka's compaction leaves gaps; `Rewritten` makes the door return the compacted batches of a
cluster in place of the log's own.
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


def keeping(batch: bytes, kept: Collection[int]) -> bytes:
    """The batch with those of its records only whose offset deltas are given, as Kafka's cleaner writes it:
    offsets, times and codec stay, the largest time is that of what is left; without any record there is the
    header alone, with no codec and no first time."""
    header = read_header(batch)
    plain = bytes(codecs.decompress(header.codec, memoryview(batch)[HEADER_BYTES:], 64 << 20))
    found = [(time, piece) for delta, time, piece in _records(plain) if delta in kept]
    pieces = [piece for _, piece in found]
    data = codecs.compress(header.codec, b"".join(pieces)) if pieces and header.codec else b"".join(pieces)
    out = bytearray(batch[:HEADER_BYTES]) + data
    if not pieces:
        _ATTRIBUTES.pack_into(out, 21, header.attributes & ~0x07)
        _TIMESTAMP.pack_into(out, 27, -1)
    else:
        _TIMESTAMP.pack_into(out, 35, header.base_timestamp + max(time for time, _ in found))
    _LENGTH.pack_into(out, 8, len(out) - LENGTH_OVERHEAD)
    _COUNT.pack_into(out, 57, len(pieces))
    _CRC.pack_into(out, 17, crc32c(memoryview(out)[CRC_FROM:]))
    return bytes(out)


def _records(plain: bytes) -> list[tuple[int, int, bytes]]:
    """(offset delta, time delta, bytes) of each record, its length included."""
    found, at = [], 0
    while at < len(plain):
        length, start = _varint(plain, at)
        time, inner = _varint(plain, start + 1)  # behind the attributes
        delta, _ = _varint(plain, inner)
        found.append((delta, time, plain[at : start + length]))
        at = start + length
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def some_of(rng: random.Random, count: int) -> set[int]:
    """Which records a cleaner keeps: all, none, or some."""
    share = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    return {delta for delta in range(count) if rng.random() < share}


async def append(
    rig: SearchRig, topic: str, partition: int, rows: Sequence[Row], kept: Collection[int], codec: str
) -> int:
    """Write a batch that lacks records. Its base offset."""
    held = part(rig, topic, partition)
    # Such a batch is refused from clients, and rightly: only the check is passed over.
    with patch("mainstem.log.partition.partition.validate", read_header):
        batch = bytearray(keeping(bytes(build(rows, codec=codec)), kept))
        written = held.append(memoryview(batch))
    await held.when_committed(written.next_offset)
    return written.base_offset


def part(rig: SearchRig, topic: str, partition: int) -> Partition:
    known = rig.node.topics.get(topic)
    assert known is not None
    return rig.node.partition(known, partition)


def new_epoch(held: Partition) -> None:
    """As after an election: what comes has a higher leader epoch."""
    held.epoch += 1
    held.derived.epochs.begin(held.epoch, held.log_end_offset)


@dataclass
class RewrittenPartition:
    """A partition whose readers are given what a cleaner has left of it."""

    partition: Partition
    clean_to: int = 0
    """Offsets from here on were never cleaned."""
    batches: dict[int, bytes] = field(default_factory=dict)
    """What is left below `clean_to`, by base offset."""
    _really: Any = None

    def __post_init__(self) -> None:
        self._really = self.partition.reader.read
        self.partition.reader.read = self.read  # type: ignore[method-assign]

    def read(self, offset: int, max_bytes: int, past_watermark: bool) -> BatchSlice:
        """See `Partition.read`. What follows is found across the offsets that are gone."""
        if not self.partition.log_start_offset <= offset <= self.partition.high_watermark:
            raise OffsetOutOfRange(str(offset))
        if offset >= self.clean_to:
            return self._of_the_log(offset, max_bytes)
        found: list[bytes] = []
        next_offset, size = self.clean_to, 0
        for batch in self.batches.values():
            after = read_header(batch).next_offset
            if after <= offset:
                continue
            if found and size + len(batch) > max_bytes:
                break
            found.append(batch)
            size += len(batch)
            next_offset = after
        return (
            BatchSlice(b"".join(found), next_offset) if found else self._of_the_log(self.clean_to, max_bytes)
        )

    def _of_the_log(self, offset: int, max_bytes: int) -> BatchSlice:
        reader = self.partition.reader
        reader.read = self._really  # type: ignore[method-assign]
        try:
            return reader.read_blocking(offset, max_bytes, False)
        finally:
            reader.read = self.read  # type: ignore[method-assign]

    def clean(self, rng: random.Random) -> set[int]:
        """Remove records, anew, below the newest batch. The offsets that are gone."""
        gone: set[int] = set()
        offset, end = max(self.clean_to, self.partition.log_start_offset), self.partition.high_watermark
        fresh: dict[int, bytes] = {}
        while offset < end:
            read = self._of_the_log(offset, 1 << 20)
            for at, header in iter_batches(read.data):
                fresh[header.base_offset] = bytes(read.data[at : at + header.total_bytes])
            offset = read.next_offset
        if fresh:
            newest = max(fresh)
            del fresh[newest]
            self.clean_to = newest
        left: dict[int, bytes] = {}
        for base, batch in (self.batches | fresh).items():
            header = read_header(batch)
            plain = codecs.decompress(header.codec, memoryview(batch)[HEADER_BYTES:], 64 << 20)
            deltas = [delta for delta, _, _ in _records(bytes(plain))]
            chosen = some_of(rng, len(deltas))
            kept = {delta for at, delta in enumerate(deltas) if at in chosen}
            gone |= {base + delta for delta in deltas if delta not in kept}
            if kept or rng.random() < 0.3:
                left[base] = keeping(batch, kept)
        self.batches = left
        return gone
