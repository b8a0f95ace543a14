"""Batches that no client library would build, and a client that publishes them as they are."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from crc32c import crc32c

from mainstem.kafka_protocol.message import Message
from mainstem.log.storage import codecs
from mainstem.log.storage.record_batch import HEADER_BYTES, build
from mainstem.search.cluster.broker_client import BrokerConnection
from mainstem.search.cluster.client_protocol import BrokerRequest

PRODUCE = 0
CODEC_AT, CRC_AT, CRC_FROM = 22, 17, 21

RawHeaders = Sequence[tuple[bytes, bytes | None]]
RawRecord = tuple[bytes | None, bytes | None, RawHeaders, int]


def batch_with_names(records: Sequence[RawRecord], *, codec: str = "none") -> bytes:
    """A batch of records (key, value, headers, ms) whose header names may be any bytes."""
    names = [name for _, _, headers, _ in records for name, _ in headers]
    texts = [f"{number:04}".rjust(len(name), "~")[: len(name)] for number, name in enumerate(names)]
    placeholders = iter(texts)
    plain = bytes(
        build(
            [
                (key, value, [(next(placeholders), content) for _, content in headers], time_ms)
                for key, value, headers, time_ms in records
            ]
        )
    )
    for text, name in zip(texts, names, strict=True):
        assert plain.count(text.encode()) == 1, f"the name {name!r} needs four bytes or more"
        plain = plain.replace(text.encode(), name)
    body = plain[HEADER_BYTES:]
    codec_id = codecs.NAMES.index(codec)
    return sealed(plain[:HEADER_BYTES] + (codecs.compress(codec_id, body) if codec_id else body), codec_id)


def undecodable_batch() -> bytes:
    """A batch with a valid checksum whose record is not one."""
    return sealed(bytes(build([(None, b"lost", [], 1)]))[:HEADER_BYTES] + b"\xff" * 20)


def sealed(batch: bytes, codec_id: int = 0) -> bytes:
    """The batch with the length, the codec and the checksum of its bytes."""
    out = bytearray(batch)
    struct.pack_into(">i", out, 8, len(out) - 12)
    out[CODEC_AT] = out[CODEC_AT] & ~0x07 | codec_id
    struct.pack_into(">I", out, CRC_AT, crc32c(bytes(out[CRC_FROM:])))
    return bytes(out)


def produce_batch(address: str, topic: str, batch: bytes) -> None:
    """Publish a batch to partition 0 of a topic that exists."""
    host, _, port = address.rpartition(":")
    connection = BrokerConnection(host, int(port))
    try:
        partition = Message(index=0, records=batch)
        data = [Message(name=topic, partition_data=[partition])]
        request = Message(acks=-1, timeout=5_000, topic_data=data)
        reply = connection.call(BrokerRequest(PRODUCE, 7, request))
        code = reply.responses[0].partition_responses[0].error_code
        assert code == 0, f"refused with error {code}"
    finally:
        connection.close()
