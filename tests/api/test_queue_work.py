"""Subscribers over the queue engine: what is delivered, in which order, and what a stop leaves behind."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from mainstem.api.event import Event
from mainstem.api.runner import Runner
from mainstem.api.signals import DeadLetter, Retry, RetryIn
from mainstem.contract import InvalidArgument, NotReachable
from mainstem.queue_contract import (
    DEAD_LETTER_FROM_HEADER,
    Delivery,
    Outcome,
    SubscriptionSettings,
    Verdict,
)
from tests.api.subscriber_rig import MemoryBackend, memory_backend, running, settled, subscriber

T = TypeVar("T")
NAME = "orders.billing"


def on_backend(test: Callable[[MemoryBackend], Awaitable[None]], partitions: int = 1) -> None:
    async def run() -> None:
        async with memory_backend(partitions) as backend:
            await test(backend)

    asyncio.run(run())


def ignore(order: str) -> None:
    pass


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def test_events_are_handled_in_order_and_acknowledged() -> None:
    seen: list[str] = []

    async def bill(order: str) -> None:
        seen.append(order)

    async def test(backend: MemoryBackend) -> None:
        await backend.publish("orders", *map(str, range(50)))
        async with running(backend, [subscriber(bill)]) as runner:
            assert runner.is_joined
            await settled(runner, 50)
            (state,) = await runner.state()
            assert (state.read, state.done, state.failed, state.lag, state.in_flight) == (50, 50, 0, 0, 0)
        assert not runner.is_joined
        async with running(backend, [subscriber(bill)]) as runner:
            await settled(runner)

    on_backend(test)
    assert seen == list(map(str, range(50)))


def test_every_group_gets_all_events_and_what_was_published_before_it_began() -> None:
    seen: defaultdict[str, list[str]] = defaultdict(list)

    async def test(backend: MemoryBackend) -> None:
        await backend.publish("orders", "1")
        subscribers = [
            subscriber(seen["audit"].append, group="audit"),
            subscriber(seen["billing"].append),
            subscriber(seen["late"].append, group="late", start="latest"),
            subscriber(seen["today"].append, group="today", start=datetime(2020, 1, 1, tzinfo=UTC)),
        ]
        async with running(backend, subscribers) as runner:
            await backend.publish("orders", "2")
            await settled(runner, 7)

    on_backend(test)
    assert seen == {"audit": ["1", "2"], "billing": ["1", "2"], "late": ["2"], "today": ["1", "2"]}


def test_lanes_run_at_once_and_a_key_never_overlaps_while_handlers_fail() -> None:
    """32 handlers over 40 keys with random failures."""
    rng = random.Random(20)
    busy: set[str] = set()
    most = 0
    order: defaultdict[str, list[int]] = defaultdict(list)

    async def bill(order_text: str) -> None:
        nonlocal most
        key, number = order_text.split(":")
        assert key not in busy, "two handlers of one key"
        busy.add(key)
        most = max(most, len(busy))
        await asyncio.sleep(rng.random() / 1_000)
        busy.remove(key)
        if rng.random() < 0.1:
            raise RetryIn(0) if rng.random() < 0.5 else ValueError("by chance")
        order[key].append(int(number))

    async def test(backend: MemoryBackend) -> None:
        made = subscriber(bill, concurrency=32, retry=Retry(max_attempts=50, initial_delay=0))
        async with running(backend, [made]) as runner:
            for part in range(5):
                await backend.publish("orders", *(f"k{key}:{part}" for key in range(40)))
            await settled(runner, 200)

    on_backend(test, partitions=3)
    assert order == {f"k{key}": [0, 1, 2, 3, 4] for key in range(40)}
    assert most > 4


def test_a_failed_event_is_tried_again_and_then_a_dead_letter() -> None:
    attempts: list[tuple[str, int]] = []

    async def bill(event: Event[str]) -> None:
        attempts.append((event.value, event.attempt))
        if event.value != "k:good":
            raise DeadLetter("never") if event.value == "k:never" else ValueError("broken")

    async def test(backend: MemoryBackend) -> None:
        made = subscriber(bill, retry=Retry(max_attempts=3, initial_delay=0), model=str)
        async with running(backend, [made]) as runner:
            await backend.publish("orders", "k:broken", "k:never", "k:good")
            await settled(runner, 3)
            (state,) = await runner.state()
            assert (state.done, state.failed, state.dead, state.last_error) == (1, 4, 2, "never")
        letters = await backend.letters("orders.billing.dead")
        assert sorted(letter.value or b"" for letter in letters) == [b"k:broken", b"k:never"]
        headers = dict(letters[0].headers)
        assert headers[DEAD_LETTER_FROM_HEADER] == b"orders/0/0"
        reasons = [letter.detail for letter in await backend.engine.dead_letters(NAME)]
        assert reasons == ["ValueError: broken", "never"]

    on_backend(test)
    assert attempts == [*(("k:broken", attempt) for attempt in (1, 2, 3)), ("k:never", 1), ("k:good", 1)]


def test_only_the_key_of_a_failed_event_waits() -> None:
    seen: list[str] = []

    async def bill(order: str) -> None:
        if order == "a:1" and "b:2" not in seen:
            raise RetryIn(600, "outage")
        seen.append(order)

    async def test(backend: MemoryBackend) -> None:
        async with running(backend, [subscriber(bill)]) as runner:
            await backend.publish("orders", "a:1", "a:2", "b:1", "b:2")
            async with asyncio.timeout(20):
                while True:  # a failure is reported a moment after its handler has ended
                    (state,) = await runner.state()
                    if (state.lag, state.retrying, state.last_error) == (2, 1, "outage"):
                        break
                    await asyncio.sleep(0.001)
            await backend.engine.wake(NAME, None)
            await settled(runner, 4)

    on_backend(test)
    assert seen == ["b:1", "b:2", "a:1", "a:2"]


def test_an_event_is_not_handled_before_its_time() -> None:
    seen: dict[str, tuple[int, int]] = {}

    async def test(backend: MemoryBackend) -> None:
        async def bill(event: Event[str]) -> None:
            seen[event.value] = event.attempt, backend.clock.wall_ms()

        async with running(backend, [subscriber(bill, concurrency=4)]) as runner:
            due_ms = backend.clock.wall_ms() + 40
            await backend.publish("orders", "a:late", mainstem_not_before=str(due_ms))
            await backend.publish("orders", "b:soon", mainstem_not_before="12")
            await backend.publish("orders", "c:odd", mainstem_not_before="tomorrow")
            await settled(runner, 3)
            assert seen["a:late"][1] >= due_ms
            (state,) = await runner.state()
            assert state.failed == 0

    on_backend(test)
    assert {value: attempt for value, (attempt, _) in seen.items()} == {"a:late": 1, "b:soon": 1, "c:odd": 1}


def test_functions_that_block_run_beside_each_other() -> None:
    meeting = threading.Barrier(3, timeout=20)

    def bill(order: str) -> None:
        meeting.wait()

    async def test(backend: MemoryBackend) -> None:
        async with running(backend, [subscriber(bill, concurrency=3)]) as runner:
            await backend.publish("orders", "a:1", "b:1", "c:1")
            await settled(runner, 3)

    on_backend(test)


def test_a_stop_waits_then_cancels_and_gives_everything_back() -> None:
    begun: list[str] = []
    ended: list[str] = []

    async def bill(order: str) -> None:
        begun.append(order)
        await asyncio.sleep(0.01 if order == "quick" else 60)
        ended.append(order)

    async def test(backend: MemoryBackend) -> None:
        runner = Runner(backend, [subscriber(bill, concurrency=2)])
        await runner.start()
        await backend.publish("orders", "quick", "endless", *map(str, range(8)))
        await until(lambda: len(begun) == 2)
        await runner.stop(0.03)
        info = await backend.engine.subscription(NAME)
        assert (info.depth.leased, info.depth.waiting, info.depth.outstanding) == (0, 0, 9)
        assert info.failed == 0
        (state,) = await runner.state()
        assert (state.done, state.failed, state.in_flight) == (1, 0, 0)

    on_backend(test)
    assert (begun, ended) == (["quick", "endless"], ["quick"])


def test_a_function_that_runs_on_in_its_thread_keeps_its_event_for_the_time_of_a_lock() -> None:
    released = threading.Event()

    def bill(order: str) -> None:
        released.wait(20)

    async def test(backend: MemoryBackend) -> None:
        runner = Runner(backend, [subscriber(bill)])
        await runner.start()
        await backend.publish("orders", "1")
        await until(lambda: runner._works[0].counts.in_flight)
        await runner.stop(0.01)
        depth = (await backend.engine.subscription(NAME)).depth
        assert (depth.waiting, depth.outstanding) == (1, 1)
        released.set()

    on_backend(test)


def test_a_lease_is_extended_while_its_handler_runs() -> None:
    async def bill(event: Event[str]) -> None:
        assert event.attempt == 1
        await asyncio.sleep(0.25)

    async def test(backend: MemoryBackend) -> None:
        async with running(backend, [subscriber(bill)], lock_ms=60) as runner:
            await backend.publish("orders", "1")
            await settled(runner, 1)
            (state,) = await runner.state()
            assert (state.done, state.failed) == (1, 0)

    on_backend(test)


def test_a_handler_whose_lease_is_over_is_cancelled() -> None:
    ends: list[str] = []

    async def bill(order: str) -> None:
        if not ends:
            try:
                await asyncio.sleep(60)
            finally:
                ends.append("cancelled")
        ends.append("handled")

    async def test(backend: MemoryBackend) -> None:
        async with running(backend, [subscriber(bill)], lock_ms=60) as runner:
            await backend.publish("orders", "1")
            await until(lambda: runner._works[0].counts.in_flight)
            await backend.engine.seek(NAME, "earliest")  # its leases are over
            await until(lambda: "cancelled" in ends)
            await settled(runner)

    on_backend(test)
    assert ends == ["cancelled", "handled"]


class FlakyQueues:
    """Queues whose calls fail now and then, before or after they have had their effect."""

    def __init__(self, backend: MemoryBackend, seed: int) -> None:
        self._engine = backend.engine
        self._rng = random.Random(seed)
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def pull(self, *arguments: Any, **named: Any) -> list[Delivery]:
        return await self._flaky(lambda: self._engine.pull(*arguments, **named), may_be_lost=False)

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> list[Verdict]:
        return await self._flaky(lambda: self._engine.settle(name, outcomes))

    async def _flaky(self, call: Callable[[], Awaitable[T]], may_be_lost: bool = True) -> T:
        if self.is_away or self._rng.random() < 0.2:
            raise NotReachable("away")
        result = await call()
        if may_be_lost and self._rng.random() < 0.2:
            raise NotReachable("the answer was lost")
        return result


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.api.leases.RETRY_S_FIRST", 0.001)


@pytest.mark.usefixtures("short_pauses")
def test_a_server_that_goes_away_and_comes_back_costs_no_event_and_no_second_call() -> None:
    seen: list[str] = []

    async def bill(order: str) -> None:
        seen.append(order)

    async def test(backend: MemoryBackend) -> None:
        queues = FlakyQueues(backend, 3)
        backend.queues = queues
        async with running(backend, [subscriber(bill, concurrency=3)]) as runner:
            for number in range(20):
                await backend.publish("orders", f"k{number % 4}:{number}")
                await asyncio.sleep(0)
            await until(lambda: len(seen) >= 20)
            queues.is_away = True
            await backend.publish("orders", "k0:20")  # its answer fails, if all others were taken before
            await until(lambda: not runner.is_joined)
            queues.is_away = False
            await until(lambda: runner.is_joined)
            await settled(runner)

    on_backend(test)
    assert sorted(seen) == sorted(f"k{number % 4}:{number}" for number in range(21))


def test_a_subscription_is_altered_to_what_the_code_declares_and_no_further() -> None:
    async def test(backend: MemoryBackend) -> None:
        async with running(backend, [subscriber(ignore)]):
            pass
        engine = backend.engine
        settings = await engine.subscription_settings(NAME)
        assert (settings.in_key_order, settings.failures_max, settings.backoff_min_ms) == (True, 5, 0)
        await engine.alter_subscription(NAME, SubscriptionSettings(**settings.by_name() | {"pin_ms": -1}))
        made = subscriber(ignore, retry=Retry(max_attempts=9, initial_delay=2, max_delay=90, factor=3))
        async with running(backend, [made]):
            altered = await engine.subscription_settings(NAME)
        assert (altered.failures_max, altered.backoff_min_ms, altered.backoff_max_ms) == (9, 2_000, 90_000)
        assert (altered.backoff_factor, altered.pin_ms) == (3, -1)

    on_backend(test)


def test_a_subscription_that_cannot_be_the_subscribers_is_refused() -> None:
    async def test(backend: MemoryBackend) -> None:
        await backend.engine.create_topic("orders")
        await backend.engine.create_topic("other")
        await backend.engine.create_subscription(NAME, SubscriptionSettings(topics=("orders",)))
        with pytest.raises(InvalidArgument, match="order of keys"):
            await Runner(backend, [subscriber(ignore)]).start()
        await backend.engine.create_subscription("orders.a", SubscriptionSettings(topics=("other",)))
        with pytest.raises(InvalidArgument, match="other topics"):
            await Runner(backend, [subscriber(ignore, group="a")]).start()
        with pytest.raises(InvalidArgument, match="two subscribers"):
            Runner(backend, [subscriber(ignore), subscriber(ignore)])

    on_backend(test)


def test_a_subscription_that_is_deleted_is_reported_and_not_made_anew() -> None:
    async def test(backend: MemoryBackend) -> None:
        async with running(backend, [subscriber(ignore)]) as runner:
            await backend.engine.delete_subscription(NAME)
            await until(lambda: not runner.is_joined)
            (state,) = await runner.state()
            assert state.lag == -1
            assert NAME in state.last_error
            assert await backend.engine.subscriptions() == []

    on_backend(test)


class BrokenQueues:
    """Queues whose first calls fail in a way that nothing expects."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._engine = backend.engine
        self.failures = {"pull": 1, "settle": 1}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def pull(self, *arguments: Any, **named: Any) -> list[Delivery]:
        self._fail("pull")
        return await self._engine.pull(*arguments, **named)

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> list[Verdict]:
        self._fail("settle")
        return await self._engine.settle(name, outcomes)

    def _fail(self, call: str) -> None:
        self.failures[call] -= 1
        if self.failures[call] >= 0:
            raise ZeroDivisionError(call)


def test_an_error_that_nothing_expects_costs_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.api.subscription_work.REFUSED_PAUSE_S", 0.001)
    seen: list[str] = []

    async def test(backend: MemoryBackend) -> None:
        backend.queues = BrokenQueues(backend)
        async with running(backend, [subscriber(seen.append)], lock_ms=60) as runner:
            await backend.publish("orders", "1")
            await settled(runner, 1)
            assert runner.is_joined

    on_backend(test)
    assert set(seen) == {"1"}


def test_services_run_beside_the_subscribers_and_end_with_them() -> None:
    steps: list[str] = []

    class SleepingService:
        name = "sleeping"

        async def run(self, log: object) -> None:
            steps.append("run")
            try:
                await asyncio.sleep(60)
            finally:
                steps.append("end")

    async def test(backend: MemoryBackend) -> None:
        async with running(backend, [], services=[SleepingService()]):
            await until(lambda: steps)

    on_backend(test)
    assert steps == ["run", "end"]
