"""Names that try to forge log lines and to control terminals, a client that sends them in raw requests,
wherever a request has a text, and what a line of the log may be."""

from __future__ import annotations

import json
import re
import socket
import urllib.parse
from types import TracebackType

from mainstem.kafka_protocol.message import Message
from mainstem.serve.log_limit import TEXT_CHARACTERS_MAX
from tests.doors.kafka.kit import receive_reply, request_frame

MARK = "EVIL"
FORGED = "2026-11-23T12:41:03.120Z error   kafka: forged"
HOSTILE = f"{MARK}\r\n{FORGED}\n\x1b[31m\x1b]0;t\x07\u202e\u2066\x85\x9b1A\u2028{FORGED}\u2029" + "x" * 500
"""Line ends of all kinds, escape sequences of 7 and 8 bits, changes of direction, and too long."""

LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (debug  |info   |warning|error  |critical) [\w.]+: .+")
LINE_CHARACTERS_MAX = 4 * TEXT_CHARACTERS_MAX
"""Audit lines have several fields of 500 characters."""


def check_text_line(line: str) -> None:
    """AssertionError unless it is a line of the server's log, whole, without anything that was forged."""
    assert line.isprintable(), repr(line)
    assert len(line) <= LINE_CHARACTERS_MAX
    assert LINE.fullmatch(line), line
    assert not line.startswith(FORGED)


class RawClient:
    """One raw connection to the Kafka door, with a hostile client id."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), 10)
        self._number = 0

    def send(self, key: int, version: int, message: Message) -> None:
        """Send a request; its reply, if any, is not read."""
        self._number += 1
        self._socket.sendall(request_frame(key, version, self._number, message, client_id=HOSTILE))

    def call(self, key: int, version: int, message: Message) -> Message:
        """Send a request and read its reply."""
        self.send(key, version, message)
        return receive_reply(self._socket, key, version)

    def send_bytes(self, data: bytes) -> bytes:
        """Send these bytes and read until the server closes the connection."""
        self._socket.sendall(data)
        answer = b""
        while more := self._socket.recv(65536):
            answer += more
        return answer

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def join(client: RawClient, group: str = HOSTILE) -> str:
    """Join a group as its only member; returns the member id."""
    protocol = Message(name=HOSTILE, metadata=b"\0\0\0\0\0\0\0\0\0\0")
    request = Message(
        group_id=group, session_timeout=10_000, rebalance_timeout=10_000, member_id="", protocols=[protocol],
        protocol_type="consumer", group_instance_id=HOSTILE, reason=HOSTILE,
    )  # fmt: skip
    answer = client.call(11, 9, request)
    assert answer.error_code == 0, answer
    member: str = answer.member_id
    assignment = Message(member_id=member, assignment=b"\0\0\0\0\0\0\0\0\0\0")
    synced = Message(
        group_id=group, generation_id=answer.generation_id, member_id=member, group_instance_id=HOSTILE,
        protocol_type="consumer", protocol_name=HOSTILE, assignments=[assignment],
    )  # fmt: skip
    assert client.call(14, 5, synced).error_code == 0
    return member


def attack_kafka(address: str) -> None:
    """Send hostile names wherever a request of the Kafka door has a text."""
    with RawClient(address) as client:
        member = join(client)
        leave = Message(member_id=member, group_instance_id=HOSTILE, reason=HOSTILE)
        client.call(13, 5, Message(group_id=HOSTILE, members=[leave]))
        partition = Message(partition_index=0, committed_offset=1, committed_leader_epoch=-1)
        topic = Message(name=HOSTILE, partitions=[partition])
        commit = Message(
            group_id=HOSTILE, generation_id_or_member_epoch=-1, member_id="", group_instance_id=None,
            topics=[topic],
        )  # fmt: skip
        client.call(8, 8, commit)
        config = Message(name=HOSTILE, value=HOSTILE)
        for name in (HOSTILE, "t"):
            topic = Message(
                name=name, num_partitions=1, replication_factor=1, assignments=[], configs=[config]
            )
            client.call(19, 7, Message(topics=[topic], timeout=1000))
        client.call(3, 9, Message(topics=[Message(name=HOSTILE)], allow_auto_topic_creation=True))
        client.call(10, 3, Message(key=HOSTILE, key_type=1))
        client.call(22, 4, Message(transactional_id=HOSTILE, transaction_timeout=1000))
        client.call(18, 3, Message(client_software_name=HOSTILE, client_software_version=HOSTILE))
        client.call(42, 2, Message(groups_names=[HOSTILE]))
    evil = HOSTILE.encode()
    unknown_key = b"\0\x63\0\0\0\0\0\x01" + len(evil).to_bytes(2, "big") + evil
    for data in (
        b"GET /" + evil + b" HTTP/1.1\r\n\r\n",
        evil,
        b"\x16\x03\x01" + evil,
        len(unknown_key).to_bytes(4, "big") + unknown_key,
    ):
        with RawClient(address) as client:
            client.send_bytes(data)


def attack_http(address: str) -> None:
    """Send hostile names wherever a request of the HTTP door has a text."""
    name = urllib.parse.quote(HOSTILE, safe="")
    raw = HOSTILE.encode().replace(b"\r", b" ").replace(b"\n", b" ")
    body = json.dumps({"name": HOSTILE, "topic": HOSTILE, "settings": {HOSTILE: HOSTILE}}).encode()
    heads = [
        b"GET /" + name.encode() + b"?q=" + name.encode() + b" HTTP/1.1\r\nHost: localhost",
        b"GET / HTTP/1.1\r\nHost: " + raw,
        b"GET /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " + raw + b"\r\nOrigin: " + raw,
        b"GET /" + raw.replace(b" ", b"_") + b" HTTP/1.1\r\nHost: localhost",
        b"DELETE /api/v1/groups/" + name.encode() + b" HTTP/1.1\r\nHost: localhost",
        b"DELETE /api/v1/topics/" + name.encode() + b" HTTP/1.1\r\nHost: localhost",
        b"POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json",
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json",
    ]
    for head in heads:
        content = body if head.startswith(b"POST") else b""
        with RawClient(address) as client:
            length = b"\r\nContent-Length: %d" % len(content)
            client.send_bytes(head + length + b"\r\nConnection: close\r\n\r\n" + content)
