"""Export by HTTP: what a file contains, and that an incomplete file is recognised."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest
from pyarrow import parquet

from mainstem import parquet as parquet_writer
from mainstem.contract import NewEvent
from mainstem.http_api import event_encoding
from tests.doors.http.door_kit import RunningHttpDoor, audit_fields, create_orders, refusal, running_door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_door(tmp_path_factory.mktemp("export") / "data") as running:
        create_orders(running)
        yield running


def test_parquet_has_every_byte(door: RunningHttpDoor) -> None:
    topic = door.create_topic("bytes")
    event = NewEvent(b"\xff\x00", b"\xfe", (("a", b"\xfd"), ("a", None)), 1_600_000_000_123)
    door.run(lambda engine: engine.publish(topic, [event, NewEvent(None)]))
    reply = door.post("export", {"topics": [topic], "format": "parquet"})
    assert reply.headers["content-type"] == "application/vnd.apache.parquet"
    assert reply.headers["content-disposition"] == 'attachment; filename="events.parquet"'
    table = parquet.read_table(io.BytesIO(reply.content))
    assert table.schema.names == [name for name, _, _ in parquet_writer.COLUMNS]
    first, second = table.to_pylist()
    assert (first["topic"], first["partition"], first["offset"]) == (topic, 0, 0)
    assert first["timestamp"].isoformat() == "2020-09-13T12:26:40.123000+00:00"
    assert (first["key"], first["value"]) == (b"\xfe", b"\xff\x00")
    assert first["headers"] == [{"name": "a", "value": b"\xfd"}, {"name": "a", "value": None}]
    assert (second["key"], second["value"], second["headers"]) == (None, None, [])


def test_parquet_is_written_in_groups_so_that_memory_is_bounded(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_writer, "GROUP_EVENTS", 6)
    reply = door.post("export", {"topics": ["orders"], "format": "parquet"})
    file = parquet.ParquetFile(io.BytesIO(reply.content))
    assert [file.metadata.row_group(group).num_rows for group in range(4)] == [6, 6, 6, 2]


def test_parquet_is_refused_clearly_where_it_is_not_installed(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    detail = refusal(door.post("export", {"format": "parquet"}))
    assert detail.endswith("pip install 'mainstem[parquet]'")


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_a_file_without_events_is_complete(door: RunningHttpDoor, form: str) -> None:
    reply = door.post("export", {"query": "nothing-has-this", "topics": ["orders"], "format": form})
    assert reply.status_code == 200
    rows = {"ndjson": 0, "csv": 1, "parquet": 0}[form]
    if form == "parquet":
        assert parquet.read_table(io.BytesIO(reply.content)).num_rows == rows
    else:
        assert len(reply.text.splitlines()) == rows


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_an_incomplete_file_breaks_the_connection(
    door: RunningHttpDoor, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = door.create_topic(f"damaged-{form}")
    for value in (b"first " * 20, b"second " * 20, b"third " * 20):
        door.run(lambda engine, value=value: engine.publish(topic, [NewEvent(value)]))  # type: ignore[misc]
    (segment,) = {path for path, _, _ in door.run(lambda engine: engine.byte_ranges(topic, 0, 0, 3))}
    with open(door.folder / segment, "r+b") as file:
        content = file.read()
        file.seek(content.index(b"second second"))
        file.write(b"SECOND")
    with pytest.raises(httpx.RemoteProtocolError):
        door.post("export", {"topics": [topic], "format": form})
    (line,) = audit_fields(caplog)
    assert (line["action"], line["outcome"], line["events"]) == ("export", "failed", 2)
    assert line["why"].startswith(f"{topic}/0 from offset 1: ")


def test_an_export_leaves_an_audit_line(door: RunningHttpDoor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    door.post_lines("export", {"query": "city:bern", "topics": ["orders"], "since_ms": 1_600_000_000_000})
    (line,) = audit_fields(caplog)
    assert line == {
        "action": "export",
        "peer": "127.0.0.1",
        "principal": "User:ANONYMOUS",
        "dry_run": False,
        "query": "city:bern",
        "topics": "orders",
        "since": "2020-09-13T12:26:40.000Z",
        "format": "ndjson",
        "outcome": "done",
        "events": 10,
    }


def test_an_export_has_everything_in_either_form(door: RunningHttpDoor) -> None:
    rows = door.post_lines("export", {"query": "city:bern", "topics": ["orders"]})
    assert [row["value"]["order"] for row in rows] == sorted(range(0, 20, 2))
    reply = door.post("export", {"query": "city:bern", "topics": ["orders"], "format": "csv"})
    assert reply.headers["content-type"].startswith("text/csv")
    assert reply.headers["content-disposition"] == 'attachment; filename="events.csv"'
    table = list(csv.DictReader(io.StringIO(reply.text)))
    assert [int(row["offset"]) for row in table] == [row["offset"] for row in rows]
    assert json.loads(table[0]["value"]) == rows[0]["value"]


def test_a_large_event_is_exported_in_steps(door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = door.create_topic("export-large")
    assert door.post(f"topics/{topic}/events", {"value": {"text": "x" * 2_000}}).status_code == 200
    monkeypatch.setattr(event_encoding, "LARGE_BYTES", 1_000)
    monkeypatch.setattr(event_encoding, "_encode_payload", None)  # would encode it in one step
    [row] = door.post_lines("export", {"topics": [topic]})
    assert row["value"] == {"text": "x" * 2_000}


def test_what_is_exported_can_be_published_again(door: RunningHttpDoor) -> None:
    rows = door.post_lines("export", {"topics": ["orders"]})
    topic = door.create_topic("back")
    names = ("key", "key_encoding", "value", "value_encoding", "headers", "timestamp_ms")
    body = "\n".join(json.dumps({name: row[name] for name in names}) for row in rows)
    headers = {"content-type": "application/x-ndjson"}
    reply = door.http.post(f"/api/v1/topics/{topic}/events", content=body, headers=headers)
    assert reply.json()["published"] == 20
