"""Divides long work among turns of the event loop.

Owns: `run_in_turns`, for work over all groups, topics or offsets, and `next_turn`, for what is streamed to
many clients at once. No request of another client waits for the whole. Refuses: to know what the work is.
"""

from __future__ import annotations

from collections.abc import Iterator

from mainstem.clock import Clock
from mainstem.promise import Promise


def turn_of(clock: Clock) -> Promise[None]:
    """A promise that is done in the next turn of the event loop."""
    turn: Promise[None] = Promise()
    clock.call_soon(lambda: turn.resolve(None))
    return turn


async def next_turn(clock: Clock) -> None:
    """Wait for a turn of the event loop that nothing else that waits here has: see `Clock.call_in_turn`."""
    resumed: Promise[None] = Promise()
    clock.call_in_turn(lambda: resumed.resolve(None))
    await resumed


def run_in_turns(clock: Clock, steps: Iterator[int], cost_per_turn: int) -> Promise[None]:
    """Run `steps`, which yields what each of its steps cost, until they have cost `cost_per_turn`; then
    continue in the next turn of the loop. The first turn is this one. Fails with what a step raises."""
    finished: Promise[None] = Promise()

    def turn() -> None:
        cost = 0
        try:
            for step_cost in steps:
                cost += step_cost
                if cost >= cost_per_turn:
                    clock.call_soon(turn)
                    return
        except Exception as error:
            finished.fail(error)
            return
        finished.resolve(None)

    turn()
    return finished
