"""`python -m tests.data.make_folder_0_1_0 SOURCE`: makes the data folder of mainstem 0.1.0 that tests open.

SOURCE is a checkout of 0.1.0. Its server runs as a process of its own and receives events over Kafka; at the
end it is killed, so that its journal holds batches. The folder becomes `folder_0_1_0.tar.xz` beside this
file. The constants and `event_of` say what is in it; the test compares with them.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ARCHIVE = Path(__file__).with_name("folder_0_1_0.tar.xz")
READY = re.compile(r"^mainstem ready in [\d.]+ s  kafka=(\S+:\d+)  http=(\S+)  data=")
START_MS = 1_356_998_400_000
WAIT_S = 60.0
SEGMENT_BYTES = 1 << 20
INDEXED_SEGMENT_BYTES = 9 << 20


class KeptTopic(NamedTuple):
    """One topic of the folder."""

    partitions: int
    events: int
    """In each partition, offsets from 0; those before `log_start` are deleted."""
    config: dict[str, str]
    value_bytes: int = 400
    codec: str = "none"
    log_start: int = 0


TOPICS = {
    "orders": KeptTopic(
        2, 400, {"segment.bytes": str(SEGMENT_BYTES), "retention.ms": "-1"}, value_bytes=8000
    ),
    "stamped": KeptTopic(1, 50, {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}),
    "trimmed": KeptTopic(1, 100, {"retention.ms": "-1"}, log_start=40),
    "catalogue": KeptTopic(
        1,
        1400,
        {
            "segment.bytes": str(INDEXED_SEGMENT_BYTES),
            "mainstem.search": "indexed",
            "retention.ms": "-1",
        },
        value_bytes=8000,
    ),
    **{
        f"packed-{codec}": KeptTopic(1, 40, {"retention.ms": "-1"}, codec=codec)
        for codec in ("gzip", "snappy", "lz4", "zstd")
    },
}
DELETED_TOPIC = "deleted"
POSITIONS = {
    "billing": {("orders", 0): (17, "at work"), ("orders", 1): (230, "")},
    "audit": {("orders", 0): (400, ""), ("stamped", 0): (50, "done"), ("trimmed", 0): (41, "")},
}
"""Group -> (topic, partition) -> committed offset and its metadata."""
LAST_EPOCH = 1
"""Leader epoch of the newest events: there was one unclean start."""
SHARES = (0.5, 0.8, 0.9, 1.0)
"""The share of its events that each partition has at the clean stop, at the first kill -9, at the checkpoint
after it, and at the last kill -9."""


class KeptEvent(NamedTuple):
    """What one event of the folder holds."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int


def event_of(topic: str, partition: int, number: int) -> KeptEvent:
    """The event at offset `number`. With LogAppendTime, the server has set another timestamp."""
    key = None if number % 5 == 4 else f"{topic}-{number % 7}".encode()
    if number % 50 == 49:
        return KeptEvent(key, None, [], START_MS + number * 1000)
    text = (
        f'{{"topic": "{topic}", "partition": {partition}, "number": {number}, "id": "id{number}p{partition}"'
    )
    filler = "lorem ipsum dolor sit amet " * (TOPICS[topic].value_bytes // 27)
    value = f'{text}, "text": "{filler}"}}'.encode()
    return KeptEvent(
        key, value, [("number", str(number).encode()), ("empty", None)], START_MS + number * 1000
    )


class OldServer:
    """`mainstem serve` of the checkout `source`."""

    def __init__(self, source: Path, data: Path) -> None:
        self.source = source
        self.data = data
        self.kafka = ""
        self.http = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, and wait until it is ready."""
        command = [sys.executable, "-m", "mainstem", "serve", "--data", str(self.data)]
        environ = {**os.environ, "PYTHONPATH": str(self.source / "src")}
        with open(self.data.with_suffix(".log"), "ab") as log:
            self._process = subprocess.Popen(
                [*command, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environ,
            )
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(WAIT_S), "the server did not become ready"
        match = READY.match(line := self._process.stdout.readline())
        assert match is not None, line
        self.kafka, self.http = match[1], match[2]

    def end(self, number: signal.Signals) -> None:
        """Send the signal, and wait for the end."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(WAIT_S)


def produce(server: OldServer, topic: str, numbers: range) -> None:
    """Write these events to each partition, in order, as an idempotent producer."""
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.append(error)

    producer = Producer(
        {
            "bootstrap.servers": server.kafka,
            "enable.idempotence": True,
            "compression.type": TOPICS[topic].codec,
            "batch.num.messages": 10,
            "linger.ms": 20,
        }
    )
    for number in numbers:
        for partition in range(TOPICS[topic].partitions):
            event = event_of(topic, partition, number)
            producer.produce(
                topic,
                event.value,
                event.key,
                partition,
                timestamp=event.timestamp_ms,
                headers=event.headers,
                on_delivery=delivered,
            )
    assert producer.flush(WAIT_S) == 0
    assert not refused, refused[0]


def write_share(server: OldServer, share: float, before: float) -> None:
    """Write each topic from one share of its events to another."""
    for name, topic in TOPICS.items():
        produce(server, name, range(int(topic.events * before), int(topic.events * share)))


def make_topics(server: OldServer) -> None:
    """Create the topics, and one that is deleted at once."""
    admin = AdminClient({"bootstrap.servers": server.kafka})
    new = [NewTopic(name, topic.partitions, 1, config=topic.config) for name, topic in TOPICS.items()]
    for created in admin.create_topics([*new, NewTopic(DELETED_TOPIC, 3, 1)]).values():
        created.result(WAIT_S)
    admin.delete_topics([DELETED_TOPIC])[DELETED_TOPIC].result(WAIT_S)


def commit_positions(server: OldServer) -> None:
    """Commit each group's positions."""
    for group, positions in POSITIONS.items():
        consumer = Consumer(
            {"bootstrap.servers": server.kafka, "group.id": group, "enable.auto.commit": False}
        )
        offsets = [
            TopicPartition(topic, partition, offset, metadata=metadata)
            for (topic, partition), (offset, metadata) in positions.items()
        ]
        consumer.commit(offsets=offsets, asynchronous=False)
        consumer.close()


def trim(server: OldServer) -> None:
    """Delete the events before each topic's log start."""
    admin = AdminClient({"bootstrap.servers": server.kafka})
    starts = [TopicPartition(name, 0, topic.log_start) for name, topic in TOPICS.items() if topic.log_start]
    for deleted in admin.delete_records(starts).values():
        deleted.result(WAIT_S)


def search(server: OldServer, query: str) -> Iterator[dict[str, object]]:
    """All lines of one search."""
    body = json.dumps({"query": query}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://{server.http}/api/v1/search", body, headers)
    with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
        for line in reply:
            yield json.loads(line)


def wait_for_derived_files(server: OldServer) -> None:
    """Wait until token filters and a part of the index are made."""
    assert any("hit" in line for line in search(server, "id17p0"))
    deadline = time.monotonic() + WAIT_S
    while True:
        filters = len(list(server.data.glob("search/*/*.tokens")))
        parts = len(list(server.data.glob("search-index/*/*/manifest")))
        if filters >= 4 and parts >= 1:
            time.sleep(2)  # the last ones
            return
        assert time.monotonic() < deadline, f"{filters} token filters, {parts} parts of an index"
        time.sleep(0.2)


def tear_tail(data: Path) -> None:
    """Cut the end of each newest segment, as a power cut does: only the journal has the last batches then."""
    for folder in (data / "partitions").iterdir():
        newest = max(folder.glob("*.log"), default=None)
        if newest is not None and newest.stat().st_size > 1000 and "0" * 31 not in folder.name:
            os.truncate(newest, newest.stat().st_size - 100)


def make(source: Path, data: Path) -> None:
    """Make the folder."""
    server = OldServer(source, data)
    server.start()
    make_topics(server)
    write_share(server, SHARES[0], 0.0)
    trim(server)
    server.end(signal.SIGTERM)
    server.start()
    write_share(server, SHARES[1], SHARES[0])
    server.end(signal.SIGKILL)
    server.start()
    write_share(server, SHARES[2], SHARES[1])
    wait_for_derived_files(server)
    time.sleep(35)  # a checkpoint
    commit_positions(server)
    write_share(server, SHARES[3], SHARES[2])
    server.end(signal.SIGKILL)
    tear_tail(data)


def pack(data: Path) -> None:
    """Archive the folder; holes in place of the zeros of the journal's files."""
    flags = ["--create", "--sparse", "--hole-detection=raw", "--sort=name", "--owner=0", "--group=0"]
    command = ["tar", *flags, "--numeric-owner", "--file=-", "-C", str(data.parent), data.name]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    packed = subprocess.run(["xz", "-9e", "--stdout"], input=archive, check=True, capture_output=True)
    ARCHIVE.write_bytes(packed.stdout)
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size} bytes")


def main() -> None:
    """Make the folder in a temporary place, and pack it."""
    with tempfile.TemporaryDirectory() as parent:
        data = Path(parent) / "data"
        try:
            make(Path(sys.argv[1]).resolve(), data)
        except BaseException:
            shutil.copy(data.with_suffix(".log"), "make_folder.log")
            raise
        (data / ".lock").unlink(missing_ok=True)
        pack(data)


if __name__ == "__main__":
    main()
