"""Subscribers of lists over the queue engine: how lists are made, and what happens to those that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mainstem.api.runner import Runner
from mainstem.api.signals import Retry, RetryIn
from tests.api.subscriber_rig import AT_ONCE, MemoryBackend, running, settled, subscriber
from tests.api.test_queue_work import NAME, on_backend, until


def list_of(function: Callable[[list[Any]], Any], **options: Any) -> Any:
    return subscriber(function, **{"batch": 4, "max_wait": 0.005} | options)


def test_a_list_is_full_or_has_waited_long_enough() -> None:
    lists: list[list[str]] = []

    async def store(orders: list[str]) -> None:
        lists.append(orders)

    async def test(backend: MemoryBackend) -> None:
        await backend.publish("orders", *map(str, range(10)))
        async with running(backend, [list_of(store)]) as runner:
            await settled(runner, 10)

    on_backend(test)
    assert lists == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"]]


def test_a_failed_list_is_tried_again_and_then_event_by_event() -> None:
    lists: list[list[str]] = []

    async def store(orders: list[str]) -> None:
        lists.append(orders)
        if "bad:1" in orders:
            raise ValueError("a bad one")

    async def test(backend: MemoryBackend) -> None:
        await backend.publish("orders", "a:1", "bad:1", "bad:2", "c:1")
        async with running(backend, [list_of(store, retry=Retry(max_attempts=2, initial_delay=0))]) as runner:
            await settled(runner, 4)
            (state,) = await runner.state()
            assert (state.done, state.dead) == (3, 1)
        assert [letter.value for letter in await backend.letters("orders.billing.dead")] == [b"bad:1"]

    on_backend(test)
    whole = ["a:1", "bad:1", "bad:2", "c:1"]
    assert lists[:5] == [whole, whole, ["a:1"], ["bad:1"], ["c:1"]]
    assert lists[5] == ["bad:1"]
    assert lists[6:] == [["bad:2"]]


def test_a_stop_gives_a_list_back() -> None:
    begun: list[list[str]] = []

    async def store(orders: list[str]) -> None:
        begun.append(orders)
        await asyncio.sleep(60)

    async def test(backend: MemoryBackend) -> None:
        runner = Runner(backend, [list_of(store)])
        await runner.start()
        await backend.publish("orders", *map(str, range(6)))
        await until(lambda: begun)
        await runner.stop(0.01)
        info = await backend.engine.subscription(NAME)
        assert (info.depth.leased, info.depth.outstanding, info.failed) == (0, 6, 0)

    on_backend(test)


def test_a_function_of_lists_in_a_thread_and_an_explicit_delay() -> None:
    lists: list[list[str]] = []

    def store(orders: list[str]) -> None:
        lists.append(orders)
        if len(lists) == 1:
            raise RetryIn(0.005)

    async def test(backend: MemoryBackend) -> None:
        await backend.publish("orders", "a:1", "a:2")
        async with running(backend, [list_of(store, retry=AT_ONCE)]) as runner:
            await settled(runner, 2)

    on_backend(test)
    assert lists == [["a:1", "a:2"], ["a:1"], ["a:2"]]
