"""Publishing by HTTP with a producer and ids: what is sent again is stored once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mainstem.doors.http.routes import publish
from tests.doors.http.door_kit import RunningHttpDoor, problem

NDJSON = {"content-type": "application/x-ndjson"}


def post(door: RunningHttpDoor, topic: str, body: object, first: int, producer: str = "p") -> Any:
    reply = door.post(f"topics/{topic}/events?producer={producer}&publish_id={first}", body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_events_that_are_sent_again_are_stored_once(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "SLICE_EVENTS", 3)
    topic = door.create_topic("once")
    rows = [{"value": n} for n in range(10)]
    assert post(door, topic, rows[:7], 100)["published"] == 7
    again = post(door, topic, rows, 100)
    assert (again["published"], again["duplicates"]) == (3, 7)
    assert again["events"] == [None] * 7 + [{"partition": 0, "offset": n} for n in (7, 8, 9)]
    assert again["ends"] == [{"partition": 0, "offset": 10}]
    assert post(door, topic, {"value": 9}, 109) == {
        "topic": topic, "published": 0, "events": [None], "ends": [], "duplicates": 1,
    }  # fmt: skip
    assert post(door, topic, {"value": 9}, 109, "other")["published"] == 1
    assert door.get(f"topics/{topic}")["events"] == 11


def test_the_number_of_a_line_counts_also_if_lines_before_it_are_bad(door: RunningHttpDoor) -> None:
    topic = door.create_topic("once-lines")

    def send(*lines: str) -> Any:
        return door.http.post(
            f"/api/v1/topics/{topic}/events?producer=p&publish_id=0", content="\n".join(lines), headers=NDJSON
        )

    good = [json.dumps({"value": n}) for n in range(4)]
    failed = problem(send(good[0], "{", good[2]), 422, "not-published")
    assert (failed["published"], failed["failed"]) == (2, 1)
    reply = send(*good).json()
    assert (reply["published"], reply["duplicates"]) == (1, 3), "line 1 has an id below the last one"
    assert door.get(f"topics/{topic}")["events"] == 3


def test_a_producer_without_an_id_is_refused(door: RunningHttpDoor) -> None:
    topic = door.create_topic("once-half")
    for query in ("producer=p", "publish_id=1"):
        problem(door.post(f"topics/{topic}/events?{query}", {"value": 1}), 422, "unfit")
    for query in ("producer=&publish_id=1", "producer=p&publish_id=-1", f"producer={'x' * 256}&publish_id=1"):
        assert door.post(f"topics/{topic}/events?{query}", {"value": 1}).status_code in (400, 422)
    assert door.get(f"topics/{topic}")["events"] == 0
