"""Batches made to harm, sent to a real server as raw frames: what lies is refused, what bursts is not opened
beyond the cap, and what is beside it is served."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import cramjam
import pytest
from crc32c import crc32c

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from mainstem.log.storage import codecs
from mainstem.log.storage.record_batch import HEADER_BYTES
from tests.doors.kafka.kit import batch, fetch_request, init_producer_id, produce_request
from tests.doors.kafka.test_real_node import RawCaller
from tests.faults.attacks import status
from tests.support.server import Server

T = 1_356_998_400_000
BOMB_BYTES = 512 << 20
FIELDS = {
    "base_offset": (0, ">q"),
    "length": (8, ">i"),
    "magic": (16, ">b"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
}
FIELDS |= {"base_timestamp": (27, ">q"), "max_timestamp": (35, ">q"), "producer_id": (43, ">q")}
FIELDS |= {"producer_epoch": (51, ">h"), "base_sequence": (53, ">i"), "count": (57, ">i")}


def sealed(data: bytearray) -> bytearray:
    """With the right CRC."""
    struct.pack_into(">I", data, 17, crc32c(data[21:]))
    return data


def forged(**fields: int) -> bytearray:
    """A batch that says this, with a right CRC."""
    data = batch(b"good", timestamp_ms=T)
    for name, value in fields.items():
        position, form = FIELDS[name]
        struct.pack_into(form, data, position, value)
    return sealed(data)


def packed(codec: int, body: bytes) -> bytearray:
    """A batch of one record whose compressed records are `body`."""
    data = batch(b"x", timestamp_ms=T)[:HEADER_BYTES] + bytearray(body)
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">h", data, 21, codec)
    return sealed(data)


BOMBS: dict[str, Callable[[], bytearray]] = {
    "zstd": lambda: packed(codecs.NAMES.index("zstd"), bytes(cramjam.zstd.compress(bytes(BOMB_BYTES)))),
    "gzip": lambda: packed(codecs.NAMES.index("gzip"), bytes(cramjam.gzip.compress(bytes(BOMB_BYTES), 1))),
    "lz4": lambda: packed(codecs.NAMES.index("lz4"), bytes(cramjam.lz4.compress(bytes(BOMB_BYTES)))),
    "snappy": lambda: packed(codecs.SNAPPY, b"\xff\xff\xff\xff\x07" + b"\xfe\x01\x00" * 1000),
}
LIES: list[dict[str, int]] = [
    {"base_offset": 1},
    {"base_offset": -1},
    {"base_offset": 1 << 62},
    {"producer_id": 1, "producer_epoch": -1, "base_sequence": 0},
    {"producer_id": 1, "producer_epoch": 0, "base_sequence": -1},
    {"magic": 0},
    {"magic": 1},
    {"length": 1 << 30},
    {"length": -1},
    {"attributes": 7},
    {"attributes": 0x10},
    {"attributes": 0x20},
    {"count": 2},
    {"count": -1},
    {"count": 0, "last_offset_delta": -1},
    {"last_offset_delta": (1 << 31) - 1, "count": -(1 << 31)},
    {"max_timestamp": T - 1},
    {"max_timestamp": T * 1000},
    {"max_timestamp": 4_070_908_800_000_000},
    {"producer_id": 1},
    {"producer_id": -2},
]


def with_server(folder: Path, work: Callable[[Server, RawCaller], Awaitable[None]]) -> None:
    async def body(server: Server) -> None:
        caller = await RawCaller.connect((server.host, server.port))
        asked = Message(topics=[Message(name="orders")], allow_auto_topic_creation=True)
        await caller.call(3, 9, asked)
        await asyncio.wait_for(work(server, caller), 60)
        caller.close()

    with Server(folder / "data", socket_request_max_bytes=50 << 20, message_max_bytes=10 << 20) as server:
        asyncio.run(body(server))
        assert "Traceback" not in server.logs(), server.logs()


async def produce(caller: RawCaller, data: bytearray) -> tuple[int, int]:
    """(error code, offset)."""
    answer = await caller.call(0, 9, produce_request("orders", data, timeout=20_000))
    ((partition,),) = [topic.partition_responses for topic in answer.responses]
    return partition.error_code, partition.base_offset


async def fetched(caller: RawCaller, offset: int) -> bytes:
    answer = await caller.call(1, 12, fetch_request(("orders", 0, offset)))
    ((partition,),) = [topic.partitions for topic in answer.responses]
    assert partition.error_code == 0
    return bytes(partition.records or b"")


@pytest.mark.slow
def test_batches_with_false_fields_are_refused_and_the_next_one_is_accepted(tmp_path: Path) -> None:
    async def work(server: Server, caller: RawCaller) -> None:
        for number, lie in enumerate(LIES):
            code, offset = await produce(caller, forged(**lie))
            assert code not in (0, ErrorCode.UNKNOWN_SERVER_ERROR), lie
            assert offset == -1
            assert await produce(caller, batch(b"%d" % number, timestamp_ms=T)) == (0, number)
        flipped = batch(b"good", timestamp_ms=T)
        flipped[-1] ^= 1
        assert await produce(caller, flipped) == (ErrorCode.CORRUPT_MESSAGE, -1)

    with_server(tmp_path, work)


def test_a_batch_that_claims_to_be_the_servers_own_is_refused(tmp_path: Path) -> None:
    async def work(server: Server, caller: RawCaller) -> None:
        first = (await caller.call(22, 4, init_producer_id())).producer_id
        claim = {"producer_id": first - 1, "producer_epoch": 0, "base_sequence": 0}
        request = produce_request("orders", forged(**claim), timeout=20_000)
        for version in (3, 8, 12):
            answer = await caller.call(0, version, request)
            ((partition,),) = [topic.partition_responses for topic in answer.responses]
            assert (partition.error_code, partition.base_offset) == (ErrorCode.INVALID_RECORD, -1)
        assert "only the server writes" in partition.error_message
        bumped = await caller.call(22, 4, init_producer_id(first - 1, 0))
        assert (bumped.producer_id, bumped.producer_epoch) == (first + 1, 0), "its id is never given out"
        honest = forged(producer_id=first, producer_epoch=0, base_sequence=0)
        assert await produce(caller, honest) == (0, 0)

    with_server(tmp_path, work)


@pytest.mark.slow
@pytest.mark.parametrize("codec", BOMBS)
def test_a_decompression_bomb_costs_no_memory_and_hides_no_other_event(tmp_path: Path, codec: str) -> None:
    async def work(server: Server, caller: RawCaller) -> None:
        assert await produce(caller, batch(b"before", timestamp_ms=T)) == (0, 0)
        bomb = BOMBS[codec]()
        assert await produce(caller, bomb) == (0, 1), "the server opens no records that are produced"
        assert await produce(caller, batch(b"behind", timestamp_ms=T + 5)) == (0, 2)
        for moment in (T, T + 1, T + 5, -3):  # -3: the largest timestamp
            partition = Message(partition_index=0, current_leader_epoch=-1, timestamp=moment)
            asked = Message(replica_id=-1, topics=[Message(name="orders", partitions=[partition])])
            answer = await asyncio.wait_for(caller.call(2, 7, asked), 30)
            ((response,),) = [topic.partitions for topic in answer.topics]
            assert response.error_code in (0, ErrorCode.CORRUPT_MESSAGE)
        assert b"before" in await fetched(caller, 0)
        assert b"behind" in await fetched(caller, 2)
        assert status(server, "VmHWM") < 300 << 20

    with_server(tmp_path, work)
