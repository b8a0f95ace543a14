"""Attacks on a real server, which tests and the soak share: connections without end, memory that strangers
ask for, descriptors that run out.

Owns: the attackers, a client on a plain socket, and the measures of the server's process. Refuses: to judge.
"""

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

from mainstem.kafka_protocol.message import Message
from tests.doors.kafka.kit import batch, produce_request, receive_reply, request_frame
from tests.support.server import Server

MB = 1 << 20
WAIT_S = 10.0
PAUSE_S = 0.01
LEADER_NOT_AVAILABLE = 5


class SocketClient:
    """A client on a plain socket, which may come from an address of its own."""

    client_id = "test"

    def __init__(self, server: Server, host: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection((server.host, server.port), WAIT_S, source_address=(host, 0))
        self.sock.settimeout(WAIT_S)

    def call(self, key: int, version: int, message: Message) -> Message:
        """One request and its reply."""
        self.sock.sendall(request_frame(key, version, 1, message, client_id=self.client_id))
        return receive_reply(self.sock, key, version)

    def produce(self, topic: str = "t") -> int:
        """The offset of an event that is durable."""
        answer = self.call(0, 9, produce_request(topic, batch(b"x" * 100), timeout=20_000))
        ((partition,),) = [topic.partition_responses for topic in answer.responses]
        assert partition.error_code == 0, partition.error_code
        return int(partition.base_offset)

    def create(self, topic: str) -> None:
        """Make a topic. Automatic creation has a rate, so it may take more than one request."""
        request = Message(topics=[Message(name=topic)], allow_auto_topic_creation=True)
        give_up_s = time.monotonic() + WAIT_S
        while (code := self.call(3, 9, request).topics[0].error_code) == LEADER_NOT_AVAILABLE:
            assert time.monotonic() < give_up_s, f"topic {topic} is not created"
            time.sleep(PAUSE_S)
        assert code == 0, f"creating topic {topic}: error {code}"

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


class LongNamedClient(SocketClient):
    """A client whose client id has as many bytes as the protocol permits."""

    client_id = "c" * 32_000


def join(group_id: str, metadata: bytes = b"x", *, session_timeout: int = 600_000) -> Message:
    """A request to join a group as a new member; milliseconds."""
    return Message(
        group_id=group_id,
        session_timeout=session_timeout,
        rebalance_timeout=60_000,
        member_id="",
        protocol_type="consumer",
        protocols=[Message(name="range", metadata=metadata)],
    )


@contextlib.contextmanager
def served_member(server: Server, group_id: str = "before") -> Iterator[list[int]]:
    """A member of a group whose heartbeats go on; the list has their error codes."""
    client = SocketClient(server)
    joined = client.call(11, 3, join(group_id))
    identity = {
        "group_id": group_id,
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
    try:
        yield codes
    finally:
        is_over.set()
        beating.join()
        client.close()


@contextlib.contextmanager
def unfinished_bodies(
    server: Server, count: int, topic: str = "t", *, most_s: float = 60.0
) -> Iterator[None]:
    """`count` connections, each with an event of 16 MiB that lacks its last byte. What the server does not
    take within `most_s`, or refuses, is not sent."""
    body_bytes = 16 * MB
    host, _, port = server.http.rpartition(":")
    head = f"POST /api/v1/topics/{topic}/events HTTP/1.1\r\nHost: {server.http}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n"
    whole = memoryview(head.encode() + bytes(body_bytes - 1))
    ends = time.monotonic() + most_s
    with contextlib.ExitStack() as stack:

        def send_all_but_one_byte() -> None:
            data = whole
            with contextlib.suppress(OSError):  # it may be refused before its end
                sock = stack.enter_context(socket.create_connection((host, int(port)), WAIT_S))
                while data and (left_s := ends - time.monotonic()) > 0:
                    sock.settimeout(min(WAIT_S, left_s))
                    data = data[sock.send(data) :]

        threads = [threading.Thread(target=send_all_but_one_byte) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield


def publish_by_http(server: Server, topic: str) -> int:
    """The status of one small event."""
    with contextlib.closing(HTTPConnection(server.http, timeout=WAIT_S)) as client:
        headers = {"content-type": "application/json"}
        client.request("POST", f"/api/v1/topics/{topic}/events", b'{"value": "small"}', headers)
        reply = client.getresponse()
        reply.read()
        return reply.status


def ask_for_topics(client: SocketClient, names: list[str]) -> list[str]:
    """One Metadata request for topics that do not exist; those that were created. AssertionError if the
    others have another error than LEADER_NOT_AVAILABLE."""
    topics = [Message(name=name) for name in names]
    reply = client.call(3, 4, Message(topics=topics, allow_auto_topic_creation=True))
    assert len(reply.topics) == len(names)
    assert {topic.error_code for topic in reply.topics} <= {0, LEADER_NOT_AVAILABLE}
    return [topic.name for topic in reply.topics if topic.error_code == 0]
