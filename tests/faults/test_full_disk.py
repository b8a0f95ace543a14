"""A full disk, on a real file system with a real client: what goes on, what does not, and that it comes back
by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults import disks
from tests.support.server import Server

WAIT_S = 40.0
QUIET = {"log_level": 0}


def wait_for(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


class Client:
    """One service: writes, reads, commits, deletes."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.admin = AdminClient({"bootstrap.servers": at, **QUIET})
        self.acknowledged: list[tuple[int, bytes]] = []
        self.refusals: list[KafkaError] = []

    def create(self, *names: str) -> None:
        for made in self.admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
            made.result(WAIT_S)

    def producer(self, timeout_ms: int) -> Producer:
        return Producer(
            {"bootstrap.servers": self.at, "acks": "all", "message.timeout.ms": timeout_ms, **QUIET}
        )

    def answered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.refusals.append(error)
            return
        offset, value = message.offset(), message.value()
        assert offset is not None
        assert value is not None
        self.acknowledged.append((offset, value))

    def write(self, topic: str, count: int, size: int, timeout_ms: int = 30_000) -> None:
        producer = self.producer(timeout_ms)
        for number in range(count):
            producer.produce(topic, f"{number} ".encode() + bytes(size), on_delivery=self.answered)
            producer.poll(0)
        producer.flush(WAIT_S)

    def read(self, topic: str) -> list[tuple[int, bytes]]:
        consumer = Consumer(
            {"bootstrap.servers": self.at, "group.id": "judge", "enable.partition.eof": True, **QUIET}
        )
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[tuple[int, bytes]] = []
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is not None and message.error() is not None:
                break
            if message is not None:
                offset, value = message.offset(), message.value()
                assert offset is not None
                assert value is not None
                found.append((offset, value))
        consumer.close()
        return found

    def commit(self, topic: str, offset: int) -> int:
        """Commit and ask: what the server then says."""
        consumer = Consumer({"bootstrap.servers": self.at, "group.id": "billing", **QUIET})
        try:
            consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
            (told,) = consumer.committed([TopicPartition(topic, 0)], timeout=WAIT_S)
            return int(told.offset)
        finally:
            consumer.close()


@pytest.mark.slow
def test_a_full_disk_holds_up_events_alone_and_goes_on_by_itself(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk", 64) as disk:
        settings = {"disk_reserve_bytes": 8 << 20, "log_retention_check_interval_ms": 500}
        with Server(disk / "data", **settings) as server:
            client = Client(server.at)
            client.create("orders", "old")
            client.write("old", 20, 50_000)
            client.acknowledged.clear()
            client.write("orders", 20, 1000)
            taken = disks.fill(disk, leave_bytes=4 << 20)
            wait_for(lambda: "topics take no events" in server.logs(), server.logs())

            client.write("orders", 3, 1000, timeout_ms=3000)
            assert len(client.acknowledged) == 20
            assert len(client.refusals) == 3
            assert client.read("orders") == client.acknowledged
            assert client.commit("orders", 7) == 7
            client.create("made-on-a-full-disk")
            client.admin.delete_topics(["old"])["old"].result(WAIT_S)
            assert "old" not in client.admin.list_topics(timeout=WAIT_S).topics

            producer = client.producer(timeout_ms=60_000)  # it waits through, as a service would
            producer.produce("orders", b"patient", on_delivery=client.answered)
            producer.poll(1.5)
            assert len(client.acknowledged) == 20
            taken.unlink()
            assert producer.flush(WAIT_S) == 0
            assert client.acknowledged[-1] == (20, b"patient")
            assert client.read("orders") == client.acknowledged
            assert "topics take events again" in server.logs()
            assert server.stop() == 0


@pytest.mark.slow
def test_a_disk_that_is_full_before_anybody_looks_loses_nothing(tmp_path: Path) -> None:
    """Without a reserve every write fails by itself: cleanly, and only until there is room."""
    with disks.ext4(tmp_path / "disk", 64) as disk, Server(disk / "data", disk_reserve_bytes=0) as server:
        client = Client(server.at)
        client.create("orders")
        client.write("orders", 20, 1000)
        taken = disks.fill(disk, leave_bytes=0)
        client.write("orders", 40, 400_000, timeout_ms=4000)
        assert client.refusals, "nothing was refused: nothing was tested"
        assert all(error.code() != KafkaError.UNKNOWN for error in client.refusals)
        assert client.read("orders")[:20] == client.acknowledged[:20]
        taken.unlink()
        before = len(client.acknowledged)
        client.write("orders", 5, 1000)
        assert len(client.acknowledged) == before + 5
        server.restart(kill=True)
        found = dict(client.read("orders"))
        lost = [offset for offset, value in client.acknowledged if found.get(offset) != value]
        assert lost == []
        assert "Traceback" not in server.logs()


@pytest.mark.slow
def test_a_start_on_a_full_disk_serves_what_is_there(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk", 64) as disk, Server(disk / "data") as server:
        client = Client(server.at)
        client.create("orders")
        client.write("orders", 50, 10_000)
        server.kill()
        taken = disks.fill(disk, leave_bytes=64 << 10)
        server.start(same_port=True)
        assert client.read("orders") == client.acknowledged
        client.write("orders", 1, 100, timeout_ms=2000)
        assert len(client.refusals) == 1
        taken.unlink()
        client.write("orders", 1, 100)
        assert len(client.acknowledged) == 51
