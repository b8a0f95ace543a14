"""Gives back what a consumer had, in several turns of the event loop if it is much.

Owns: how much that is in a turn. Refuses: to decide what becomes of the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from mainstem.clock import Clock
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.log.errors import StorageError
from mainstem.promise import Promise, gather
from mainstem.queues.leases import DeliveryLease
from mainstem.turns import run_in_turns

RELEASED_OF_TURN = 4_000
"""Events that are given back in a turn, some 5 ms, and a lease more."""

ViewLeases: TypeAlias = tuple[SubscriptionView, Sequence[DeliveryLease]]
"""Leases of a view."""


def release_in_turns(
    clock: Clock, leases: Iterable[ViewLeases], release: Callable[[Sequence[ViewLeases]], Promise[int]]
) -> Promise[int]:
    """Call `release` for parts of the leases, the first in this turn. What has an end meanwhile is not given
    back any more. The value is the sum of the values. Fails as `release` does."""
    parts = _parts(leases)
    released: list[Promise[int]] = []
    total: Promise[int] = Promise()

    def steps() -> Iterator[int]:
        released.append(release(next(parts, ())))
        for part in parts:
            yield 1
            released.append(release(part))

    def on_durable(_: object) -> None:
        try:
            total.resolve(sum(promise.result() for promise in released))
        except StorageError as error:
            total.fail(error)

    run_in_turns(clock, steps(), 1).then(lambda _: gather(released).then(on_durable))
    return total


def _parts(leases: Iterable[ViewLeases]) -> Iterator[list[ViewLeases]]:
    part: list[tuple[SubscriptionView, list[DeliveryLease]]] = []
    room = RELEASED_OF_TURN
    for view, leases_of_view in leases:
        for lease in leases_of_view:
            if room <= 0:
                yield list(part)
                part, room = [], RELEASED_OF_TURN
            if not part or part[-1][0] is not view:
                part.append((view, []))
            part[-1][1].append(lease)
            room -= lease.left
    if part:
        yield list(part)
