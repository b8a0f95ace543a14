"""The few Kafka messages of the raw client; Produce and Fetch are framed by hand, to cost little CPU.

Owns: Produce 7, Fetch 11, ApiVersions 2, FindCoordinator 2, JoinGroup 3 and SyncGroup 2: versions without
tagged fields. Those of groups are encoded and decoded by `mainstem.kafka_protocol`. Refuses: to be a general
client; it understands only the replies of a healthy server.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from mainstem.kafka_protocol.message import Message, decode_reply, encode_request

PRODUCE, FETCH, FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP, API_VERSIONS = 0, 1, 10, 11, 14, 18
CLIENT_ID = "bench"
_CLIENT = b"\x00\x05" + CLIENT_ID.encode()
_INT = struct.Struct(">i")
_HEADER = struct.Struct(">hhi")
_FETCHED = struct.Struct(">ihqqq")
_BATCH = struct.Struct(">qi")


def frame(key: int, version: int, body: bytes, records: bytes = b"") -> bytes:
    """A request with its length; the correlation id is 0, since replies come in order. `records` follows
    the body."""
    head = _HEADER.pack(key, version, 0) + _CLIENT
    return _INT.pack(len(head) + len(body) + len(records)) + head + body + records


def produce(topic: str, batches: Sequence[tuple[int, bytes]], acks: int = -1) -> bytes:
    """One Produce request of (partition, batch) pairs."""
    name = topic.encode()
    parts = [struct.pack(f">hhiih{len(name)}si", -1, acks, 30_000, 1, len(name), name, len(batches))]
    for partition, batch in batches:
        parts += (struct.pack(">ii", partition, len(batch)), batch)
    return frame(PRODUCE, 7, b"".join(parts))


def fetch(
    topic: str,
    positions: Sequence[tuple[int, int]],
    max_bytes: int,
    partition_max_bytes: int,
    wait_ms: int = 500,
) -> bytes:
    """One Fetch request of (partition, offset) pairs, outside of any session."""
    name = topic.encode()
    parts = [
        struct.pack(
            f">iiiibiiih{len(name)}si",
            -1,
            wait_ms,
            1,
            max_bytes,
            0,
            0,
            -1,
            1,
            len(name),
            name,
            len(positions),
        )
    ]
    parts += (
        struct.pack(">iiqqi", number, -1, offset, -1, partition_max_bytes) for number, offset in positions
    )
    return frame(FETCH, 11, b"".join(parts) + struct.pack(">ih", 0, 0))


class ProduceAnswer(NamedTuple):
    """The result for one partition."""

    partition: int
    error: int
    offset: int


def produced(reply: memoryview) -> list[ProduceAnswer]:
    """The answers of a Produce reply with one topic."""
    (name,) = struct.unpack_from(">h", reply, 8)
    position = 10 + name
    (count,) = _INT.unpack_from(reply, position)
    position += 4
    answers = []
    for _ in range(count):
        answers.append(ProduceAnswer(*struct.unpack_from(">ihq", reply, position)))
        position += 4 + 2 + 8 + 8 + 8
    return answers


class FetchAnswer(NamedTuple):
    """What a Fetch reply has for one partition."""

    partition: int
    error: int
    next_offset: int
    """-1: no batch."""
    bytes: int


def fetched(reply: memoryview) -> list[FetchAnswer]:
    """The answers of a Fetch reply with one topic or none."""
    (topics,) = _INT.unpack_from(reply, 14)
    if not topics:
        return []
    (name,) = struct.unpack_from(">h", reply, 18)
    position = 20 + name
    (count,) = _INT.unpack_from(reply, position)
    position += 4
    answers = []
    for _ in range(count):
        partition, error, _, _, _ = _FETCHED.unpack_from(reply, position)
        position += _FETCHED.size
        (aborted,) = _INT.unpack_from(reply, position)
        position += 4 + 16 * max(0, aborted) + 4
        (size,) = _INT.unpack_from(reply, position)
        position += 4
        answers.append(
            FetchAnswer(
                partition, error, next_offset(reply[position : position + max(0, size)]), max(0, size)
            )
        )
        position += max(0, size)
    return answers


def next_offset(records: memoryview) -> int:
    """One past the last offset of whole batches; a last one that was cut, as Apache Kafka may send it, is
    ignored."""
    position, end = 0, -1
    while position + 61 <= len(records):
        base, length = _BATCH.unpack_from(records, position)
        if position + 12 + length > len(records):
            break
        end = base + int(_INT.unpack_from(records, position + 23)[0]) + 1
        position += 12 + length
    return end


def find_coordinator(group: str) -> bytes:
    """A FindCoordinator request for a group. Apache Kafka creates its offsets topic at the first one."""
    return _request(FIND_COORDINATOR, 2, Message(key=group, key_type=0))


def coordinator_error(reply: memoryview) -> int:
    """The error code of a FindCoordinator reply."""
    return int(decode_reply(FIND_COORDINATOR, 2, reply).error_code)


def join_group(group: str, member: str) -> bytes:
    """A JoinGroup request of a member that knows one assignor; no member id: it is a new one."""
    message = Message(
        group_id=group,
        session_timeout=30_000,
        rebalance_timeout=60_000,
        member_id=member,
        protocol_type="consumer",
        protocols=[Message(name="range", metadata=b"")],
    )
    return _request(JOIN_GROUP, 3, message)


class JoinResult(NamedTuple):
    """The fields of a JoinGroup reply that a member needs."""

    error: int
    generation: int
    leader: str
    member: str


def joined(reply: memoryview) -> JoinResult:
    """The fields of a JoinGroup reply."""
    message = decode_reply(JOIN_GROUP, 3, reply)
    return JoinResult(message.error_code, message.generation_id, message.leader, message.member_id)


def sync_group(group: str, generation: int, member: str, plan: Sequence[tuple[str, bytes]]) -> bytes:
    """A SyncGroup request; `plan`: member id -> assignment, from the leader."""
    assignments = [Message(member_id=name, assignment=assignment) for name, assignment in plan]
    message = Message(group_id=group, generation_id=generation, member_id=member, assignments=assignments)
    return _request(SYNC_GROUP, 2, message)


def sync_error(reply: memoryview) -> int:
    """The error code of a SyncGroup reply."""
    return int(decode_reply(SYNC_GROUP, 2, reply).error_code)


def _request(key: int, version: int, message: Message) -> bytes:
    return encode_request(key, version, 0, CLIENT_ID, message)


class RawConnection:
    """A blocking socket that sends frames and reads replies, in order, into one buffer."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)
        self._size = bytearray(4)

    def fileno(self) -> int:
        """Its socket's, to wait for many position once."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send a whole frame."""
        self._socket.sendall(data)

    def reply(self) -> memoryview:
        """The next reply without its length; valid until the next call."""
        self._read(memoryview(self._size))
        (length,) = _INT.unpack(self._size)
        if length > len(self._buffer):
            self._buffer = bytearray(length)
        view = memoryview(self._buffer)[:length]
        self._read(view)
        return view

    def _read(self, view: memoryview) -> None:
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise ConnectionError("the server closed the connection")
            view = view[count:]

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
