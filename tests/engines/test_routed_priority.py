"""Routed queues with levels of priority: of what is ready, the highest is always delivered first."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import Any

import pytest

from mainstem.contract import Headers, InvalidArgument, NewEvent, StreamError
from mainstem.engines.embedded.queues import routed_feed
from mainstem.queue_contract import Nack, SubscriptionSettings
from mainstem.queues import routed_index
from mainstem.queues.event_headers import level_of
from tests.engines.queue_server import SimulatedServer, depth, values
from tests.engines.routed_door import SPACE, RoutedDoor
from tests.engines.test_queue_checker import QueueHistory
from tests.engines.test_routed_habits import publish
from tests.engines.test_routed_queues import RoutedHistory, with_door


def leveled(number: int, priority: int | None, **more: Any) -> NewEvent:
    """An event whose value says its priority and its number."""
    headers = () if priority is None else (("priority", b"%d" % priority),)
    return NewEvent(b"%d-%d" % (0 if priority is None else priority, number), headers=headers, **more)


async def drain(server: SimulatedServer, name: str = "shop/a") -> list[bytes | None]:
    received: list[bytes | None] = []
    while part := await server.pull(name, count=7):
        received += values(part)
        await server.ack(*part, name=name)
    return received


def test_levels_by_the_header() -> None:
    given = (b"0", b"9", b"255", b"256", b"high", b"", None, b"-1", b"9" * 12)
    assert [level_of((("priority", value),)) for value in given] == [0, 9, 255, 255, 0, 0, 0, 0, 0]
    assert level_of(()) == 0


def test_the_highest_comes_first_however_many_are_before_it() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await publish(door, *[leveled(number, None) for number in range(1_200)])
        priorities = [1, 200, 10, None, 10, 1, 9]
        await publish(door, *[leveled(1_200 + number, level) for number, level in enumerate(priorities)])
        # What is above the highest level counts as that.
        first = [b"200-1201", b"10-1202", b"10-1204", b"9-1206", b"1-1200", b"1-1205", b"0-0", b"0-1"]
        assert values(await server.pull("shop/a", count=8)) == first
        await server.crash(power=True)
        assert values(await server.pull("shop/a", count=8)) == first, "as before: nothing was acknowledged"

    with_door(test, "a", priority_max=10)


def test_what_comes_back_is_in_its_old_place_among_its_level() -> None:
    async def test(door: RoutedDoor) -> None:
        server, engine = door.server, door.server.engine
        await publish(door, *[leveled(number, level) for number, level in enumerate([5, 5, 5, 1])])
        first, second, _ = await server.pull("shop/a", count=3)
        await server.drive(engine.settle("shop/a", [Nack(second.token), Nack(first.token, 500)]))
        await publish(door, leveled(9, 5), leveled(10, 7))
        assert values(await server.pull("shop/a", count=4)) == [b"7-10", b"5-1", b"5-9", b"1-3"]
        await publish(door, leveled(11, 5))
        await server.pass_time(0.6)
        assert values(await server.pull("shop/a")) == [b"5-0", b"5-11"]

    with_door(test, "a", priority_max=255)


@pytest.mark.parametrize("settings", [{}, {"filter": "*-*"}, {"single_active": True}])
def test_with_delays_seeks_and_restarts(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routed_feed, "LEVELS_OF_STEP", 5)
    monkeypatch.setattr(routed_index, "DECODED_PAGES", 1)

    async def test(door: RoutedDoor) -> None:
        server = door.server
        events = [leveled(number, number % 4) for number in range(40)]
        late = (("priority", b"3"), ("mainstem-not-before", b"%d" % (server.clock.wall_ms() + 15_000)))
        await publish(door, *events[:20])
        await server.pass_time(11)  # the index is written
        await publish(door, NewEvent(b"3-late", headers=late), *events[20:])
        await server.pass_time(0.1)
        expected = sorted(events, key=lambda event: -int((event.value or b"")[:1]))
        order = [event.value for event in expected]
        for _ in range(2):
            await server.crash(power=True)
            await server.pass_time(0.1)
            part = await server.pull("shop/a", count=15)
            assert values(part) == order[:15]
            assert (await depth(server, "shop/a")).leased == 15
        await server.crash(power=False)
        await server.pass_time(0.1)
        assert await drain(server) == order
        await server.pass_time(5)
        assert await drain(server) == [b"3-late"]
        await server.drive(server.engine.seek("shop/a", "earliest"))
        await server.pass_time(0.1)
        again = await drain(server)
        assert set(again[:11]) == {b"3-late", *order[:10]}
        assert again[11:] == order[10:]

    with_door(test, "a", **settings, priority_max=3)


def test_other_subscriptions_have_no_levels_and_the_setting_stays() -> None:
    async def refused(door: RoutedDoor, **settings: Any) -> None:
        for call in (
            door.queues.create_queue(SPACE, "x", SubscriptionSettings(**settings)),
            door.server.engine.create_subscription("y", SubscriptionSettings(topics=("dead",), **settings)),
        ):
            with pytest.raises(InvalidArgument):
                await door.server.drive(call)

    async def test(door: RoutedDoor) -> None:
        await refused(door, priority_max=5, by_priority=True)
        await refused(door, priority_max=5, in_key_order=True)
        await refused(door, priority_max=256)
        engine = door.server.engine
        plain = SubscriptionSettings(topics=("dead",), priority_max=5)
        with pytest.raises(InvalidArgument, match="has no priority_max"):
            await door.server.drive(engine.create_subscription("y", plain))
        with pytest.raises(StreamError):
            await door.server.drive(engine.alter_subscription("shop/a", SubscriptionSettings(priority_max=4)))

    with_door(test, "a", priority_max=5)


class PriorityHistory(RoutedHistory):
    """A routed history whose events have levels: each pull returns the highest first."""

    settings_of_queue = MappingProxyType({"priority_max": 5})

    def delay(self) -> Headers:
        """See `QueueHistory.delay`; with a level."""
        headers = super().delay()
        return headers if self.rng.random() < 0.4 else (*headers, ("priority", b"%d" % self.rng.randrange(8)))

    def received(self, consumer: str, deliveries: Any) -> None:
        levels = [min(5, level_of(delivery.event.headers)) for delivery in deliveries]
        assert levels == sorted(levels, reverse=True)
        self.levels = self.levels | set(levels)
        QueueHistory.received(self, consumer, deliveries)

    levels: frozenset[int] | set[int] = frozenset()


def test_the_highest_comes_first_over_crashes_and_nothing_is_lost() -> None:
    histories = [PriorityHistory(seed) for seed in range(3)]
    for history in histories:
        asyncio.run(history.run())
    assert set().union(*(history.levels for history in histories)) == set(range(6))
    assert sum(history.crashes for history in histories) > 5
