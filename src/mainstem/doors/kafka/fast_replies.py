"""Faster encoders for replies to Produce and Fetch and for the partitions of Metadata.

Owns: the replies that are sent for every batch, or that are large; they are built without a Message for each
partition. Refuses everything else, which `kafka_protocol.writer` encodes from the schema. Tests compare every
byte with that writer and with kio, another implementation.
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
"""Records of at most this size are copied into the piece before them; larger ones are a piece of their
own."""

_I16 = struct.Struct(">h").pack
_I32 = struct.Struct(">i").pack
_PRODUCED_3 = struct.Struct(">ihqq").pack
_PRODUCED_5 = struct.Struct(">ihqqq").pack
_FETCH_HEAD_7 = struct.Struct(">ihi").pack
_FETCHED_4 = struct.Struct(">ihqq").pack
_FETCHED_5 = struct.Struct(">ihqqq").pack
_DIVERGING = struct.Struct(">iq").pack

TopicKey: TypeAlias = str | UUID
"""A topic's name, or its id in the versions that have topic ids."""


class ProduceResult(NamedTuple):
    """The result of appending the batch of one partition. -1: unknown."""

    partition: int
    error: int = 0
    """An `ErrorCode`."""
    base_offset: int = -1
    log_append_ms: int = -1
    """Wall ms that the records got as their timestamp; -1: they keep their own."""
    log_start_offset: int = -1
    message: str | None = None


class FetchResult(NamedTuple):
    """The result of reading from one partition. -1: unknown."""

    partition: int
    error: int
    """An `ErrorCode`."""
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    records: Buffer = b""
    has_aborted_list: bool = False
    """Whether the list of aborted transactions is empty (for read_committed, and beside an error) or null."""
    diverging: tuple[int, int] | None = None
    """(leader epoch, its end offset) at which the client's log diverges from this one; None: it does not."""


def _write_topic(out: bytearray, topic: TopicKey, flexible: bool) -> None:
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
        _write_topic(out, topic, flexible)
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
    """The body of a Fetch reply, in pieces: large records are not copied."""
    flexible = version >= FETCH_FLEXIBLE
    pieces: list[Buffer] = []
    out = bytearray(_FETCH_HEAD_7(0, 0, 0) if version >= 7 else _I32(0))
    out += uvarint(len(topics) + 1) if flexible else _I32(len(topics))
    for topic, partitions in topics:
        _write_topic(out, topic, flexible)
        out += uvarint(len(partitions) + 1) if flexible else _I32(len(partitions))
        for fetched in partitions:
            _write_fetched(out, fetched, version, flexible)
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


def _write_fetched(out: bytearray, fetched: FetchResult, version: int, flexible: bool) -> None:
    """Append a partition's fields up to the length of its records, included."""
    index, error, high_watermark, last_stable, log_start, records, has_aborted_list, _ = fetched
    if version >= 5:
        out += _FETCHED_5(index, error, high_watermark, last_stable, log_start)
    else:
        out += _FETCHED_4(index, error, high_watermark, last_stable)
    if flexible:
        out += b"\x01" if has_aborted_list else b"\0"
    else:
        out += b"\0\0\0\0" if has_aborted_list else b"\xff\xff\xff\xff"
    if version >= 11:
        out += b"\xff\xff\xff\xff"
    out += uvarint(len(records) + 1) if flexible else _I32(len(records))


_PARTITION_0 = struct.Struct(">hiiiiii").pack
_PARTITION_5 = struct.Struct(">hiiiiiii").pack
_PARTITION_7 = struct.Struct(">hiiiiiiii").pack
_PARTITION_9 = struct.Struct(">hiiiBiBiBB").pack


def metadata_partitions(version: int, node: int, epochs: Sequence[int]) -> EncodedArray:
    """The partitions of a topic in a Metadata reply. `node`: the leader and only replica of all of them;
    `epochs`: the leader epoch of each partition, by its index."""
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
