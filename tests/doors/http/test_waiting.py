"""Requests that wait for events leave connections for those that do not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from mainstem.contract import NewEvent
from mainstem.doors.http.waiting_slots import WAITING_MAX
from mainstem.doors.net.http_connection import CONNECTIONS_MAX
from tests.doors.http.door_kit import RunningHttpDoor, problem, until
from tests.doors.http.test_subscriptions import running_queues


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_queues(tmp_path_factory.mktemp("waiting")) as running:
        running.create_topic("t")
        running.post("subscriptions", {"subscription": "s", "topics": ["t"]})
        yield running


@contextmanager
def waiting_pulls(door: RunningHttpDoor, count: int) -> Iterator[list[Future[httpx.Response]]]:
    """Pulls that wait, until the block ends or there are events."""
    running = door.door.context.waiting.running
    with ThreadPoolExecutor(count) as pool:
        body = {"consumer": "w", "wait_ms": 20_000}
        pulls = [pool.submit(door.post, "subscriptions/s:pull", body) for _ in range(count)]
        until(lambda: running["pull"] == count)
        try:
            yield pulls
        finally:
            door.run(lambda engine: engine.publish("t", [NewEvent(b"end")] * count * 100))
    until(lambda: running["pull"] == 0)
    door.post("subscriptions/s:purge", {})


def test_pulls_and_tails_together_leave_connections() -> None:
    assert sum(WAITING_MAX.values()) <= CONNECTIONS_MAX * 8 // 10


def test_a_pull_that_would_wait_beside_too_many_is_refused_and_others_are_served(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAITING_MAX, "pull", 2)
    body = {"consumer": "w", "wait_ms": 20_000}
    before = door.door.context.waiting.refused
    with waiting_pulls(door, 2):
        refused = door.post("subscriptions/s:pull", body)
        problem(refused, 503, "busy")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("2", "close")
        assert door.get("subscriptions/s")["subscription"] == "s"
        assert door.post("subscriptions/s:pull", {"consumer": "w"}).json() == {"deliveries": []}
        text = door.http.get("/metrics").text
        assert 'mainstem_http_waiting_requests{kind="pull"} 2' in text
        assert f"mainstem_http_waiting_refused_total {before + 1}" in text


def test_a_pull_that_finds_events_is_served_beside_too_many(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAITING_MAX, "pull", 0)
    door.run(lambda engine: engine.publish("t", [NewEvent(b"x")]))
    pulled = door.post("subscriptions/s:pull", {"consumer": "w", "wait_ms": 20_000})
    assert len(pulled.json()["deliveries"]) == 1
    door.post("subscriptions/s:purge", {})


def test_a_tail_beside_too_many_is_refused_and_one_that_ends_makes_room(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAITING_MAX, "tail", 1)
    running = door.door.context.waiting.running
    with door.http.stream("GET", "/api/v1/topics/t/tail") as first:
        assert first.status_code == 200
        refused = door.http.get("/api/v1/topics/t/tail")
        problem(refused, 503, "busy")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("2", "close")
    until(lambda: running["tail"] == 0)
    problem(door.http.get("/api/v1/topics/none/tail"), 404, "unknown-topic")
    assert running["tail"] == 0, "one that is refused for another reason has no place"
    with door.http.stream("GET", "/api/v1/topics/t/tail") as next_one:
        assert next_one.status_code == 200
