"""What is unusual and allowed: a data folder behind a symbolic link, a record of the largest size."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from mainstem.settings import Settings
from tests.doors.kafka.kit import batch, fetch_request, produce_request
from tests.doors.kafka.test_real_node import RawCaller
from tests.faults.client import AcknowledgedClient
from tests.support.server import Server

T = 1_356_998_400_000


@pytest.mark.slow
def test_a_folder_behind_a_link_is_one_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with Server(tmp_path / "link") as server:
        client = AcknowledgedClient(server.address)
        client.create("orders")
        client.write("orders", 3, 100)
        with pytest.raises(AssertionError, match="in use by another server"):
            Server(tmp_path / "real").start()
    with Server(tmp_path / "real") as server:
        client.address = server.address
        assert client.read("orders") == client.acknowledged


def test_a_batch_of_the_largest_size_is_accepted_and_one_byte_more_is_not(tmp_path: Path) -> None:
    largest = Settings().message_max_bytes
    size = 1_000_000 + largest - len(batch(bytes(1_000_000), timestamp_ms=T))
    whole = batch(bytes(size), timestamp_ms=T)
    assert len(whole) == largest

    async def work(server: Server) -> None:
        caller = await RawCaller.connect((server.host, server.port))
        named = Message(topics=[Message(name="orders")], allow_auto_topic_creation=True)
        await caller.call(3, 9, named)
        errors = []
        for data in (whole, batch(bytes(size + 1), timestamp_ms=T)):
            answer = await caller.call(0, 9, produce_request("orders", data))
            errors.append(answer.responses[0].partition_responses[0].error_code)
        assert errors == [0, ErrorCode.MESSAGE_TOO_LARGE]
        answer = await caller.call(1, 12, fetch_request(("orders", 0, 0)))
        assert bytes(answer.responses[0].partitions[0].records or b"")[21:] == bytes(whole[21:])
        caller.close()

    with Server(tmp_path / "data") as server:
        asyncio.run(asyncio.wait_for(work(server), 30))
