"""Consumer groups by HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.contract import GroupInfo, Position, StreamError
from mainstem.engines.embedded.engine import EmbeddedEngine
from tests.doors.http.door_kit import RunningHttpDoor, problem


def create_filled_topic(door: RunningHttpDoor, topic: str, count: int = 10) -> str:
    door.create_topic(topic, 2)
    events = [
        {"value": number, "partition": number % 2, "timestamp_ms": 1_000_000 + number * 1000}
        for number in range(count)
    ]
    assert door.post(f"topics/{topic}/events", events).status_code == 200
    return topic


def reset(door: RunningHttpDoor, group: str, **body: Any) -> Any:
    reply = door.post(f"groups/{group}/reset", body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_lag_is_in_events_and_in_time(door: RunningHttpDoor) -> None:
    topic = create_filled_topic(door, "lag")
    door.run(lambda engine: engine.set_positions("reader", [Position(topic, 0, 2), Position(topic, 1, 5)]))
    info = door.get("groups/reader")
    assert (info["state"], info["lag"], info["members"]) == ("Empty", 3, [])
    first, second = info["positions"]
    assert (first["offset"], first["end"], first["lag"]) == (2, 5, 3)
    assert (second["lag"], second["lag_ms"]) == (0, 0)
    assert info["lag_ms"] == first["lag_ms"] >= 0
    (row,) = door.get("groups", q="READ")["groups"]
    assert (row["group"], row["lag"], row["topics"], row["members"]) == ("reader", 3, [topic], 0)


@pytest.mark.parametrize(
    ("to", "offsets"),
    [
        ("earliest", [0, 0]),
        ("latest", [5, 5]),
        ("3", [3, 3]),
        ("99", [5, 5]),
        ("1970-01-01T00:16:45Z", [3, 2]),
        ("2001-01-01", [5, 5]),
        ("-1h", [5, 5]),
    ],
)
def test_a_reset_is_previewed_and_then_executed(door: RunningHttpDoor, to: str, offsets: list[int]) -> None:
    door.post("topics", {"topic": "reset"})
    if not door.get("topics/reset")["events"]:
        door.http.delete("/api/v1/topics/reset")
        create_filled_topic(door, "reset")
    group = f"reset-{to.replace(':', '')}"
    reset(door, group, to="2", topics=["reset"])
    preview = reset(door, group, to=to, dry_run=True)
    assert [row["new"] for row in preview["moves"]] == offsets
    assert [row["old"] for row in preview["moves"]] == [2, 2]
    assert preview["again"] == sum(max(0, 2 - row) for row in offsets)
    assert preview["passed_over"] == sum(max(0, row - 2) for row in offsets)
    assert [row["offset"] for row in door.get(f"groups/{group}")["positions"]] == [2, 2]
    assert reset(door, group, to=to) == preview | {"dry_run": False}
    assert [row["offset"] for row in door.get(f"groups/{group}")["positions"]] == offsets


def test_a_single_partition_can_be_reset(door: RunningHttpDoor) -> None:
    topic = create_filled_topic(door, "reset-one")
    reset(door, "one", to="1", topics=[topic], partition=1)
    assert [position["offset"] for position in door.get("groups/one")["positions"]] == [None, 1]


@pytest.mark.parametrize("name", ["a/b", "a/reset", "ä €", "a?b", "..", "%2F", "<script>", "a/"])
def test_any_group_name_can_be_requested(door: RunningHttpDoor, name: str) -> None:
    from urllib.parse import quote

    topic = "names"
    if door.http.get(f"/api/v1/topics/{topic}").status_code == 404:
        create_filled_topic(door, topic)
    where = quote(name, safe="").replace(".", "%2E")
    assert reset(door, where, to="latest", topics=[topic])["group"] == name
    assert door.get(f"groups/{where}")["group"] == name
    dry = door.http.delete(f"/api/v1/groups/{where}?dry_run=true").json()
    assert dry == {"group": name, "dry_run": True, "positions": 2}
    assert door.http.delete(f"/api/v1/groups/{where}").status_code == 200
    problem(door.http.get(f"/api/v1/groups/{where}"), 404, "unknown-group")


def test_a_group_with_members_is_not_changed(door: RunningHttpDoor) -> None:
    topic = create_filled_topic(door, "busy")

    async def join(engine: EmbeddedEngine) -> Any:
        member = await engine.join("busy", [topic], start="earliest")
        while not (await member.read(wait_ms=100)).events:
            pass
        await member.commit()
        return member

    member = door.run(join)
    info = door.get("groups/busy")
    assert info["state"] == "Stable"
    assert info["members"][0]["assigned"] == [[topic, 0], [topic, 1]]
    problem(door.post("groups/busy/reset", {"to": "earliest"}), 409, "group-in-use")
    problem(door.http.delete("/api/v1/groups/busy"), 409, "group-in-use")
    problem(door.http.delete("/api/v1/groups/busy?dry_run=true"), 409, "group-in-use")
    door.run(lambda _: member.close())


@pytest.mark.parametrize(
    ("group", "body", "status", "kind"),
    [
        ("none", {"to": "earliest"}, 404, "unknown-group"),
        ("none", {"to": "earliest", "topics": ["none"]}, 404, "unknown-topic"),
        ("none", {"to": "soon", "topics": ["none"]}, 400, "invalid"),
        ("none", {"to": "9" * 5000, "topics": ["none"]}, 400, "invalid"),
        ("none", {"to": "2013-13-13", "topics": ["none"]}, 422, "unfit"),
        ("none", {"to": "-" + "9" * 30 + "d", "topics": ["none"]}, 404, "unknown-topic"),
        ("none", {"to": "earliest", "partition": 1}, 422, "unfit"),
        ("none", {"topics": ["none"]}, 400, "invalid"),
    ],
)
def test_refused_group_requests(
    door: RunningHttpDoor, group: str, body: object, status: int, kind: str
) -> None:
    problem(door.post(f"groups/{group}/reset", body), status, kind)


def test_a_group_that_cannot_be_described_is_listed_with_the_reason(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = create_filled_topic(door, "described")
    for group in ("described-a", "described-b"):
        assert door.post(f"groups/{group}/reset", {"to": "2", "topics": [topic]}).status_code == 200
    describe = door.engine.group

    async def fail_for_a(name: str) -> GroupInfo:
        if name == "described-a":
            raise StreamError("group described-a: its coordinator is not known")
        return await describe(name)

    monkeypatch.setattr(door.engine, "group", fail_for_a)
    first, second = door.get("groups", q="described")["groups"]
    assert (first["state"], first["lag"]) == ("Empty", None)
    assert first["problem"] == "group described-a: its coordinator is not known"
    assert (second["lag"], second["problem"]) == (6, None)
