"""The live tail: new events are sent, a client that reconnects misses nothing, a slow one learns what it
missed."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from mainstem.contract import Position, ReadResult
from mainstem.engines.embedded.read import EmbeddedReader
from mainstem.http_api import event_encoding
from tests.doors.http.door_kit import RunningHttpDoor, problem


def messages(
    door: RunningHttpDoor, topic: str, *, last_id: str = "", **query: object
) -> Generator[dict[str, Any], None, None]:
    """The messages of a tail: event, id, data."""
    headers = {"last-event-id": last_id} if last_id else {}
    params = {name: str(value) for name, value in query.items()}
    with door.http.stream("GET", f"/api/v1/topics/{topic}/tail", params=params, headers=headers) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        message: dict[str, Any] = {"event": "message"}
        for line in reply.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                message[name or "comment"] = json.loads(value) if name == "data" else value.strip()
            else:
                yield message
                message = {"event": "message"}


def publish(door: RunningHttpDoor, topic: str, *values: object) -> None:
    assert door.post(f"topics/{topic}/events", [{"value": value} for value in values]).status_code == 200


def next_messages(stream: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [next(stream) for _ in range(count)]


def test_present_and_new_events_are_sent(door: RunningHttpDoor) -> None:
    topic = door.create_topic("tail")
    publish(door, topic, 0, 1)
    stream = messages(door, topic, **{"from": "begin"})
    hello, first, second = next_messages(stream, 3)
    assert hello["id"].endswith("/0:0")
    assert (first["data"]["value"], first["data"]["offset"]) == (0, 0)
    assert second["id"].endswith("/0:2")
    publish(door, topic, 2)
    assert next(stream)["data"]["value"] == 2
    stream.close()


def test_a_large_event_is_written_in_steps(door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = door.create_topic("tail-large")
    publish(door, topic, {"text": "x" * 2_000})
    monkeypatch.setattr(event_encoding, "LARGE_BYTES", 1_000)
    monkeypatch.setattr(event_encoding, "_encode_payload", None)  # would encode it in one step
    stream = messages(door, topic, **{"from": "begin"})
    assert next_messages(stream, 2)[1]["data"]["value"] == {"text": "x" * 2_000}
    stream.close()


def test_it_starts_at_the_end_or_some_events_before_it(door: RunningHttpDoor) -> None:
    topic = door.create_topic("tail-end")
    publish(door, topic, *range(10))
    stream = messages(door, topic)
    assert next(stream)["id"].endswith("/0:10")
    publish(door, topic, 10)
    assert next(stream)["data"]["value"] == 10
    stream.close()
    stream = messages(door, topic, **{"from": "-3"})
    assert [message["data"]["value"] for message in next_messages(stream, 4)[1:]] == [8, 9, 10]
    stream.close()


def test_a_client_that_reconnects_continues_where_it_was(door: RunningHttpDoor) -> None:
    topic = door.create_topic("tail-again", 2)
    stream = messages(door, topic)
    topic_id = door.get(f"topics/{topic}")["id"]
    assert next(stream)["id"] == f"{topic_id}/0:0,1:0"
    for number in range(3):
        assert (
            door.post(f"topics/{topic}/events", {"value": number, "partition": number % 2}).status_code == 200
        )
    seen = next_messages(stream, 3)
    stream.close()
    assert door.post(f"topics/{topic}/events", {"value": "missed", "partition": 1}).status_code == 200
    stream = messages(door, topic, last_id=[message["id"] for message in seen if "id" in message][-1])
    hello, missed = next_messages(stream, 2)
    assert hello["id"] == f"{topic_id}/0:2,1:1"
    assert missed["data"]["value"] == "missed"
    stream.close()


@pytest.mark.parametrize("last_id", ["nonsense", "0:x", "9:1", "0:99999999999999999999", "-1:-1", "0:٣"])
def test_a_malformed_event_id_is_ignored(door: RunningHttpDoor, last_id: str) -> None:
    topic = "tail-id"
    door.post("topics", {"topic": topic})
    stream = messages(door, topic, last_event_id=last_id)
    assert next(stream)["id"].endswith("/0:0")
    stream.close()


def test_events_above_the_rate_are_skipped_and_counted(door: RunningHttpDoor) -> None:
    topic = door.create_topic("tail-rate")
    stream = messages(door, topic, rate=10)
    next(stream)
    publish(door, topic, *range(1000))
    seen: list[int] = []
    skipped = 0
    while not seen or seen[-1] < 999:
        message = next(stream)
        if message["event"] == "skipped":
            skipped += message["data"]["skipped"]
        else:
            seen.append(message["data"]["value"])
    stream.close()
    assert skipped > 0
    assert seen == sorted(seen)
    assert len(seen) + skipped == 1000


def test_events_deleted_before_a_slow_client_read_them_are_counted(door: RunningHttpDoor) -> None:
    topic = door.create_topic("tail-gone")
    publish(door, topic, *range(10))
    stream = messages(door, topic, last_id="0:2", rate=0)
    assert next(stream)["id"].endswith("/0:2")
    stream.close()
    door.post(f"topics/{topic}/delete-records", {"partition": 0, "before": 6})
    stream = messages(door, topic, last_id="0:2", rate=0)
    hello, skipped, first = next_messages(stream, 3)
    assert hello["id"].endswith("/0:6")
    assert (skipped["event"], skipped["data"]) == ("skipped", {"skipped": 4})
    assert first["data"]["offset"] == 6
    stream.close()


@pytest.mark.parametrize(("events", "with_topic_id"), [(3, True), (50, True), (3, False)])
def test_a_tail_that_comes_back_to_a_topic_made_anew_says_so_and_begins_again(
    door: RunningHttpDoor, events: int, with_topic_id: bool
) -> None:
    """Also if the new topic has as many events as the old one had; ids of before 0.2 have no topic."""
    topic = door.create_topic(f"tail-anew-{events}-{with_topic_id}", 2)
    door.post(f"topics/{topic}/events", [{"value": "old", "partition": 1} for _ in range(40)])
    stream = messages(door, topic)
    last_id = next(stream)["id"]
    assert last_id.endswith("/0:0,1:40")
    stream.close()
    assert door.http.delete(f"/api/v1/topics/{topic}").status_code == 200
    door.create_topic(topic, 2)
    door.post(f"topics/{topic}/events", [{"value": n, "partition": 1} for n in range(events)])
    stream = messages(door, topic, last_id=last_id if with_topic_id else last_id.partition("/")[2])
    hello, *resets = next_messages(stream, 3 if with_topic_id else 2)
    assert hello["id"].endswith("/0:0,1:0")
    assert {reset["event"] for reset in resets} == {"reset"}
    assert resets[-1]["data"] == {"partition": 1, "offset": 40, "begin": 0}
    assert [message["data"]["value"] for message in next_messages(stream, events)] == list(range(events))
    stream.close()


def test_a_tail_whose_log_gets_shorter_says_so_and_begins_again(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a cluster after an unclean election, or if the topic is created again while it is followed."""
    topic = door.create_topic("tail-shorter")
    publish(door, topic, *range(5))
    read_events, cuts = EmbeddedReader.read, [3]

    async def cut(self: EmbeddedReader, **limits: int) -> ReadResult:
        if cuts:
            self.seek(Position(topic, 0, 5 + cuts.pop()))
        return await read_events(self, **limits)

    monkeypatch.setattr(EmbeddedReader, "read", cut)
    stream = messages(door, topic)
    _, reset, *seen = next_messages(stream, 7)
    assert (reset["event"], reset["data"]) == ("reset", {"partition": 0, "offset": 8, "begin": 0})
    assert [message["data"]["value"] for message in seen] == list(range(5))
    stream.close()


def test_an_id_is_sent_with_the_last_of_the_events_that_are_sent_together(door: RunningHttpDoor) -> None:
    topic = door.create_topic("tail-ids")
    publish(door, topic, *range(5))
    stream = messages(door, topic, **{"from": "begin"})
    assert ["id" in message for message in next_messages(stream, 6)] == [True, *[False] * 4, True]
    stream.close()


def test_a_tail_can_follow_a_single_partition(door: RunningHttpDoor) -> None:
    topic = door.create_topic("tail-one", 3)
    stream = messages(door, topic, partition=1)
    assert next(stream)["id"].endswith("/1:0")
    stream.close()
    problem(door.http.get(f"/api/v1/topics/{topic}/tail?partition=3"), 404, "unknown-topic")


def test_refused_tail_requests(door: RunningHttpDoor) -> None:
    problem(door.http.get("/api/v1/topics/none/tail"), 404, "unknown-topic")
    door.post("topics", {"topic": "tail-no"})
    problem(door.http.get("/api/v1/topics/tail-no/tail?from=soon"), 422, "unfit")
    problem(door.http.get("/api/v1/topics/tail-no/tail?rate=-1"), 400, "invalid")


def test_a_topic_that_is_deleted_ends_the_tail_with_a_problem(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainstem.doors.http.routes.tail.HEARTBEAT_S", 0.1)
    topic = door.create_topic("tail-deleted")
    stream = messages(door, topic)
    next(stream)
    assert next(stream)["comment"] == "alive"
    assert door.http.delete(f"/api/v1/topics/{topic}").status_code == 200
    last = next(message for message in stream if "data" in message)
    assert last["event"] == "problem"
    assert last["data"]["type"] == "urn:mainstem:unknown-topic"


def test_an_event_cannot_end_its_message(door: RunningHttpDoor) -> None:
    topic = door.create_topic("tail-hostile")
    stream = messages(door, topic)
    next(stream)
    hostile = "\n\nevent: problem\ndata: {}\r\r\n\n\u2028"
    publish(door, topic, hostile, {"a\n": [hostile]})
    first, second = next_messages(stream, 2)
    assert (first["event"], first["data"]["value"]) == ("message", hostile)
    assert (second["event"], second["data"]["value"]) == ("message", {"a\n": [hostile]})
    stream.close()
