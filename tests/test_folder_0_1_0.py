"""A data folder that mainstem 0.1.0 made, and left by a sudden death, opens with all that was in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Message, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from mainstem.clock import LoopClock
from mainstem.coordinator.producer_ids import BLOCK_IDS, START_MIN
from mainstem.kafka_protocol.message import Message as KafkaMessage
from mainstem.log import paths
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.offline.inspect import InspectedBatch, inspect
from mainstem.node import Node
from mainstem.search.blocks.token_filter import read_filter_info
from mainstem.search.index.layout import MANIFEST
from mainstem.settings import Settings
from tests.data.make_folder_0_1_0 import (
    ARCHIVE,
    DELETED_TOPIC,
    LAST_EPOCH,
    POSITIONS,
    SHARES,
    TOPICS,
    event_of,
)
from tests.doors.kafka.kit import init_producer_id, produce_request
from tests.faults.attacks import SocketClient
from tests.support.server import Server

WAIT_S = 30.0
COPY_EPOCH_MARGIN = 1 << 16
CENTURY_MS = 100 * 365 * 24 * 3600 * 1000
NOTHING_EXPIRES = {
    "producer_id_expiration_ms": CENTURY_MS,
    "offsets_retention_minutes": CENTURY_MS // 60_000,
}
"""The folder gets older each day: what it has must not expire, whenever the tests run."""


def extract(folder: Path) -> Path:
    """The folder as 0.1.0 left it, in `folder`; a copy of the one that was archived."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "data"


def mark_as_original(data: Path) -> None:
    """Let `meta.properties` name the `.lock` beside it, so that the folder does not count as a copy."""
    lock = data / paths.LOCK
    lock.touch(mode=0o600)
    status = lock.stat()
    meta = data / paths.META
    lines = [line for line in meta.read_text().splitlines() if not line.startswith("lock=")]
    meta.write_text("\n".join([*lines, f"lock={status.st_ino}-{status.st_ctime_ns}", ""]))


def derived_files(data: Path) -> dict[str, int]:
    """When each token filter and each file of an index was written."""
    files = [*data.glob("search/*/*.tokens"), *data.glob("search-index/*/*/*")]
    return {str(file): file.stat().st_mtime_ns for file in files}


class OpenedFolder(NamedTuple):
    """The folder, served."""

    server: Server
    data: Path
    derived: dict[str, int]
    """`derived_files` before the start."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenedFolder]:
    data = extract(tmp_path_factory.mktemp("folder"))
    mark_as_original(data)
    derived = derived_files(data)
    with Server(data, http="127.0.0.1:0", **NOTHING_EXPIRES) as server:
        yield OpenedFolder(server, data, derived)


def read_all(server: Server, topic: str, partition: int, end: int) -> list[Message]:
    """Every event of the partition up to offset `end`."""
    consumer = Consumer(
        {"bootstrap.servers": server.address, "group.id": "reader", "enable.auto.commit": False}
    )
    events: list[Message] = []
    consumer.assign([TopicPartition(topic, partition, TOPICS[topic].log_start)])
    while len(events) < end - TOPICS[topic].log_start:
        batch = consumer.consume(end - TOPICS[topic].log_start - len(events), WAIT_S)
        assert batch, "no more events"
        events += batch
    consumer.close()
    return events


def partitions() -> list[tuple[str, int]]:
    return [(name, index) for name, topic in TOPICS.items() for index in range(topic.partitions)]


@pytest.mark.parametrize(("name", "partition"), partitions())
def test_every_event_is_there(opened: OpenedFolder, name: str, partition: int) -> None:
    topic = TOPICS[name]
    events = read_all(opened.server, name, partition, topic.events)
    assert [event.offset() for event in events] == list(range(topic.log_start, topic.events))
    for event in events:
        assert event.error() is None
        offset = event.offset()
        assert offset is not None
        expected = event_of(name, partition, offset)
        assert (event.key(), event.value()) == (expected.key, expected.value)
        assert (event.headers() or []) == expected.headers
        if name != "stamped":
            assert event.timestamp()[1] == expected.timestamp_ms
        assert event.leader_epoch() == (LAST_EPOCH if offset >= int(topic.events * SHARES[1]) else 0)


def test_the_journal_gives_back_what_the_segments_lack(opened: OpenedFolder) -> None:
    (line,) = [line for line in opened.server.logs().splitlines() if "opened the log: " in line]
    assert "the last stop was not clean" in line
    assert " 0 bytes replayed from the journal" not in line
    assert "0 partitions read-only" in line


def test_every_group_position_is_there(opened: OpenedFolder) -> None:
    admin = AdminClient({"bootstrap.servers": opened.server.address})
    for group, expected in POSITIONS.items():
        (request,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
        committed = request.result(WAIT_S).topic_partitions
        assert {
            (position.topic, position.partition): (position.offset, position.metadata or "")
            for position in committed
        } == expected


def test_topics_and_their_settings_are_as_they_were(opened: OpenedFolder) -> None:
    admin = AdminClient({"bootstrap.servers": opened.server.address})
    listed = admin.list_topics(timeout=WAIT_S).topics
    assert DELETED_TOPIC not in listed
    assert {name: len(topic.partitions) for name, topic in listed.items()} == {
        name: topic.partitions for name, topic in TOPICS.items()
    }
    for name, topic in TOPICS.items():
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        config = admin.describe_configs([resource])[resource].result(WAIT_S)
        assert {key: config[key].value for key in topic.config} == topic.config


def search(server: Server, query: str, topic: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(hits, totals) of one search."""
    request = urllib.request.Request(
        f"http://{server.http}/api/v1/search",
        json.dumps({"query": query, "topics": [topic]}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
        lines = [json.loads(line) for line in reply]
    (done,) = [line["done"] for line in lines if "done" in line]
    return [line["hit"] for line in lines if "hit" in line], done["totals"]


@pytest.mark.slow
def test_its_token_filters_and_index_which_have_other_tokens_are_not_trusted(opened: OpenedFolder) -> None:
    assert opened.derived
    for query, topic, partition in (("id17p1", "orders", 1), ("id17p0", "catalogue", 0)):
        hits, totals = search(opened.server, query, topic)
        assert [(hit["partition"], hit["offset"]) for hit in hits] == [(partition, 17)]
    for name, written_ns in opened.derived.items():
        path = Path(name)
        if path.suffix == ".tokens" and read_filter_info(path) is not None:
            assert path.stat().st_mtime_ns != written_ns, "a filter that is valid is a new one"
    pytest.importorskip("tantivy")
    deadline = time.monotonic() + WAIT_S
    while not totals["indexed_bytes"]:
        assert time.monotonic() < deadline, "the index is not built again"
        hits, totals = search(opened.server, "id17p0", "catalogue")
        assert [hit["offset"] for hit in hits] == [17]
    manifests = [Path(name) for name in opened.derived if Path(name).name == MANIFEST]
    assert manifests
    for path in manifests:
        assert path.stat().st_mtime_ns != opened.derived[str(path)], "a part that is used is a new one"


def test_a_batch_that_its_producer_sends_again_is_known(opened: OpenedFolder) -> None:
    """What was checkpointed is known from the snapshot of producers, what came after it from the journal."""
    with contextlib.closing(SocketClient(opened.server)) as client:
        for folder in opened.data.glob("partitions/*-1"):
            segment = max(folder.glob("*.log"))
            batches = [item for item in inspect(str(segment)) if isinstance(item, InspectedBatch)]
            last = batches[-1]
            data = bytearray(segment.read_bytes()[last.position : last.position + last.header.total_bytes])
            data[:8] = bytes(8)
            data[12:16] = b"\xff" * 4
            request = produce_request("orders", data, index=1, timeout=20_000)
            reply: KafkaMessage = client.call(0, 9, request)
            ((answer,),) = [topic.partition_responses for topic in reply.responses]
            assert (answer.error_code, answer.base_offset) == (0, last.header.base_offset)


def test_it_keeps_its_producer_ids_and_gets_a_server_id_outside_of_them(tmp_path: Path) -> None:
    data = extract(tmp_path)
    mark_as_original(data)
    used = {
        item.header.producer_id
        for segment in data.glob("partitions/*/*.log")
        for item in inspect(str(segment))
        if isinstance(item, InspectedBatch) and item.header.producer_id >= 0
    }
    assert used
    ids: list[tuple[int, int]] = []
    for _ in range(2):
        with Server(data, **NOTHING_EXPIRES) as server:
            client = SocketClient(server)
            for producer_id in used:
                bumped = client.call(22, 4, init_producer_id(producer_id, 3))
                assert (bumped.producer_id, bumped.producer_epoch) == (producer_id, 4)
            allocated = client.call(22, 4, init_producer_id()).producer_id
            assert max(used) < allocated < START_MIN, "further ids follow those of 0.1.0"
            client.close()
        ids.append((allocated, recorded_server_id(data)))
    assert ids[1][0] == ids[0][0] + BLOCK_IDS
    assert ids[1][1] == ids[0][1]
    assert ids[0][1] >= START_MIN


def recorded_server_id(data: Path) -> int:
    """The server's own producer id in the state of a stopped folder."""

    async def opened() -> int | None:
        loop = asyncio.get_running_loop()
        settings = Settings(data=str(data))
        node = await Node.open(settings, RealDisk(str(data), loop), LoopClock(loop), random.Random(1))
        try:
            return node.producer_ids.server_id
        finally:
            await node.close()

    server_id = asyncio.run(opened())
    assert server_id is not None
    return server_id


def test_a_copy_of_the_folder_begins_a_later_epoch(tmp_path: Path) -> None:
    data = extract(tmp_path)
    with Server(data, **NOTHING_EXPIRES) as server:
        client = SocketClient(server)
        assert client.produce("stamped") == TOPICS["stamped"].events
        client.close()
        events = read_all(server, "stamped", 0, TOPICS["stamped"].events + 1)
        assert (events[-1].leader_epoch() or 0) >= COPY_EPOCH_MARGIN


def test_it_gets_this_format_and_the_state_log_of_queues(opened: OpenedFolder) -> None:
    """0.1.0, which would put the log of queues into quarantine, refuses a folder of version 2."""
    assert "version=2" in (opened.data / paths.META).read_text().splitlines()
    assert (opened.data / paths.STATE_FOLDERS[paths.QUEUE_STATE_TOPIC]).is_dir()
    assert not (opened.data / paths.QUARANTINE).exists()


def test_doctor_finds_the_folder_whole(tmp_path: Path) -> None:
    data = extract(tmp_path)
    command = [sys.executable, "-m", "mainstem", "doctor", "--data", str(data), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
