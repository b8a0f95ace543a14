"""Bodies: long arrays in pieces, numbers, limits of size."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.doors.http import bodies
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.routes import publish
from tests.doors.http.door_kit import RunningHttpDoor, full_disk, problem

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a}],{["\\ é', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a}", max_size=2), inner, max_size=3),
    max_leaves=8,
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : "), ("," + " " * 70, ":")])


def decode_in_pieces(data: bytes) -> list[Any]:
    return [msgspec.json.decode(raw) for piece in bodies.array_pieces(data) for raw in piece]


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Any:
    was, bodies.PIECE_BYTES = bodies.PIECE_BYTES, 16
    yield
    bodies.PIECE_BYTES = was


@given(st.lists(VALUES, max_size=20), SEPARATORS, st.sampled_from(["", " \n"]))
def test_an_array_in_pieces_is_the_same_array(values: list[Any], separators: Any, blank: str) -> None:
    text = json.dumps(values, separators=separators, ensure_ascii=False)
    assert decode_in_pieces((blank + text + blank).encode()) == values


@given(st.lists(VALUES, min_size=1, max_size=10), st.integers(0, 2**32))
def test_a_malformed_array_is_refused_in_pieces_too(values: list[Any], seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(json.dumps(values, separators=(",", ":")).encode())
    for _ in range(rng.randint(1, 2)):
        position = rng.randrange(1, len(data))
        data[position : position + rng.randint(0, 2)] = rng.choice([b",", b"]", b"}", b"{}", b'"', b"[", b""])
    try:
        expected: Any = [
            msgspec.json.decode(raw) for raw in msgspec.json.decode(data, type=list[msgspec.Raw])
        ]
    except msgspec.DecodeError:
        expected = None
    try:
        decoded: Any = decode_in_pieces(bytes(data))
    except (Problem, msgspec.DecodeError):
        decoded = None
    assert decoded == expected


@pytest.mark.parametrize(
    "text", ["[{},]", "[{}" + " " * 40 + ",]", "[,{}]", "[{},,{}]", "[{}],[{}]", "[{}", "["]
)
def test_misplaced_commas_and_brackets_are_refused(text: str) -> None:
    with pytest.raises(Problem, match="in the body"):
        decode_in_pieces(text.encode())


def test_a_whole_number_may_be_written_with_a_fraction(door: RunningHttpDoor) -> None:
    topic = door.create_topic("whole")
    raw = b'[{"partition": 0.0, "timestamp_ms": 1e3, "value": {"price": 2.0, "n": 1e2}}]'
    reply = door.http.post(
        f"/api/v1/topics/{topic}/events", content=raw, headers={"content-type": "application/json"}
    )
    assert reply.status_code == 200, reply.text
    (row,) = door.get(f"topics/{topic}/partitions/0/events")["events"]
    assert row["timestamp_ms"] == 1000
    text = door.http.get(f"/api/v1/topics/{topic}/partitions/0/events").text
    assert '{"price":2.0,"n":1e2}' in text
    assert door.post(f"topics/{topic}/delete-records", {"partition": 0.0, "before": 1.0}).status_code == 200
    problem(door.post(f"topics/{topic}/delete-records", {"partition": 0.5, "before": 1}), 400, "invalid")


def test_bodies_without_events_are_small(door: RunningHttpDoor) -> None:
    body = {"query": "", "topics": ["x" * 200] * 6000}
    refusal = problem(door.post("search", body), 413, "body-too-large")
    assert str(bodies.COMMAND_BYTES_MAX) in refusal["detail"]


def test_the_number_of_events_in_an_array_is_limited(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "EVENTS_MAX", 100)
    assert door.post("topics/many/events", [{}] * 100).status_code == 200
    problem(door.post("topics/many/events", [{}] * 101), 413, "body-too-large")
    assert door.get("topics/many")["events"] == 100


@pytest.mark.parametrize("body", ["[]", ""])
def test_an_empty_request_succeeds_only_for_a_topic_that_exists(door: RunningHttpDoor, body: str) -> None:
    headers = {"content-type": "application/json" if body else "application/x-ndjson"}
    there = door.create_topic(f"nothing-there-{len(body)}")
    reply = door.http.post(f"/api/v1/topics/{there}/events", content=body, headers=headers)
    assert (reply.status_code, reply.json()["published"]) == (200, 0)
    problem(
        door.http.post("/api/v1/topics/nothing-else/events", content=body, headers=headers),
        404,
        "unknown-topic",
    )


def test_many_events_keep_their_order_over_slices(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "SLICE_EVENTS", 7)
    topic = door.create_topic("sliced", partitions=3, max_message_bytes="2000")
    rows = [{"value": {"n": n}, "partition": n % 3} for n in range(100)]
    published = door.post(f"topics/{topic}/events", rows).json()
    assert [(result["partition"], result["offset"]) for result in published["events"]] == [
        (n % 3, n // 3) for n in range(100)
    ]
    rows[50]["value"] = "x" * 3000
    failed = problem(door.post(f"topics/{topic}/events", rows), 413, "event-too-large")["events"]
    assert [index for index, result in enumerate(failed) if "error" in result] == [50]


def test_a_fatal_error_refuses_the_remaining_events(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "SLICE_EVENTS", 10)
    topic = door.create_topic("stopped")
    with full_disk(door):
        problem(door.post(f"topics/{topic}/events", [{"value": 1}] * 25), 503, "not-reachable")
    assert door.get(f"topics/{topic}")["events"] == 0


def test_an_event_that_is_too_large_does_not_stop_its_neighbours(door: RunningHttpDoor) -> None:
    topic = door.create_topic("beside", max_message_bytes="2000")
    small = [{"value": "x" * 100}] * 100  # together too large for one batch
    assert door.post(f"topics/{topic}/events", small).json()["published"] == 100
    rows = [{"value": "a"}, {"value": "b" * 5000}, {"value": "c"}]
    results = problem(door.post(f"topics/{topic}/events", rows), 413, "event-too-large")["events"]
    assert ["error" in result for result in results] == [False, True, False]
    assert door.get(f"topics/{topic}")["events"] == 102
