"""The partition's snapshot, `producers.snapshot`: what a start would otherwise read from the log.

Owns: the file's bytes. It holds the producer windows and where the active segment's index ended, both as of
one committed place in the log. Refuses: to be trusted blindly: it names the last batch before that place
and its CRC, and counts for nothing when the log has another one there. Disposable. Called by
`index_loading.py` and `partition.py`.

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
_SENT = struct.Struct(">iiqqq")


@dataclass(frozen=True, slots=True)
class ProducerSnapshot:
    """One snapshot, whole."""

    segment: int
    """Base offset of the segment in which the place is."""
    position: int
    """The place: bytes into that segment, a batch boundary."""
    offset: int
    """The place, as an offset."""
    last_batch_position: int
    """Where the last batch before the place begins in that segment; -1: the place is the segment's
    beginning."""
    last_batch_crc: int
    """That batch's CRC field."""
    last_arrival_ms: int
    """When it arrived, wall ms; -1: not known."""
    index_entries: tuple[int, int] | None
    """So many entries of `.index` and `.timeindex` are right; None: the index was not in memory."""
    windows: Mapping[int, ProducerWindow]


_NO_INDEX = 0xFFFF_FFFF


def encode(snapshot: ProducerSnapshot) -> bytes:
    """The file's bytes."""
    place = (
        snapshot.segment,
        snapshot.position,
        snapshot.offset,
        snapshot.last_batch_position,
        snapshot.last_batch_crc,
    )
    parts = [
        _PLACE.pack(*place, snapshot.last_arrival_ms),
        _INDEX.pack(*(snapshot.index_entries or (_NO_INDEX, 0))),
    ]
    parts.append(_COUNT.pack(len(snapshot.windows)))
    for producer_id, window in snapshot.windows.items():
        parts.append(_PRODUCER.pack(producer_id, window.epoch, window.arrival_ms, len(window.batches)))
        parts += (_SENT.pack(*sent) for sent in window.batches)
    body = b"".join(parts)
    return _PREFIX.pack(MAGIC, crc32c(body)) + body


def decode(data: bytes) -> ProducerSnapshot | None:
    """The snapshot, or None if the bytes are not exactly one whole snapshot."""
    try:
        magic, crc = _PREFIX.unpack_from(data)
        if magic != MAGIC or crc32c(memoryview(data)[_PREFIX.size :]) != crc:
            return None
        at = _PREFIX.size
        segment, position, offset, last_position, last_crc, arrival_ms = _PLACE.unpack_from(data, at)
        at += _PLACE.size
        offset_entries, time_entries = _INDEX.unpack_from(data, at)
        at += _INDEX.size
        (count,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        windows: dict[int, ProducerWindow] = {}
        for _ in range(count):
            producer_id, epoch, last_ms, batches = _PRODUCER.unpack_from(data, at)
            at += _PRODUCER.size
            if not 1 <= batches <= WINDOW_BATCHES:
                return None
            sent = tuple(ProducerBatch(*_SENT.unpack_from(data, at + n * _SENT.size)) for n in range(batches))
            at += batches * _SENT.size
            windows[producer_id] = ProducerWindow(epoch, sent, last_ms)
    except struct.error:
        return None
    if at != len(data):
        return None
    entries = None if offset_entries == _NO_INDEX else (offset_entries, time_entries)
    return ProducerSnapshot(segment, position, offset, last_position, last_crc, arrival_ms, entries, windows)
