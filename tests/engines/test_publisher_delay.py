"""Events with the header `mainstem-not-before` are delivered at their time, as a first attempt."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from mainstem.contract import Event, NewEvent, NotReachable, Position
from mainstem.engines.embedded.queues import header_times, own_times
from mainstem.queue_contract import Nack, SnapshotName
from tests.engines.queue_server import SimulatedServer, depth, simulated, values
from tests.engines.test_queue_expiry_refused import describe, refuse

SCANS: tuple[dict[str, Any], ...] = ({}, {"filter": "yes"}, {"in_key_order": True})
"""Without a scan, and with one."""
KINDS = (*SCANS, {"by_priority": True}, {"single_active": True})


async def publish(
    server: SimulatedServer, *events: tuple[bytes, int | bytes], key: bytes | None = None
) -> None:
    """Publish events, each with how long it is delayed, ms, or what its header is; b"": it has none."""
    now_ms = server.clock.wall_ms()
    times = [time if isinstance(time, bytes) else b"%d" % (now_ms + time) for _, time in events]
    headers = [(("mainstem-not-before", time),) if time else () for time in times]
    made = [NewEvent(value, key, pairs) for (value, _), pairs in zip(events, headers, strict=True)]
    await server.drive(server.engine.publish("t", made))


def place_of(event: Event) -> Position:
    return Position(event.topic, event.partition, event.offset)


async def receive(server: SimulatedServer, count: int) -> dict[bytes, tuple[int, int]]:
    """Receive events, and acknowledge them: value -> (ms since the call, attempt)."""
    begin_ms, received = server.clock.wall_ms(), dict[bytes, tuple[int, int]]()
    while len(received) < count:
        deliveries = await server.drive(server.engine.pull("s", "c", wait_ms=600_000))
        at_ms = server.clock.wall_ms() - begin_ms
        received.update({delivery.event.value or b"": (at_ms, delivery.attempt) for delivery in deliveries})
        await server.ack(*deliveries)
    return received


@pytest.mark.parametrize("settings", KINDS)
def test_an_event_is_delivered_when_its_time_comes(settings: dict[str, Any]) -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, (b"yes late", 900), (b"yes now", b""), (b"yes soon", 300))
        received = await receive(server, 3)
        assert received[b"yes now"][0] < 100
        assert 250 < received[b"yes soon"][0] < 400
        assert 850 < received[b"yes late"][0] < 1_000
        assert {attempt for _, attempt in received.values()} == {1}
        info = await describe(server)
        assert (info.delivered, info.redelivered, info.failed, info.depth.outstanding) == (3, 0, 0, 0)

    simulated(test, **settings)


@pytest.mark.parametrize("settings", SCANS)
def test_it_is_listed_as_waiting_and_may_be_woken_or_cancelled(settings: dict[str, Any]) -> None:
    async def test(server: SimulatedServer) -> None:
        engine = server.engine
        await publish(server, (b"yes 0", 60_000), (b"yes 1", 60_000), (b"yes 2", 60_000), key=None)
        await server.pass_time(0.1)
        assert (await depth(server)).waiting == 3
        browsed = await server.drive(engine.browse("s", "waiting"))
        assert [event.event.value for event in browsed] == [b"yes 0", b"yes 1", b"yes 2"]
        assert all(event.why.startswith("delayed until") and event.attempts == 0 for event in browsed)
        first, second, _ = (place_of(event.event) for event in browsed)
        assert await server.drive(engine.cancel("s", [second])) == 1
        assert await server.drive(engine.wake("s", [first])) == 1
        assert (await receive(server, 1)).keys() == {b"yes 0"}
        await server.pass_time(61)
        assert (await receive(server, 1)).keys() == {b"yes 2"}

    simulated(test, **settings)


@pytest.mark.parametrize(("settings", "power"), list(zip(SCANS, (False, True, False), strict=True)))
def test_it_waits_over_a_restart_and_is_woken_for_good(settings: dict[str, Any], *, power: bool) -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, (b"yes woken", 600_000), (b"yes late", 60_000), (b"yes now", b""))
        assert values(await server.pull()) == [b"yes now"]
        place = place_of((await server.drive(server.engine.browse("s", "waiting")))[0].event)
        assert await server.drive(server.engine.wake("s", [place])) == 1
        await server.crash(power=power)
        assert (await depth(server)).outstanding == 3
        assert (await receive(server, 2)).keys() == {b"yes woken", b"yes now"}
        (waiting,) = await server.drive(server.engine.browse("s", "waiting"))
        assert waiting.attempts == 0
        await server.pass_time(59)
        assert await server.pull() == []
        await server.pass_time(1)
        (delivery,) = await server.pull()
        assert (delivery.event.value, delivery.attempt) == (b"yes late", 1)

    simulated(test, **settings)


def test_in_key_order_it_keeps_later_events_of_its_key_and_no_others() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, (b"a0", b""), (b"a1 late", 2_000), (b"a2", b""), key=b"a")
        await publish(server, (b"b0", b""), key=b"b")
        await server.pass_time(0.1)
        assert values(await server.pull()) == [b"a0", b"b0"]
        (parked,) = await server.drive(server.engine.browse("s", "parked"))
        assert (parked.event.value, parked.why) == (b"a2", "waits for offset 0, of its key")
        await server.crash(power=True)
        assert (await receive(server, 2)).keys() == {b"a0", b"b0"}
        await server.pass_time(1.8)
        assert await server.pull() == []
        await server.pass_time(0.3)
        assert values(await server.pull()) == [b"a1 late", b"a2"]

    simulated(test, in_key_order=True)


@pytest.mark.parametrize("settings", SCANS)
def test_a_seek_lets_it_wait_again_and_a_redrive_does_not(settings: dict[str, Any]) -> None:
    async def test(server: SimulatedServer) -> None:
        engine = server.engine
        await publish(server, (b"yes", 90_000))
        await server.pass_time(0.1)
        assert await server.pull() == []
        await server.drive(engine.take_snapshot("s", "before"))
        for place in ("earliest", 0, SnapshotName("before")):
            await server.drive(engine.wake("s", None))
            await server.ack(*await server.pull())
            await server.drive(engine.seek("s", place))
            await server.pass_time(0.1)
            assert await server.pull() == []
            assert (await depth(server)).waiting == 1
        await server.drive(engine.cancel("s", None))
        await server.drive(engine.redrive("s", [Position("t", 0, 0)]))
        await server.pass_time(0.1)
        assert values(await server.pull()) == [b"yes"]

    simulated(test, **settings)


@pytest.mark.parametrize("settings", SCANS)
def test_a_time_far_away_is_bounded_and_what_is_no_time_does_not_count(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_times, "DELAY_MS_MAX", 3_000)

    async def test(server: SimulatedServer) -> None:
        far, odd = b"9" * 15, (b"9" * 16, b"tomorrow", b"-1", b" 1", b"1.5", b"\xd9\xa1", b"")
        await publish(server, (b"yes far", far), *((b"yes %d" % i, time) for i, time in enumerate(odd)))
        assert len(await receive(server, len(odd))) == len(odd)
        await server.pass_time(2.5)
        assert await server.pull() == []
        await server.pass_time(1)
        assert values(await server.pull()) == [b"yes far"]

    simulated(test, **settings)


@pytest.mark.parametrize("settings", SCANS)
def test_very_many_that_wait_keep_no_other(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_times, "WINDOWS_MAX", 3)

    async def test(server: SimulatedServer) -> None:
        await publish(server, *[(b"yes late", 60_000)] * 600, (b"yes now", b""))
        deliveries = await server.pull(count=1, wait_ms=100)
        assert values(deliveries) == [b"yes now"]
        assert (await depth(server)).waiting == 600
        await server.crash(power=True)
        await server.pass_time(0.1)
        assert (await depth(server)).waiting == 600

    simulated(test, **settings)


@pytest.mark.parametrize("settings", SCANS)
def test_while_the_disk_refuses_it_is_not_delivered_before_its_time(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"yes")
        await server.ack(*await server.pull())  # the mark that covers a lease is far ahead now
        refuse(monkeypatch, server)
        await publish(server, (b"yes late", 2_000))
        await server.pass_time(0.1)
        with suppress(NotReachable):
            assert await server.pull() == []
        monkeypatch.undo()
        await server.pass_time(1)
        assert await server.pull() == []
        await server.pass_time(1)
        assert values(await server.pull()) == [b"yes late"]

    simulated(test, **settings)


def test_given_back_it_is_a_failure_as_any_other() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, (b"late", 500))
        await server.pass_time(0.6)
        (first,) = await server.pull()
        await server.drive(server.engine.settle("s", [Nack(first.token)]))
        (second,) = await server.pull()
        assert (first.attempt, second.attempt) == (1, 2)

    simulated(test)
