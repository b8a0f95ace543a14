"""Chunks: the form in which the stream protocol sends events.

Owns: the 48 bytes in front of a chunk's messages (osiris_log, "User chunk"), and which events go into one:
the offsets of a chunk have no gaps, because clients count them. Refuses: sub-entry batches, compression and
filters in a chunk: the server chooses how events are grouped, and clients filter by themselves.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from mainstem.contract import Event
from mainstem.doors.rabbitmq_stream.commands import Key

ENTRIES_MAX = 65_535
MAGIC_AND_VERSION = 0x50
_FRAME = struct.Struct(">IHHB")
"""Length, key, version, subscription."""
_COMMITTED = struct.Struct(">Q")
_CHUNK = struct.Struct(">BBHIqQQIIII")
"""Magic and version, type, entries, records, timestamp, epoch, first offset, checksum, length of the data,
length of the trailer, length of the filter and bytes that are reserved."""
_ENTRY_SIZE = struct.Struct(">I")
EPOCH = 1
"""There is one leader."""
COMMITTED_VERSION = 2
"""The version of Deliver that has the last committed chunk in front of the chunk."""


def deliver_frame(
    subscription_id: int, events: Sequence[Event], messages: Sequence[bytes], committed: int | None
) -> list[bytes]:
    """A Deliver with the chunk of these events, in pieces. `messages`: the events as clients read them.
    `committed`: the first offset of the last committed chunk; None: for clients that do not know of it."""
    parts: list[bytes] = []
    for message in messages:
        parts += (_ENTRY_SIZE.pack(len(message)), message)
    data = b"".join(parts)
    first = events[0]
    head = _CHUNK.pack(
        MAGIC_AND_VERSION,
        0,
        len(messages),
        len(messages),
        first.timestamp_ms,
        EPOCH,
        first.offset,
        zlib.crc32(data),
        len(data),
        0,
        0,
    )
    known = b"" if committed is None else _COMMITTED.pack(committed)
    version = 1 if committed is None else COMMITTED_VERSION
    length = _FRAME.size - 4 + len(known) + len(head) + len(data)
    return [_FRAME.pack(length, Key.DELIVER, version, subscription_id) + known + head, data]


def chunk_length(events: Sequence[Event], sizes: Sequence[int], max_bytes: int) -> int:
    """How many of these events, at least one, go into the next chunk."""
    offset, used_bytes = events[0].offset, 0
    for count, (event, size) in enumerate(zip(events, sizes, strict=True)):
        used_bytes += size + _ENTRY_SIZE.size
        if count and (event.offset != offset + count or used_bytes > max_bytes or count >= ENTRIES_MAX):
            return count
    return len(events)
