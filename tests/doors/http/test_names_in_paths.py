"""Subscriptions whose names have slashes, colons and other text: share groups of Kafka's clients."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from mainstem.contract import NewEvent
from tests.doors.http.door_kit import RunningHttpDoor, problem
from tests.doors.http.test_subscriptions import running_queues

EVIL = ("", " ", ".", "..", "../../x", "a/b/c", "%2e%2e", "a\0b", "a\nb", "оrders", "<script>", "x" * 10_000)
NAMES = ("a/b", "a:pull", "ä/snapshots/b?c", "%2F/orders")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_queues(tmp_path_factory.mktemp("names")) as running:
        running.create_topic("t")

        async def groups(_: object) -> None:
            for name in NAMES:
                configs = {"share.auto.offset.reset": "earliest"}
                await running.node.group_settings.replace(name, configs)
                await running.node.share_groups.begin_without_members(name, ["t"])

        running.run(groups)
        running.run(lambda engine: engine.publish("t", [NewEvent(b"x")]))
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_every_route_reaches_a_share_group_of_any_name(door: RunningHttpDoor, name: str) -> None:
    path = f"subscriptions/{quote(name, safe='')}"
    assert door.get(path)["subscription"] == name
    assert len(door.get(f"{path}:browse")["events"]) == 1
    (delivery,) = door.post(f"{path}:pull", {"consumer": "w"}).json()["deliveries"]
    assert door.post(f"{path}:ack", {"tokens": [delivery["token"]]}).json()["verdicts"] == ["done"]
    assert door.post(f"{path}:seek", {"to": "earliest"}).json()["subscription"] == name
    changed = door.http.patch(f"/api/v1/{path}", json={"settings": {"lock_ms": 20_000}})
    assert changed.json()["subscription"] == name
    assert door.post(f"{path}:snapshot", {"snapshot": "one"}).status_code == 201
    assert door.http.delete(f"/api/v1/{path}/snapshots/one").status_code == 200
    assert name in [row["subscription"] for row in door.get("subscriptions")["subscriptions"]]


def test_a_name_is_read_as_it_was_encoded(door: RunningHttpDoor) -> None:
    for path in ("a%2fb", "a%2Fb", "%61%2Fb"):
        assert door.get(f"subscriptions/{path}")["subscription"] == "a/b"
    problem(door.http.get("/api/v1/subscriptions/a/b"), 404, "not-found")
    problem(door.http.get("/api/v1/subscriptions/a%252Fb"), 404, "unknown-subscription")
    for path in ("a%EF%B7%90b", "a%ef%b7%91pull"):
        problem(door.http.get(f"/api/v1/subscriptions/{path}"), 400, "bad-path")
    problem(door.http.get("/api/v1/subscriptions/%FF%2F"), 400, "bad-path")
    problem(door.http.get("/api/v1/subscriptions/a%2Fb%3Abrowse"), 404, "unknown-subscription")


def test_the_history_of_a_share_group_of_any_name_is_reached(door: RunningHttpDoor) -> None:
    refused = door.http.get(f"/api/v1/stats/subscriptions/{quote('no/such', safe='')}")
    assert problem(refused, 404, "unknown-subscription")["detail"]


@pytest.mark.parametrize("kind", ["topic", "subscription"])
def test_evil_names_are_refused(door: RunningHttpDoor, kind: str) -> None:
    for name in EVIL:
        reply = door.post(
            f"{kind}s", {kind: name, "topics": ["t"]} if kind == "subscription" else {kind: name}
        )
        assert reply.status_code in (400, 422), name
    names = {row[kind] for row in door.get(f"{kind}s")[f"{kind}s"]}
    assert names == ({"t"} if kind == "topic" else set(NAMES))
