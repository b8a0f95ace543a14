"""Events that wait for longer: their times are in delay runs on the disk, which are never believed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mainstem.contract import NewEvent
from mainstem.log.disk.contract import Buffer
from mainstem.log.paths import DELAYS
from mainstem.queue_contract import Delivery, Nack
from mainstem.queues import delay_run, delays, stored_run
from tests.engines.queue_server import SimulatedServer, depth, simulated
from tests.queues.test_delays import DAMAGE

EVENTS = 60


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and blocks of a few entries."""
    for module in (delay_run, delays):
        monkeypatch.setattr(module, "RUN_ENTRIES", 8)
    for module in (delay_run, delays, stored_run):
        monkeypatch.setattr(module, "BLOCK_ENTRIES", 3)
    monkeypatch.setattr(delays, "NEAR_MS", 20)


class DelayedEvents:
    """Events that were given back with a delay each."""

    def __init__(self, server: SimulatedServer) -> None:
        self.server = server
        self.due_ms: dict[int, int] = {}
        """Offset -> when it is due."""

    async def give_back(self, count: int = EVENTS) -> None:
        """Publish events, receive them, and give them back for up to 3 s."""
        server, rng = self.server, random.Random(3)
        events = [NewEvent(b"%d" % number) for number in range(count)]
        await server.drive(server.engine.publish("t", events))
        deliveries: list[Delivery] = []
        while len(deliveries) < count:
            deliveries += await server.pull(count=count)
        delays_ms = [rng.randrange(1_500, 3_000) for _ in deliveries]
        self.due_ms = {
            delivery.event.offset: server.clock.wall_ms() + delay_ms
            for delivery, delay_ms in zip(deliveries, delays_ms, strict=True)
        }
        for start in range(0, count, 7):
            part = slice(start, start + 7)
            outcomes = [
                Nack(delivery.token, delay_ms)
                for delivery, delay_ms in zip(deliveries[part], delays_ms[part], strict=True)
            ]
            verdicts = await server.drive(server.engine.settle("s", outcomes))
            assert set(verdicts) == {"done"}

    def files(self) -> list[str]:
        return [f"{DELAYS}/{name}" for name in self.server.disk.list(DELAYS)]

    async def receive_all(self, *, late_ms: int = 50) -> None:
        """Receive each of them, not before its time and hardly after it."""
        server = self.server
        received: list[int] = []
        while len(received) < len(self.due_ms):
            deliveries = await server.drive(server.engine.pull("s", "c", wait_ms=5_000))
            for delivery in deliveries:
                offset = delivery.event.offset
                assert self.due_ms[offset] <= server.clock.wall_ms() <= self.due_ms[offset] + late_ms
                received.append(offset)
            await server.ack(*deliveries)
        assert sorted(received) == sorted(self.due_ms)
        assert (await depth(server)).outstanding == 0
        assert self.files() == []


def delayed(test: Callable[[DelayedEvents], Any]) -> None:
    async def run(server: SimulatedServer) -> None:
        await test(DelayedEvents(server))

    simulated(run)


def test_the_times_of_events_that_wait_are_on_the_disk() -> None:
    async def test(events: DelayedEvents) -> None:
        await events.give_back()
        assert len(events.files()) >= EVENTS // 8 - 2
        await events.receive_all()

    delayed(test)


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("with_snapshot", [False, True])
def test_a_start_believes_no_run_of_an_earlier_life(power: bool, with_snapshot: bool) -> None:
    async def test(events: DelayedEvents) -> None:
        server = events.server
        await events.give_back()
        for _ in range(2):
            if with_snapshot:
                server.node.queue_runtime.take_snapshot()
                await server.pass_time(0.2)
            for path in events.files():
                server.disk.write_all(path, b"garbage" * 30)
            await server.crash(power=power)
            await server.pass_time(0.1)
            assert (await depth(server)).waiting == EVENTS
        assert events.files()
        await events.receive_all()

    delayed(test)


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("with_snapshot", [False, True])
def test_a_run_that_is_damaged_while_the_server_runs_is_made_anew(
    kind: str, with_snapshot: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(events: DelayedEvents) -> None:
        server = events.server
        await events.give_back()
        if with_snapshot:
            server.node.queue_runtime.take_snapshot()
            await server.pass_time(0.2)
        for path in events.files()[1:3]:
            data = server.disk.read_all(path)
            if kind == "lost":
                server.disk.unlink(path)
            else:
                server.disk.write_all(path, DAMAGE[kind](data))
        await events.receive_all()
        # A file that a snapshot has opened can be read although its name is gone.
        assert "the state of queues is loaded again" in caplog.text or (kind == "lost" and with_snapshot)

    delayed(test)


def test_a_snapshot_that_meets_a_damaged_run_is_given_up_and_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(events: DelayedEvents) -> None:
        server = events.server
        await events.give_back()
        path = events.files()[-1]
        server.disk.write_all(path, b"garbage" * 30)
        server.node.queue_runtime.take_snapshot()
        await server.pass_time(0.3)
        assert "the state of queues is loaded again" in caplog.text
        assert server.node.queue_runtime.fenced is None
        server.node.queue_runtime.take_snapshot()
        await server.pass_time(0.3)
        await server.crash(power=True)
        await server.pass_time(0.1)
        await events.receive_all()

    delayed(test)


def test_a_disk_that_refuses_runs_keeps_no_event_from_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(events: DelayedEvents) -> None:
        server = events.server
        write_all = server.disk.write_all

        def full(path: str, data: Buffer) -> None:
            if path.startswith(DELAYS):
                raise OSError(28, "No space left on device")
            write_all(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(server.disk, "write_all", full)
            await events.give_back()
            assert events.files() == []
            server.node.queue_runtime.take_snapshot()
            await server.pass_time(0.2)
        await events.receive_all()

    delayed(test)


def test_runs_go_with_their_subscription_and_with_a_seek() -> None:
    async def test(events: DelayedEvents) -> None:
        server = events.server
        await events.give_back()
        assert events.files()
        await server.drive(server.engine.seek("s", "latest"))
        assert events.files() == []
        await events.give_back()
        server.node.queue_runtime.take_snapshot()  # it is under way while the subscription is deleted
        await server.drive(server.engine.delete_subscription("s"))
        await server.pass_time(0.3)
        assert events.files() == []
        await server.crash(power=False)
        assert await server.drive(server.engine.subscriptions()) == []

    delayed(test)


def test_sorting_is_divided_among_turns_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call of `steps` sorts, and how many of them a turn has."""
    monkeypatch.setattr(delays, "RUN_ENTRIES", 64)
    monkeypatch.setattr(delay_run, "RUN_ENTRIES", 64)
    monkeypatch.setattr(delays, "SORTED_OF_STEP", 8)
    of_turn: list[int] = []
    steps = delays.DelayIndex.steps

    async def test(events: DelayedEvents) -> None:
        turn = 0

        def counted(index: delays.DelayIndex) -> Iterator[int]:
            for cost in steps(index):
                of_turn.append(cost)
                yield cost

        monkeypatch.setattr(delays.DelayIndex, "steps", counted)
        call_soon = events.server.clock.call_soon
        sorts: list[int] = []

        def noting(call: Callable[[], None]) -> None:
            def noted() -> None:
                nonlocal turn
                turn += 1
                before = len(of_turn)
                call()
                sorts.append(len(of_turn) - before)

            call_soon(noted)

        monkeypatch.setattr(events.server.clock, "call_soon", noting)
        await events.give_back(200)
        assert len(of_turn) > 2 * (64 // 8)
        assert max(of_turn) <= 64
        assert max(sorts) <= 2, "a step a turn, and the first of the next run"
        await events.receive_all()

    delayed(test)


def test_a_reload_keeps_what_is_being_committed_and_refuses_requests_meanwhile() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        deliveries = await server.pull()
        call = asyncio.ensure_future(server.engine.settle("s", [Nack(deliveries[0].token, 1_000)]))
        await asyncio.sleep(0)
        server.clock.run()
        server.node.queue_runtime.reload("a test")
        assert server.node.queue_runtime.fenced == "a test"
        assert await server.drive(call) == ["done"]
        await server.pass_time(0.1)
        assert server.node.queue_runtime.fenced is None
        state = await depth(server)
        assert (state.waiting, state.ready, state.leased) == (1, 1, 0)

    simulated(test)
