"""Queues through the HTTP door: what comes back is what the engine in the server has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from mainstem.contract import Event, InvalidArgument, NewEvent
from mainstem.engines.remote.http_client import HttpDoorClient
from mainstem.engines.remote.queues import RemoteQueues
from mainstem.queue_contract import (
    Ack,
    Extend,
    Nack,
    NoSuchSubscription,
    Reject,
    SettingsHaveChanged,
    SubscriptionNameTaken,
    SubscriptionSettings,
)
from mainstem.queues.push_settings import PushSettings
from tests.doors.http.door_kit import RunningHttpDoor, running_door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_door(tmp_path_factory.mktemp("remote") / "data") as running:
        yield running


def with_queues(door: RunningHttpDoor, work: Callable[[RemoteQueues], Awaitable[None]]) -> None:
    async def run() -> None:
        client = HttpDoorClient(door.address, keeps_connections=True)
        try:
            await work(RemoteQueues(client))
        finally:
            client.close()

    asyncio.run(run())


def test_deliveries_and_every_kind_of_answer(door: RunningHttpDoor) -> None:
    topic = door.create_topic("answers")
    events = [
        NewEvent(b"\xff%d" % number, key=b"k\xfe" if number else None, headers=(("h", b"\xfd"), ("h", None)))
        for number in range(6)
    ]
    door.run(lambda engine: engine.publish(topic, events))
    dead = door.create_topic("answers-dead")

    async def work(queues: RemoteQueues) -> None:
        settings = SubscriptionSettings(topics=(topic,), dead_letter_topic=dead, failures_max=1)
        await queues.create_subscription("answers", settings)
        deliveries = await queues.pull("answers", "me", max_events=100_000, wait_ms=100_000, lock_ms=60_000)
        first = deliveries[0]
        assert first.event == Event(
            topic, 0, 0, first.event.timestamp_ms, None, events[0].value, events[0].headers
        )
        assert deliveries[1].event.key == b"k\xfe"
        assert [delivery.attempt for delivery in deliveries] == [1] * 6
        tokens = [delivery.token for delivery in deliveries]
        verdicts = await queues.settle(
            "answers",
            [
                Ack(tokens[0]),
                Nack(tokens[1], delay_ms=0, counts=False),
                Reject(tokens[2], "bad"),
                Ack("nonsense"),
                Nack(tokens[3], reason="failed"),
                Extend(tokens[4], 90_000),
                Nack(tokens[5], delivered=False),
                Ack(tokens[0]),
            ],
        )
        assert verdicts == ["done", "done", "done", "invalid", "done", "done", "done", "stale"]
        again = await queues.pull("answers", "me", wait_ms=1_000)
        assert sorted((delivery.event.offset, delivery.attempt) for delivery in again) == [(1, 2), (5, 1)]
        (totals,) = await queues.subscription_totals(["answers", "none"])
        assert (totals.acked, totals.rejected, totals.depth.leased, totals.topics) == (1, 1, 3, (topic,))
        while (await queues.subscription_totals(["answers"]))[0].dead_lettered != {"": 2}:
            await asyncio.sleep(0.01)
        assert await queues.redrive_letters("answers", dry_run=True) == 2
        assert await queues.redrive_letters("answers", where="header.mainstem-dead-letter-detail:bad") == 1
        (redriven,) = await queues.pull("answers", "me", wait_ms=1_000)
        assert redriven.event.offset == 2

    with_queues(door, work)


def test_settings_come_back_and_change(door: RunningHttpDoor) -> None:
    topic, other = door.create_topic("settings"), door.create_topic("settings-2")
    settings = SubscriptionSettings(
        topics=(topic,),
        in_key_order=True,
        failures_max=5,
        backoff_min_ms=1_000,
        backoff_factor=1.5,
        from_latest=True,
        dead_letter_topic=other,
    )

    async def work(queues: RemoteQueues) -> None:
        await queues.create_subscription("changing", settings)
        with pytest.raises(SubscriptionNameTaken):
            await queues.create_subscription("changing", settings)
        assert await queues.subscription_settings("changing") == settings
        changed = replace(settings, failures_max=7, topics=(topic, other), dead_letter_topic=None)
        await queues.alter_subscription("changing", changed, dry_run=True)
        assert await queues.subscription_settings("changing") == settings
        await queues.alter_subscription("changing", changed, expected=settings)
        assert await queues.subscription_settings("changing") == changed
        with pytest.raises(SettingsHaveChanged):
            await queues.alter_subscription("changing", settings, expected=settings)
        await queues.alter_subscription("changing", changed)
        await queues.delete_subscription("changing")
        for call in (queues.subscription_settings, queues.delete_subscription):
            with pytest.raises(NoSuchSubscription):
                await call("changing")

    with_queues(door, work)


def test_what_http_cannot_have_is_refused(door: RunningHttpDoor) -> None:
    topic = door.create_topic("refused")

    async def work(queues: RemoteQueues) -> None:
        for wrong in (
            SubscriptionSettings(topics=(topic,), lock_ms=0),
            SubscriptionSettings(topics=(topic,), push=PushSettings(endpoint="https://example.org")),
            SubscriptionSettings(topics=(topic,), filter="a:("),
        ):
            with pytest.raises(InvalidArgument):
                await queues.create_subscription("refused", wrong)
        with pytest.raises(InvalidArgument):
            await queues.redrive_letters("refused", where="a:(")
        with pytest.raises(NoSuchSubscription):
            await queues.pull("refused", "me")

    with_queues(door, work)
