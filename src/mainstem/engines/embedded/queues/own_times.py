"""Which of some events are not to be delivered now, because they say so in their headers.

Owns: the test for both headers, and the bound of a delay: an event is delayed for DELAY_MS_MAX from its
arrival at most, whatever its header says. Refuses: to change anything, and positions for which no header
counts: redriven ones, and for delays those that were woken early.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mainstem.contract import Event
from mainstem.queues.event_headers import expiry_of, not_before_of
from mainstem.queues.settings import DELAY_MS_MAX
from mainstem.queues.view import SequenceView


def expiries_among(events: Mapping[int, Event]) -> dict[int, int]:
    """Position -> the time from which an event is not to be delivered, of those that name one."""
    return {
        position: time_ms
        for position, event in events.items()
        if event.headers and (time_ms := expiry_of(event.headers))
    }


def over_among(sequence: SequenceView, expiries: Mapping[int, int], now_ms: int) -> list[int]:
    """The positions whose events are over, ascending. `expiries`: see `expiries_among`."""
    over = [position for position, time_ms in expiries.items() if time_ms <= now_ms]
    return sorted(position for position in over if not sequence.is_exempt(position))


class Arrivals(Protocol):
    """What is known of when events arrived."""

    def arrival_of(self, position: int) -> int:
        """When the event at a position arrived, wall-clock ms, or earlier; -1: that is not known."""


def delays_among(
    events: Mapping[int, Event], arrivals: Arrivals, began_ms: int, now_ms: int
) -> dict[int, int]:
    """Position -> due time of the events that are to be delivered later. `began_ms`: when this server began,
    wall-clock ms."""
    times = {
        position: not_before_ms
        for position, event in events.items()
        if event.headers and (not_before_ms := not_before_of(event.headers)) > now_ms
    }
    return bounded(times, arrivals, began_ms, now_ms) if times else {}


def bounded(times: Mapping[int, int], arrivals: Arrivals, began_ms: int, now_ms: int) -> dict[int, int]:
    """Position -> due time of the events that say that they are not to be delivered before these times, and
    whose time has not come. The last arrivals before the server began may be lost, so that other, earlier
    ones are in their place: for what is older, the bound counts from then."""
    due_ms: dict[int, int] = {}
    for position, not_before_ms in times.items():
        latest_ms = max(arrivals.arrival_of(position), began_ms) + DELAY_MS_MAX
        if (time_ms := min(not_before_ms, latest_ms)) > now_ms:
            due_ms[position] = time_ms
    return due_ms
