"""Publishing and reading: events are read as they were published, and refusals have a reason."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.contract import Event, NewEvent
from mainstem.doors.http.endpoint import json_line
from mainstem.doors.http.events_json import event_from_json
from mainstem.http_api.event_encoding import LARGE_BYTES, event_to_json, event_to_json_in_slices
from mainstem.http_api.events import NewEventJson
from tests.doors.http.door_kit import MAX_BODY, RunningHttpDoor, problem

NDJSON = {"content-type": "application/x-ndjson"}

payloads = (
    st.none()
    | st.binary(max_size=60)
    | st.text(max_size=40).map(str.encode)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ).map(lambda value: json.dumps(value, indent=1).encode())
)
headers = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=12)), max_size=3).map(tuple)
events = st.builds(
    NewEvent,
    value=payloads,
    key=st.none() | st.binary(max_size=20),
    headers=headers,
    timestamp_ms=st.integers(0, 1_700_000_000_000),
)


def to_new_event(row: dict[str, object]) -> dict[str, object]:
    """An event that was read, in the form in which it is published."""
    names = ("key", "key_encoding", "value", "value_encoding", "headers", "timestamp_ms")
    return {name: row[name] for name in names if row.get(name) is not None or name == "value"}


def test_what_is_published_is_read(door: RunningHttpDoor) -> None:
    topic = door.create_topic("read", 2)
    done = door.post(
        f"topics/{topic}/events",
        [
            {"value": {"a": 1}, "key": "k", "partition": 0, "timestamp": "2013-06-01T12:00:00Z"},
            {"value": "a text", "partition": 0, "headers": [{"name": "h", "value": "v"}, {"name": "h"}]},
            {"value": "AP8=", "value_encoding": "base64", "partition": 1},
            {"partition": 1},
        ],
    )
    assert done.json()["published"] == 4
    assert done.json()["events"][2] == {"partition": 1, "offset": 0}
    assert done.json()["ends"] == [{"partition": 0, "offset": 2}, {"partition": 1, "offset": 2}]
    first, second = door.get(f"topics/{topic}/partitions/0/events")["events"]
    assert first == {
        "topic": topic,
        "partition": 0,
        "offset": 0,
        "timestamp": "2013-06-01T12:00:00.000Z",
        "timestamp_ms": 1370088000000,
        "key": "k",
        "key_encoding": "text",
        "value": {"a": 1},
        "value_encoding": "json",
        "headers": [],
        "size": 8,
    }
    assert (second["value"], second["value_encoding"], second["key"]) == ("a text", "text", None)
    assert second["headers"] == [{"name": "h", "value": "v"}, {"name": "h", "value": None}]
    third, fourth = door.get(f"topics/{topic}/partitions/1/events")["events"]
    assert (third["value"], third["value_encoding"]) == ("AP8=", "base64")
    assert fourth["value"] is None
    assert "value_encoding" not in fourth


@settings(max_examples=60, deadline=None)
@given(batch=st.lists(events, min_size=1, max_size=5))
def test_every_event_can_be_read_and_published_again_unchanged(
    door: RunningHttpDoor, batch: list[NewEvent]
) -> None:
    name = f"round-{next(COUNT)}"
    door.create_topic(name)
    door.run(lambda engine: engine.publish(name, batch))
    rows = door.get(f"topics/{name}/partitions/0/events")["events"]
    assert len(rows) == len(batch)
    again = door.post(f"topics/{name}/events", [to_new_event(row) for row in rows])
    assert again.status_code == 200, again.text
    exact = door.get(f"topics/{name}/partitions/0/events", encoding="base64")["events"]
    for before, after, event in zip(exact, exact[len(batch) :], batch, strict=False):
        assert before["value"] == (None if event.value is None else base64.b64encode(event.value).decode())
        assert before["key"] == after["key"]
        assert before["headers"] == after["headers"]
        assert before["timestamp_ms"] == after["timestamp_ms"]
        assert same_payload(before["value"], after["value"])


COUNT = itertools.count()


def same_payload(before: str | None, after: str | None) -> bool:
    """Equal byte for byte, except for blanks in JSON."""
    if before is None or after is None:
        return before is after
    old, new = base64.b64decode(before), base64.b64decode(after)
    return old == new or json.loads(old) == json.loads(new)


@settings(max_examples=200, deadline=None)
@given(value=st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_any_payload_makes_one_line_of_json(value: bytes) -> None:
    line = json_line(event_to_json(Event("t", 0, 0, 0, value, value, (("h", value),))))
    assert len(line.splitlines()) == len(line.decode().splitlines()) == 1
    decoded = json.loads(line)
    if decoded["value_encoding"] == "text":
        assert decoded["value"].encode() == value
    elif decoded["value_encoding"] == "base64":
        assert base64.b64decode(decoded["value"]) == value


@pytest.mark.parametrize("nested", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 5_000])
def test_a_payload_nested_without_end_is_text(nested: bytes) -> None:
    event_json = event_to_json(Event("t", 0, 0, 0, None, nested))
    assert event_json.value_encoding == "text"
    assert json.loads(msgspec.json.encode(event_json))["value"] == nested.decode()


@pytest.mark.parametrize("member", [{"timestamp_ms": 0}, {"timestamp": "1970-01-01"}, {"timestamp_ms": 1}])
def test_an_event_of_1970_keeps_its_time(door: RunningHttpDoor, member: dict[str, Any]) -> None:
    topic = door.create_topic(f"time-{next(COUNT)}")
    assert door.post(f"topics/{topic}/events", {"value": 1} | member).status_code == 200
    (row,) = door.get(f"topics/{topic}/partitions/0/events", time="1970-01-01")["events"]
    assert row["timestamp_ms"] == member.get("timestamp_ms", 0)
    assert row["timestamp"].startswith("1970-01-01T00:00:00.00")


@pytest.mark.parametrize("member", [{"timestamp_ms": -1}, {"timestamp": "1969-12-31T23:59:59.999Z"}])
def test_an_event_before_1970_is_refused(door: RunningHttpDoor, member: dict[str, Any]) -> None:
    topic = door.create_topic(f"time-{next(COUNT)}")
    assert door.post(f"topics/{topic}/events", {"value": 1} | member).status_code in (400, 422)
    assert door.get(f"topics/{topic}")["events"] == 0


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("topics/%FF", "bad-path"),
        ("groups/caf%E9", "bad-path"),
        ("query/check?q=%FF", "invalid"),
        ("topics?prefix=%C3%28", "invalid"),
    ],
)
def test_an_address_that_is_not_utf_8_is_refused(door: RunningHttpDoor, path: str, kind: str) -> None:
    assert "UTF-8" in problem(door.http.get(f"/api/v1/{path}"), 400, kind)["detail"]


def test_numbers_in_json_keep_their_digits(door: RunningHttpDoor) -> None:
    topic = door.create_topic("numbers")
    raw = b'{"price": 1.10, "id": 123456789012345678901234567890, "far": 1e999}'
    sent = b'{"value": ' + raw + b"}"
    headers = {"content-type": "application/json; charset=utf-8"}
    assert door.http.post(f"/api/v1/topics/{topic}/events", content=sent, headers=headers).status_code == 200
    content = door.http.get(f"/api/v1/topics/{topic}/partitions/0/events").content
    assert raw.replace(b" ", b"") in content
    exact = door.get(f"topics/{topic}/partitions/0/events", encoding="base64")["events"][0]
    assert base64.b64decode(exact["value"]) == raw


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"valu": 1}, "unknown field `valu`"),
        ([{"value": 1}, {"key": 7}], "event 1: in the body: Expected `str | null`, got `int` - at `$.key`"),
        ({"partition": -1}, "$.partition"),
        ("text", "got `str`"),
    ],
)
def test_a_bad_event_is_reported_with_its_index(door: RunningHttpDoor, body: object, detail: str) -> None:
    topic = "bad-events"
    refusal = problem(door.post(f"topics/{topic}/events", body), 400, "invalid")
    assert detail in refusal["detail"]
    assert door.http.get(f"/api/v1/topics/{topic}").status_code == 404


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"value": 1, "value_encoding": "base64"}, "must be a string"),
        ({"value": "*", "value_encoding": "base64"}, "value is not base64"),
        ({"key": "*", "key_encoding": "base64"}, "key is not base64"),
        ([{}, {"timestamp": "yesterday"}], "event 1: 'yesterday' is not a time"),
        ({"timestamp": "2013-06-01", "timestamp_ms": 1}, "not both"),
        ({"timestamp": "1913-06-01"}, "before 1970"),
    ],
)
def test_an_event_that_cannot_be_decoded_is_refused(door: RunningHttpDoor, body: object, detail: str) -> None:
    topic = "unfit-events"
    refusal = problem(door.post(f"topics/{topic}/events", body), 422, "unfit")
    assert detail in refusal["detail"]
    assert door.http.get(f"/api/v1/topics/{topic}").status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b'{"value": "\xff"}', b"[" * 50_000, b"\0"])
def test_malformed_json_is_refused(door: RunningHttpDoor, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    problem(door.http.post("/api/v1/topics/bad-json/events", content=body, headers=headers), 400, "invalid")


def test_a_partial_failure_reports_the_result_of_each_event(door: RunningHttpDoor) -> None:
    topic = door.create_topic("partly", max_message_bytes="1000")
    reply = door.post(
        f"topics/{topic}/events", [{"value": "a"}, {"value": "b", "partition": 9}, {"value": "c"}]
    )
    refusal = problem(reply, 404, "unknown-topic")
    assert [sorted(result) for result in refusal["events"]] == [
        ["offset", "partition"],
        ["error"],
        ["offset", "partition"],
    ]
    too_large = door.post(f"topics/{topic}/events", {"value": "x" * 2000})
    problem(too_large, 413, "event-too-large")


def test_good_lines_are_published_and_bad_ones_reported(door: RunningHttpDoor) -> None:
    topic = door.create_topic("lines")
    body = b'{"value": 1}\n\n{"value": 2, "oops": 1}\n{"value": "x", "partition": 7}\n{"value": 3}'
    refusal = problem(
        door.http.post(f"/api/v1/topics/{topic}/events", content=body, headers=NDJSON), 422, "not-published"
    )
    assert (refusal["published"], refusal["failed"]) == (2, 2)
    assert sorted(error["line"] for error in refusal["errors"]) == [3, 4]
    rows = door.get(f"topics/{topic}/partitions/0/events")["events"]
    assert [row["value"] for row in rows] == [1, 3]


def test_a_stream_of_lines_has_no_limit_but_a_line_has(door: RunningHttpDoor) -> None:
    topic = door.create_topic("many-lines")
    line = json.dumps({"value": "x" * 1000}).encode() + b"\n"

    def stream() -> Iterator[bytes]:
        for _ in range(30):
            yield line * 100

    reply = door.http.post(f"/api/v1/topics/{topic}/events", content=stream(), headers=NDJSON)
    assert reply.json()["published"] == 3000 > MAX_BODY // len(line)
    assert reply.json()["ends"] == [{"partition": 0, "offset": 3000}]
    assert reply.json()["events"] is None
    endless = (b"x" * 65536 for _ in range(MAX_BODY // 65536 + 2))
    reply = door.http.post(f"/api/v1/topics/{topic}/events", content=endless, headers=NDJSON)
    problem(reply, 413, "body-too-large")


def test_a_partition_is_read_from_any_offset_or_time(door: RunningHttpDoor) -> None:
    topic = door.create_topic("places")
    rows = [{"value": number, "timestamp_ms": 1_000_000 + number * 1000} for number in range(250)]
    assert door.post(f"topics/{topic}/events", rows).status_code == 200
    where = f"topics/{topic}/partitions/0/events"

    def offsets(**query: object) -> list[int]:
        return [row["offset"] for row in door.get(where, **query)["events"]]

    assert offsets(limit=3) == [0, 1, 2]
    assert offsets(offset=240) == list(range(240, 250))
    assert offsets(offset=-2) == [248, 249]
    assert offsets(offset=-9999, limit=1) == [0]
    assert offsets(offset=250) == []
    assert offsets(time="1970-01-01T00:18:00Z", limit=1) == [80]
    assert offsets(time="1990-01-01", limit=1) == []
    assert offsets(limit=250) == list(range(250))
    page = door.get(where, limit=249)
    topic_id = door.get(f"topics/{topic}")["id"]
    assert (page["begin"], page["end"], page["unreadable"]) == (0, 250, [])
    assert page["next"] == f"{topic_id}.249"
    few = door.get(where, max_bytes=5)
    assert len(few["events"]) == 5
    assert offsets(after=few["next"], limit=2) == [5, 6]
    assert offsets(after=page["next"]) == [249]
    assert offsets(after=door.get(where, after=page["next"])["next"]) == []
    assert offsets(after=".3", limit=1) == [3], "a page of a cluster without topic ids"


def test_a_page_does_not_continue_in_a_topic_that_was_created_again(door: RunningHttpDoor) -> None:
    """Its offsets are those of other events: those before would be left out."""
    topic = door.create_topic("paged")
    where = f"topics/{topic}/partitions/0/events"
    door.post(f"topics/{topic}/events", [{"value": number} for number in range(3)])
    following = door.get(where, limit=2)["next"]
    door.run(lambda engine: engine.delete_topic(topic))
    problem(door.http.get(f"/api/v1/{where}", params={"after": following}), 404, "unknown-topic")
    door.create_topic(topic)
    door.post(f"topics/{topic}/events", [{"value": number} for number in range(4)])
    reply = door.http.get(f"/api/v1/{where}", params={"after": following})
    refused = problem(reply, 422, "unfit")
    assert "topic paged was deleted and created again" in refused["detail"]
    assert (refused["begin"], refused["end"]) == (0, 4)
    for invalid in ("2", "x.y", f"{following}x", f" {following}", ".", "a.b.1"):
        reply = door.http.get(f"/api/v1/{where}", params={"after": invalid})
        problem(reply, 400, "invalid")


@pytest.mark.parametrize(
    ("where", "status", "kind"),
    [
        ("topics/none/partitions/0/events", 404, "unknown-topic"),
        ("topics/edge/partitions/1/events", 404, "unknown-topic"),
        ("topics/edge/partitions/x/events", 400, "bad-path"),
        ("topics/edge/partitions/-1/events", 400, "bad-path"),
        ("topics/edge/partitions/99999999999/events", 400, "bad-path"),
        ("topics/edge/partitions/0/events?offset=1", 416, "out-of-range"),
        ("topics/edge/partitions/0/events?offset=99999999999999999999", 400, "invalid"),
        ("topics/edge/partitions/0/events?offset=0&time=2013-01-01", 422, "unfit"),
        ("topics/edge/partitions/0/events?time=soon", 422, "unfit"),
        ("topics/edge/partitions/0/events?limit=0", 400, "invalid"),
        ("topics/edge/partitions/0/events?limit=1&limit=2", 400, "invalid"),
        ("topics/edge/partitions/0/events?limits=1", 400, "invalid"),
        ("topics/edge/partitions/0/events?encoding=hex", 400, "invalid"),
    ],
)
def test_a_bad_offset_or_time_is_refused(door: RunningHttpDoor, where: str, status: int, kind: str) -> None:
    door.post("topics", {"topic": "edge"})
    problem(door.http.get(f"/api/v1/{where}"), status, kind)


def test_a_deleted_offset_is_out_of_range_and_the_range_is_reported(door: RunningHttpDoor) -> None:
    topic = door.create_topic("cut")
    door.post(f"topics/{topic}/events", [{"value": number} for number in range(10)])
    door.post(f"topics/{topic}/delete-records", {"partition": 0, "before": 4})
    refusal = problem(
        door.http.get(f"/api/v1/topics/{topic}/partitions/0/events?offset=3"), 416, "out-of-range"
    )
    assert (refusal["begin"], refusal["end"]) == (4, 10)


def test_defaults_of_an_event() -> None:
    assert event_from_json(NewEventJson()) == NewEvent(None)


LARGE = b'{"a": "' + b"x" * 3_000_001 + "\u2028ä".encode() + b'", "b": 1.10}'


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("value", [LARGE, LARGE[1:], b"\xff" + LARGE, b"\xff", b"{}", None], ids=range(6))
def test_a_large_event_encoded_in_slices_is_the_same(value: bytes | None, exact: bool) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1

    event = Event("t", 0, 7, 1_600_000_000_000, b"\xfek", value, (("h", b"1"),))
    made = asyncio.run(event_to_json_in_slices(event, turn, exact=exact))
    assert json_line(made) == json_line(event_to_json(event, exact=exact))
    assert (turns >= 2) is (value is not None and len(value) > LARGE_BYTES)
