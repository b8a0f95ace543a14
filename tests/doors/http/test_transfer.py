"""Export and replay by HTTP: what a file holds, and that a replay publishes each event once."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from pyarrow import parquet

from mainstem import parquet as writing
from mainstem.contract import NewEvent, NotReachable, Position, StreamError
from mainstem.doors.http import events_json
from mainstem.http_api.problems import KINDS
from tests.doors.http.door_kit import RunningHttpDoor, problem, running_door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_door(tmp_path_factory.mktemp("transfer") / "data") as found:
        found.create_topic("orders", 2)
        rows = [
            {
                "value": {"order": at, "city": "Zürich" if at % 2 else "Bern"},
                "key": f"k{at % 3}",
                "timestamp_ms": 1_600_000_000_000 + at * 1000,
                "partition": at % 2,
            }
            for at in range(20)
        ]
        assert found.post("topics/orders/events", rows).status_code == 200
        yield found


def lines(door: RunningHttpDoor, path: str, body: object) -> list[dict[str, Any]]:
    reply = door.post(path, body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.text.splitlines()]


def replayed_from(door: RunningHttpDoor, topic: str) -> list[str]:
    """Where the events of a topic's partition 0 are from."""
    rows = door.get(f"topics/{topic}/partitions/0/events", limit=1000)["events"]
    return [
        header["value"]
        for row in rows
        for header in row["headers"]
        if header["name"] == "mainstem-replayed-from"
    ]


def refusal(reply: httpx.Response) -> str:
    """Why a request was refused that its sender can mend."""
    assert 400 <= reply.status_code < 500
    return str(reply.json()["detail"])


def audits(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The audit lines since the last call."""
    found = [record.__dict__["fields"] for record in caplog.records if record.name == "mainstem.audit"]
    caplog.clear()
    return [each for each in found if each["action"] != "create-topic"]


# ----------------------------------------------------------------------------------------------------------
# export


def test_parquet_has_every_byte(door: RunningHttpDoor) -> None:
    topic = door.create_topic("bytes")
    event = NewEvent(b"\xff\x00", b"\xfe", (("a", b"\xfd"), ("a", None)), 1_600_000_000_123)
    door.run(lambda engine: engine.publish(topic, [event, NewEvent(None)]))
    reply = door.post("export", {"topics": [topic], "format": "parquet"})
    assert reply.headers["content-type"] == "application/vnd.apache.parquet"
    assert reply.headers["content-disposition"] == 'attachment; filename="events.parquet"'
    table = parquet.read_table(io.BytesIO(reply.content))
    assert table.schema.names == [name for name, _, _ in writing.COLUMNS]
    first, second = table.to_pylist()
    assert (first["topic"], first["partition"], first["offset"]) == (topic, 0, 0)
    assert first["timestamp"].isoformat() == "2020-09-13T12:26:40.123000+00:00"
    assert (first["key"], first["value"]) == (b"\xfe", b"\xff\x00")
    assert first["headers"] == [{"name": "a", "value": b"\xfd"}, {"name": "a", "value": None}]
    assert (second["key"], second["value"], second["headers"]) == (None, None, [])


def test_parquet_is_written_in_groups_so_that_memory_is_bounded(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "GROUP_EVENTS", 6)
    reply = door.post("export", {"topics": ["orders"], "format": "parquet"})
    file = parquet.ParquetFile(io.BytesIO(reply.content))
    assert [file.metadata.row_group(at).num_rows for at in range(4)] == [6, 6, 6, 2]


def test_parquet_is_refused_clearly_where_it_is_not_installed(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = refusal(door.post("export", {"format": "parquet"}))
    assert told.endswith("pip install 'mainstem[parquet]'")


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_a_file_without_events_is_whole(door: RunningHttpDoor, form: str) -> None:
    reply = door.post("export", {"query": "nothing-has-this", "topics": ["orders"], "format": form})
    assert reply.status_code == 200
    rows = {"ndjson": 0, "csv": 1, "parquet": 0}[form]
    if form == "parquet":
        assert parquet.read_table(io.BytesIO(reply.content)).num_rows == rows
    else:
        assert len(reply.text.splitlines()) == rows


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_a_file_that_misses_events_is_cut_off(
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
    (line,) = audits(caplog)
    assert (line["action"], line["outcome"], line["events"]) == ("export", "failed", 2)
    assert line["why"].startswith(f"{topic}/0 from offset 1: ")


def test_an_export_leaves_an_audit_line(door: RunningHttpDoor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines(door, "export", {"query": "city:bern", "topics": ["orders"], "since_ms": 1_600_000_000_000})
    (line,) = audits(caplog)
    assert line == {
        "action": "export",
        "peer": "127.0.0.1",
        "dry_run": False,
        "query": "city:bern",
        "topics": "orders",
        "since": "2020-09-13T12:26:40.000Z",
        "format": "ndjson",
        "outcome": "done",
        "events": 10,
    }


def test_an_export_has_everything_in_either_form(door: RunningHttpDoor) -> None:
    rows = lines(door, "export", {"query": "city:bern", "topics": ["orders"]})
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
    monkeypatch.setattr(events_json, "LARGE_BYTES", 1_000)
    monkeypatch.setattr(events_json, "_encode_payload", None)  # makes it in one
    [row] = lines(door, "export", {"topics": [topic]})
    assert row["value"] == {"text": "x" * 2_000}


def test_what_is_exported_can_be_published_again(door: RunningHttpDoor) -> None:
    rows = lines(door, "export", {"topics": ["orders"]})
    topic = door.create_topic("back")
    kept = ("key", "key_encoding", "value", "value_encoding", "headers", "timestamp_ms")
    body = "\n".join(json.dumps({name: row[name] for name in kept}) for row in rows)
    headers = {"content-type": "application/x-ndjson"}
    reply = door.http.post(f"/api/v1/topics/{topic}/events", content=body, headers=headers)
    assert reply.json()["published"] == 20


# ----------------------------------------------------------------------------------------------------------
# replay


def test_a_replay_is_told_before_and_done_after(door: RunningHttpDoor) -> None:
    target = door.create_topic("replayed")
    body: dict[str, Any] = {"to": target, "matches": {"query": "city:zürich", "topics": ["orders"]}}
    (dry,) = lines(door, "replay", body | {"dry_run": True})
    assert (dry["dry_run"], dry["events"], dry["published"], dry["done"]) == (True, 10, 0, True)
    assert door.get(f"topics/{target}")["events"] == 0
    told = lines(door, "replay", body)
    assert (told[-1]["done"], told[-1]["published"]) == (True, 10)
    rows = door.get(f"topics/{target}/partitions/0/events")["events"]
    assert sorted(row["value"]["order"] for row in rows) == list(range(1, 20, 2))
    came = {row["headers"][0]["value"] for row in rows}
    assert all(row["headers"][0]["name"] == "mainstem-replayed-from" for row in rows)
    assert all(row["headers"][1]["value"].startswith(told[0]["job"] + " ") for row in rows)
    assert came == {f"orders/1/{at}" for at in range(10)}
    assert rows[0]["key"].startswith("k")


def test_chosen_events_are_replayed(door: RunningHttpDoor) -> None:
    target = door.create_topic("chosen")
    events = [{"topic": "orders", "partition": 0, "offset": at} for at in (3, 1)]
    assert lines(door, "replay", {"to": target, "events": events, "dry_run": True})[0]["events"] == 2
    assert lines(door, "replay", {"to": target, "events": events})[-1]["published"] == 2
    rows = door.get(f"topics/{target}/partitions/0/events")["events"]
    assert [row["value"]["order"] for row in rows] == [6, 2]


def test_a_topic_replayed_into_itself_comes_to_an_end(door: RunningHttpDoor) -> None:
    topic = door.create_topic("itself")
    door.post(f"topics/{topic}/events", [{"value": at} for at in range(30)])
    told = lines(door, "replay", {"to": topic, "matches": {"topics": [topic]}, "rate": 100_000})
    assert told[-1]["published"] == 30
    assert door.get(f"topics/{topic}")["events"] == 60


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"to": "none", "matches": {}}, 404, "unknown-topic"),
        ({"to": "orders"}, 422, "unfit"),
        ({"to": "orders", "matches": {}, "events": []}, 400, "invalid"),
        ({"to": "orders", "matches": {"query": "("}}, 422, "query"),
        ({"to": "orders", "matches": {}, "rate": 0}, 400, "invalid"),
        (
            {"to": "orders", "events": [{"topic": "orders", "partition": 0, "offset": 99}], "dry_run": True},
            416,
            "out-of-range",
        ),
        (
            {"to": "orders", "events": [{"topic": "none", "partition": 0, "offset": 0}], "dry_run": True},
            404,
            "unknown-topic",
        ),
    ],
)
def test_a_wrong_replay_is_told(door: RunningHttpDoor, body: object, status: int, kind: str) -> None:
    problem(door.post("replay", body), status, kind)


def test_a_replay_that_fails_on_its_way_says_how_far_it_came(door: RunningHttpDoor) -> None:
    target = door.create_topic("small", max_message_bytes="400")
    source = door.create_topic("large")
    door.post(f"topics/{source}/events", [{"value": "x" * size} for size in (10, 2000)])
    body = {"to": target, "matches": {"topics": [source]}, "rate": 4}
    told = lines(door, "replay", body)[-1]
    assert (told["done"], told["published"]) == (False, 1)
    assert told["problem"]["type"] == "urn:mainstem:event-too-large"


# ----------------------------------------------------------------------------------------------------------
# chosen events, changed


def test_a_chosen_event_is_published_as_it_was_changed(door: RunningHttpDoor) -> None:
    target = door.create_topic("changed")
    place = {"topic": "orders", "partition": 0, "offset": 1}
    header = [{"name": "why", "value": "mended"}]
    events = [
        place | {"value": {"order": 2, "city": "Basel"}, "headers": header},
        place | {"offset": 2, "key": None},
        place | {"offset": 3, "value": None, "key": "/w==", "key_encoding": "base64"},
        place | {"offset": 4, "value": "/w==", "value_encoding": "base64"},
    ]
    assert lines(door, "replay", {"to": target, "events": events})[-1]["published"] == 4
    rows = door.get(f"topics/{target}/partitions/0/events")["events"]
    assert [row["value"] for row in rows] == [
        {"order": 2, "city": "Basel"},
        {"order": 4, "city": "Bern"},
        None,
        "/w==",
    ]
    assert [row["key"] for row in rows] == ["k2", None, "/w==", "k2"]
    assert rows[0]["headers"][0] == {"name": "why", "value": "mended"}
    assert replayed_from(door, target) == [f"orders/0/{at}" for at in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "events",
    [
        [{"topic": "orders", "partition": 0, "offset": 1}] * 2,
        [{"topic": "orders", "partition": 0, "offset": 1, "value": "=", "value_encoding": "base64"}],
        [{"topic": "orders", "partition": 0, "offset": 1, "valeu": 1}],
    ],
)
def test_wrong_choices_are_told(door: RunningHttpDoor, events: object) -> None:
    target = door.create_topic(f"wrong-{len(str(events))}")
    assert refusal(door.post("replay", {"to": target, "events": events}))
    assert door.get(f"topics/{target}")["events"] == 0


# ----------------------------------------------------------------------------------------------------------
# jobs


class FailingPublish:
    """An engine's `publish` that breaks after so many calls, the last one half done, as a crash would."""

    def __init__(self, door: RunningHttpDoor, calls: int) -> None:
        self._publish = door.engine.publish
        self._left = calls

    async def __call__(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        if events:
            self._left -= 1
        if self._left < 0:
            every_second: list[Position | StreamError] = []
            every_second += await self._publish(topic, events[::2])
            error = NotReachable("gone")
            error.results = every_second
            raise error
        return await self._publish(topic, events)


def test_a_job_that_was_broken_off_goes_on_with_each_event_once(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = door.create_topic("job-target", 3)
    source = door.create_topic("job-source", 2)
    door.run(
        lambda engine: engine.publish(
            source, [NewEvent(b"%d" % at, b"k%d" % (at % 7), partition=at % 2) for at in range(1300)]
        )
    )
    body = {"to": target, "matches": {"topics": [source]}, "rate": 400, "job": "nightly-7"}
    body["rate"] = 1_000_000
    published = 0
    for calls in (1, 0, 1):
        monkeypatch.setattr(door.engine, "publish", FailingPublish(door, calls))
        told = lines(door, "replay", body)
        monkeypatch.undo()
        assert told[-1]["problem"]["type"] == "urn:mainstem:not-reachable"
        assert told[-1]["published_before"] == published
        published += told[-1]["published"]
        assert lines(door, "replay", body | {"dry_run": True})[-1]["events"] == 1300 - published
    told = lines(door, "replay", body)
    assert (told[-1]["done"], told[-1]["published_before"], told[-1]["job"]) == (True, published, "nightly-7")
    assert told[-1]["published"] == 1300 - published
    assert lines(door, "replay", body)[-1]["published"] == 0
    rows = [
        row
        for partition in range(3)
        for row in door.get(f"topics/{target}/partitions/{partition}/events", limit=10_000)["events"]
    ]
    assert sorted(row["value"] for row in rows) == list(range(1300))


def test_a_job_of_another_name_publishes_again_and_chosen_events_have_jobs_too(door: RunningHttpDoor) -> None:
    target = door.create_topic("twice")
    body: dict[str, Any] = {"to": target, "events": [{"topic": "orders", "partition": 1, "offset": 4}]}
    for job, published in (("a", 1), ("a", 0), ("b", 1), (None, 1), ("a", 0)):
        told = lines(door, "replay", body | {"job": job})[-1]
        assert (told["done"], told["published"]) == (True, published)
    assert replayed_from(door, target) == ["orders/1/4"] * 3


def test_a_job_that_meant_other_events_is_refused(door: RunningHttpDoor) -> None:
    target = door.create_topic("other")
    body = {"to": target, "job": "mine", "matches": {"query": "city:bern", "topics": ["orders"]}}
    assert lines(door, "replay", body)[-1]["published"] == 10
    other = body | {"matches": {"topics": ["orders"]}}
    told = refusal(door.post("replay", other))
    assert told == "job mine was begun with another query, or other topics or times"
    assert lines(door, "replay", body | {"matches": {"query": "city:bern", "topics": ["orders"]}})[-1]["done"]
    assert "job" in refusal(door.post("replay", body | {"job": "a b"}))


def test_a_job_into_the_topic_that_it_reads_goes_on_without_its_own_events(door: RunningHttpDoor) -> None:
    topic = door.create_topic("loop")
    door.post(f"topics/{topic}/events", [{"value": at} for at in range(30)])
    body = {"to": topic, "job": "once", "matches": {"topics": [topic]}, "rate": 100_000}
    assert lines(door, "replay", body)[-1]["published"] == 30
    assert lines(door, "replay", body | {"dry_run": True})[-1]["events"] == 0
    assert lines(door, "replay", body)[-1]["published"] == 0
    assert door.get(f"topics/{topic}")["events"] == 60


def test_a_job_runs_once_at_a_time_and_again_when_its_client_is_gone(
    door: RunningHttpDoor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    target = door.create_topic("single")
    body = {"to": target, "job": "one", "matches": {"topics": ["orders"]}, "rate": 4}
    with door.http.stream("POST", "/api/v1/replay", json=body) as reply:
        steps = reply.iter_lines()
        while json.loads(next(steps))["published"] < 2:
            pass
        told = problem(door.post("replay", body), KINDS["busy"].status, "busy")
        assert told["detail"] == "job one into topic single is running already"
    while door.door.context.running_replays:
        door.get("cluster")
    (line,) = audits(caplog)
    assert (line["action"], line["outcome"], line["job"]) == ("replay", "cut-off", "one")
    assert 2 <= line["published"] < 20
    assert lines(door, "replay", body | {"rate": 100_000})[-1]["done"]
    assert len(replayed_from(door, target)) == len(set(replayed_from(door, target))) == 20
    (line,) = audits(caplog)
    assert (line["outcome"], line["published"] + line["before"]) == ("done", 20)


def test_only_a_window_of_what_is_done_is_remembered(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainstem.replay.WINDOW", 3)
    target = door.create_topic("window")
    body = {"to": target, "job": "small", "matches": {"topics": ["orders"]}, "rate": 4}
    monkeypatch.setattr(door.engine, "publish", FailingPublish(door, 15))
    assert lines(door, "replay", body | {"rate": 8})[-1]["published"] >= 15
    monkeypatch.undo()
    monkeypatch.setattr("mainstem.replay.WINDOW", 3)
    assert lines(door, "replay", body | {"rate": 100_000})[-1]["done"]
    assert len(set(replayed_from(door, target))) == len(replayed_from(door, target)) == 20
