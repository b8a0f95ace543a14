"""CloudEvents are stored in the form of the Kafka binding's binary mode."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest

from tests.doors.http.door_kit import RunningHttpDoor, problem

STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
BASE: dict[str, Any] = {"specversion": "1.0", "id": "A-1", "source": "/shop", "type": "order.paid"}
COUNT = itertools.count()


def last_event(door: RunningHttpDoor, topic: str) -> dict[str, Any]:
    (row,) = door.get(f"topics/{topic}/partitions/0/events", offset=-1)["events"]
    row["headers"] = {header["name"]: header["value"] for header in row["headers"]}
    return dict(row)


def publish(door: RunningHttpDoor, event: object) -> tuple[str, Any]:
    topic = f"ce-{next(COUNT)}"
    return topic, door.http.post(f"/api/v1/topics/{topic}/events", json=event, headers=STRUCTURED)


def test_one_cloudevent_in_json(door: RunningHttpDoor) -> None:
    topic, reply = publish(
        door,
        BASE
        | {
            "time": "2013-06-01T12:00:00Z",
            "data": {"id": 7},
            "partitionkey": "k",
            "retries": 3,
            "test": True,
        },
    )
    assert reply.status_code == 200
    row = last_event(door, topic)
    assert (row["key"], row["value"]) == ("k", {"id": 7})
    assert row["headers"] == {
        "ce_specversion": "1.0",
        "ce_id": "A-1",
        "ce_source": "/shop",
        "ce_type": "order.paid",
        "ce_time": "2013-06-01T12:00:00Z",
        "ce_partitionkey": "k",
        "ce_retries": "3",
        "ce_test": "true",
        "content-type": "application/json",
    }


@pytest.mark.parametrize(
    ("more", "value", "encoding", "content_type"),
    [
        ({"data": "a text"}, "a text", "json", "application/json"),
        ({"data": "a text", "datacontenttype": "text/plain"}, "a text", "text", "text/plain"),
        ({"data": [1], "datacontenttype": "application/x+json"}, [1], "json", "application/x+json"),
        ({"data_base64": "AP8="}, "AP8=", "base64", None),
        ({"data_base64": "PGE+", "datacontenttype": "text/xml"}, "<a>", "text", "text/xml"),
        ({}, None, None, None),
        ({"data": None}, None, "json", "application/json"),
        ({"data_base64": None}, None, None, None),
        ({"data": None, "data_base64": "YQ=="}, "a", "text", None),
    ],
)
def test_data_in_json(
    door: RunningHttpDoor, more: dict[str, Any], value: object, encoding: str | None, content_type: str | None
) -> None:
    topic, reply = publish(door, BASE | more)
    assert reply.status_code == 200, reply.text
    row = last_event(door, topic)
    assert (row["value"], row.get("value_encoding")) == (value, encoding)
    assert row["headers"].get("content-type") == content_type


def test_a_batch(door: RunningHttpDoor) -> None:
    topic = door.create_topic("ce-batch")
    batch = [BASE | {"id": str(number), "data": number} for number in range(3)]
    reply = door.http.post(f"/api/v1/topics/{topic}/events", json=batch, headers=BATCH)
    assert reply.json()["published"] == 3
    rows = door.get(f"topics/{topic}/partitions/0/events")["events"]
    assert [row["value"] for row in rows] == [0, 1, 2]


def test_binary_mode(door: RunningHttpDoor) -> None:
    topic = door.create_topic("ce-binary")
    headers = {f"ce-{name}": value for name, value in BASE.items()} | {"content-type": "image/png"}
    headers |= {"ce-subject": "Z%C3%BCrich%20%E2%82%AC", "ce-partitionkey": "p"}
    reply = door.http.post(f"/api/v1/topics/{topic}/events", content=b"\x89PNG\xff", headers=headers)
    assert reply.status_code == 200, reply.text
    row = last_event(door, topic)
    assert base64.b64decode(row["value"]) == b"\x89PNG\xff"
    assert row["key"] == "p"
    assert row["headers"]["ce_subject"] == "Zürich €"
    assert row["headers"]["content-type"] == "image/png"


HEADERS_OF_BASE: list[tuple[bytes, bytes]] = [
    (f"ce-{name}".encode(), value.encode()) for name, value in BASE.items()
] + [(b"content-type", b"text/plain")]


@pytest.mark.parametrize(
    ("sent", "subject"),
    [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("Zürich €".encode(), "Zürich €"),
        (b'"a %22b%22 \\" \\\\ c"', 'a "b" " \\ c'),
        (b'"%5C%22"', '\\"'),
        (b'"half', '"half'),
        (b'a"b"', 'a"b"'),
        (b'""', ""),
        (b"%2525", "%25"),
        (b"100% %zz", "100% %zz"),
        (b"a+b", "a+b"),
    ],
)
def test_an_attribute_in_a_header_is_unquoted_and_then_percent_decoded_once(
    door: RunningHttpDoor, sent: bytes, subject: str
) -> None:
    topic = door.create_topic(f"ce-header-{next(COUNT)}")
    headers = [*HEADERS_OF_BASE, (b"ce-subject", sent)]
    reply = door.http.post(f"/api/v1/topics/{topic}/events", content=b"x", headers=headers)
    assert reply.status_code == 200, reply.text
    assert last_event(door, topic)["headers"]["ce_subject"] == subject


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ((b"ce-subject", b"%FF"), "the header ce-subject is not UTF-8"),
        ((b"ce-subject", b"%C3%28"), "the header ce-subject is not UTF-8"),
        ((b"ce-subject", b"%C0%A0"), "the header ce-subject is not UTF-8"),
        ((b"ce-subject", b"%ED%A0%80"), "the header ce-subject is not UTF-8"),
        ((b"ce-subject", "Zürich".encode("latin-1")), "the header ce-subject is not UTF-8"),
        ((b"ce-subject", b'"\xff"'), "the header ce-subject is not UTF-8"),
        ((b"ce-id", b"again"), "the header ce-id is given twice"),
    ],
)
def test_a_header_that_is_no_attribute_is_refused(
    door: RunningHttpDoor, header: tuple[bytes, bytes], detail: str
) -> None:
    topic = door.create_topic(f"ce-header-{next(COUNT)}")
    headers = [*HEADERS_OF_BASE, header]
    reply = door.http.post(f"/api/v1/topics/{topic}/events", content=b"x", headers=headers)
    assert problem(reply, 400, "invalid")["detail"] == detail
    assert door.get(f"topics/{topic}")["events"] == 0


def test_a_content_type_of_any_text_is_stored_as_it_is(door: RunningHttpDoor) -> None:
    topic = door.create_topic("ce-content-type")
    base, path = HEADERS_OF_BASE[:-1], f"/api/v1/topics/{topic}/events"
    of_text = (b"content-type", 'text/plain; name="Zürich %20"'.encode())
    assert door.http.post(path, content=b"x", headers=[*base, of_text]).status_code == 200
    assert last_event(door, topic)["headers"]["content-type"] == 'text/plain; name="Zürich %20"'
    of_bytes = (b"content-type", b"text/plain; name=\xff")
    reply = door.http.post(path, content=b"x", headers=[*base, of_bytes])
    assert problem(reply, 400, "invalid")["detail"] == "the header content-type is not UTF-8"


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        ({**BASE, "id": ""}, "no attribute 'id'"),
        ({name: BASE[name] for name in ("specversion", "id", "source")}, "no attribute 'type'"),
        (BASE | {"specversion": "0.3"}, "specversion '0.3'"),
        (BASE | {"Bad_Name": "x"}, "'Bad_Name' is not a CloudEvents attribute name"),
        (BASE | {"extension": {"a": 1}}, "must be a string, a boolean or a 32-bit integer"),
        (BASE | {"extension": 1.5}, "must be a string, a boolean or a 32-bit integer"),
        (BASE | {"extension": 2**31}, "must be a string, a boolean or a 32-bit integer"),
        (BASE | {"partitionkey": 7}, "'partitionkey' must be a string"),
        ([BASE], "Expected `object`"),
    ],
)
def test_a_malformed_cloudevent_is_refused(door: RunningHttpDoor, event: object, detail: str) -> None:
    _, reply = publish(door, event)
    assert detail in problem(reply, 400, "invalid")["detail"]


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        (BASE | {"data": 1, "data_base64": "AP8="}, "not both"),
        (BASE | {"data_base64": "*"}, "not base64"),
    ],
)
def test_rules_that_no_schema_can_express_are_checked(
    door: RunningHttpDoor, event: object, detail: str
) -> None:
    _, reply = publish(door, event)
    assert detail in problem(reply, 422, "unfit")["detail"]


def test_a_malformed_batch_is_refused(door: RunningHttpDoor) -> None:
    reply = door.http.post("/api/v1/topics/ce-none/events", json=BASE, headers=BATCH)
    assert "a batch is an array" in problem(reply, 400, "invalid")["detail"]
