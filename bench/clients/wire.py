"""The few Kafka messages that the raw client needs, framed by hand, so that the client costs next to nothing.

Owns: Produce 7, Fetch 11, ApiVersions 2, FindCoordinator 2, JoinGroup 3 and SyncGroup 2: versions without
tagged fields. Refuses: to be a client for anybody else; it knows only what a healthy server answers.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

PRODUCE, FETCH, FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP, API_VERSIONS = 0, 1, 10, 11, 14, 18
_CLIENT = b"\x00\x05bench"
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
    places: Sequence[tuple[int, int]],
    max_bytes: int,
    partition_max_bytes: int,
    wait_ms: int = 500,
) -> bytes:
    """One Fetch request of (partition, offset) pairs, outside of any session."""
    name = topic.encode()
    parts = [
        struct.pack(
            f">iiiibiiih{len(name)}si", -1, wait_ms, 1, max_bytes, 0, 0, -1, 1, len(name), name, len(places)
        )
    ]
    parts += (struct.pack(">iiqqi", number, -1, offset, -1, partition_max_bytes) for number, offset in places)
    return frame(FETCH, 11, b"".join(parts) + struct.pack(">ih", 0, 0))


class Produced(NamedTuple):
    """The answer for one partition."""

    partition: int
    error: int
    offset: int


def produced(reply: memoryview) -> list[Produced]:
    """The answers of a Produce reply with one topic."""
    (name,) = struct.unpack_from(">h", reply, 8)
    at = 10 + name
    (count,) = _INT.unpack_from(reply, at)
    at += 4
    answers = []
    for _ in range(count):
        answers.append(Produced(*struct.unpack_from(">ihq", reply, at)))
        at += 4 + 2 + 8 + 8 + 8
    return answers


class Fetched(NamedTuple):
    """What came for one partition."""

    partition: int
    error: int
    next_offset: int
    """-1: nothing came."""
    bytes: int


def fetched(reply: memoryview) -> list[Fetched]:
    """The answers of a Fetch reply with one topic or none."""
    (topics,) = _INT.unpack_from(reply, 14)
    if not topics:
        return []
    (name,) = struct.unpack_from(">h", reply, 18)
    at = 20 + name
    (count,) = _INT.unpack_from(reply, at)
    at += 4
    answers = []
    for _ in range(count):
        partition, error, _, _, _ = _FETCHED.unpack_from(reply, at)
        at += _FETCHED.size
        (aborted,) = _INT.unpack_from(reply, at)
        at += 4 + 16 * max(0, aborted) + 4
        (size,) = _INT.unpack_from(reply, at)
        at += 4
        answers.append(Fetched(partition, error, next_offset(reply[at : at + max(0, size)]), max(0, size)))
        at += max(0, size)
    return answers


def next_offset(records: memoryview) -> int:
    """One past the last offset of whole batches; a last one that was cut, as Apache Kafka may send it, is
    ignored."""
    at, found = 0, -1
    while at + 61 <= len(records):
        base, length = _BATCH.unpack_from(records, at)
        if at + 12 + length > len(records):
            break
        found = base + int(_INT.unpack_from(records, at + 23)[0]) + 1
        at += 12 + length
    return found


def find_coordinator(group: str) -> bytes:
    """A FindCoordinator request for a group. Apache Kafka makes its offsets topic at the first one."""
    return frame(FIND_COORDINATOR, 2, _text(group.encode()) + b"\0")


def coordinator_error(reply: memoryview) -> int:
    """The error code of a FindCoordinator reply."""
    return int(struct.unpack_from(">h", reply, 8)[0])


def join_group(group: str, member: bytes) -> bytes:
    """A JoinGroup request of a member that knows one assignor; no member id: it is a new one."""
    parts = [_text(group.encode()), struct.pack(">ii", 30_000, 60_000), _text(member), _text(b"consumer")]
    parts += [struct.pack(">i", 1), _text(b"range"), _INT.pack(0)]
    return frame(JOIN_GROUP, 3, b"".join(parts))


class Joined(NamedTuple):
    """What a JoinGroup reply says."""

    error: int
    generation: int
    leader: bytes
    member: bytes


def joined(reply: memoryview) -> Joined:
    """The head of a JoinGroup reply."""
    _, _, error, generation = struct.unpack_from(">iihi", reply)
    at, found = 14, []
    for _ in range(3):
        (length,) = struct.unpack_from(">h", reply, at)
        found.append(bytes(reply[at + 2 : at + 2 + length]))
        at += 2 + length
    return Joined(error, generation, found[1], found[2])


def sync_group(group: str, generation: int, member: bytes, plan: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A SyncGroup request; `plan`: member id -> assignment, from the leader."""
    parts = [_text(group.encode()), _INT.pack(generation), _text(member), _INT.pack(len(plan))]
    for name, assignment in plan:
        parts += [_text(name), _INT.pack(len(assignment)), assignment]
    return frame(SYNC_GROUP, 2, b"".join(parts))


def sync_error(reply: memoryview) -> int:
    """The error code of a SyncGroup reply."""
    return int(struct.unpack_from(">h", reply, 8)[0])


def _text(data: bytes) -> bytes:
    return struct.pack(">h", len(data)) + data


class Connection:
    """A blocking socket that sends frames and reads replies, in order, into one buffer."""

    def __init__(self, at: str) -> None:
        host, _, port = at.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)
        self._size = bytearray(4)

    def fileno(self) -> int:
        """Its socket's, to wait for many at once."""
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
        """Hang up."""
        self._socket.close()
