"""The loop's clock gives work that is done in slices one turn after the other."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from mainstem.clock import LoopClock
from mainstem.turns import next_turn


def test_slices_of_many_take_turns_and_others_run_between_any_two() -> None:
    order: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)

        async def slices(name: str) -> None:
            for _ in range(3):
                await next_turn(clock)
                order.append(name)

        def other() -> None:
            order.append("other")
            if order.count("other") < 12:
                loop.call_soon(other)

        loop.call_soon(other)
        await asyncio.gather(slices("a"), slices("b"), slices("c"))

    asyncio.run(work())
    assert [name for name in order if name != "other"] == ["a", "b", "c"] * 3
    assert not any("other" not in pair for pair in pairwise(order))


def test_a_call_that_fails_does_not_hold_up_the_next() -> None:
    made: list[int] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        reported: list[object] = []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        clock = LoopClock(loop)

        def fail() -> None:
            raise ValueError("of the first")

        clock.call_in_turn(fail)
        clock.call_in_turn(lambda: made.append(1))
        await next_turn(clock)
        assert [str(error) for error in reported] == ["of the first"]

    asyncio.run(work())
    assert made == [1]


def test_a_task_that_is_cancelled_while_it_waits_gives_its_turn_up() -> None:
    async def work() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        waiting = asyncio.ensure_future(next_turn(clock))
        await asyncio.sleep(0)
        waiting.cancel()
        await next_turn(clock)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(work())
