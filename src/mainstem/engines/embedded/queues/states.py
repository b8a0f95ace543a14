"""What a view knows of positions that are not done, in words for people.

Owns: why an event is not delivered now. Refuses: to change anything, and to keep the loop: looking up when
events are due takes time where very many wait.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple, cast

from mainstem.clock import Clock
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.events import positions_of
from mainstem.queue_contract import EventState
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.pages import PAGE_MASK, PAGE_SHIFT, PositionState
from mainstem.queues.runs import Run
from mainstem.timespec import format_iso
from mainstem.turns import next_turn

ENTRIES_OF_TURN = 5_000
"""Waiting positions that are looked at in a turn of the loop, some 2 ms."""


class PositionFacts(NamedTuple):
    """The fields of a BrowsedEvent beside the event."""

    state: EventState
    attempts: int
    failures: int
    why: str
    reason: str
    consumer: str | None
    until_ms: int | None


class ViewStates:
    """The states of the positions of a view, as they are now."""

    def __init__(self, view: SubscriptionView, machine: Subscriptions, clock: Clock) -> None:
        self._view = view.id
        self._sequence = view.sequence
        self._reasons = machine.views.reasons
        self._lock_time = machine.lock_time
        self._clock = clock

    async def facts(self, runs: Sequence[Run]) -> dict[int, PositionFacts]:
        """What is known of each position, ascending, that is not done."""
        sequence = self._sequence
        states = {position: sequence.state(position) for position in positions_of(runs)}
        waiting = {position for position, state in states.items() if state is PositionState.WAITING}
        due = await self._due_times(waiting) if waiting else {}
        return {
            position: self._facts(position, state, due.get(position))
            for position, state in states.items()
            if state not in (PositionState.DONE, PositionState.AHEAD)
        }

    async def _due_times(self, positions: Set[int]) -> dict[int, int]:
        due: dict[int, int] = {}
        for number, (due_ms, position) in enumerate(self._sequence.waits.entries(), 1):
            if position in positions:
                due[position] = due_ms
                if len(due) == len(positions):
                    break
            if not number % ENTRIES_OF_TURN:
                await next_turn(self._clock)
        return due

    def _facts(self, position: int, state: PositionState, due_ms: int | None) -> PositionFacts:
        sequence = self._sequence
        lease = self._lease(position) if state is PositionState.LEASED else None
        until_ms = due_ms
        if lease is not None and (until_ms := lease.deadline_ms) is not None:
            until_ms = self._lock_time.shown_ms(until_ms)
        return PositionFacts(
            cast(EventState, state.name.lower()),
            sequence.acquisitions(position),
            sequence.failures(position),
            self._why(position, state, lease, until_ms),
            self._reasons.get(self._view, position),
            None if lease is None else lease.consumer,
            until_ms,
        )

    def _lease(self, position: int) -> DeliveryLease | None:
        page = self._sequence.table.page(position >> PAGE_SHIFT)
        word = page.words[position & PAGE_MASK] if page is not None else 0
        return self._sequence.leases.by_word.get(word)

    def _why(
        self, position: int, state: PositionState, lease: DeliveryLease | None, until_ms: int | None
    ) -> str:
        match state:
            case PositionState.WAITING:
                return f"delayed until {_time(until_ms)}"
            case PositionState.LEASED:
                return "leased" if lease is None else f"leased by {lease.consumer} until {_time(until_ms)}"
            case PositionState.PARKED:
                blocker = self._sequence.blocker(position)
                return "waits for its key" if blocker is None else f"waits for offset {blocker}, of its key"
            case PositionState.DYING:
                return "given up; its dead letter is not durable yet"
            case _:
                return ""


def _time(time_ms: int | None) -> str:
    return "a time that is not known" if time_ms is None else format_iso(time_ms)
