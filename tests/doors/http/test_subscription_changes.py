"""Several requests that change a subscription at once: each changes what it names, and takes nothing back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.queue_contract import SettingsHaveChanged, SubscriptionInfo, SubscriptionSettings
from tests.doors.http.door_kit import RunningHttpDoor, problem
from tests.doors.http.test_subscriptions import PATH, running_queues


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_queues(tmp_path_factory.mktemp("changes")) as running:
        running.create_topic("t")
        yield running


def test_requests_at_once_that_change_other_settings_lose_nothing(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = EmbeddedEngine.subscription

    async def slow(self: EmbeddedEngine, name: str) -> SubscriptionInfo:
        info = await describe(self, name)
        await asyncio.sleep(0.005)  # another request changes the settings meanwhile
        return info

    monkeypatch.setattr(EmbeddedEngine, "subscription", slow)
    door.post("subscriptions", {"subscription": "s", "topics": ["t"]})
    changes = {
        "lock_ms": 41_000, "failures_max": 7, "backoff_min_ms": 5, "backoff_max_ms": 50_000,
        "in_flight_max": 900,
    }  # fmt: skip

    def change(name: str) -> int:
        body = {"settings": {name: changes[name]}}
        return door.http.patch(f"{PATH}/s", json=body).status_code

    with ThreadPoolExecutor(len(changes)) as pool:
        assert set(pool.map(change, changes)) == {200}
    settings = door.get("subscriptions/s")["settings"]
    assert {name: settings[name] for name in changes} == changes


def test_a_change_for_settings_that_others_have_changed_is_refused(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.post("subscriptions", {"subscription": "r", "topics": ["t"]})
    alter = EmbeddedEngine.alter_subscription

    async def overtaken(
        self: EmbeddedEngine,
        name: str,
        settings: SubscriptionSettings,
        *,
        expected: SubscriptionSettings | None = None,
        dry_run: bool = False,
    ) -> None:
        present = (await self.subscription(name)).settings
        await alter(self, name, replace(present, parked_max=present.parked_max + 1))
        await alter(self, name, settings, expected=expected, dry_run=dry_run)

    monkeypatch.setattr(EmbeddedEngine, "alter_subscription", overtaken)
    problem(door.http.patch(f"{PATH}/r", json={"settings": {"lock_ms": 5_000}}), 409, "settings-changed")
    assert door.get("subscriptions/r")["settings"]["lock_ms"] == 30_000


def test_the_engine_compares_the_settings_when_the_change_is_decided(door: RunningHttpDoor) -> None:
    async def overtake(engine: EmbeddedEngine) -> None:
        await engine.create_subscription("o", SubscriptionSettings(topics=("t",)))
        present = (await engine.subscription("o")).settings
        await engine.alter_subscription("o", replace(present, lock_ms=5_000), expected=present)
        with pytest.raises(SettingsHaveChanged):
            await engine.alter_subscription("o", replace(present, failures_max=5), expected=present)

    door.run(overtake)
