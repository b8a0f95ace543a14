"""Push settings by HTTP: what of them is kept, changed and shown, and that nothing secret is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.queue_contract import PushReport
from mainstem.queues.push_settings import PushSettings
from mainstem.queues.settings import SubscriptionSettings
from tests.doors.http.door_kit import RunningHttpDoor, problem, running_door
from tests.doors.http.test_subscriptions import PATH
from tests.push.test_push_settings import SECRET

REPORT = PushReport(
    in_flight=1,
    window=2,
    delivered=3,
    failed=4,
    delivered_per_s=1 / 3,
    failed_per_s=0.0,
    latency_ms=1.23456,
    last_error="status 500",
    last_error_ms=1_000,
    paused_until_ms=2_000,
)


class RecordingPusher:
    """Sends nothing."""

    def __init__(self) -> None:
        self.settings: dict[str, PushSettings | None] = {}

    def subscription_changed(self, name: str, settings: SubscriptionSettings | None) -> None:
        self.settings[name] = None if settings is None else settings.push

    def report(self, name: str) -> PushReport | None:
        return REPORT if self.settings.get(name) else None


@pytest.fixture(scope="module")
def pusher() -> RecordingPusher:
    return RecordingPusher()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, pusher: RecordingPusher) -> Iterator[RunningHttpDoor]:
    async def attach(engine: EmbeddedEngine) -> None:
        engine.attach_pusher(pusher)

    with running_door(tmp_path_factory.mktemp("push") / "data") as running:
        running.run(attach)
        running.create_topic("t")
        yield running


def change(door: RunningHttpDoor, name: str, push: object) -> Any:
    return door.http.patch(f"{PATH}/{name}", json={"settings": {"push": push}})


def test_push_settings_are_kept_and_nothing_secret_is_shown(
    door: RunningHttpDoor, pusher: RecordingPusher, caplog: pytest.LogCaptureFixture
) -> None:
    push: dict[str, Any] = {
        "endpoint": "https://hooks.example.com/in?token=secret-token",
        "headers": {"Authorization": "Bearer secret-header", "X-Plain": "y"},
        "secret": SECRET,
        "deadline_ms": 5_000,
    }
    with caplog.at_level(logging.DEBUG):
        body = {"subscription": "hooks", "topics": ["t"], "settings": {"push": push}}
        created = door.post("subscriptions", body)
        assert created.status_code == 201, created.text
        shown = created.json()["settings"]["push"]
        assert shown == {
            "endpoint": "https://hooks.example.com/in?…",
            "headers": {"Authorization": None, "X-Plain": None},
            "signed": True,
            "token_audience": "",
            "deadline_ms": 5_000,
            "concurrency": 32,
            "payload": "wrapped",
        }
        original = pusher.settings["hooks"]
        assert original == PushSettings(
            endpoint=push["endpoint"],
            headers=(("Authorization", "Bearer secret-header"), ("X-Plain", "y")),
            secret=SECRET,
            deadline_ms=5_000,
        )
        # What was shown, sent back as it is, changes nothing; and a part changes that part alone.
        assert change(door, "hooks", shown).status_code == 200
        assert pusher.settings["hooks"] == original
        assert change(door, "hooks", {"concurrency": 5}).json()["settings"]["push"]["concurrency"] == 5
        headers = {"authorization": None, "x-new": "z"}
        assert change(door, "hooks", {"headers": headers, "secret": None}).status_code == 200
        current = pusher.settings["hooks"]
        assert current is not None
        assert current.headers == (("authorization", "Bearer secret-header"), ("x-new", "z"))
        assert (current.secret, current.endpoint) == ("", push["endpoint"])
        listed = door.http.get(PATH).text + door.http.get(f"{PATH}/hooks").text
    texts = [created.text, listed, *(record.getMessage() for record in caplog.records)]
    texts += [str(record.__dict__.get("fields")) for record in caplog.records]
    for secret in ("secret-token", "secret-header", SECRET.removeprefix("whsec_")):
        assert not any(secret in text for text in texts)
    assert any("push=https://hooks.example.com/in" in text for text in texts)


def test_a_new_endpoint_does_not_get_the_headers_of_the_old_one(
    door: RunningHttpDoor, pusher: RecordingPusher
) -> None:
    push = {"endpoint": "http://localhost:1/a", "headers": {"authorization": "secret"}}
    door.post("subscriptions", {"subscription": "moved", "topics": ["t"], "settings": {"push": push}})
    for thief in (
        {"endpoint": "http://localhost:2/a"},
        {"endpoint": "http://localhost:2/a", "headers": {"authorization": None}},
    ):
        problem(change(door, "moved", thief), 422, "unfit")
    assert change(door, "moved", {"endpoint": "http://localhost:2/a", "headers": {}}).status_code == 200
    assert pusher.settings["moved"] == PushSettings(endpoint="http://localhost:2/a")


def test_how_pushing_goes_is_shown_until_it_ends(door: RunningHttpDoor, pusher: RecordingPusher) -> None:
    push = {"endpoint": "http://localhost:1/a"}
    door.post("subscriptions", {"subscription": "shown", "topics": ["t"], "settings": {"push": push}})
    shown = door.get("subscriptions/shown")
    assert shown["push"] == {
        "in_flight": 1,
        "window": 2,
        "delivered": 3,
        "failed": 4,
        "delivered_per_s": 0.333,
        "failed_per_s": 0.0,
        "latency_ms": 1.235,
        "last_error": "status 500",
        "last_error_time": "1970-01-01T00:00:01.000Z",
        "paused_until": "1970-01-01T00:00:02.000Z",
        "pull_failures": 0,
        "pull_error": None,
    }
    assert shown["problems"] == ["pushing fails: status 500"]
    ended = change(door, "shown", None).json()
    assert (ended["push"], ended["settings"]["push"], ended["problems"]) == (None, None, [])
    assert pusher.settings["shown"] is None
    door.http.delete(f"{PATH}/shown")


@pytest.mark.parametrize(
    ("push", "status", "kind"),
    [
        ({}, 422, "unfit"),
        ({"endpoint": "ftp://a"}, 422, "unfit"),
        ({"endpoint": "http://a", "headers": {"authorization": None}}, 422, "unfit"),
        ({"endpoint": "http://a", "headers": {"host": "b"}}, 422, "unfit"),
        ({"endpoint": "http://a", "secret": "x"}, 422, "unfit"),
        ({"endpoint": "http://a", "deadline_ms": 1}, 400, "invalid"),
        ({"endpoint": "http://a", "concurrency": 1_001}, 400, "invalid"),
        ({"endpoint": "http://a", "payload": "xml"}, 400, "invalid"),
        ({"endpoint": "http://a", "retries": 1}, 400, "invalid"),
    ],
)
def test_push_settings_that_cannot_be_used_are_refused(
    door: RunningHttpDoor, push: dict[str, object], status: int, kind: str
) -> None:
    body = {"subscription": "refused", "topics": ["t"], "settings": {"push": push}}
    problem(door.post("subscriptions", body), status, kind)
