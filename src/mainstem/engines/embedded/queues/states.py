"""What a view knows of positions that are not done, in words for people.

Owns: why an event is not delivered now. Refuses: to change anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from mainstem.coordinator.queues.reasons import EventReasons
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.events import positions_of
from mainstem.queue_contract import EventState
from mainstem.queues.pages import PAGE_MASK, PAGE_SHIFT, PositionState
from mainstem.queues.runs import Run
from mainstem.timespec import format_iso


class PositionFacts(NamedTuple):
    """The fields of a BrowsedEvent beside the event."""

    state: EventState
    attempts: int
    failures: int
    why: str
    reason: str


class ViewStates:
    """The states of the positions of a view, as they are now."""

    def __init__(self, view: SubscriptionView, reasons: EventReasons) -> None:
        self._view = view.id
        self._sequence = view.sequence
        self._reasons = reasons

    def facts(self, runs: Sequence[Run]) -> dict[int, PositionFacts]:
        """What is known of each position, ascending, that is not done."""
        sequence = self._sequence
        states = {position: sequence.state(position) for position in positions_of(runs)}
        waiting = {position for position, state in states.items() if state is PositionState.WAITING}
        due: dict[int, int] = {}
        if waiting:
            due = {position: due_ms for due_ms, position in sequence.waits.entries() if position in waiting}
        return {
            position: PositionFacts(
                cast(EventState, state.name.lower()),
                sequence.acquisitions(position),
                sequence.failures(position),
                self._why(position, state, due),
                self._reasons.get(self._view, position),
            )
            for position, state in states.items()
            if state not in (PositionState.DONE, PositionState.AHEAD)
        }

    def _why(self, position: int, state: PositionState, due: dict[int, int]) -> str:
        match state:
            case PositionState.WAITING:
                return f"delayed until {_time(due.get(position))}"
            case PositionState.LEASED:
                page = self._sequence.table.page(position >> PAGE_SHIFT)
                word = page.words[position & PAGE_MASK] if page is not None else 0
                lease = self._sequence.leases.by_word.get(word)
                if lease is None:
                    return "leased"
                return f"leased by {lease.consumer} until {_time(lease.deadline_ms)}"
            case PositionState.PARKED:
                blocker = self._sequence.blocker(position)
                return "waits for its key" if blocker is None else f"waits for offset {blocker}, of its key"
            case PositionState.DYING:
                return "given up; its dead letter is not durable yet"
            case _:
                return ""


def _time(time_ms: int | None) -> str:
    return "a time that is not known" if time_ms is None else format_iso(time_ms)
