"""Named snapshots of subscriptions by HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mainstem.contract import NewEvent
from tests.doors.http.door_kit import RunningHttpDoor, audit_fields, problem

PATH = "/api/v1/subscriptions"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[RunningHttpDoor]:
    running = RunningHttpDoor(tmp_path / "data", {"read_only": False}, lambda engine: engine)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def name(door: RunningHttpDoor) -> str:
    """A subscription of a topic with five events."""
    door.create_topic("orders")
    door.run(lambda engine: engine.publish("orders", [NewEvent(b"x")] * 5))
    assert door.post("subscriptions", {"subscription": "billing", "topics": ["orders"]}).status_code == 201
    return "billing"


def verb(door: RunningHttpDoor, name: str, verb: str, **body: object) -> Any:
    """The JSON of the reply to a verb, which must succeed."""
    reply = door.post(f"subscriptions/{name}:{verb}", body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def depth(door: RunningHttpDoor, name: str) -> dict[str, int]:
    """The states that have events."""
    counts = door.get(f"subscriptions/{name}")["depth"]
    return {state: count for state, count in counts.items() if count}


def test_snapshots_are_taken_listed_sought_and_deleted(
    door: RunningHttpDoor, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"{PATH}/{name}/snapshots"
    with caplog.at_level(logging.INFO, "mainstem.audit"):
        taken = door.post(f"subscriptions/{name}:snapshot", {"snapshot": "x"})
        assert (taken.status_code, taken.json()["events"]) == (201, 5)
        problem(door.post(f"subscriptions/{name}:snapshot", {"snapshot": "x"}), 409, "snapshot-exists")
        verb(door, name, "purge")
        assert door.http.get(path).json()["snapshots"] == [taken.json()]
        dry = verb(door, name, "seek", snapshot="x", dry_run=True)
        assert (dry["before"], dry["events"], depth(door, name)) == (0, 5, {})
        assert verb(door, name, "seek", snapshot="x")["events"] == 5
        assert depth(door, name) == {"ready": 5}
        for body in ({}, {"snapshot": "x", "to": "latest"}):
            problem(door.post(f"subscriptions/{name}:seek", body), 422, "unfit")
        problem(door.post(f"subscriptions/{name}:seek", {"snapshot": "y"}), 404, "unknown-snapshot")
        problem(door.http.delete(f"{path}/y"), 404, "unknown-snapshot")
        assert door.http.delete(f"{path}/x?dry_run=true").json()["dry_run"] is True
        assert door.http.delete(f"{path}/x").status_code == 200
        assert door.http.get(path).json() == {"snapshots": []}
    actions = [(line["action"], line["outcome"]) for line in audit_fields(caplog)]
    assert actions.count(("snapshot", "done")) == 1
    assert actions.count(("delete-snapshot", "done")) == 2
