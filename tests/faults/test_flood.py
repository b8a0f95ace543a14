"""More connections than there is room for, no descriptors left, memory that strangers ask for: at a real
server, and a client that was there before notices nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mainstem.kafka_protocol.message import Message
from tests.doors.kafka.kit import fetch_request, receive_exactly, request_frame
from tests.faults.attacks import (
    MB,
    WAIT_S,
    SocketClient,
    cpu_s,
    descriptors,
    flood,
    limit_descriptors,
    publish_by_http,
    status,
    unfinished_bodies,
)
from tests.faults.client import wait_for
from tests.support.server import Server


@pytest.mark.slow
def test_without_descriptors_new_clients_wait_and_connected_ones_continue(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        good = SocketClient(server)
        good.create("t")
        good.produce()
        limit_descriptors(server, descriptors(server) + 40)
        with flood(server, 100):
            time.sleep(0.5)
            before, started = cpu_s(server), time.monotonic()
            time.sleep(3.0)
            used = (cpu_s(server) - before) / (time.monotonic() - started)
            assert used < 0.2, f"it spins: {used:.0%} of a processor"
            assert [good.produce() for _ in range(20)] == list(range(1, 21))
            late = SocketClient(server)  # in the queue of the operating system
            late.sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                late.call(18, 0, Message())
        late.sock.settimeout(WAIT_S)
        assert receive_exactly(late.sock, 4), "its turn has come, by itself"
        assert "connections have to wait: Too many open files" in server.logs()
        assert "Traceback" not in server.logs(), server.logs()
        late.close()
        good.close()


@pytest.mark.slow
def test_segments_can_be_opened_while_connections_use_all_their_descriptors(tmp_path: Path) -> None:
    count = 150
    with Server(tmp_path / "data", max_connections=count) as server:
        good = SocketClient(server)
        names = [f"t{number}" for number in range(60)]
        for name in names:
            good.create(name)
        with flood(server, count + 50):
            wait_for(lambda: "max.connections" in server.logs(), "the limit is not logged")
            for name in names:
                assert good.produce(name) == 0
                answer = good.call(1, 12, fetch_request((name, 0, 0)))
                assert answer.responses[0].partitions[0].error_code == 0
        good.close()
        assert "Traceback" not in server.logs(), server.logs()


@pytest.mark.slow
def test_after_a_flood_the_server_is_as_before(tmp_path: Path) -> None:
    count = 2000
    with Server(tmp_path / "data", first_request_timeout_ms=600_000) as server:
        good = SocketClient(server)
        good.create("t")
        good.produce()
        memory, before = status(server, "VmRSS"), descriptors(server, "socket")
        with flood(server, count, request_frame(18, 0, 1, Message())):
            wait_for(lambda: descriptors(server, "socket") >= before + count, "not all are accepted")
            idle_bytes = (status(server, "VmRSS") - memory) / count
            assert idle_bytes < 20 << 10, f"{idle_bytes:.0f} bytes for an idle connection"
            assert good.produce() == 1
        wait_for(lambda: descriptors(server, "socket") <= before, "descriptors are left")
        with flood(server, count):
            wait_for(lambda: descriptors(server, "socket") >= before + count, "not all are accepted again")
        wait_for(lambda: descriptors(server, "socket") <= before, "descriptors are left")
        assert status(server, "VmRSS") < memory + count * (20 << 10)
        assert good.produce() == 2
        good.close()


BEGUN = {
    "a hundred megabytes": (100 << 20).to_bytes(4, "big") + b"\0\0\0\x09" + bytes(200_000),
    "a hundred megabytes, and little of it": (100 << 20).to_bytes(4, "big") + b"\0\0\0\x09" + bytes(5_000),
    "a hundred kilobytes": (100 << 10).to_bytes(4, "big") + b"\0\0\0\x09" + bytes(50_000),
    "one that waits and one behind it": request_frame(1, 12, 1, fetch_request(("t", 0, 1), max_wait=600_000))
    + request_frame(18, 0, 2, Message()),
}


@pytest.mark.slow
@pytest.mark.parametrize("begun", BEGUN)
def test_many_unfinished_requests_cost_bounded_memory(tmp_path: Path, begun: str) -> None:
    most = 96 * MB
    with Server(tmp_path / "data", queued_max_request_bytes=most, socket_request_max_bytes=64 * MB) as server:
        good = SocketClient(server)
        good.create("t")
        good.produce()
        memory = status(server, "VmRSS")
        data = BEGUN[begun].replace((100 << 20).to_bytes(4, "big"), (50 << 20).to_bytes(4, "big"))
        with flood(server, 1000, data):
            assert good.produce() == 1, "a small request goes on"
            assert status(server, "VmHWM") - memory < most
        good.close()
        assert "Traceback" not in server.logs(), server.logs()


@pytest.mark.slow
def test_unfinished_http_bodies_cost_bounded_memory(tmp_path: Path) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0") as server:
        before = status(server, "VmRSS")
        with unfinished_bodies(server, 30):
            assert status(server, "VmHWM") - before < 200 * MB
            assert publish_by_http(server, "t") == 200
