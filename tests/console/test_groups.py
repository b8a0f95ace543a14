"""Consumer groups in a browser: one with a steady consumer, one whose consumer stops committing."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer

from tests.console.conftest import Open
from tests.support.server import Server

pytestmark = pytest.mark.slow

DETECTION_TIMEOUT_S = 180
"""A stall is reported within a minute (tests/doors/http/test_stalled_groups.py), later on a busy machine."""


@pytest.fixture
def traffic(server: Server) -> Iterator[threading.Event]:
    """Publishes events to `late` while two groups read it: `steady`, and `hanging`, which stops committing
    when the returned event is set."""
    over, hang = threading.Event(), threading.Event()

    def publish() -> None:
        producer = Producer({"bootstrap.servers": server.address, "log_level": 0})
        while not over.wait(0.1):
            producer.produce("late", b'{"late": true}')
            producer.poll(0)
        producer.flush(10)

    def consume(group: str, hangs: bool) -> None:
        settings = {
            "bootstrap.servers": server.address,
            "group.id": group,
            "client.id": f"{group}-7",
            "log_level": 0,
        }
        consumer = Consumer(settings | {"enable.auto.commit": False, "auto.offset.reset": "earliest"})
        consumer.subscribe(["late"])
        while not over.is_set():
            if consumer.consume(500, 0.5) and not (hangs and hang.is_set()):
                consumer.commit(asynchronous=False)
        consumer.close()

    threads = [
        threading.Thread(target=publish),
        threading.Thread(target=consume, args=("steady", False)),
        threading.Thread(target=consume, args=("hanging", True)),
    ]
    for thread in threads:
        thread.start()
    yield hang
    over.set()
    for thread in threads:
        thread.join()


@pytest.mark.timeout(60 + DETECTION_TIMEOUT_S)
def test_a_consumer_that_stops_committing_is_stuck(show: Open, traffic: threading.Event) -> None:
    page = show("#/groups")
    row = page.get_by_role("option").filter(has_text="hanging")
    steady = page.get_by_role("option").filter(has_text="steady")
    row.get_by_text("1 member").wait_for()
    steady.get_by_text("1 member").wait_for()
    traffic.set()
    row.get_by_text("stuck").wait_for(timeout=DETECTION_TIMEOUT_S * 1000)
    assert "hanging-7 on 127.0.0.1" in row.inner_text()
    assert "stuck" not in steady.inner_text()
    row.click()
    alarm = page.locator(".notice.bad")
    alarm.get_by_text("hanging-7 on 127.0.0.1").wait_for()
    assert re.search(r"late partition 0 did not move: \d+ events unread", alarm.inner_text())
    page.get_by_text("falling behind").wait_for()


def test_a_reset_is_undone(show: Open, server: Server) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": server.address,
            "group.id": "undone",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe(["flights"])
    assert len(consumer.consume(300, 20)) == 300
    consumer.commit(asynchronous=False)
    consumer.close()
    page = show("#/groups/undone")
    page.locator("td.num a").first.wait_for()
    before = page.locator("td.num a").all_inner_texts()
    page.get_by_role("button", name="Reset…").click()
    page.get_by_text("300 events will be read again").wait_for()
    page.get_by_role("button", name="Reset", exact=True).click()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("undone is back at its earlier positions").wait_for()
    page.wait_for_timeout(500)
    after = page.locator("td.num a").all_inner_texts()
    assert (
        set(before) <= set(after) <= {*before, "0"}
    )  # a partition without a position keeps that of the reset
