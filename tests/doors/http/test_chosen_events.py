"""Chosen events of subscriptions by HTTP: woken, cancelled, redriven at a rate, and their states."""

from __future__ import annotations

import logging
import re

import pytest

from mainstem.contract import NewEvent
from tests.doors.http.door_kit import RunningHttpDoor, audit_fields, problem
from tests.doors.http.test_subscriptions import depth, pull, verb


@pytest.fixture
def name(request: pytest.FixtureRequest, door: RunningHttpDoor) -> str:
    """A subscription of a topic of the same name with five events."""
    name = "c-" + re.sub("[^a-zA-Z0-9]+", "-", request.node.name)[-60:]
    door.create_topic(name)
    door.run(lambda engine: engine.publish(name, [NewEvent(b"%d" % number) for number in range(5)]))
    assert door.post("subscriptions", {"subscription": name, "topics": [name]}).status_code == 201
    return name


def test_chosen_events_are_woken_and_cancelled(
    door: RunningHttpDoor, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, *_ = pull(door, name, max_events=4)
    verb(door, name, "nack", tokens=[first["token"], second["token"]], delay_ms=600_000)
    place = {"topic": name, "partition": 0, "offset": 0}
    with caplog.at_level(logging.INFO, "mainstem.audit"):
        assert verb(door, name, "wake", positions=[place], dry_run=True)["events"] == 1
        assert verb(door, name, "wake", positions=[place])["events"] == 1
        assert verb(door, name, "cancel", positions=[place | {"offset": 4}])["events"] == 1
        assert verb(door, name, "cancel")["events"] == 1
    assert depth(door, name) == {"ready": 1, "leased": 2}
    lines = [(line["action"], line["dry_run"], line["events"]) for line in audit_fields(caplog)]
    assert lines == [("wake", True, 1), ("wake", False, 1), ("cancel", False, 1), ("cancel", False, 1)]
    problem(door.post(f"subscriptions/{name}:wake", {"positions": []}), 400, "invalid")
    problem(door.post("subscriptions/none:cancel", {}), 404, "unknown-subscription")


def test_an_event_shows_its_state_in_each_subscription(door: RunningHttpDoor, name: str) -> None:
    deliveries = pull(door, name, consumer="billing-7", max_events=2)
    path = f"topics/{name}/partitions/0/events/0/subscriptions"
    shown = door.get(path)
    (state,) = shown["subscriptions"]
    assert shown["total"] == 1
    assert (state["subscription"], state["state"], state["consumer"]) == (name, "leased", "billing-7")
    assert state["until"] == deliveries[0]["deadline"]
    assert state["why"] == f"leased by billing-7 until {state['until']}"
    browsed = door.get(f"subscriptions/{name}:browse", consumer="billing-7")["events"]
    assert [(row["event"]["offset"], row["consumer"], row["until"]) for row in browsed] == [
        (0, "billing-7", state["until"]),
        (1, "billing-7", state["until"]),
    ]
    (consumer,) = door.get(f"subscriptions/{name}")["consumers"]
    assert (consumer["leased"], consumer["leases"]) == (2, 1)
    problem(door.http.get(f"/api/v1/{path.replace('/0/subs', '/5/subs')}"), 416, "out-of-range")
    problem(door.http.get(f"/api/v1/{path.replace('/0/subs', '/x/subs')}"), 400, "bad-path")


def test_a_redrive_at_a_rate_lets_the_others_wait(door: RunningHttpDoor, name: str) -> None:
    verb(door, name, "purge")
    places = [{"topic": name, "partition": 0, "offset": offset} for offset in range(5)]
    assert verb(door, name, "redrive", positions=places, per_s=0.1, dry_run=True)["events"] == 5
    assert verb(door, name, "redrive", positions=places, per_s=0.1)["events"] == 5
    assert depth(door, name) == {"ready": 1, "waiting": 4}
    waits = door.get(f"subscriptions/{name}:browse", state="waiting")["events"]
    assert {(row["attempts"], row["failures"]) for row in waits} == {(0, 0)}
    assert sorted(row["until"] for row in waits) == [row["until"] for row in waits]
    problem(door.post(f"subscriptions/{name}:redrive", {"per_s": 0}), 400, "invalid")
