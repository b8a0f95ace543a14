"""Topics by HTTP, and what a deletion or a change of settings removes."""

from __future__ import annotations

import pytest

from mainstem.log.partition.partition import Partition
from tests.doors.http.door_kit import RunningHttpDoor, problem


def test_the_life_cycle_of_a_topic(door: RunningHttpDoor) -> None:
    made = door.post("topics", {"topic": "life", "partitions": 2, "settings": {"retention.ms": "1000"}})
    assert made.status_code == 201
    settings = {setting["name"]: setting for setting in made.json()["settings"]}
    retention = settings["retention.ms"]
    assert (retention["value"], retention["is_default"], retention["read_only"]) == ("1000", False, False)
    changes = {"settings": {"retention.ms": None, "max.message.bytes": "2000"}}
    changed = door.http.patch("/api/v1/topics/life/settings", json=changes)
    settings = {setting["name"]: setting for setting in changed.json()["settings"]}
    assert settings["retention.ms"]["is_default"] is True
    assert settings["max.message.bytes"]["value"] == "2000"
    assert len(door.post("topics/life/partitions", {"total": 3}).json()["partitions"]) == 3
    door.post("topics/life/events", [{"value": number} for number in range(5)])
    dry = door.http.delete("/api/v1/topics/life?dry_run=true").json()
    assert dry == {"topic": "life", "dry_run": True, "partitions": 3, "events": 5}
    assert door.get("topics/life")["events"] == 5
    assert door.http.delete("/api/v1/topics/life").json() == dry | {"dry_run": False}
    problem(door.http.get("/api/v1/topics/life"), 404, "unknown-topic")


def test_the_list_is_searched_and_paged(door: RunningHttpDoor) -> None:
    for name in ("list-A", "list-b", "list-c"):
        door.create_topic(name)
    page = door.get("topics", q="LIST-", limit=2)
    assert [row["topic"] for row in page["topics"]] == ["list-A", "list-b"]
    assert (page["total"], page["next"]) == (3, "list-b")
    page = door.get("topics", q="list-", limit=2, after=page["next"])
    assert [row["topic"] for row in page["topics"]] == ["list-c"]
    assert page["next"] is None


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("topics", {"topic": "twice"}, 409, "topic-exists"),
        ("topics", {"topic": "no/name"}, 400, "invalid"),
        ("topics", {"topic": ".."}, 422, "unfit"),
        ("topics", {"topic": "x", "partitions": 0}, 400, "invalid"),
        ("topics", {"topic": "x", "settings": {"nonsense": "1"}}, 422, "unfit"),
        ("topics", {"topic": "x", "partition": 1}, 400, "invalid"),
        ("topics", {}, 400, "invalid"),
        ("topics/none/partitions", {"total": 2}, 404, "unknown-topic"),
        ("topics/twice/partitions", {"total": 1}, 422, "unfit"),
        ("topics/none/settings/preview", {"settings": {"retention.ms": "1"}}, 404, "unknown-topic"),
        ("topics/twice/settings/preview", {"settings": {"retention.ms": "x"}}, 422, "unfit"),
        ("topics/twice/settings/preview", {"settings": {}}, 400, "invalid"),
        ("topics/twice/delete-records", {"partition": 0, "before": 5}, 416, "out-of-range"),
        ("topics/twice/delete-records", {"partition": 3, "before": 0}, 404, "unknown-topic"),
        ("topics/twice/delete-records", {"partition": 0, "before": -2}, 400, "invalid"),
    ],
)
def test_refused_topic_requests(
    door: RunningHttpDoor, path: str, body: object, status: int, kind: str
) -> None:
    door.post("topics", {"topic": "twice"})
    problem(door.post(path, body), status, kind)


def test_deleting_events_is_previewed_and_then_executed(door: RunningHttpDoor) -> None:
    topic = door.create_topic("delete")
    door.post(f"topics/{topic}/events", [{"value": number, "timestamp_ms": number} for number in range(10)])
    door.post(
        f"topics/{topic}/events", [{"value": number, "timestamp_ms": number} for number in range(10, 20)]
    )
    body = {"partition": 0, "before": 10, "dry_run": True}
    preview = door.post(f"topics/{topic}/delete-records", body).json()
    deleted = preview["gone"]
    assert (preview["dry_run"], deleted["events"], deleted["begin"]) == (True, 10, 10)
    assert deleted["oldest"] == "1970-01-01T00:00:00.010Z"
    assert deleted["bytes"] > 100
    assert door.get(f"topics/{topic}")["events"] == 20
    assert door.post(f"topics/{topic}/delete-records", body | {"dry_run": False}).json()["gone"] == deleted
    assert door.get(f"topics/{topic}")["partitions"][0]["begin"] == 10
    everything = door.post(f"topics/{topic}/delete-records", {"partition": 0, "before": -1}).json()["gone"]
    assert (everything["events"], everything["begin"], everything["oldest"]) == (10, 20, None)


@pytest.mark.parametrize(
    "change",
    [
        {"retention.bytes": "1200000"},
        {"retention.bytes": "0"},
        {"retention.ms": "0"},
        {"retention.ms": "0", "mainstem.retention.time": "record"},
        {"retention.ms": "-1"},
        {"retention.ms": "86400000", "mainstem.retention.time": "record"},
    ],
)
def test_a_change_of_retention_deletes_what_its_preview_said(
    door: RunningHttpDoor, change: dict[str, str]
) -> None:
    topic = door.create_topic("preview-" + "-".join([*change, *change.values()]), 2)
    for number in range(40):
        event = {
            "value": "x" * 100_000,
            "partition": 0 if number < 30 else 1,
            "timestamp_ms": 1_600_000_000_000 + number,
        }
        assert door.post(f"topics/{topic}/events", event).status_code == 200
    before = door.get(f"topics/{topic}")["partitions"]
    preview = door.post(f"topics/{topic}/settings/preview", {"settings": change}).json()
    assert preview["exact"] is True
    assert door.get(f"topics/{topic}")["partitions"] == before
    assert preview["events"] == sum(partition["events"] for partition in preview["partitions"])
    door.http.patch(f"/api/v1/topics/{topic}/settings", json={"settings": change})

    async def enforce(_: object) -> None:
        known = door.node.topics.get(topic)
        assert known is not None
        for index in range(known.partitions):
            served_partition: Partition = door.node.partition(known, index)
            for _ in range(3):
                await served_partition.enforce_retention()

    door.run(enforce)
    begins = [partition["begin"] for partition in door.get(f"topics/{topic}")["partitions"]]
    assert begins == [partition["begin"] for partition in preview["partitions"]]
    if change.get("retention.ms") != "-1":
        assert preview["events"] > 0
        assert preview["bytes"] > 0


def test_sizes_and_descriptions_of_settings_are_shown(door: RunningHttpDoor) -> None:
    topic = door.create_topic("sized", partitions=2)
    door.post(f"topics/{topic}/events", {"value": "x" * 5000, "partition": 1})
    detail = door.get(f"topics/{topic}")
    assert detail["partitions"][0]["bytes"] == 0
    assert detail["partitions"][1]["bytes"] > 5000
    assert detail["bytes"] == detail["partitions"][1]["bytes"]
    (row,) = door.get("topics", q="sized")["topics"]
    assert row["bytes"] == detail["bytes"]
    settings = {setting["name"]: setting for setting in detail["settings"]}
    assert all(setting["doc"] and setting["type"] for setting in settings.values())
    retention = settings["retention.ms"]
    assert (retention["type"], retention["unit"], retention["default"]) == ("long", "ms", "604800000")
    assert retention["valid"] == "Value must be at least -1"
    assert settings["segment.bytes"]["unit"] == "bytes"
    assert "LogAppendTime" in settings["message.timestamp.type"]["valid"]
