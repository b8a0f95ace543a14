"""Divides long work among turns of the event loop.

Owns: `run_in_turns`. Refuses: to know what the work is: it is a generator that yields the cost of each step.
Work over all groups, topics or offsets is done this way, so that no request of another client waits for the
whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from mainstem.clock import Clock
from mainstem.promise import Promise


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
