"""What is fuzzed, each a function of some bytes that returns if all is well.

Owns: TARGETS, and what holds beside "no crash": only the errors that are declared, memory within its bounds,
nothing changed by what was refused, replies that another decoder reads. Needs no fuzzer: the kept corpus is
run through these by an ordinary test.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import UUID

import msgspec
from crc32c import crc32c
from kio.serial import entity_reader

from mainstem.coordinator.runtime import snapshot as state_snapshot
from mainstem.doors.http.bodies import read_json
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.http.problem import Problem
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.net.limits import MemoryBudget
from mainstem.kafka_protocol.message import ProtocolError
from mainstem.kafka_protocol.schema import api
from mainstem.log.commit import checkpoint, journal_format
from mainstem.log.errors import LogError, LogFolderError
from mainstem.log.offline.inspect import inspect
from mainstem.log.storage import producer_snapshot as partition_snapshot
from mainstem.log.storage import record_batch as batches
from mainstem.log.storage.record_batch import Record
from mainstem.search.match.matcher import Matcher
from mainstem.search.query.errors import QueryError
from mainstem.search.query.format import format_query
from mainstem.search.query.parser import parse
from tests.doors.kafka.access_kit import MemoryAuthorizer, memory_access
from tests.doors.kafka.kit import DoorClient, RecordingWaiter, frame_reader
from tests.doors.kafka.oracle import entity_of
from tests.fuzz.amqp import amqp
from tests.fuzz.http2_target import header_block, http2
from tests.fuzz.stream_target import stream_frames
from tests.log.logs import TOPIC
from tests.log.logs import LogRig as Log
from tests.support.clock import SimClock
from tests.support.fake_state import unpacked_snapshot
from tests.test_node import NodeRig

FuzzTarget = Callable[[bytes], None]


class LoggedFaults(logging.Handler):
    """Remembers what was logged as a fault of ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.messages.append(self.format(record))

    def __enter__(self) -> None:
        logging.getLogger("mainstem").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("mainstem").removeHandler(self)


# --- the Kafka door


def frames(data: bytes) -> None:
    """The first byte says how the rest is cut."""
    if not data:
        return
    budget = MemoryBudget(SimClock(), 1 << 20)
    reader = frame_reader(64 << 10, budget=budget, owner=RecordingWaiter())
    step, rest, out = data[0] + 1, data[1:], b""
    with contextlib.suppress(ProtocolError):
        while rest and reader.prepare_receive():
            space = reader.receive_buffer()
            count = min(len(space), step, len(rest))
            space[:count] = rest[:count]
            space.release()
            rest = rest[count:]
            reader.advance(count)
            while (frame := reader.next()) is not None:
                out += len(frame).to_bytes(4, "big") + frame
    assert data[1:].startswith(out), "a frame is not what came"
    reader.close()
    assert budget.used_bytes == 0


class RequestsTarget:
    """One handler after the other, for a client without rights and for one with all, on a node whose disk is
    in memory; a new one now and then."""

    LIFE = 200

    def __init__(self) -> None:
        self.handlers = discover()
        self.keys = sorted(self.handlers)
        self.faults = LoggedFaults()
        self.left = 0
        self.machine: NodeRig

    def renew(self) -> None:
        """A node with a topic of two partitions, some events and a committed position."""
        self.left = self.LIFE
        self.machine = None  # type: ignore[assignment]
        gc.collect()  # or the disks of many pile up
        # No journal: it is 128 MB of zeros in memory, and no handler sees the difference.
        self.machine = NodeRig(durability="os", queued_max_request_bytes=1 << 20, request_max_elements=5_000)
        topic = self.machine.create("t", 2)
        self.machine.append(topic, b"one")
        self.machine.append(topic, b"two", 1)

    def state(self) -> tuple[int, ...]:
        """Changes with everything that a request can change durably."""
        log = self.machine.node.log
        return (log.state.log_end_offset, *(part.log_end_offset for part in log.partitions()))

    def __call__(self, data: bytes) -> None:
        """The first two bytes say which key in which version, the others are the body."""
        if len(data) < 2:
            return
        if self.left == 0:
            self.renew()
        self.left -= 1
        key = self.keys[data[0] % len(self.keys)]
        low, high = self.handlers[key].versions
        version = low + data[1] % (high - low + 1)
        tags = b"\0" if version >= api(key).request.flexible else b""
        body = struct.pack(">hhih", key, version, 7, -1) + tags + data[2:]
        frame = len(body).to_bytes(4, "big") + body
        before = self.state()
        without_rights = MemoryAuthorizer()
        without_rights.set()
        self.send(frame, key, version, without_rights)
        assert self.state() == before, "somebody without rights changed something"
        refusals = self.send(frame, key, version, MemoryAuthorizer())
        if "protocol" in refusals:
            assert self.state() == before, "a refused request changed something"

    def send(self, frame: bytes, key: int, version: int, authorizer: MemoryAuthorizer) -> Mapping[str, int]:
        """Send a request as a client with these rights, and judge its reply. Why the client was refused, how
        often."""
        access = memory_access(authorizer)
        client = DoorClient(self.machine.node, access=access)  # type: ignore[arg-type]
        with self.faults:
            client.feed(frame)
            self.machine.settle(0.05)
            client.connection.lost()
            self.machine.settle(0.05)
        assert not self.faults.messages, self.faults.messages
        if client.transport.sent:
            self.judge(key, version, bytes(client.transport.sent))
        assert client.dispatcher.in_flight.used_bytes == client.dispatcher.parked.used_bytes == 0
        return client.dispatcher.refusals

    @staticmethod
    def judge(key: int, version: int, sent: bytes) -> None:
        """The reply is one that another decoder reads to its end."""
        size, correlation_id = struct.unpack_from(">ii", sent)
        assert correlation_id == 7
        assert size + 4 == len(sent)
        if key == 18:
            return  # its version may be another one than was asked for
        header_bytes = 9 if version >= api(key).response.flexible else 8
        reader = entity_reader(entity_of(key, version, "response"))
        _, size = reader(memoryview(sent), header_bytes)
        assert header_bytes + size == len(sent)


# --- the log


def sealed(data: bytes) -> bytearray:
    """A batch with its right length and CRC, so that what lies behind these is reached."""
    out = bytearray(data)
    if len(out) >= batches.HEADER_BYTES:
        struct.pack_into(">i", out, 8, len(out) - batches.LENGTH_OVERHEAD)
        out[16] = batches.MAGIC
        struct.pack_into(">I", out, 17, crc32c(bytes(out[21:])))
    return out


def batch(data: bytes) -> None:
    """As a client produces it, then as somebody opens it, as it came and with a right CRC."""
    for out in (bytearray(data), sealed(data)):
        with contextlib.suppress(LogError):
            header = batches.validate(memoryview(out))
            batches.assign_offsets(memoryview(out), 100, 3, None)
            assert batches.crc_matches(bytes(out), batches.read_header(out))
            assert header.total_bytes == len(out)
        end = 0
        for position, header in batches.iter_batches(bytes(out)):
            assert position == end
            end = position + header.total_bytes
        assert end <= len(out)
        if len(out) >= batches.HEADER_BYTES:
            with contextlib.suppress(LogError):
                records = batches.decode(bytes(out), cap_bytes=1 << 20)
                assert sum(len(record.value or b"") + len(record.key or b"") for record in records) <= 1 << 20


class BytesFile:
    """A file of the log that holds these."""

    path = "journal/x"

    def __init__(self, data: bytes) -> None:
        self.data = data

    def pread(self, length: int, position: int) -> bytes:
        """As a file does."""
        return self.data[position : position + length]

    def size(self) -> int:
        """As a file does."""
        return len(self.data)


FOLDER_ID = UUID(int=5)
JOURNAL = journal_format.JournalFileHeader(FOLDER_ID, seq=1, salt=7, base_group=1)


def journal(data: bytes) -> None:
    """A journal file: as it came, and its groups behind a right header."""
    for content in (data, journal_format.encode_header(JOURNAL) + data):
        header = journal_format.decode_header(content[: journal_format.BLOCK], FOLDER_ID)
        if header is None:
            continue
        number = 0
        for group in journal_format.read_groups(BytesFile(content), header):  # type: ignore[arg-type]
            assert group.number > number
            number = group.number
            assert all(record.payload_position + record.length <= len(content) for record in group.records)


def files(data: bytes) -> None:
    """The small files of the data folder: as they came, and with a right checksum before the rest."""
    for content in (data, data[:8] + struct.pack(">I", crc32c(data[12:])) + data[12:]):
        partition_snapshot.decode(content)
        checkpoint.decode(content)
    with contextlib.suppress(LogFolderError):
        unpacked_snapshot(data, 5)
    with contextlib.suppress(LogFolderError):
        fields = struct.pack(
            ">8sHqIQ", state_snapshot.MAGIC, state_snapshot.VERSION, 5, len(data) % 7, len(data)
        )
        unpacked_snapshot(fields + struct.pack(">I", crc32c(fields + data)) + data, 5)


class StateRecordsTarget:
    """A record of the state log: any bytes are a record or the error that says so."""

    def __init__(self) -> None:
        self.codec = NodeRig().node.runtime._codec

    def __call__(self, data: bytes) -> None:
        with contextlib.suppress(LogFolderError):
            again = self.codec.encode(record := self.codec.decode(data, "here"))
            assert self.codec.decode(again, "here") == record


def segment(data: bytes) -> None:
    """What follows a good batch in a segment after a kill -9: the start comes, the good batch is served."""
    machine = Log().start()
    machine.write(2)
    machine.crash("kill")
    path = f"partitions/{TOPIC.hex}-0/{0:020d}.log"
    machine.disk.inode(path).seen += data
    machine.start()
    assert machine.offsets(0)[:2] == [0, 1]
    machine.write(1)
    assert machine.offsets(0)[-1] == machine.partition(0).log_end_offset - 1
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{0:020d}.log"
        file.write_bytes(data)
        end = 0
        for item in inspect(str(file)):
            assert item.position >= end
            end = item.position + 1


# --- search and HTTP


RECORDS = [
    Record(0, 1_356_998_400_000, b"k", b'{"a": {"b": [1, 2.5, "x y"]}, "c": null}', (("h", b"v"),)),
    Record(1, -1, None, None),
    Record(2, 1_356_998_400_123, b"\xff\0", "ein Wört".encode()),
]


def query(data: bytes) -> None:
    """A query: refused, or it has one meaning, and any event is matched or not."""
    try:
        node = parse(data.decode("utf-8", "surrogateescape" if data[:1] == b"\xff" else "replace"))
    except QueryError:
        return
    assert parse(format_query(node)) == node
    matcher = Matcher.of(node, now_ms=1_356_998_400_000)
    for record in RECORDS:
        assert matcher.matches("t", 0, record) in (True, False)


BODIES = [
    kind
    for endpoint in ENDPOINTS
    for media, kind in endpoint.bodies.items()
    if media.endswith("json") and kind is not bytes
]


def body(data: bytes) -> None:
    """A JSON body of a route: the first byte says of which."""
    if not data:
        return
    kind = BODIES[data[0] % len(BODIES)]
    with contextlib.suppress(Problem):
        value = read_json(data[1:], kind)
        msgspec.json.encode(value)


def targets() -> dict[str, FuzzTarget]:
    """All of them, by name, ready to be called."""
    return {
        "frames": frames,
        "requests": RequestsTarget(),
        "batch": batch,
        "journal": journal,
        "files": files,
        "state_records": StateRecordsTarget(),
        "segment": segment,
        "query": query,
        "body": body,
        "stream_frames": stream_frames,
        "amqp": amqp,
        "http2": http2,
        "header_block": header_block,
    }
