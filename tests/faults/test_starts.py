"""Starts that are out of the ordinary: many topics, a signal in the middle, a folder that
cannot be written."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic, OffsetSpec

from mainstem.clock import LoopClock
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.storage import record_batch as batches
from mainstem.node import Node
from mainstem.settings import Settings
from tests.faults import disks
from tests.faults.attacks import descriptors
from tests.faults.client import AcknowledgedClient
from tests.support.server import Server

TOPICS = 10_000
SEGMENTS = 30_000


def filled(folder: Path, work: Callable[[Node], Awaitable[None]]) -> None:
    """Have a node of this process write there, and stop it cleanly."""

    async def inner() -> None:
        loop = asyncio.get_running_loop()
        settings = Settings(data=str(folder))
        node = await Node.open(settings, RealDisk(str(folder), loop), LoopClock(loop), random.Random(7))
        await work(node)
        await node.close()

    asyncio.run(inner())


def an_event() -> memoryview:
    return memoryview(batches.build([(b"k", b"v" * 100, (), 1_356_998_400_000)]))


@pytest.mark.slow
def test_ten_thousand_topics_are_served_again_after_a_stop_and_after_kill_9(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        for number in range(TOPICS):
            topic = node.topics.create(f"topic-{number:05}", 1, {})
            if not number % 500:
                await topic
        await topic
        for number in range(0, TOPICS, 100):
            metadata = node.topics.get(f"topic-{number:05}")
            assert metadata is not None
            partition = node.partition(metadata, 0)
            await partition.when_committed(partition.append(an_event()).next_offset)

    filled(tmp_path / "data", work)
    with Server(tmp_path / "data") as server:
        client = AcknowledgedClient(server.address)
        assert len(client.admin.list_topics(timeout=30).topics) == TOPICS
        client.write("topic-00007", 3, 100)
        server.restart(kill=True)
        assert len(client.admin.list_topics(timeout=30).topics) == TOPICS
        assert client.lost("topic-00007") == []
        assert len(client.read("topic-09900")) == 1


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_a_partition_of_thirty_thousand_segments_is_served_after_a_stop_and_after_kill_9(
    tmp_path: Path,
) -> None:
    async def work(node: Node) -> None:
        partition = node.partition(await node.auto_create("orders"), 0)
        for number in range(1, SEGMENTS):
            partition.append(an_event())
            partition.roll()
            if not number % 1_000:  # what is not synced stays open
                await partition.when_committed(partition.log_end_offset)
                await node.log.checkpoint()
        await partition.when_committed(partition.append(an_event()).next_offset)

    filled(tmp_path / "data", work)
    (folder,) = [
        path for path in (tmp_path / "data" / "partitions").iterdir() if len(list(path.iterdir())) > 9
    ]
    assert len(list(folder.glob("*.log"))) == SEGMENTS
    with Server(tmp_path / "data") as server:

        def ends() -> list[int]:
            client = AcknowledgedClient(server.address)
            asked = [OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.for_timestamp(1_356_998_400_001)]
            requests = [
                client.admin.list_offsets({TopicPartition("orders", 0): spec}, request_timeout=300)
                for spec in asked
            ]
            return [request[TopicPartition("orders", 0)].result(120).offset for request in requests]

        assert ends()[:2] == [0, SEGMENTS]
        for number in range(2):
            AcknowledgedClient(server.address).write("orders", 3, 100)
            server.restart(kill=True)
            assert ends()[:2] == [0, SEGMENTS + 3 * (number + 1)]
        assert descriptors(server) < 4_096 + 100  # of segments, the most that stay open; of others
        server.stop()
        for path in (tmp_path / "data").glob("checkpoint-*"):
            path.unlink()
        server.start(timeout_s=600)  # all segments are read, and written again
        assert ends()[:2] == [0, SEGMENTS + 6]
        assert "Traceback" not in server.logs()


@pytest.mark.slow
def test_a_signal_while_it_starts_ends_it_and_loses_nothing(tmp_path: Path) -> None:
    rng = random.Random(3)
    server = Server(tmp_path / "data")
    with server:
        client = AcknowledgedClient(server.address)
        client.create("orders")
        client.write("orders", 500, 10_000)
        server.kill()
        codes = set()
        for _ in range(12):
            serve = [sys.executable, "-m", "mainstem", "serve", "--data", str(server.data)]
            with server.log_path.open("ab") as log:
                begun = subprocess.Popen(
                    [*serve, "--doors", "kafka", "--kafka", "127.0.0.1:0"],
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                )
            time.sleep(rng.uniform(0.05, 1.5))
            begun.send_signal(signal.SIGTERM)
            codes.add(begun.wait(30))
        assert codes <= {0, -signal.SIGTERM}, "it ends cleanly, or before it has touched anything"
        server.start()
        client.address = server.address
        assert client.lost("orders") == []
        assert "Traceback" not in server.logs()


def test_after_a_sudden_death_few_descriptors_are_enough_to_start(tmp_path: Path) -> None:
    partitions, descriptors_max = 200, 128
    with Server(tmp_path / "data", durability="os") as server:
        client = AcknowledgedClient(server.address)
        client.admin.create_topics([NewTopic("wide", partitions)])["wide"].result(30)
        producer = client.producer(30_000)
        for number in range(partitions):
            producer.produce("wide", b"v", partition=number, on_delivery=client.answered)
        producer.flush(30)
        assert len(client.acknowledged) == partitions
        server.kill()
        serve = f"{sys.executable} -m mainstem serve --data {server.data} --kafka 127.0.0.1:0 --doors kafka"
        with server.log_path.open("ab") as log:
            limited = subprocess.Popen(
                ["sh", "-c", f"ulimit -n {descriptors_max} && exec {serve}"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        with limited:
            assert limited.stdout is not None
            assert limited.stdout.readline().startswith("mainstem ready"), server.logs()
            limited.terminate()
        assert limited.returncode == 0


@pytest.mark.slow
def test_a_read_only_file_system_is_reported_in_one_line(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk", 300) as disk:
        server = Server(disk / "data")
        server.log_path = tmp_path / "server.log"
        with server:
            AcknowledgedClient(server.address).create("orders")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        before = server.logs()
        with pytest.raises(AssertionError, match="not ready"):
            server.start()
        logged = server.logs().removeprefix(before)
        assert logged.startswith("mainstem: data folder")
        assert logged.count("\n") == 1
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
