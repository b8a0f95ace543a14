"""Subscriptions by HTTP: managed, pulled, settled, browsed, moved; and what refuses them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from mainstem.contract import Engine, NewEvent
from mainstem.engines.embedded.queues.events import EventSource
from mainstem.engines.embedded.queues.service import QueueService
from mainstem.engines.read_only import read_only
from mainstem.http_api.deliveries import TOKENS_MAX
from mainstem.queue_contract import DEAD_LETTER_FROM_HEADER, DEAD_LETTER_SUBSCRIPTION_HEADER, Delivery
from mainstem.timespec import format_iso
from tests.doors.http.door_kit import RunningHttpDoor, audit_fields, problem, until

PATH = "/api/v1/subscriptions"


@contextmanager
def running_queues(
    folder: Path, wrap: Callable[[Engine], Engine] = lambda engine: engine
) -> Iterator[RunningHttpDoor]:
    """A door that changes subscriptions."""
    running = RunningHttpDoor(folder / "data", {"read_only": False}, wrap)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_queues(tmp_path_factory.mktemp("subscriptions")) as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest, door: RunningHttpDoor) -> str:
    """A subscription of a topic of the same name with five events, at the times 1000, 2000 … ms."""
    name = "s-" + re.sub("[^a-zA-Z0-9]+", "-", request.node.name)[-60:]
    door.create_topic(name)
    events = [NewEvent(b"%d" % number, timestamp_ms=1000 * number) for number in range(1, 6)]
    door.run(lambda engine: engine.publish(name, events))
    created = door.post("subscriptions", {"subscription": name, "topics": [name]})
    assert created.status_code == 201, created.text
    return name


def verb(door: RunningHttpDoor, name: str, verb: str, **body: object) -> Any:
    """The JSON of the reply to a verb, which must succeed."""
    reply = door.post(f"subscriptions/{name}:{verb}", body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def pull(door: RunningHttpDoor, name: str, **body: object) -> list[dict[str, Any]]:
    deliveries: list[dict[str, Any]] = verb(door, name, "pull", **{"consumer": "w", **body})["deliveries"]
    return deliveries


def depth(door: RunningHttpDoor, name: str) -> dict[str, int]:
    """The states that have events."""
    counts = door.get(f"subscriptions/{name}")["depth"]
    return {state: count for state, count in counts.items() if count}


# ----------------------------------------------------------------------------------------------------------
# subscriptions


def test_a_subscription_is_created_shown_changed_and_deleted(
    door: RunningHttpDoor, caplog: pytest.LogCaptureFixture
) -> None:
    door.create_topic("orders")
    door.create_topic("dead")
    settings = {
        "failures_max": 3,
        "accepts_late_acks": False,
        "filter": "total>5",
        "dead_letter_topic": "dead",
    }
    body = {"subscription": "billing", "topics": ["orders"], "settings": settings}
    with caplog.at_level(logging.INFO, "mainstem.audit"):
        reply = door.post("subscriptions", body)
        assert reply.status_code == 201
        shown = door.get("subscriptions/billing")
        assert reply.json() | {"oldest_age_ms": None} == shown | {"oldest_age_ms": None}
        assert {key: shown["settings"][key] for key in settings} == settings
        assert (shown["settings"]["lock_ms"], shown["settings"]["in_key_order"]) == (30_000, False)
        changed = door.http.patch(
            f"{PATH}/billing", json={"settings": {"lock_ms": 5_000, "dead_letter_topic": None}}
        ).json()
        assert changed["settings"] == shown["settings"] | {"lock_ms": 5_000, "dead_letter_topic": None}
        assert door.http.patch(f"{PATH}/billing", json={"topics": ["orders"]}).json()["topics"] == ["orders"]
        refused = problem(door.http.patch(f"{PATH}/billing", json={"settings": {"filter": ""}}), 422, "unfit")
        assert "cannot be changed" in refused["detail"]
        assert door.http.delete(f"{PATH}/billing?dry_run=true").json()["dry_run"]
        assert door.http.delete(f"{PATH}/billing").json() == {
            "subscription": "billing",
            "dry_run": False,
            "events": 0,
        }
    problem(door.http.get(f"{PATH}/billing"), 404, "unknown-subscription")
    lines = [
        (line["action"], line["dry_run"], line["outcome"], line.get("settings"))
        for line in audit_fields(caplog)
    ]
    created = "filter=total>5, failures_max=3, dead_letter_topic=dead, accepts_late_acks=False"
    assert lines == [
        ("create-subscription", False, "done", created),
        ("change-subscription", False, "done", "lock_ms=5000, dead_letter_topic=null"),
        ("change-subscription", False, "done", "topics=orders"),
        ("change-subscription", False, "refused", "filter="),
        ("delete-subscription", True, "done", None),
        ("delete-subscription", False, "done", None),
    ]


def test_subscriptions_are_listed_in_pages(door: RunningHttpDoor) -> None:
    door.create_topic("pages")
    for number in range(3):
        door.post("subscriptions", {"subscription": f"page-{number}", "topics": ["pages"]})
    first = door.get("subscriptions", q="PAGE-", limit=2)
    assert [row["subscription"] for row in first["subscriptions"]] == ["page-0", "page-1"]
    assert (first["total"], first["next"]) == (3, "page-1")
    assert first["subscriptions"][0]["topics"] == ["pages"]
    rest = door.get("subscriptions", q="PAGE-", after=first["next"])
    assert ([row["subscription"] for row in rest["subscriptions"]], rest["next"]) == (["page-2"], None)


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"subscription": "a b"}, 400, "invalid"),
        ({"subscription": ""}, 400, "invalid"),
        ({"topics": []}, 400, "invalid"),
        ({"topics": ["no-such-topic"]}, 404, "unknown-topic"),
        ({"settings": {"lock_ms": 999}}, 400, "invalid"),
        ({"settings": {"lock_ms": 43_200_001}}, 400, "invalid"),
        ({"settings": {"lock_time": 1}}, 400, "invalid"),
        ({"settings": {"backoff_factor": 0.5}}, 400, "invalid"),
        ({"extra": 1}, 400, "invalid"),
    ],
)
def test_what_cannot_be_created_is_refused(
    door: RunningHttpDoor, change: dict[str, Any], status: int, kind: str
) -> None:
    if "refused" not in door.run(lambda engine: _names(engine)):
        door.create_topic("refused")
    body = {"subscription": "refused", "topics": ["refused"], **change}
    problem(door.post("subscriptions", body), status, kind)


async def _names(engine: Engine) -> list[str]:
    return [topic.name for topic in await engine.topics()]


def test_a_name_is_given_once(door: RunningHttpDoor, name: str) -> None:
    problem(door.post("subscriptions", {"subscription": name, "topics": [name]}), 409, "subscription-exists")


@pytest.mark.parametrize("verb", ["pull", "ack", "browse", "purge", "no-verb"])
def test_a_name_has_no_colon_so_what_changes_subscriptions_takes_no_verb(
    door: RunningHttpDoor, name: str, verb: str
) -> None:
    reply = door.http.patch(f"{PATH}/{name}:{verb}", json={"settings": {}})
    assert reply.status_code == (404 if verb == "no-verb" else 405), reply.text


# ----------------------------------------------------------------------------------------------------------
# deliveries


def test_events_are_pulled_and_settled_each_in_its_way(door: RunningHttpDoor, name: str) -> None:
    letters = door.create_topic(f"{name}-x")
    door.http.patch(f"{PATH}/{name}", json={"settings": {"dead_letter_topic": letters}})
    deliveries = pull(door, name, max_events=4)
    assert [delivery["event"]["value"] for delivery in deliveries] == [1, 2, 3, 4]
    assert {delivery["attempt"] for delivery in deliveries} == {1}
    assert deliveries[0]["deadline"] == format_iso(deliveries[0]["deadline_ms"])
    assert deliveries[0]["event"]["topic"] == name
    first, second, third, fourth = [delivery["token"] for delivery in deliveries]
    assert verb(door, name, "ack", tokens=[first, "garbage", first])["verdicts"] == [
        *("done", "invalid", "stale"),
    ]
    assert verb(door, name, "nack", tokens=[second], delay_ms=1000)["verdicts"] == ["done"]
    assert verb(door, name, "extend", tokens=[third], lock_ms=60_000)["verdicts"] == ["done"]
    assert verb(door, name, "nack", tokens=[third], counts=False)["verdicts"] == ["done"]
    assert verb(door, name, "reject", tokens=[fourth], reason="no price")["verdicts"] == ["done"]
    until(lambda: depth(door, name) == {"ready": 2, "waiting": 1})
    shown = door.get(f"subscriptions/{name}")
    assert (shown["acked"], shown["failed"], shown["dead_lettered"]) == (1, 2, 1)
    (dead_letter,) = door.get(f"topics/{letters}/partitions/0/events")["events"]
    headers = {header["name"]: header["value"] for header in dead_letter["headers"]}
    assert headers["mainstem-dead-letter-detail"] == "no price"
    assert [delivery["attempt"] for delivery in pull(door, name)] == [2, 1]
    assert pull(door, name) == []


def test_a_dead_letter_topic_that_refuses_is_a_problem_of_the_subscription(
    door: RunningHttpDoor, name: str
) -> None:
    letters = door.create_topic(f"{name}-x", max_message_bytes="1")
    door.http.patch(f"{PATH}/{name}", json={"settings": {"dead_letter_topic": letters}})
    (delivery,) = pull(door, name, max_events=1)
    assert verb(door, name, "reject", tokens=[delivery["token"]])["verdicts"] == ["done"]
    until(lambda: bool(door.get(f"subscriptions/{name}")["problems"]))
    assert letters in door.get(f"subscriptions/{name}")["problems"][0]
    assert depth(door, name) == {"ready": 4, "dying": 1}


def test_consumers_are_shown_with_what_they_have(door: RunningHttpDoor, name: str) -> None:
    pull(door, name, consumer="a", max_events=2)
    pull(door, name, consumer="b", max_events=1)
    shown = door.get(f"subscriptions/{name}")["consumers"]
    assert [(consumer["consumer"], consumer["leased"]) for consumer in shown] == [("a", 2), ("b", 1)]


def test_payloads_are_pulled_byte_for_byte(door: RunningHttpDoor, name: str) -> None:
    door.run(lambda engine: engine.publish(name, [NewEvent(b"\xff\0", key=b"\xfe"), NewEvent(None)]))
    events = [delivery["event"] for delivery in pull(door, name, encoding="base64")]
    assert [base64.b64decode(event["value"]) for event in events[:5]] == [b"1", b"2", b"3", b"4", b"5"]
    assert (base64.b64decode(events[5]["value"]), base64.b64decode(events[5]["key"])) == (b"\xff\0", b"\xfe")
    assert events[6]["value"] is None


def test_a_pull_waits_for_the_first_event(door: RunningHttpDoor, name: str) -> None:
    pull(door, name)

    async def publish_later(engine: Engine) -> None:
        door.loop.call_later(0.2, lambda: door.loop.create_task(publish(engine)))

    async def publish(engine: Engine) -> None:
        await engine.publish(name, [NewEvent(b"late")])

    door.run(publish_later)
    assert [delivery["event"]["value"] for delivery in pull(door, name, wait_ms=20_000)] == ["late"]


@pytest.mark.parametrize("reads", [False, True], ids=["while it waits", "while events are read"])
def test_a_client_that_leaves_a_pull_leaves_no_lease(
    door: RunningHttpDoor, name: str, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulls = 0
    original = QueueService.pull

    async def counted_pull(service: QueueService, *arguments: Any, **limits: Any) -> list[Delivery]:
        nonlocal pulls
        pulls += 1
        try:
            return await original(service, *arguments, **limits)
        finally:
            pulls -= 1

    async def endless_read(*arguments: object) -> None:
        await asyncio.Event().wait()

    if not reads:
        pull(door, name)
    leased = depth(door, name).get("leased", 0)
    body = json.dumps({"consumer": "leaver", "wait_ms": 30_000}).encode()
    with monkeypatch.context() as patch:
        patch.setattr(QueueService, "pull", counted_pull)
        if reads:
            patch.setattr(EventSource, "read", endless_read)
        with socket.create_connection(("127.0.0.1", door.port)) as client:
            client.sendall(
                b"POST %b/%b:pull HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (PATH.encode(), name.encode(), len(body), body)
            )
            until(lambda: pulls == 1)
            if reads:
                until(lambda: depth(door, name).get("leased", 0) == 5)
        until(lambda: pulls == 0)
    until(lambda: depth(door, name).get("leased", 0) == leased)
    door.run(lambda engine: engine.publish(name, [NewEvent(b"later")]))
    assert depth(door, name)["ready"] == (6 if reads else 1)
    assert len(pull(door, name)) == (6 if reads else 1)
    assert door.get(f"subscriptions/{name}")["failed"] == 0


def test_a_stopping_server_ends_a_pull(tmp_path: Path) -> None:
    with running_queues(tmp_path) as door:
        door.create_topic("quiet")
        door.post("subscriptions", {"subscription": "quiet", "topics": ["quiet"]})
        door.loop.call_soon_threadsafe(door.loop.call_later, 0.3, door.door.context.closing.set)
        assert pull(door, "quiet", wait_ms=60_000) == []


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("pull", {}),
        ("pull", {"consumer": ""}),
        ("pull", {"consumer": "w", "max_events": 0}),
        ("pull", {"consumer": "w", "max_events": 1001}),
        ("pull", {"consumer": "w", "wait_ms": 60_001}),
        ("pull", {"consumer": "w", "max_bytes": 0}),
        ("ack", {"tokens": []}),
        ("ack", {"tokens": [""] * (TOKENS_MAX + 1)}),
        ("ack", {"tokens": ["t" * 201]}),
        ("nack", {"tokens": ["t"], "delay_ms": -1}),
        ("nack", {"tokens": ["t"], "delay_ms": 604_800_001}),
        ("reject", {"tokens": ["t"], "reason": "x" * 1001}),
        ("extend", {"tokens": ["t"]}),
        ("extend", {"tokens": ["t"], "lock_ms": 0}),
        ("seek", {"to": "17"}),
        ("seek", {"to": "topic/0"}),
        ("purge", {"dry": True}),
        ("redrive", {"positions": []}),
        ("redrive", {"positions": [{"topic": "t", "partition": -1, "offset": 0}]}),
    ],
)
def test_requests_out_of_range_are_refused(
    door: RunningHttpDoor, action: str, body: dict[str, object]
) -> None:
    problem(door.post(f"subscriptions/none:{action}", body), 400, "invalid")


def test_every_route_refuses_an_unknown_subscription(door: RunningHttpDoor) -> None:
    bodies: dict[str, dict[str, object]] = {
        "pull": {"consumer": "w"},
        "ack": {"tokens": ["t"]},
        "nack": {"tokens": ["t"]},
        "reject": {"tokens": ["t"]},
        "extend": {"tokens": ["t"], "lock_ms": 1000},
        "seek": {"to": "latest"},
        "purge": {},
        "redrive": {},
    }
    for action, body in bodies.items():
        problem(door.post(f"subscriptions/none:{action}", body), 404, "unknown-subscription")
    for reply in (
        door.http.get(f"{PATH}/none"),
        door.http.get(f"{PATH}/none:browse"),
        door.http.patch(f"{PATH}/none", json={}),
        door.http.delete(f"{PATH}/none"),
    ):
        problem(reply, 404, "unknown-subscription")


# ----------------------------------------------------------------------------------------------------------
# browse, seek, purge, redrive


def test_outstanding_events_are_browsed_in_pages(door: RunningHttpDoor, name: str) -> None:
    pull(door, name, max_events=2, consumer="w")
    first = door.get(f"subscriptions/{name}:browse", limit=3)
    rows = [(row["event"]["offset"], row["state"], row["attempts"]) for row in first["events"]]
    assert rows == [(0, "leased", 1), (1, "leased", 1), (2, "ready", 0)]
    why = [row["why"] for row in first["events"]]
    assert (why[0].startswith("leased by w until 20"), why[1], why[2]) == (True, why[0], "")
    assert first["next"] == f"{name}/0/2"
    rest = door.get(f"subscriptions/{name}:browse", limit=3, after=first["next"])
    assert ([row["event"]["offset"] for row in rest["events"]], rest["next"]) == ([3, 4], None)
    leased = door.get(f"subscriptions/{name}:browse", state="leased", encoding="base64")
    assert [base64.b64decode(row["event"]["value"]) for row in leased["events"]] == [b"1", b"2"]
    assert depth(door, name) == {"ready": 3, "leased": 2}
    problem(door.http.get(f"{PATH}/{name}:browse?after=x"), 400, "invalid")
    problem(door.http.get(f"{PATH}/{name}:browse?after=x/{2**31}/0"), 422, "unfit")
    problem(door.http.get(f"{PATH}/{name}:browse?state=done"), 400, "invalid")


@pytest.mark.parametrize(
    ("to", "events"), [("earliest", 5), ("latest", 0), ("1970-01-01T00:00:03Z", 3), ("{name}/0/4", 1)]
)
def test_a_subscription_is_moved(
    door: RunningHttpDoor, name: str, to: str, events: int, caplog: pytest.LogCaptureFixture
) -> None:
    to = to.format(name=name)
    with caplog.at_level(logging.INFO, "mainstem.audit"):
        dry = verb(door, name, "seek", to=to, dry_run=True)
        assert dry == {"subscription": name, "dry_run": True, "before": 5, "events": events}
        assert depth(door, name) == {"ready": 5}
        assert verb(door, name, "seek", to=to) == dry | {"dry_run": False}
    assert sum(depth(door, name).values()) == events
    assert [(line["action"], line["dry_run"], line["events"]) for line in audit_fields(caplog)] == [
        ("seek", True, events),
        ("seek", False, events),
    ]


def test_a_place_that_does_not_exist_is_refused(door: RunningHttpDoor, name: str) -> None:
    for to, status, kind in (
        (f"{name}/0/6", 416, "out-of-range"),
        (f"{name}/1/0", 404, "unknown-topic"),
        ("other/0/0", 404, "unknown-topic"),
        ("2013-13-01", 422, "unfit"),
    ):
        for dry_run in (True, False):
            body = {"to": to, "dry_run": dry_run}
            problem(door.post(f"subscriptions/{name}:seek", body), status, kind)


def test_a_subscription_is_purged(door: RunningHttpDoor, name: str, caplog: pytest.LogCaptureFixture) -> None:
    pull(door, name, max_events=1)
    with caplog.at_level(logging.INFO, "mainstem.audit"):
        assert verb(door, name, "purge", dry_run=True)["events"] == 5
        assert depth(door, name) == {"ready": 4, "leased": 1}
        assert verb(door, name, "purge") == {"subscription": name, "dry_run": False, "events": 5}
    assert depth(door, name) == {}
    assert [(line["action"], line["events"]) for line in audit_fields(caplog)] == [("purge", 5)] * 2


def test_dead_letters_are_redriven(
    door: RunningHttpDoor, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = [delivery["token"] for delivery in pull(door, name)]
    verb(door, name, "reject", tokens=tokens)
    place = {"topic": name, "partition": 0, "offset": 1}
    with caplog.at_level(logging.INFO, "mainstem.audit"):
        assert verb(door, name, "redrive", positions=[place], dry_run=True)["events"] == 1
        assert depth(door, name) == {}
        assert verb(door, name, "redrive", positions=[place])["events"] == 1
        assert depth(door, name) == {"ready": 1}
        refused = problem(door.post(f"subscriptions/{name}:redrive", {}), 422, "unfit")
        assert "no dead-letter topic" in refused["detail"]
        dead = door.create_topic(f"{name}-dead")
        door.http.patch(f"{PATH}/{name}", json={"settings": {"dead_letter_topic": dead}})
        forged = {DEAD_LETTER_SUBSCRIPTION_HEADER: name, DEAD_LETTER_FROM_HEADER: f"{name}/0/3"}
        headers = tuple((header, value.encode()) for header, value in forged.items())
        door.run(lambda engine: engine.publish(dead, [NewEvent(b"x", headers=headers)]))
        verb(door, name, "reject", tokens=[delivery["token"] for delivery in pull(door, name)])
        until(lambda: door.get(f"subscriptions/{name}")["dead_lettered"] == 1)
        assert verb(door, name, "redrive", since_ms=1 << 45)["events"] == 0
        assert verb(door, name, "redrive", since_ms=1, dry_run=True)["events"] == 1
        assert verb(door, name, "redrive")["events"] == 1
    assert [delivery["event"]["offset"] for delivery in pull(door, name)] == [1]
    door.run(lambda engine: engine.delete_topic(name))
    door.create_topic(name)
    door.run(lambda engine: engine.publish(name, [NewEvent(b"%d" % number) for number in range(5)]))
    verb(door, name, "ack", tokens=[delivery["token"] for delivery in pull(door, name)])
    assert verb(door, name, "redrive", dry_run=True)["events"] == 0, "the letter is of the deleted topic"
    both = {"positions": [place], "since_ms": 1}
    problem(door.post(f"subscriptions/{name}:redrive", both), 422, "unfit")
    outcomes = [line["outcome"] for line in audit_fields(caplog) if line["action"] == "redrive"]
    assert outcomes[:6] == ["done", "done", "refused", "done", "done", "done"]


# ----------------------------------------------------------------------------------------------------------


def test_a_read_only_door_shows_subscriptions_and_changes_none(tmp_path: Path) -> None:
    with running_queues(tmp_path, read_only) as door:
        assert door.get("subscriptions")["subscriptions"] == []
        for action, body in (
            ("pull", {"consumer": "w"}),
            ("ack", {"tokens": ["t"]}),
        ):
            problem(door.post(f"subscriptions/s:{action}", body), 403, "not-allowed")


def test_an_engine_without_queues_says_that_it_has_none(tmp_path: Path) -> None:
    class Plain:
        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            if name in ("subscriptions", "pull"):
                raise AttributeError(name)
            return getattr(self._engine, name)

    running = RunningHttpDoor(
        tmp_path / "data", {"read_only": False}, lambda engine: cast(Engine, Plain(engine))
    )
    try:
        problem(running.http.get(PATH), 404, "not-offered")
        problem(running.post("subscriptions/s:pull", {"consumer": "w"}), 404, "not-offered")
    finally:
        running.close()
