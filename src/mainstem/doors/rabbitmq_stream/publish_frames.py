"""Publish, PublishConfirm and PublishError: the frames of the hot path of publishers.

Owns: the messages of a Publish, sub-entry batches included, which it unpacks within limits; the frames that
answer. Refuses: a sub-entry batch that is compressed with an unknown codec, announces other sizes than it has
or unpacks to more than SUB_BATCH_BYTES_MAX with those before it in the frame. It is refused with all that
follows it in the frame, so that what is stored has no gap.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from mainstem.doors.rabbitmq_stream.commands import HEAD_BYTES, Key
from mainstem.doors.rabbitmq_stream.response_code import ResponseCode
from mainstem.doors.rabbitmq_stream.wire import FrameError
from mainstem.log.disk.contract import Buffer
from mainstem.log.errors import CorruptBatch
from mainstem.log.storage import codecs
from mainstem.log.storage.codecs import decompress

SUB_BATCH_BYTES_MAX = 64 << 20
FILTERED_VERSION = 2
"""The version of Publish whose messages have a filter value."""
_ID_AND_SIZE = struct.Struct(">QI")
_SIZE = struct.Struct(">I")
_ID_AND_FILTER_SIZE = struct.Struct(">Qh")
_SUB_BATCH = struct.Struct(">BHII")
"""Behind the publishing id: kind and codec, messages, bytes unpacked, bytes."""
_SNAPPY = 2
_CODECS = {0: codecs.NONE, 1: codecs.GZIP, 3: codecs.LZ4, 4: codecs.ZSTD}
"""The codecs whose framing is that of Kafka's."""


class PublishedEntry(NamedTuple):
    """An entry of a Publish: one message, or those of a sub-entry batch, which share the id."""

    publishing_id: int
    messages: Sequence[bytes]
    filter_value: str | None = None


class PublishFrame(NamedTuple):
    """A Publish."""

    publisher_id: int
    entries: list[PublishedEntry]
    refused: list[int]
    """The publishing ids from the first entry on that cannot be unpacked."""


def publisher_of(frame: bytes) -> int:
    """The publisher's id. FrameError."""
    if len(frame) < HEAD_BYTES + 5:
        raise FrameError("a Publish without a publisher")
    return frame[HEAD_BYTES]


def decode_publish(frame: bytes, version: int) -> PublishFrame:
    """The messages of a Publish without its length. FrameError."""
    publisher_id = publisher_of(frame)
    (count,) = _SIZE.unpack_from(frame, HEAD_BYTES + 1)
    position, end = HEAD_BYTES + 5, len(frame)
    if count > (end - position) // 12:
        raise FrameError("a Publish announces more messages than it has bytes")
    entries: list[PublishedEntry] = []
    refused: list[int] = []
    room_bytes = SUB_BATCH_BYTES_MAX
    try:
        for _ in range(count):
            if version >= FILTERED_VERSION:
                entry, position = _read_filtered(frame, position)
            else:
                publishing_id, size = _ID_AND_SIZE.unpack_from(frame, position)
                if size & 0x80000000:
                    entry, position = _read_sub_batch(frame, position, publishing_id, room_bytes)
                    room_bytes -= sum(map(len, entry.messages))
                else:
                    position += 12 + size
                    entry = PublishedEntry(publishing_id, (frame[position - size : position],))
            if position > end:
                raise FrameError("a message reaches beyond its Publish")
            if refused or not entry.messages:
                refused.append(entry.publishing_id)
            else:
                entries.append(entry)
    except struct.error:
        raise FrameError("a Publish ends within a message") from None
    if position != end:
        raise FrameError("bytes behind the messages of a Publish")
    return PublishFrame(publisher_id, entries, refused)


def _read_filtered(frame: bytes, position: int) -> tuple[PublishedEntry, int]:
    publishing_id, filter_size = _ID_AND_FILTER_SIZE.unpack_from(frame, position)
    position += 10
    value: str | None = None
    if filter_size >= 0:
        if position + filter_size > len(frame):
            raise FrameError("a filter value reaches beyond its Publish")
        try:
            value = frame[position : position + filter_size].decode()
        except UnicodeDecodeError:
            raise FrameError("a filter value that is not UTF-8") from None
        position += filter_size
    elif filter_size != -1:
        raise FrameError("a filter value of a negative length")
    (size,) = _SIZE.unpack_from(frame, position)
    position += 4 + size
    return PublishedEntry(publishing_id, (frame[position - size : position],), value), position


def _read_sub_batch(
    frame: bytes, position: int, publishing_id: int, room_bytes: int
) -> tuple[PublishedEntry, int]:
    kind, count, unpacked_bytes, size = _SUB_BATCH.unpack_from(frame, position + 8)
    start = position + 8 + _SUB_BATCH.size
    end = start + size
    if end > len(frame):
        raise FrameError("a sub-entry batch reaches beyond its Publish")
    try:
        unpacked = _unpack(kind >> 4 & 7, frame[start:end], unpacked_bytes, room_bytes)
        messages = _messages_of(bytes(unpacked), count)
    except ValueError:
        messages = []
    return PublishedEntry(publishing_id, messages), end


def _messages_of(unpacked: bytes, count: int) -> list[bytes]:
    """The messages of an unpacked batch. ValueError."""
    messages, position = [], 0
    for _ in range(count):
        size = int.from_bytes(unpacked[position : position + 4], "big")
        position += 4 + size
        if position > len(unpacked):
            raise ValueError("a message reaches beyond its batch")
        messages.append(unpacked[position - size : position])
    if position != len(unpacked):
        raise ValueError("bytes behind the messages of a batch")
    return messages


def _unpack(codec: int, data: bytes, unpacked_bytes: int, room_bytes: int) -> Buffer:
    """The bytes of a sub-entry batch. ValueError: not `unpacked_bytes`, or more than `room_bytes`."""
    if unpacked_bytes > room_bytes:
        raise ValueError("too large a batch")
    if codec == _SNAPPY:
        unpacked: Buffer = _unpack_snappy(data, unpacked_bytes)
    elif codec in _CODECS:
        try:
            unpacked = decompress(_CODECS[codec], memoryview(data), unpacked_bytes)
        except CorruptBatch as error:
            raise ValueError(str(error)) from None
    else:
        raise ValueError("an unknown codec")
    if len(unpacked) != unpacked_bytes:
        raise ValueError("other bytes than announced")
    return unpacked


def _unpack_snappy(data: bytes, unpacked_bytes: int) -> memoryview:
    """Snappy in its framing format, as the Java client writes it."""
    import cramjam

    out = bytearray(unpacked_bytes)
    try:
        return memoryview(out)[: cramjam.snappy.decompress_into(data, out)]
    except cramjam.DecompressionError as error:
        raise ValueError(str(error)) from None


def confirm_frame(publisher_id: int, publishing_ids: Sequence[int]) -> bytes:
    """A PublishConfirm, with its length."""
    count = len(publishing_ids)
    return struct.pack(
        f">IHHBI{count}Q", 9 + 8 * count, Key.PUBLISH_CONFIRM, 1, publisher_id, count, *publishing_ids
    )


def error_frame(publisher_id: int, errors: Sequence[tuple[int, ResponseCode]]) -> bytes:
    """A PublishError of (publishing id, code), with its length."""
    head = struct.pack(">IHHBI", 9 + 10 * len(errors), Key.PUBLISH_ERROR, 1, publisher_id, len(errors))
    return head + b"".join(struct.pack(">QH", id_, code) for id_, code in errors)
