"""The snapshot of a partition, `producers.snapshot`: state that a start would otherwise derive from the log.

Owns: the file's bytes. It holds the producer windows and the size of the active segment's index, both as of
one committed place in the log. Refuses: to be trusted blindly: it names the last batch before that place and
its CRC, and is ignored if the log has another batch there. It can be built again.

Layout: FORMAT.md, part "Snapshot".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from crc32c import crc32c

from mainstem.log.storage.producer_state import WINDOW_BATCHES, ProducerBatch, ProducerWindow

NAME = "producers.snapshot"
MAGIC = b"MSPROD01"

_PREFIX = struct.Struct(">8sI")
_PLACE = struct.Struct(">qqqqIq")
_INDEX = struct.Struct(">II")
_COUNT = struct.Struct(">I")
_PRODUCER = struct.Struct(">qhqB")
_BATCH = struct.Struct(">iiqqq")


@dataclass(frozen=True, slots=True)
class ProducerSnapshot:
    """The contents of one snapshot file: state as of one committed place in the log ("the place" below)."""

    segment: int
    """Base offset of the segment that contains the place."""
    position: int
    """The place, in bytes from the beginning of that segment: a batch boundary."""
    offset: int
    """The place, as an offset."""
    last_batch_position: int
    """Where the last batch before the place begins in that segment; -1: the place is the segment's
    beginning."""
    last_batch_crc: int
    """CRC field of the last batch before the place."""
    last_arrival_ms: int
    """When the last batch before the place arrived, wall-clock ms; -1: unknown."""
    index_entries: tuple[int, int] | None
    """How many entries of `.index` and of `.timeindex` are valid; None: the index was not in memory."""
    windows: Mapping[int, ProducerWindow]
    """Producer windows, by producer id."""


_NO_INDEX = 0xFFFF_FFFF


def encode(snapshot: ProducerSnapshot) -> bytes:
    """The file's bytes."""
    body = encode_place(snapshot) + b"".join(encode_window(*item) for item in snapshot.windows.items())
    return encode_prefix(crc32c(body)) + body


def encode_prefix(crc: int) -> bytes:
    """The beginning of the file: `crc` is that of what follows."""
    return _PREFIX.pack(MAGIC, crc)


def encode_place(snapshot: ProducerSnapshot) -> bytes:
    """What follows the prefix: the place, the index entries, and how many producers follow."""
    place = (
        snapshot.segment,
        snapshot.position,
        snapshot.offset,
        snapshot.last_batch_position,
        snapshot.last_batch_crc,
    )
    index_entries = _INDEX.pack(*(snapshot.index_entries or (_NO_INDEX, 0)))
    return _PLACE.pack(*place, snapshot.last_arrival_ms) + index_entries + _COUNT.pack(len(snapshot.windows))


def encode_window(producer_id: int, window: ProducerWindow) -> bytes:
    """The part of one producer."""
    assert 1 <= len(window.batches) <= WINDOW_BATCHES, "a producer's window has one to five batches"
    head = _PRODUCER.pack(producer_id, window.epoch, window.arrival_ms, len(window.batches))
    return head + b"".join([_BATCH.pack(*batch) for batch in window.batches])


def decode(data: bytes) -> ProducerSnapshot | None:
    """The snapshot, or None if the bytes are not exactly one whole snapshot."""
    try:
        magic, crc = _PREFIX.unpack_from(data)
        if magic != MAGIC or crc32c(memoryview(data)[_PREFIX.size :]) != crc:
            return None
        cursor = _PREFIX.size
        segment, position, offset, last_position, last_crc, arrival_ms = _PLACE.unpack_from(data, cursor)
        cursor += _PLACE.size
        offset_entries, time_entries = _INDEX.unpack_from(data, cursor)
        cursor += _INDEX.size
        (count,) = _COUNT.unpack_from(data, cursor)
        cursor += _COUNT.size
        windows: dict[int, ProducerWindow] = {}
        for _ in range(count):
            producer_id, epoch, arrived_ms, batch_count = _PRODUCER.unpack_from(data, cursor)
            cursor += _PRODUCER.size
            if not 1 <= batch_count <= WINDOW_BATCHES:
                return None
            end = cursor + batch_count * _BATCH.size
            fields = (_BATCH.unpack_from(data, start) for start in range(cursor, end, _BATCH.size))
            windows[producer_id] = ProducerWindow(epoch, tuple(map(ProducerBatch._make, fields)), arrived_ms)
            cursor = end
    except struct.error:
        return None
    if cursor != len(data):
        return None
    entries = None if offset_entries == _NO_INDEX else (offset_entries, time_entries)
    return ProducerSnapshot(segment, position, offset, last_position, last_crc, arrival_ms, entries, windows)
