"""Searching by HTTP: what is streamed, and how a wrong query is refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.doors.http.door_kit import RunningHttpDoor, create_orders, problem, running_door, until

SHOP = ["orders", "payments"]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_door(tmp_path_factory.mktemp("search") / "data") as running:
        for topic in SHOP:
            create_orders(running, topic, **{"from": topic})
        yield running


def test_matches_are_streamed_and_the_end_is_reported(door: RunningHttpDoor) -> None:
    updates = door.post_lines("search", {"query": "order:7", "topics": SHOP})
    hits = [line["hit"] for line in updates if "hit" in line]
    assert sorted(line["topic"] for line in hits) == ["orders", "payments"]
    assert {line["value"]["order"] for line in hits} == {7}
    done = updates[-1]["done"]
    assert (done["reason"], done["resume"]) == ("complete", None)
    assert done["totals"]["matches"] == 2
    assert done["totals"]["share"] == 1
    assert all(list(line) in (["hit"], ["progress"], ["done"]) for line in updates)


def test_a_search_with_a_limit_can_be_resumed(door: RunningHttpDoor) -> None:
    body: dict[str, Any] = {"query": "city:bern", "topics": ["orders"], "limit": 4}
    seen: list[int] = []
    for _ in range(10):
        updates = door.post_lines("search", body)
        seen += [line["hit"]["value"]["order"] for line in updates if "hit" in line]
        body["resume"] = updates[-1]["done"]["resume"]
        if body["resume"] is None:
            break
    assert seen == sorted(range(0, 20, 2), reverse=True)


def test_a_search_can_return_only_the_count(door: RunningHttpDoor) -> None:
    updates = door.post_lines("search", {"query": "zürich", "only_count": True, "topics": SHOP})
    assert not any("hit" in line for line in updates)
    assert updates[-1]["done"]["totals"]["matches"] == 20


def test_a_client_that_leaves_ends_its_search_whatever_it_asked_for(door: RunningHttpDoor) -> None:
    """The workers are stopped, so that no search can make progress or end by itself."""
    door.post_lines("search", {"query": "order:7", "topics": SHOP})  # starts a worker, divides the log
    context = door.door.context
    selection = {"query": "city:bern", "limit": None}
    posts: dict[str, Any] = {
        "search": selection,
        "facets": {**selection, "fields": []},
        "compare": {"selection": selection, "baseline": {"query": "", "limit": None}},
        "export": {"query": "city:bern"},
    }
    requests = [_post(f"/api/v1/{path}", body) for path, body in posts.items()]
    requests += [b"GET /api/v1/trace?value=bern HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    for pid in door.search.pool.pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        connections = [socket.create_connection(("127.0.0.1", door.port)) for _ in requests]
        for connection, request in zip(connections, requests, strict=True):
            connection.sendall(request)
        until(lambda: context.search_stats.running == len(requests), limit_s=20)
        for connection in connections:
            connection.close()
        until(lambda: context.search_stats.running == 0, limit_s=20)
    finally:
        for pid in door.search.pool.pids:
            os.kill(pid, signal.SIGCONT)
    assert len(door.post_lines("search", {"query": "order:7", "topics": SHOP})) > 2


def _post(path: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def test_a_search_is_limited_to_times_and_topics(door: RunningHttpDoor) -> None:
    body = {"topics": ["pay*"], "since_ms": 1_600_000_005_000, "until_ms": 1_600_000_008_000}
    updates = door.post_lines("search", body)
    assert sorted(line["hit"]["value"]["order"] for line in updates if "hit" in line) == [5, 6, 7]


@pytest.mark.parametrize("path", ["search", "facets", "export"])
def test_a_wrong_query_is_refused_with_its_column(door: RunningHttpDoor, path: str) -> None:
    refusal = problem(door.post(path, {"query": "city:(bern OR"}), 422, "query")
    assert refusal["column"] >= 5
    assert refusal["length"] >= 1


def test_a_wrong_query_in_a_comparison_is_refused(door: RunningHttpDoor) -> None:
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
def test_a_malformed_search_is_refused(door: RunningHttpDoor, body: object) -> None:
    problem(door.post("search", body), 400, "invalid")


def test_an_unknown_resume_token_is_refused(door: RunningHttpDoor) -> None:
    problem(door.post("search", {"resume": "nonsense"}), 422, "unfit")


def test_a_query_can_be_checked(door: RunningHttpDoor) -> None:
    assert door.get("query/check", q="city:bern AND order:>3")["error"] is None
    error = door.get("query/check", q="city:bern AND (")["error"]
    assert sorted(error) == ["column", "length", "message"]


def test_fields_complete_a_query(door: RunningHttpDoor) -> None:
    fields = door.get("query/fields", topic="orders")["fields"]
    assert sorted(field["field"] for field in fields) == ["city", "from", "order"]
    (city,) = door.get("query/fields", topic="orders", prefix="CI")["fields"]
    assert city["field"] == "city"
    assert city["example"] in ("Zürich", "Bern")
    problem(door.http.get("/api/v1/query/fields?topic=none"), 404, "unknown-topic")
    assert door.get("query/fields")["fields"] is not None


def test_a_histogram_counts_events_by_time(door: RunningHttpDoor) -> None:
    buckets = door.get("histogram", topics="orders", buckets=4)["buckets"]
    assert sum(bucket["count"] for bucket in buckets) == 20
    assert all(before["to_ms"] == after["from_ms"] for before, after in pairwise(buckets))
    cut = door.get(
        "histogram", topics="orders,payments", since="2020-09-13T12:26:40Z", until="2020-09-13T12:27:00Z"
    )
    assert 30 <= sum(bucket["count"] for bucket in cut["buckets"]) <= 40
    assert door.get("histogram", topics="none")["buckets"] == []
    problem(door.http.get("/api/v1/histogram?buckets=0"), 400, "invalid")
    problem(door.http.get("/api/v1/histogram?since=soon"), 422, "unfit")


def test_facets_count_all_matches(door: RunningHttpDoor) -> None:
    *_, last, end = door.post_lines(
        "facets", {"query": "from:orders", "topics": SHOP, "fields": ["city", "key"], "top": 2}
    )
    facets, done = last["facets"], end["done"]
    assert (facets["events"], done["totals"]["matches"]) == (20, 20)
    assert (done["reason"], done["totals"]["share"]) == ("complete", 1)
    assert sorted((value["value"].lower(), value["count"]) for value in facets["fields"]["city"]) == [
        ("bern", 10),
        ("zürich", 10),
    ]
    assert len(facets["fields"]["key"]) == 2


def test_numbers_are_counted_and_found_exactly(door: RunningHttpDoor) -> None:
    topic = door.create_topic("exact-numbers")
    numbers = ["1234567890123456788", "1234567890123456789", "0.1000000000000000001", "0.1", "1e400", "1.10"]
    for number in [*numbers, "1.1", "1e399"]:
        sent = b'{"value":{"n":%s}}' % number.encode()
        headers = {"content-type": "application/json"}
        assert door.http.post(f"/api/v1/topics/{topic}/events", content=sent, headers=headers).is_success
    scope = {"topics": [topic]}
    *_, last, _ = door.post_lines("facets", {**scope, "fields": ["n"], "newest_first": False})
    values = {row["value"]: row["count"] for row in last["facets"]["fields"]["n"]}
    assert values == dict.fromkeys(numbers, 1) | {"1.10": 2, "1e399": 1}
    for value, count in values.items():
        reply = door.http.post("/api/v1/search", json={**scope, "query": f"n:{value}"}).content
        assert reply.count(b'{"hit":') == count
        assert b'"value":{"n":%s}' % value.encode() in reply
    examples = door.get("query/fields", topic=topic, prefix="n")["fields"]
    assert [field["example"] for field in examples] == ["1e399"] or examples[0]["example"] in numbers


def test_a_comparison_lists_the_distinguishing_values(door: RunningHttpDoor) -> None:
    body = {"selection": {"query": "city:bern"}, "baseline": {"query": "NOT city:bern"}, "fields": ["city"]}
    *_, last, end = door.post_lines("compare", body)
    rows = last["comparison"]["differences"]
    assert {row["value"].lower() for row in rows} == {"bern", "zürich"}
    assert rows[0]["field"] == "city"
    assert (end["done"]["reason"], end["done"]["totals"]["share"]) == ("complete", 1)
    assert end["done"]["totals"]["matches"] == last["comparison"]["selected"] + last["comparison"]["baseline"]


def test_a_trace_is_in_order_of_time(door: RunningHttpDoor) -> None:
    trace = door.get("trace", value="k1", topics="orders,payments")
    times = [event["timestamp_ms"] for event in trace["events"]]
    assert times == sorted(times)
    assert {event["topic"] for event in trace["events"]} == {"orders", "payments"}
    assert len(times) == 14
    assert trace["done"]["reason"] == "complete"
    assert len(door.get("trace", value="k1", limit=3)["events"]) == 3
    assert door.get("trace", value='no"such\\thing')["events"] == []
    problem(door.http.get("/api/v1/trace"), 400, "invalid")


def test_the_tail_shows_what_matches_only(door: RunningHttpDoor) -> None:
    topic = door.create_topic("filtered")
    door.post(f"topics/{topic}/events", [{"value": {"at": number}} for number in range(10)])
    params = {"from": "begin", "q": "at:>=7"}
    with door.http.stream("GET", f"/api/v1/topics/{topic}/tail", params=params) as reply:
        data = (json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: "))
        assert [next(data)["value"]["at"] for _ in range(3)] == [7, 8, 9]


def test_a_read_only_door_searches_and_replays_nothing(tmp_path: Path) -> None:
    with running_door(tmp_path / "data", changes=False) as door:
        door.run(lambda engine: engine.create_topic("kept"))
        body = {"to": "kept", "matches": {}}
        assert door.post_lines("search", {})[-1]["done"]["reason"] == "complete"
        assert door.post_lines("replay", body | {"dry_run": True})[-1]["events"] == 0
        problem(door.post("replay", body), 403, "not-allowed")


def test_concurrent_searches_are_limited_and_slots_are_freed(tmp_path: Path) -> None:
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
            assert door.post_lines("search", {})[-1]["done"]["reason"] == "complete"
            with door.http.stream("POST", "/api/v1/search", json={}) as reply:
                assert reply.status_code == 200
        for _ in range(16):
            door.run(lambda _: room.acquire())


@pytest.mark.parametrize("path", ["/", "/api/v1/query/check?q=jfk"])
def test_a_worker_starts_when_the_console_is_opened_or_a_query_is_typed(tmp_path: Path, path: str) -> None:
    with running_door(tmp_path / "data") as door:
        assert door.http.get("/livez").status_code == 200
        assert door.search.pool.pids == []
        assert door.http.get(path).status_code == 200
        deadline = time.monotonic() + 30
        while not door.search.pool.pids:
            assert time.monotonic() < deadline
            time.sleep(0.01)
