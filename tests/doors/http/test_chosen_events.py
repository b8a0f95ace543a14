"""Chosen events of subscriptions by HTTP: woken, cancelled, redriven at a rate, and their states."""

from __future__ import annotations

import logging
import re

import pytest

from mainstem.contract import NewEvent
from mainstem.doors.http import dead_letters
from mainstem.doors.http.routes import dead_letters as dead_letter_routes
from tests.doors.http.door_kit import RunningHttpDoor, audit_fields, problem, until
from tests.doors.http.test_subscriptions import depth, pull, verb


@pytest.fixture
def name(request: pytest.FixtureRequest, door: RunningHttpDoor) -> str:
    """A subscription of a topic of the same name with five events."""
    name = "c-" + re.sub("[^a-zA-Z0-9]+", "-", request.node.name)[-60:]
    door.create_topic(name)
    door.run(lambda engine: engine.publish(name, [NewEvent(b'{"n": %d}' % number) for number in range(5)]))
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


def test_dead_letters_are_listed_filtered_and_redriven(door: RunningHttpDoor, name: str) -> None:
    dead = door.create_topic(f"{name}-dead"[-200:])
    changed = {"settings": {"dead_letter_topic": dead, "failures_max": 1}}
    assert door.http.patch(f"/api/v1/subscriptions/{name}", json=changed).status_code == 200
    tokens = [delivery["token"] for delivery in pull(door, name)]
    verb(door, name, "reject", tokens=tokens[:3], reason="no such airport")
    verb(door, name, "nack", tokens=tokens[3:])
    until(lambda: not depth(door, name))
    path = f"subscriptions/{name}:dead-letters"
    letters = door.get(path)["letters"]
    assert sorted((row["origin"], row["reason"], row["attempts"]) for row in letters) == [
        (f"{name}/0/{offset}", "rejected" if offset < 3 else "failed", 1) for offset in range(5)
    ]
    assert {row["detail"] for row in letters if row["reason"] == "rejected"} == {"no such airport"}
    assert all(row["event"]["topic"] == dead for row in letters)
    first = door.get(path, limit=2)
    rest = door.get(path, limit=100, after=first["next"])
    assert [*first["letters"], *rest["letters"]] == letters
    assert rest["next"] is None
    assert [row["reason"] for row in door.get(path, reason="failed")["letters"]] == ["failed"] * 2
    assert [row["origin"] for row in door.get(path, q="n:4")["letters"]] == [f"{name}/0/4"]
    assert door.get(path, since_ms=1 << 50) == {"letters": [], "next": None}
    problem(door.http.get(f"/api/v1/{path}?q=("), 422, "query")
    assert verb(door, name, "redrive", reason="rejected", dry_run=True)["events"] == 3
    assert verb(door, name, "redrive", reason="failed", q="n:4")["events"] == 1
    assert depth(door, name) == {"ready": 1}
    place = {"topic": name, "partition": 0, "offset": 0}
    problem(
        door.post(f"subscriptions/{name}:redrive", {"positions": [place], "reason": "failed"}), 422, "unfit"
    )
    problem(door.post(f"subscriptions/{name}:redrive", {"q": "("}), 422, "query")


def test_a_list_of_dead_letters_with_few_that_match_is_bounded_in_work(
    door: RunningHttpDoor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "PAGE_LETTERS", 1)
    monkeypatch.setattr(dead_letter_routes, "PAGES_MAX", 2)
    dead = door.create_topic(f"{name}-dead"[-200:])
    changed = {"settings": {"dead_letter_topic": dead}}
    assert door.http.patch(f"/api/v1/subscriptions/{name}", json=changed).status_code == 200
    verb(door, name, "reject", tokens=[delivery["token"] for delivery in pull(door, name)])
    until(lambda: not depth(door, name))
    origins, after, requests = [], None, 0
    while after is not None or not requests:
        query = {"q": "n:3"} if after is None else {"q": "n:3", "after": after}
        page = door.get(f"subscriptions/{name}:dead-letters", **query)
        origins += [row["origin"] for row in page["letters"]]
        after, requests = page["next"], requests + 1
    assert (origins, requests) == ([f"{name}/0/3"], 3)
