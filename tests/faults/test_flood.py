"""More connections than there is room for, no descriptors left, memory that strangers ask for: at a real
server, and a client that was there before notices nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from mainstem.kafka_protocol.message import Message
from tests.doors.kafka.kit import batch, decode_reply, fetch_request, produce_request, request_frame
from tests.faults.client import wait_for
from tests.support.server import Server

MB = 1 << 20
WAIT_S = 10.0


class SocketClient:
    """A client on a plain socket, which may come from an address of its own."""

    def __init__(self, server: Server, host: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection((server.host, server.port), WAIT_S, source_address=(host, 0))
        self.sock.settimeout(WAIT_S)

    def call(self, key: int, version: int, message: Message) -> Message:
        """One request and its reply."""
        self.sock.sendall(request_frame(key, version, 1, message))
        size = int.from_bytes(self.exactly(4), "big")
        return decode_reply(key, version, memoryview(self.exactly(size)))

    def exactly(self, count: int) -> bytes:
        """Read `count` bytes; ConnectionError if the server closes the connection."""
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data

    def produce(self, topic: str = "t") -> int:
        """The offset of an event that is durable."""
        answer = self.call(0, 9, produce_request(topic, batch(b"x" * 100), timeout=20_000))
        ((partition,),) = [topic.partition_responses for topic in answer.responses]
        assert partition.error_code == 0
        return int(partition.base_offset)

    def create(self, topic: str) -> None:
        """Make a topic."""
        self.call(3, 9, Message(topics=[Message(name=topic)], allow_auto_topic_creation=True))

    def close(self) -> None:
        """Hang up."""
        self.sock.close()


def status(server: Server, field: str) -> int:
    """A number of /proc/PID/status; memory in bytes."""
    assert server.process is not None
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) << 10


def descriptors(server: Server, kind: str = "") -> int:
    """How many the server has open, of one kind (such as "socket")."""
    assert server.process is not None
    count = 0
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(link).startswith(kind)
    return count


def cpu_s(server: Server) -> float:
    """Processor time that it has used, seconds."""
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def flood(server: Server, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """`count` connections from many addresses of this machine; `data` was sent on each."""
    open_ones: list[socket.socket] = []
    try:
        for number in range(count):
            host = f"127.0.{1 + number // 250 % 250}.{1 + number % 250}"
            sock = socket.create_connection((server.host, server.port), WAIT_S, source_address=(host, 0))
            open_ones.append(sock)
            if data:
                sock.settimeout(0.05)  # who is not read waits with its bytes
                with contextlib.suppress(TimeoutError, ConnectionError):
                    sock.sendall(data)
        yield open_ones
    finally:
        for sock in open_ones:
            sock.close()


def limit_descriptors(server: Server, soft: int) -> None:
    """From now on the server gets no descriptor beyond this number."""
    assert server.process is not None
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))


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
        assert late.exactly(4), "its turn has come, by itself"
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
    body_bytes = 16 * MB
    with Server(tmp_path / "data", http="127.0.0.1:0") as server, contextlib.ExitStack() as stack:
        host, _, port = server.http.rpartition(":")
        head = f"POST /api/v1/topics/t/events HTTP/1.1\r\nHost: {server.http}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n"

        def send_all_but_one_byte() -> None:
            with contextlib.suppress(OSError):  # it may be refused before its end
                sock = stack.enter_context(socket.create_connection((host, int(port)), WAIT_S))
                sock.sendall(head.encode())
                for _ in range(body_bytes // MB - 1):
                    sock.sendall(bytes(MB))
                sock.sendall(bytes(MB - 1))

        small = HTTPConnection(host, int(port), timeout=WAIT_S)
        stack.callback(small.close)
        small.request("GET", "/livez")
        assert small.getresponse().read()
        before = status(server, "VmRSS")
        threads = [threading.Thread(target=send_all_but_one_byte) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert status(server, "VmHWM") - before < 200 * MB
        body, headers = b'{"value": "small"}', {"content-type": "application/json"}
        small.request("POST", "/api/v1/topics/t/events", body, headers)
        assert small.getresponse().status == 200
