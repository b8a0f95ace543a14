"""Replay by HTTP: the events that are published, each of them once, also after an interruption."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mainstem.contract import NewEvent, NotReachable, Position, StreamError
from mainstem.http_api.problems import KINDS
from tests.doors.http.door_kit import (
    RunningHttpDoor,
    audit_fields,
    create_orders,
    problem,
    refusal,
    running_door,
)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_door(tmp_path_factory.mktemp("replay") / "data") as running:
        create_orders(running)
        yield running


def replayed_from(door: RunningHttpDoor, topic: str) -> list[str]:
    """The source of each event in a topic's partition 0."""
    rows = door.get(f"topics/{topic}/partitions/0/events", limit=1000)["events"]
    return [
        header["value"]
        for row in rows
        for header in row["headers"]
        if header["name"] == "mainstem-replayed-from"
    ]


def test_a_replay_is_previewed_and_then_executed(door: RunningHttpDoor) -> None:
    target = door.create_topic("replayed")
    body: dict[str, Any] = {"to": target, "matches": {"query": "city:zürich", "topics": ["orders"]}}
    (dry,) = door.post_lines("replay", body | {"dry_run": True})
    assert (dry["dry_run"], dry["events"], dry["published"], dry["done"]) == (True, 10, 0, True)
    assert door.get(f"topics/{target}")["events"] == 0
    reports = door.post_lines("replay", body)
    assert (reports[-1]["done"], reports[-1]["published"]) == (True, 10)
    rows = door.get(f"topics/{target}/partitions/0/events")["events"]
    assert sorted(row["value"]["order"] for row in rows) == list(range(1, 20, 2))
    sources = {row["headers"][0]["value"] for row in rows}
    assert all(row["headers"][0]["name"] == "mainstem-replayed-from" for row in rows)
    assert all(row["headers"][1]["value"].startswith(reports[0]["job"] + " ") for row in rows)
    assert sources == {f"orders/1/{offset}" for offset in range(10)}
    assert rows[0]["key"].startswith("k")


def test_chosen_events_are_replayed(door: RunningHttpDoor) -> None:
    target = door.create_topic("chosen")
    events = [{"topic": "orders", "partition": 0, "offset": offset} for offset in (3, 1)]
    assert door.post_lines("replay", {"to": target, "events": events, "dry_run": True})[0]["events"] == 2
    assert door.post_lines("replay", {"to": target, "events": events})[-1]["published"] == 2
    rows = door.get(f"topics/{target}/partitions/0/events")["events"]
    assert [row["value"]["order"] for row in rows] == [6, 2]


def test_a_replay_of_a_topic_into_itself_ends(door: RunningHttpDoor) -> None:
    topic = door.create_topic("itself")
    door.post(f"topics/{topic}/events", [{"value": number} for number in range(30)])
    reports = door.post_lines("replay", {"to": topic, "matches": {"topics": [topic]}, "rate": 100_000})
    assert reports[-1]["published"] == 30
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
def test_a_wrong_replay_is_refused(door: RunningHttpDoor, body: object, status: int, kind: str) -> None:
    problem(door.post("replay", body), status, kind)


def test_a_replay_that_fails_reports_its_progress(door: RunningHttpDoor) -> None:
    target = door.create_topic("small", max_message_bytes="400")
    source = door.create_topic("large")
    door.post(f"topics/{source}/events", [{"value": "x" * size} for size in (10, 2000)])
    body = {"to": target, "matches": {"topics": [source]}, "rate": 4}
    last = door.post_lines("replay", body)[-1]
    assert (last["done"], last["published"]) == (False, 1)
    assert last["problem"]["type"] == "urn:mainstem:event-too-large"


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
    assert door.post_lines("replay", {"to": target, "events": events})[-1]["published"] == 4
    rows = door.get(f"topics/{target}/partitions/0/events")["events"]
    assert [row["value"] for row in rows] == [
        {"order": 2, "city": "Basel"},
        {"order": 4, "city": "Bern"},
        None,
        "/w==",
    ]
    assert [row["key"] for row in rows] == ["k2", None, "/w==", "k2"]
    assert rows[0]["headers"][0] == {"name": "why", "value": "mended"}
    assert replayed_from(door, target) == [f"orders/0/{offset}" for offset in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "events",
    [
        [{"topic": "orders", "partition": 0, "offset": 1}] * 2,
        [{"topic": "orders", "partition": 0, "offset": 1, "value": "=", "value_encoding": "base64"}],
        [{"topic": "orders", "partition": 0, "offset": 1, "valeu": 1}],
    ],
)
def test_wrong_chosen_events_are_refused(door: RunningHttpDoor, events: object) -> None:
    target = door.create_topic(f"wrong-{len(str(events))}")
    assert refusal(door.post("replay", {"to": target, "events": events}))
    assert door.get(f"topics/{target}")["events"] == 0


# ----------------------------------------------------------------------------------------------------------
# jobs


class FailingPublish:
    """An engine's `publish` that fails after a number of calls; the last one is half done, as in a crash."""

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


def test_an_interrupted_job_continues_with_each_event_once(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = door.create_topic("job-target", 3)
    source = door.create_topic("job-source", 2)
    door.run(
        lambda engine: engine.publish(
            source,
            [NewEvent(b"%d" % number, b"k%d" % (number % 7), partition=number % 2) for number in range(1300)],
        )
    )
    body = {"to": target, "matches": {"topics": [source]}, "rate": 400, "job": "nightly-7"}
    body["rate"] = 1_000_000
    published = 0
    for calls in (1, 0, 1):
        monkeypatch.setattr(door.engine, "publish", FailingPublish(door, calls))
        reports = door.post_lines("replay", body)
        monkeypatch.undo()
        assert reports[-1]["problem"]["type"] == "urn:mainstem:not-reachable"
        assert reports[-1]["published_before"] == published
        published += reports[-1]["published"]
        assert door.post_lines("replay", body | {"dry_run": True})[-1]["events"] == 1300 - published
    reports = door.post_lines("replay", body)
    assert (reports[-1]["done"], reports[-1]["published_before"], reports[-1]["job"]) == (
        True,
        published,
        "nightly-7",
    )
    assert reports[-1]["published"] == 1300 - published
    assert door.post_lines("replay", body)[-1]["published"] == 0
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
        last = door.post_lines("replay", body | {"job": job})[-1]
        assert (last["done"], last["published"]) == (True, published)
    assert replayed_from(door, target) == ["orders/1/4"] * 3


def test_a_job_with_other_events_is_refused(door: RunningHttpDoor) -> None:
    target = door.create_topic("other")
    body = {"to": target, "job": "mine", "matches": {"query": "city:bern", "topics": ["orders"]}}
    assert door.post_lines("replay", body)[-1]["published"] == 10
    other = body | {"matches": {"topics": ["orders"]}}
    detail = refusal(door.post("replay", other))
    assert detail == "job mine was begun with another query, or other topics or times"
    assert door.post_lines("replay", body | {"matches": {"query": "city:bern", "topics": ["orders"]}})[-1][
        "done"
    ]
    assert "job" in refusal(door.post("replay", body | {"job": "a b"}))


def test_a_job_does_not_continue_in_a_source_that_was_created_again(door: RunningHttpDoor) -> None:
    """The offsets that it has published are those of other events now."""
    target, source = door.create_topic("renewed-target"), door.create_topic("renewed")
    door.post(f"topics/{source}/events", [{"value": number} for number in range(5)])
    matches = {"to": target, "job": "again", "matches": {"topics": [source, "orders"]}, "rate": 100_000}
    chosen = {"to": target, "job": "one", "events": [{"topic": source, "partition": 0, "offset": 1}]}
    assert [door.post_lines("replay", body)[-1]["published"] for body in (matches, chosen)] == [25, 1]
    door.run(lambda engine: engine.delete_topic(source))
    assert door.post_lines("replay", matches)[-1]["published"] == 0, "what is left was published"
    door.create_topic(source)
    door.post(f"topics/{source}/events", [{"value": number} for number in range(7)])
    for body in (matches, chosen):
        for dry_run in (True, False):
            assert refusal(door.post("replay", body | {"dry_run": dry_run})) == (
                f"job {body['job']}: topic {source} was deleted and created again since the job began; start"
                " another job"
            )
        assert door.post_lines("replay", body | {"job": f"new-{body['job']}"})[-1]["done"]


def test_a_job_whose_events_have_no_topic_ids_is_refused(door: RunningHttpDoor) -> None:
    target = door.create_topic("old-form")
    body = {"to": target, "job": "old", "events": [{"topic": "orders", "partition": 0, "offset": 1}]}
    assert door.post_lines("replay", body)[-1]["published"] == 1
    (row,) = door.get(f"topics/{target}/partitions/0/events")["events"]
    *before, job_header = row["headers"]
    job, fingerprint, topic_id = job_header["value"].split(" ")
    assert (job, topic_id) == ("old", door.get("topics/orders")["id"])
    old_form = [*before, {"name": "mainstem-replay-job", "value": f"{job} {fingerprint}"}]
    door.post(f"topics/{target}/events", {"value": 1, "headers": old_form})
    assert "does not name the ids of its source topics" in refusal(door.post("replay", body))


def test_a_job_into_its_own_source_skips_its_own_events(door: RunningHttpDoor) -> None:
    topic = door.create_topic("loop")
    door.post(f"topics/{topic}/events", [{"value": number} for number in range(30)])
    body = {"to": topic, "job": "once", "matches": {"topics": [topic]}, "rate": 100_000}
    assert door.post_lines("replay", body)[-1]["published"] == 30
    assert door.post_lines("replay", body | {"dry_run": True})[-1]["events"] == 0
    assert door.post_lines("replay", body)[-1]["published"] == 0
    assert door.get(f"topics/{topic}")["events"] == 60


def test_a_job_runs_once_at_a_time_and_again_after_its_client_has_left(
    door: RunningHttpDoor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    target = door.create_topic("single")
    body = {"to": target, "job": "one", "matches": {"topics": ["orders"]}, "rate": 4}
    with door.http.stream("POST", "/api/v1/replay", json=body) as reply:
        steps = reply.iter_lines()
        while json.loads(next(steps))["published"] < 2:
            pass
        refusal = problem(door.post("replay", body), KINDS["busy"].status, "busy")
        assert refusal["detail"] == "job one into topic single is running already"
    while door.door.context.running_replays:
        door.get("cluster")
    (line,) = audit_fields(caplog)
    assert (line["action"], line["outcome"], line["job"]) == ("replay", "cut-off", "one")
    assert 2 <= line["published"] < 20
    assert door.post_lines("replay", body | {"rate": 100_000})[-1]["done"]
    assert len(replayed_from(door, target)) == len(set(replayed_from(door, target))) == 20
    (line,) = audit_fields(caplog)
    assert (line["outcome"], line["published"] + line["before"]) == ("done", 20)


def test_only_a_window_of_published_offsets_is_remembered(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainstem.replay.WINDOW", 3)
    target = door.create_topic("window")
    body = {"to": target, "job": "small", "matches": {"topics": ["orders"]}, "rate": 4}
    monkeypatch.setattr(door.engine, "publish", FailingPublish(door, 15))
    assert door.post_lines("replay", body | {"rate": 8})[-1]["published"] >= 15
    monkeypatch.undo()
    monkeypatch.setattr("mainstem.replay.WINDOW", 3)
    assert door.post_lines("replay", body | {"rate": 100_000})[-1]["done"]
    assert len(set(replayed_from(door, target))) == len(replayed_from(door, target)) == 20
