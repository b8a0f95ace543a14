"""Clients that make a real server remember things for them: joins without end, subscriptions of a megabyte, a
request for tens of thousands of topics. Its memory is bounded, and a client that was there before is
served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mainstem.kafka_protocol.message import Message, decode_reply, encode_request
from tests.faults.test_flood import SocketClient, status
from tests.support.server import Server

MB = 1 << 20
PAUSE_S = 0.01


class LongNamedClient(SocketClient):
    """A client whose client id has as many bytes as the protocol permits."""

    def call(self, key: int, version: int, message: Message) -> Message:
        self.sock.sendall(encode_request(key, version, 1, "c" * 32_000, message))
        size = int.from_bytes(self.exactly(4), "big")
        return decode_reply(key, version, memoryview(self.exactly(size)))


def join(group_id: str, metadata: bytes = b"x") -> Message:
    return Message(
        group_id=group_id,
        session_timeout=600_000,
        rebalance_timeout=60_000,
        member_id="",
        protocol_type="consumer",
        protocols=[Message(name="range", metadata=metadata)],
    )


@contextmanager
def served_member(server: Server) -> Iterator[list[int]]:
    """A member of a group whose heartbeats go on; the list has their error codes."""
    client = SocketClient(server)
    joined = client.call(11, 3, join("before"))
    identity = {
        "group_id": "before",
        "member_id": joined.member_id,
        "generation_id": joined.generation_id,
    }
    client.call(14, 3, Message(**identity, assignments=[]))
    codes: list[int] = []
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(PAUSE_S):
            codes.append(client.call(12, 3, Message(**identity)).error_code)

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    yield codes
    is_over.set()
    beating.join()
    client.close()


@pytest.mark.slow
def test_joins_and_subscriptions_without_end_cost_bounded_memory(tmp_path: Path) -> None:
    with Server(tmp_path / "data", group_memory_max_bytes=16 * MB) as server:
        before = status(server, "VmHWM")
        with served_member(server) as codes:
            hostile = LongNamedClient(server)
            pending = [hostile.call(11, 4, join("g")).error_code for _ in range(12_000)]
            large = [hostile.call(11, 3, join(f"g{number}", bytes(MB))).error_code for number in range(60)]
            time.sleep(0.5)
        hostile.close()
        assert set(pending) == {79, 14}, "an id is required, or: the coordinator is loading"
        assert set(large) <= {0, 14}
        assert large[-1] == 14
        assert len(codes) > 10
        assert set(codes) == {0}
        assert status(server, "VmHWM") - before < 60 * MB
        assert server.logs().count("group_memory_max_bytes") < 10, "a line in ten seconds"
        assert "Traceback" not in server.logs(), server.logs()


@pytest.mark.slow
def test_a_request_for_tens_of_thousands_of_topics_creates_some_and_costs_little(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        before = status(server, "VmHWM")
        with served_member(server) as codes:
            hostile = SocketClient(server)
            hostile.sock.settimeout(60)
            began = time.monotonic()
            topics = [Message(name=f"t{number}") for number in range(60_000)]
            reply = hostile.call(3, 4, Message(topics=topics, allow_auto_topic_creation=True))
            created = [topic.error_code for topic in reply.topics].count(0)
            seconds = time.monotonic() - began
            hostile.close()
        assert {topic.error_code for topic in reply.topics} == {0, 5}
        assert 50 <= created <= 50 + 50 * seconds + 1
        assert set(codes) == {0}
        assert status(server, "VmHWM") - before < 100 * MB
        assert "Traceback" not in server.logs(), server.logs()
