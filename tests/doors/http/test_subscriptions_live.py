"""Subscriptions by HTTP over the engine itself: what clients see of leases, failures and dead letters."""

from __future__ import annotations

import json
import socket

from mainstem.contract import NewEvent
from tests.doors.http.door_kit import RunningHttpDoor, problem, until
from tests.doors.http.test_subscriptions import PATH, depth, pull, verb


def create(door: RunningHttpDoor, name: str, events: int, **settings: object) -> str:
    """A subscription of a topic of the same name."""
    door.create_topic(name)
    door.run(lambda engine: engine.publish(name, [NewEvent(b"%d" % number) for number in range(events)]))
    reply = door.post("subscriptions", {"subscription": name, "topics": [name], "settings": settings})
    assert reply.status_code == 201, reply.text
    return name


def test_an_event_is_retried_given_up_and_redriven(door: RunningHttpDoor) -> None:
    dead = door.create_topic("dead")
    name = create(door, "retried", 2, failures_max=2, dead_letter_topic=dead)
    first, second = pull(door, name, wait_ms=5_000)
    assert verb(door, name, "ack", tokens=[first["token"], "garbage"])["verdicts"] == ["done", "invalid"]
    assert verb(door, name, "ack", tokens=[first["token"]])["verdicts"] == ["stale"]
    assert verb(door, name, "nack", tokens=[second["token"]], delay_ms=0)["verdicts"] == ["done"]
    (again,) = pull(door, name, wait_ms=5_000)
    assert (again["attempt"], again["event"]["offset"]) == (2, 1)
    assert verb(door, name, "nack", tokens=[again["token"]])["verdicts"] == ["done"]
    until(lambda: depth(door, name) == {})
    (letter,) = door.get(f"topics/{dead}/partitions/0/events")["events"]
    assert letter["value"] == 1
    assert verb(door, name, "redrive", dry_run=True)["events"] == 1
    assert verb(door, name, "redrive")["events"] == 1
    (redriven,) = pull(door, name, wait_ms=5_000)
    assert (redriven["attempt"], redriven["event"]["offset"]) == (1, 1)
    verb(door, name, "ack", tokens=[redriven["token"]])
    (listed,) = door.get(f"subscriptions/{name}:dead-letters")["letters"]
    assert listed["redriven"]
    assert verb(door, name, "redrive")["events"] == 0, "what was redriven is not delivered twice"
    assert verb(door, name, "redrive", again=True, dry_run=True)["events"] == 1
    place = {"topic": redriven["event"]["topic"], "partition": 0, "offset": 1}
    assert verb(door, name, "redrive", positions=[place], dry_run=True)["events"] == 1


def test_events_are_given_back_untried_and_kept_longer(door: RunningHttpDoor) -> None:
    name = create(door, "untried", 1)
    (delivery,) = pull(door, name, wait_ms=5_000, lock_ms=1_000)
    extended = verb(door, name, "extend", tokens=[delivery["token"]], lock_ms=60_000)
    assert extended["verdicts"] == ["done"]
    (browsed,) = door.get(f"subscriptions/{name}:browse")["events"]
    assert (browsed["state"], browsed["attempts"]) == ("leased", 1)
    assert browsed["why"]
    verb(door, name, "nack", tokens=[delivery["token"]], counts=False)
    (browsed,) = door.get(f"subscriptions/{name}:browse", state="ready")["events"]
    assert browsed["failures"] == 0
    (delivery,) = pull(door, name, wait_ms=5_000)
    verb(door, name, "nack", tokens=[delivery["token"]], delivered=False)
    (again,) = pull(door, name, wait_ms=5_000)
    assert (delivery["attempt"], again["attempt"]) == (2, 2), "what reached no worker was no delivery"


def test_an_event_whose_lock_expires_is_delivered_again(door: RunningHttpDoor) -> None:
    name = create(door, "expired", 1)
    pull(door, name, wait_ms=5_000, lock_ms=1_000)
    (again,) = pull(door, name, consumer="another", wait_ms=20_000)
    assert again["attempt"] == 2


def test_a_client_that_leaves_leaves_no_lease(door: RunningHttpDoor) -> None:
    name = create(door, "left", 0)
    body = json.dumps({"consumer": "leaver", "wait_ms": 30_000}).encode()
    with socket.create_connection(("127.0.0.1", door.port)) as client:
        client.sendall(
            b"POST %b/left:pull HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (PATH.encode(), len(body), body)
        )
        door.get("subscriptions/left")
    door.get("subscriptions/left")
    door.run(lambda engine: engine.publish(name, [NewEvent(b"x")]))
    (delivery,) = pull(door, name, consumer="stayer", wait_ms=20_000)
    assert delivery["event"]["offset"] == 0
    assert delivery["attempt"] <= 2


def test_a_subscription_is_moved_and_purged(door: RunningHttpDoor) -> None:
    name = create(door, "moved", 5)
    for dry_run in (True, False):
        assert verb(door, name, "seek", to="moved/0/3", dry_run=dry_run)["events"] == 2
    assert [delivery["event"]["offset"] for delivery in pull(door, name, wait_ms=5_000)] == [3, 4]
    problem(door.post(f"subscriptions/{name}:seek", {"to": "moved/0/6"}), 416, "out-of-range")
    assert verb(door, name, "seek", to="earliest")["events"] == 5
    until(lambda: sum(depth(door, name).values()) == 5)
    assert verb(door, name, "purge", dry_run=True)["events"] == 5
    assert verb(door, name, "purge")["events"] == 5
    assert pull(door, name) == []
