"""Produce, Fetch and the partitions of Metadata, framed by hand.

Owns: the replies that carry the stream or are large, built without a Message for each partition. Refuses
everything else: the compiled writer is the rule. Called by k00, k01 and k03. Tests compare every byte with
the compiled writer's and kio's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias
from uuid import UUID

from mainstem.kafka_protocol.message import Buffer
from mainstem.kafka_protocol.writer import EncodedArray, uvarint

PRODUCE_FLEXIBLE, PRODUCE_TOPIC_IDS = 9, 13
FETCH_FLEXIBLE, FETCH_TOPIC_IDS = 12, 13
METADATA_FLEXIBLE = 9
COPIED_BYTES = 4 << 10
"""Records up to this size are copied into the piece before them; larger ones stay a piece of their own."""

_I16 = struct.Struct(">h").pack
_I32 = struct.Struct(">i").pack
_PRODUCED_3 = struct.Struct(">ihqq").pack
_PRODUCED_5 = struct.Struct(">ihqqq").pack
_FETCH_HEAD_7 = struct.Struct(">ihi").pack
_FETCHED_4 = struct.Struct(">ihqq").pack
_FETCHED_5 = struct.Struct(">ihqqq").pack
_DIVERGING = struct.Struct(">iq").pack

TopicKey: TypeAlias = str | UUID
"""By name, or from the versions with topic ids on by id."""


class ProduceResult(NamedTuple):
    """What became of one partition's batch."""

    partition: int
    error: int = 0
    base_offset: int = -1
    log_append_ms: int = -1
    log_start: int = -1
    message: str | None = None


class FetchResult(NamedTuple):
    """What one partition gives."""

    partition: int
    error: int
    high_watermark: int = -1
    stable: int = -1
    log_start: int = -1
    records: Buffer = b""
    aborted: bool = False
    """Whether the list of aborted transactions, empty, is told (read_committed, and beside an error) or
    null."""
    diverging: tuple[int, int] | None = None
    """(epoch, its end offset) where the client's log parts from ours."""


def _topic(out: bytearray, topic: TopicKey, flexible: bool) -> None:
    if isinstance(topic, UUID):
        out += topic.bytes
        return
    name = topic.encode()
    out += uvarint(len(name) + 1) if flexible else _I16(len(name))
    out += name


def produce_reply(version: int, topics: Sequence[tuple[TopicKey, list[ProduceResult]]]) -> list[Buffer]:
    """The body of a Produce reply."""
    flexible = version >= PRODUCE_FLEXIBLE
    out = bytearray(uvarint(len(topics) + 1) if flexible else _I32(len(topics)))
    for topic, partitions in topics:
        _topic(out, topic, flexible)
        out += uvarint(len(partitions) + 1) if flexible else _I32(len(partitions))
        for index, error, base_offset, log_append_ms, log_start, message in partitions:
            if version < 5:
                out += _PRODUCED_3(index, error, base_offset, log_append_ms)
                continue
            out += _PRODUCED_5(index, error, base_offset, log_append_ms, log_start)
            if version < 8:
                continue
            if message is None:
                out += b"\x01\x00\x00" if flexible else b"\0\0\0\0\xff\xff"
            else:
                text = message.encode()
                if flexible:
                    out += b"\x01" + uvarint(len(text) + 1) + text + b"\0"
                else:
                    out += b"\0\0\0\0" + _I16(len(text)) + text
        if flexible:
            out += b"\0"
    out += b"\0\0\0\0\0" if flexible else b"\0\0\0\0"
    return [out]


def fetch_reply(version: int, topics: Sequence[tuple[TopicKey, list[FetchResult]]]) -> list[Buffer]:
    """The body of a Fetch reply: records are pieces of their own where they are large."""
    flexible = version >= FETCH_FLEXIBLE
    pieces: list[Buffer] = []
    out = bytearray(_FETCH_HEAD_7(0, 0, 0) if version >= 7 else _I32(0))
    out += uvarint(len(topics) + 1) if flexible else _I32(len(topics))
    for topic, partitions in topics:
        _topic(out, topic, flexible)
        out += uvarint(len(partitions) + 1) if flexible else _I32(len(partitions))
        for fetched in partitions:
            _fetch_head(out, fetched, version, flexible)
            records = fetched.records
            if len(records) <= COPIED_BYTES:
                out += records
            else:
                pieces += (out, records)
                out = bytearray()
            if flexible:
                if fetched.diverging is None:
                    out += b"\0"
                else:
                    out += b"\x01\x00\x0d" + _DIVERGING(*fetched.diverging) + b"\0"
        if flexible:
            out += b"\0"
    if flexible:
        out += b"\0"
    pieces.append(out)
    return pieces


def _fetch_head(out: bytearray, fetched: FetchResult, version: int, flexible: bool) -> None:
    """A partition's fields up to and with the length of its records."""
    index, error, high_watermark, stable, log_start, records, aborted, _ = fetched
    if version >= 5:
        out += _FETCHED_5(index, error, high_watermark, stable, log_start)
    else:
        out += _FETCHED_4(index, error, high_watermark, stable)
    if flexible:
        out += b"\x01" if aborted else b"\0"
    else:
        out += b"\0\0\0\0" if aborted else b"\xff\xff\xff\xff"
    if version >= 11:
        out += b"\xff\xff\xff\xff"
    out += uvarint(len(records) + 1) if flexible else _I32(len(records))


_PARTITION_0 = struct.Struct(">hiiiiii").pack
_PARTITION_5 = struct.Struct(">hiiiiiii").pack
_PARTITION_7 = struct.Struct(">hiiiiiiii").pack
_PARTITION_9 = struct.Struct(">hiiiBiBiBB").pack


def metadata_partitions(version: int, node: int, epochs: Sequence[int]) -> EncodedArray:
    """The partitions of a topic in a Metadata reply: all led by `node`, the only replica; `epochs` by
    partition."""
    if version >= METADATA_FLEXIBLE:
        out = bytearray(uvarint(len(epochs) + 1))
        for index, epoch in enumerate(epochs):
            out += _PARTITION_9(0, index, node, epoch, 2, node, 2, node, 1, 0)
        return EncodedArray(out)
    out = bytearray(_I32(len(epochs)))
    for index, epoch in enumerate(epochs):
        if version >= 7:
            out += _PARTITION_7(0, index, node, epoch, 1, node, 1, node, 0)
        elif version >= 5:
            out += _PARTITION_5(0, index, node, 1, node, 1, node, 0)
        else:
            out += _PARTITION_0(0, index, node, 1, node, 1, node)
    return EncodedArray(out)
