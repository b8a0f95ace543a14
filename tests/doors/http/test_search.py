"""Searching by HTTP: what is streamed, and what is told of a query that is wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.doors.http.door_kit import RunningHttpDoor, problem, running_door

SHOP = ["orders", "payments"]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_door(tmp_path_factory.mktemp("search") / "data") as found:
        for topic in ("orders", "payments"):
            found.create_topic(topic, 2)
            rows = [
                {
                    "value": {"order": at, "city": "Zürich" if at % 2 else "Bern", "from": topic},
                    "key": f"k{at % 3}",
                    "timestamp_ms": 1_600_000_000_000 + at * 1000,
                    "partition": at % 2,
                }
                for at in range(20)
            ]
            assert found.post(f"topics/{topic}/events", rows).status_code == 200
        yield found


def lines(door: RunningHttpDoor, path: str, body: object) -> list[dict[str, Any]]:
    reply = door.post(path, body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.text.splitlines()]


def test_what_is_found_is_streamed_with_the_end(door: RunningHttpDoor) -> None:
    told = lines(door, "search", {"query": "order:7", "topics": SHOP})
    hits = [each["hit"] for each in told if "hit" in each]
    assert sorted(each["topic"] for each in hits) == ["orders", "payments"]
    assert {each["value"]["order"] for each in hits} == {7}
    done = told[-1]["done"]
    assert (done["reason"], done["resume"]) == ("complete", None)
    assert done["totals"]["matches"] == 2
    assert done["totals"]["share"] == 1
    assert all(list(each) in (["hit"], ["progress"], ["done"]) for each in told)


def test_a_search_with_a_limit_goes_on_where_it_was(door: RunningHttpDoor) -> None:
    body: dict[str, Any] = {"query": "city:bern", "topics": ["orders"], "limit": 4}
    seen: list[int] = []
    for _ in range(10):
        told = lines(door, "search", body)
        seen += [each["hit"]["value"]["order"] for each in told if "hit" in each]
        body["resume"] = told[-1]["done"]["resume"]
        if body["resume"] is None:
            break
    assert seen == sorted(range(0, 20, 2), reverse=True)


def test_only_the_count(door: RunningHttpDoor) -> None:
    told = lines(door, "search", {"query": "zürich", "only_count": True, "topics": SHOP})
    assert not any("hit" in each for each in told)
    assert told[-1]["done"]["totals"]["matches"] == 20


def test_bounds_of_time_and_topic(door: RunningHttpDoor) -> None:
    body = {"topics": ["pay*"], "since_ms": 1_600_000_005_000, "until_ms": 1_600_000_008_000}
    told = lines(door, "search", body)
    assert sorted(each["hit"]["value"]["order"] for each in told if "hit" in each) == [5, 6, 7]


@pytest.mark.parametrize("path", ["search", "facets", "export"])
def test_a_wrong_query_is_told_with_its_place(door: RunningHttpDoor, path: str) -> None:
    told = problem(door.post(path, {"query": "city:(bern OR"}), 422, "query")
    assert told["column"] >= 5
    assert told["length"] >= 1


def test_a_wrong_query_of_two_is_told(door: RunningHttpDoor) -> None:
    problem(door.post("compare", {"selection": {}, "baseline": {"query": "("}}), 422, "query")
    problem(door.http.get("/api/v1/topics/orders/tail", params={"q": "("}), 422, "query")


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0},
        {"limit": 10**9},
        {"budget_s": 0},
        {"since_ms": -1},
        {"queri": "x"},
        {"query": "x" * 10_001},
    ],
)
def test_a_wrong_search_is_told(door: RunningHttpDoor, body: object) -> None:
    problem(door.post("search", body), 400, "invalid")


def test_a_token_of_no_search_is_told(door: RunningHttpDoor) -> None:
    problem(door.post("search", {"resume": "nonsense"}), 422, "unfit")


def test_the_check_of_a_query(door: RunningHttpDoor) -> None:
    assert door.get("query/check", q="city:bern AND order:>3")["error"] is None
    told = door.get("query/check", q="city:bern AND (")["error"]
    assert sorted(told) == ["column", "length", "message"]


def test_fields_to_complete_with(door: RunningHttpDoor) -> None:
    found = door.get("query/fields", topic="orders")["fields"]
    assert sorted(each["field"] for each in found) == ["city", "from", "order"]
    (city,) = door.get("query/fields", topic="orders", prefix="CI")["fields"]
    assert city["field"] == "city"
    assert city["example"] in ("Zürich", "Bern")
    problem(door.http.get("/api/v1/query/fields?topic=none"), 404, "unknown-topic")
    assert door.get("query/fields")["fields"] is not None


def test_the_histogram(door: RunningHttpDoor) -> None:
    buckets = door.get("histogram", topics="orders", buckets=4)["buckets"]
    assert sum(each["count"] for each in buckets) == 20
    assert all(before["to_ms"] == after["from_ms"] for before, after in pairwise(buckets))
    cut = door.get(
        "histogram", topics="orders,payments", since="2020-09-13T12:26:40Z", until="2020-09-13T12:27:00Z"
    )
    assert 30 <= sum(each["count"] for each in cut["buckets"]) <= 40
    assert door.get("histogram", topics="none")["buckets"] == []
    problem(door.http.get("/api/v1/histogram?buckets=0"), 400, "invalid")
    problem(door.http.get("/api/v1/histogram?since=soon"), 422, "unfit")


def test_facets_count_all_matches(door: RunningHttpDoor) -> None:
    *_, last, end = lines(
        door, "facets", {"query": "from:orders", "topics": SHOP, "fields": ["city", "key"], "top": 2}
    )
    told, done = last["facets"], end["done"]
    assert (told["events"], done["totals"]["matches"]) == (20, 20)
    assert (done["reason"], done["totals"]["share"]) == ("complete", 1)
    assert sorted((each["value"].lower(), each["count"]) for each in told["fields"]["city"]) == [
        ("bern", 10),
        ("zürich", 10),
    ]
    assert len(told["fields"]["key"]) == 2


def test_comparing_tells_what_is_different(door: RunningHttpDoor) -> None:
    body = {"selection": {"query": "city:bern"}, "baseline": {"query": "NOT city:bern"}, "fields": ["city"]}
    rows = door.post("compare", body).json()["differences"]
    assert {each["value"].lower() for each in rows} == {"bern", "zürich"}
    assert rows[0]["field"] == "city"


def test_a_trace_is_in_order_of_time(door: RunningHttpDoor) -> None:
    told = door.get("trace", value="k1", topics="orders,payments")
    times = [each["timestamp_ms"] for each in told["events"]]
    assert times == sorted(times)
    assert {each["topic"] for each in told["events"]} == {"orders", "payments"}
    assert len(times) == 14
    assert told["done"]["reason"] == "complete"
    assert len(door.get("trace", value="k1", limit=3)["events"]) == 3
    assert door.get("trace", value='no"such\\thing')["events"] == []
    problem(door.http.get("/api/v1/trace"), 400, "invalid")


def test_the_tail_shows_what_matches_only(door: RunningHttpDoor) -> None:
    topic = door.create_topic("filtered")
    door.post(f"topics/{topic}/events", [{"value": {"at": at}} for at in range(10)])
    params = {"from": "begin", "q": "at:>=7"}
    with door.http.stream("GET", f"/api/v1/topics/{topic}/tail", params=params) as reply:
        data = (json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: "))
        assert [next(data)["value"]["at"] for _ in range(3)] == [7, 8, 9]


def test_a_read_only_door_searches_and_replays_nothing(tmp_path: Path) -> None:
    with running_door(tmp_path / "data", changes=False) as door:
        door.run(lambda engine: engine.create_topic("kept"))
        body = {"to": "kept", "matches": {}}
        assert lines(door, "search", {})[-1]["done"]["reason"] == "complete"
        assert lines(door, "replay", body | {"dry_run": True})[-1]["events"] == 0
        problem(door.post("replay", body), 403, "not-allowed")


def test_searches_at_once_are_bounded_and_given_back(tmp_path: Path) -> None:
    with running_door(tmp_path / "data") as door:
        room = door.door.context.search_slots
        for _ in range(16):
            door.run(lambda _: room.acquire())
        problem(door.post("search", {}), 503, "busy")
        problem(door.http.get("/api/v1/histogram"), 503, "busy")
        for _ in range(15):
            door.loop.call_soon_threadsafe(room.release)
        door.loop.call_soon_threadsafe(room.release)
        for _ in range(20):
            problem(door.post("search", {"query": "("}), 422, "query")
            assert lines(door, "search", {})[-1]["done"]["reason"] == "complete"
            with door.http.stream("POST", "/api/v1/search", json={}) as reply:
                assert reply.status_code == 200
        for _ in range(16):
            door.run(lambda _: room.acquire())


@pytest.mark.parametrize("path", ["/", "/api/v1/query/check?q=jfk"])
def test_a_worker_waits_for_somebody_who_opens_the_console_or_types(tmp_path: Path, path: str) -> None:
    with running_door(tmp_path / "data") as door:
        assert door.http.get("/livez").status_code == 200
        assert door.search.pool.pids == []
        assert door.http.get(path).status_code == 200
        deadline = time.monotonic() + 30
        while not door.search.pool.pids:
            assert time.monotonic() < deadline
            time.sleep(0.01)
