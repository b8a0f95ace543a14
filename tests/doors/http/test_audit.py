"""Each action that changes or exports something leaves one audit line, whatever its outcome."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mainstem.contract import Position
from mainstem.serve.logs import JsonFormat
from tests.doors.http.door_kit import RunningHttpDoor


class RecordingAuditLog(logging.Handler):
    """Records the audit lines."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __call__(self) -> list[dict[str, Any]]:
        """The fields of the lines since the last call."""
        records, self.records = self.records, []
        return [record.__dict__["fields"] for record in records]


@pytest.fixture
def audit_log() -> Iterator[RecordingAuditLog]:
    """The audit lines of a test; other loggers report only errors."""
    lines, root = RecordingAuditLog(), logging.getLogger()
    was = root.level
    root.addHandler(lines)
    root.setLevel(logging.ERROR)
    yield lines
    root.setLevel(was)
    root.removeHandler(lines)


def test_each_action_has_one_line_with_its_outcome(
    door: RunningHttpDoor, audit_log: RecordingAuditLog
) -> None:
    door.post("topics", {"topic": "audited", "partitions": 2, "settings": {"retention.ms": "-1"}})
    door.post("topics/audited/events", [{"value": line, "partition": 0} for line in range(5)])
    door.http.patch("/api/v1/topics/audited/settings", json={"settings": {"retention.ms": None}})
    door.post("topics/audited/partitions", {"total": 3})
    door.post("topics/audited/delete-records", {"partition": 0, "before": 2, "dry_run": True})
    door.post("topics/audited/delete-records", {"partition": 0, "before": 2})
    door.http.delete("/api/v1/topics/audited?dry_run=true")
    door.http.delete("/api/v1/topics/audited")
    lines = audit_log()
    assert {line.pop("peer") for line in lines} == {"127.0.0.1"}
    assert {line.pop("principal") for line in lines} == {"User:ANONYMOUS"}
    assert {line.pop("topic") for line in lines} == {"audited"}
    assert {line.pop("outcome") for line in lines} == {"done"}
    for line in lines:
        line.pop("bytes", None)
    assert lines == [
        {"action": "create-topic", "dry_run": False, "settings": "retention.ms=-1", "partitions": 2},
        {"action": "change-settings", "dry_run": False, "settings": "retention.ms=default"},
        {"action": "add-partitions", "dry_run": False, "partitions": 3},
        {"action": "delete-records", "dry_run": True, "partition": 0, "before": 2, "events": 2},
        {"action": "delete-records", "dry_run": False, "partition": 0, "before": 2, "events": 2},
        {"action": "delete-topic", "dry_run": True, "partitions": 3, "events": 3},
        {"action": "delete-topic", "dry_run": False, "partitions": 3, "events": 3},
    ]


def test_a_refused_action_has_a_line_too(door: RunningHttpDoor, audit_log: RecordingAuditLog) -> None:
    assert door.http.delete("/api/v1/topics/no-such-topic").status_code == 404
    (line,) = audit_log()
    assert line["outcome"] == "refused"
    assert line["why"] == "topic no-such-topic: there is no such topic"


def test_groups_are_reset_and_deleted_with_a_line(
    door: RunningHttpDoor, audit_log: RecordingAuditLog
) -> None:
    topic = door.create_topic("audited-groups")
    door.post(f"topics/{topic}/events", [{"value": number} for number in range(4)])
    name = "evil\n2026-01-01 audit: action=\x1b[31mforged"
    door.run(lambda engine: engine.set_positions(name, [Position(topic, 0, 3)]))
    audit_log()
    place = "groups/evil%0A2026-01-01%20audit%3A%20action%3D%1B%5B31mforged"
    assert door.post(f"{place}/reset", {"to": "earliest"}).status_code == 200
    assert door.http.delete(f"/api/v1/{place}").status_code == 200
    reset, deleted = audit_log()
    assert (reset["action"], reset["group"], reset["to"]) == ("reset-group", name, "earliest")
    assert (reset["partitions"], reset["again"], reset["passed_over"]) == (1, 3, 0)
    assert (deleted["action"], deleted["positions"], deleted["outcome"]) == ("delete-group", 1, "done")


def test_a_line_stays_one_line_and_is_an_object_in_json(
    door: RunningHttpDoor, audit_log: RecordingAuditLog
) -> None:
    name = "a\nb\x1b[0m\u2028"
    topic = door.create_topic("t-json")
    door.run(lambda engine: engine.set_positions(name, [Position(topic, 0, 0)]))
    audit_log()
    assert door.http.delete("/api/v1/groups/a%0Ab%1B%5B0m%E2%80%A8").status_code == 200
    (record,) = audit_log.records
    text = record.getMessage()
    assert text.isprintable()
    assert 'group="a\\nb\\u001b[0m\\u2028"' in text
    line = msgspec.json.decode(JsonFormat().format(record))
    assert (line["logger"], line["action"], line["group"]) == ("audit", "delete-group", name)
