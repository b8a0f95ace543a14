"""A disk that does not answer for a while, on a real server: the process that waits for it is stopped
(SIGSTOP)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from mainstem.log.disk.disk_stall import PENDING_BYTES_MAX
from tests.doors.kafka.kit import batch, fetch_request, produce_request
from tests.doors.kafka.test_real_node import RawCaller
from tests.faults.attacks import status
from tests.faults.client import AcknowledgedClient, wait_for
from tests.faults.sync_faults import sync_process_of
from tests.faults.test_failing_disk import ready_journal
from tests.support.server import Server

BATCH_BYTES = 900_000
ALLOWED_BYTES = 2 * PENDING_BYTES_MAX
"""What waits is in memory once as it came and once in the group that gathers."""


def problems(server: Server) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://{server.http}/readyz", timeout=5) as reply:
            reasons: list[str] = json.load(reply)["reasons"]
    except urllib.error.HTTPError as error:
        reasons = json.load(error)["reasons"]
    return reasons


async def produce(server: Server, topic: str, data: bytearray, timeout_ms: int) -> int:
    caller = await RawCaller.connect((server.host, server.port))
    answer = await caller.call(0, 9, produce_request(topic, data, timeout=timeout_ms))
    caller.close()
    code: int = answer.responses[0].partition_responses[0].error_code
    return code


async def stalled(server: Server) -> None:
    """While nothing is answered by the disk."""
    assert await produce(server, "orders", batch(b"late", timestamp_ms=1_356_998_400_000), 500) == (
        ErrorCode.REQUEST_TIMED_OUT
    )
    other = await RawCaller.connect((server.host, server.port))
    answer = await other.call(3, 9, Message(topics=None, allow_auto_topic_creation=False))
    assert "orders" in {topic.name for topic in answer.topics}
    answer = await other.call(1, 12, fetch_request(("orders", 0, 0)))
    assert len(answer.responses[0].partitions[0].records) > 0
    other.close()
    large = batch(bytes(BATCH_BYTES), timestamp_ms=1_356_998_400_000)
    codes: set[int] = set()
    for _ in range(PENDING_BYTES_MAX // BATCH_BYTES // 8 + 10):
        codes |= set(await asyncio.gather(*(produce(server, "bulk", large, 1) for _ in range(8))))
        if ErrorCode.KAFKA_STORAGE_ERROR in codes:
            break
    assert codes == {ErrorCode.REQUEST_TIMED_OUT, ErrorCode.KAFKA_STORAGE_ERROR}


@pytest.mark.slow
def test_a_disk_that_does_not_respond_costs_bounded_memory_and_delays_only_events(tmp_path: Path) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0") as server:
        client = AcknowledgedClient(server.address)
        client.create("orders", "bulk")
        client.write("orders", 20, 1000)
        ready_journal(server.data)
        before = status(server, "RssAnon")
        helper = sync_process_of(server)
        assert helper is not None
        os.kill(helper, signal.SIGSTOP)
        try:
            asyncio.run(asyncio.wait_for(stalled(server), 60))
            assert status(server, "RssAnon") - before < ALLOWED_BYTES
            wait_for(lambda: "the disk has not responded for" in server.logs(), "the stall is not logged")
            assert [text for text in problems(server) if text.startswith("the disk has not responded for")]
        finally:
            os.kill(helper, signal.SIGCONT)
        client.write("orders", 20, 1000)
        assert client.refusals == []
        assert client.lost("orders") == []
        wait_for(lambda: not problems(server), "it stays unready")
        assert "the disk responds again" in server.logs()
        assert "Traceback" not in server.logs()
