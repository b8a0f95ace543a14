"""A full disk, on a real file system with a real client: what goes on, what does not, and that it comes back
by itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.faults import disks
from tests.faults.client import WAIT_S, AcknowledgedClient, wait_for
from tests.support.server import Server


def on(disk: Path, aside: Path, **settings: object) -> Server:
    """A server whose data is on `disk`, and whose log lines are not."""
    server = Server(disk / "data", **settings)
    server.log_path = aside / "server.log"
    return server


@pytest.mark.slow
def test_a_full_disk_refuses_only_events_and_recovers_without_a_restart(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk", 64) as disk:
        settings = {"disk_reserve_bytes": 8 << 20, "log_retention_check_interval_ms": 500}
        with on(disk, tmp_path, **settings) as server:
            client = AcknowledgedClient(server.address)
            client.create("orders", "old")
            client.write("old", 20, 50_000)
            client.acknowledged.clear()
            client.write("orders", 20, 1000)
            taken = disks.fill(disk, leave_bytes=4 << 20)
            wait_for(lambda: "topics accept no events" in server.logs(), server.logs())

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
            assert "topics accept events again" in server.logs()
            assert server.stop() == 0


@pytest.mark.slow
def test_on_a_full_disk_answers_about_events_are_final_and_dead_letters_wait(tmp_path: Path) -> None:
    with disks.tmpfs(tmp_path / "disk", 64) as disk:
        settings = {"disk_reserve_bytes": 8 << 20, "log_retention_check_interval_ms": 500}
        with on(disk, tmp_path, http="127.0.0.1:0", **settings) as server:
            client = AcknowledgedClient(server.address)
            client.create("orders", "dead")
            client.write("orders", 30, 1000)
            http = httpx.Client(base_url=f"http://{server.http}/api/v1/", trust_env=False, timeout=WAIT_S)

            def call(path: str, body: dict[str, object]) -> Any:
                reply = http.post(path, json=body)
                assert reply.is_success, reply.text
                return reply.json()

            chosen = {"dead_letter_topic": "dead", "lock_ms": 600_000}
            call("subscriptions", {"subscription": "s", "topics": ["orders"], "settings": chosen})
            taken = disks.fill(disk, leave_bytes=4 << 20)
            wait_for(lambda: "topics accept no events" in server.logs(), server.logs())

            pulled = call("subscriptions/s:pull", {"consumer": "c", "max_events": 20})["deliveries"]
            tokens = [delivery["token"] for delivery in pulled]
            assert call("subscriptions/s:ack", {"tokens": tokens[:10]})["verdicts"] == ["done"] * 10
            assert call("subscriptions/s:reject", {"tokens": tokens[10:12]})["verdicts"] == ["done"] * 2
            disks.fill(disk, leave_bytes=0)  # what is written from now on was reserved before
            for token in tokens[12:16]:
                assert call("subscriptions/s:ack", {"tokens": [token]})["verdicts"] == ["done"]
            shown = http.get("subscriptions/s").json()
            assert (shown["depth"]["dying"], shown["depth"]["leased"]) == (2, 4)
            assert "the disk is full" in shown["problems"][0]

            taken.unlink()
            wait_for(lambda: not http.get("subscriptions/s").json()["depth"]["dying"], server.logs())
            server.restart(kill=True)
            http.base_url = f"http://{server.http}/api/v1/"
            depth = http.get("subscriptions/s").json()["depth"]
            assert (depth["ready"], sum(depth.values())) == (14, 14)
            assert len(client.read("dead")) == 2
            http.close()


@pytest.mark.slow
def test_a_disk_that_fills_up_between_two_checks_loses_nothing(tmp_path: Path) -> None:
    """Without a reserve every write fails by itself: cleanly, and only until there is room."""
    with disks.ext4(tmp_path / "disk", 64) as disk, on(disk, tmp_path, disk_reserve_bytes=0) as server:
        client = AcknowledgedClient(server.address)
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
        assert client.lost("orders") == []
        assert "Traceback" not in server.logs()


@pytest.mark.slow
@pytest.mark.parametrize("leave_bytes", [0, 64 << 10])
def test_a_start_on_a_full_disk_serves_what_is_there(tmp_path: Path, leave_bytes: int) -> None:
    """Also with 0 bytes free: the start removes the ballast."""
    with disks.tmpfs(tmp_path / "disk", 64) as disk, on(disk, tmp_path) as server:
        client = AcknowledgedClient(server.address)
        client.create("orders")
        client.write("orders", 50, 10_000)
        server.kill()
        taken = disks.fill(disk, leave_bytes=leave_bytes)
        server.start(same_port=True)
        assert client.read("orders") == client.acknowledged
        consumer = Consumer({"bootstrap.servers": server.address, "group.id": "g"})
        consumer.commit(offsets=[TopicPartition("orders", 0, 7)], asynchronous=False)
        assert consumer.committed([TopicPartition("orders", 0)], 10)[0].offset == 7
        consumer.close()
        admin = AdminClient({"bootstrap.servers": server.address})
        (deleted,) = admin.delete_records([TopicPartition("orders", 0, 5)]).values()
        assert deleted.result(10).low_watermark == 5
        client.write("orders", 1, 100, timeout_ms=2000)
        assert len(client.refusals) == 1
        taken.unlink()
        client.write("orders", 1, 100)
        assert len(client.acknowledged) == 51


@pytest.mark.slow
def test_at_the_limit_of_all_data_only_events_are_refused(tmp_path: Path) -> None:
    limits = {"data_max_bytes": 16 << 20, "log_segment_bytes": 1 << 20, "disk_reserve_bytes": 0}
    with Server(tmp_path / "data", **limits) as server:
        client = AcknowledgedClient(server.address)
        client.create("orders", "old")
        client.write("old", 15, 700_000)
        for _ in range(60):
            client.write("orders", 1, 200_000, timeout_ms=3000)
            if client.refusals:
                break
            time.sleep(0.1)  # it looks once a second
        assert client.refusals, "nothing was refused: nothing was tested"
        assert "% of its limit 1" in server.logs()
        assert "the data has reached its limit" in server.logs()
        assert client.commit("orders", 3) == 3
        orders = client.read("orders")
        assert orders
        for done in client.admin.delete_topics(["old"]).values():
            done.result(30)
        wait_for(lambda: "topics accept events again" in server.logs(), "it does not go on by itself")
        before = len(client.acknowledged)
        client.write("orders", 3, 1000)
        assert len(client.acknowledged) == before + 3
        assert client.read("orders")[: len(orders)] == orders
