"""A view as a dict of positions: slow, obvious, and what `SequenceView` is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mainstem.queues.pages import PositionState
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run
from mainstem.queues.view import SequenceView

READY, LEASED, WAITING = PositionState.READY, PositionState.LEASED, PositionState.WAITING
AHEAD, DYING, DONE = PositionState.AHEAD, PositionState.DYING, PositionState.DONE


@dataclass
class NaivePosition:
    """All that is known of a position."""

    state: PositionState = AHEAD
    lease: int = 0
    """The last lease in this life of the server."""
    due_ms: int | None = None
    reason: int = 0
    counted: tuple[int, int] | None = None
    """(acquisitions, failures), once it was released."""


class NaiveView:
    """The same operations as `SequenceView`, a position at a time."""

    def __init__(self, rules: DeliveryRules, start: int) -> None:
        self.rules = rules
        self.start = self.scanned = self.marked = self.cursor = start
        self.delivered_below = start
        self.began_ms = 0
        """When this life began, until all is woken that was due then."""
        self.undelivered: set[int] = set()
        """Below that, and waited for their first delivery when the last life ended."""
        self.positions: dict[int, NaivePosition] = {}
        self.leases: dict[int, tuple[str, list[int], int]] = {}
        """Number -> (consumer, positions, deadline)."""

    def at_position(self, position: int) -> NaivePosition:
        return self.positions.setdefault(position, NaivePosition())

    def state(self, position: int) -> PositionState:
        if position < self.start:
            return DONE
        return self.positions[position].state if position in self.positions else AHEAD

    def each_of(self, runs: Iterable[Run]) -> list[int]:
        return [p for first, end in runs for p in range(max(first, self.start), end)]

    def scan(self, end: int, skipped: set[int], due_ms: dict[int, int]) -> None:
        for position in range(self.scanned, end):
            entry = self.at_position(position)
            if entry.state == AHEAD:
                entry.state = DONE if position in skipped else WAITING if position in due_ms else READY
                entry.due_ms = due_ms.get(position) if entry.state == WAITING else None
        self.scanned = max(self.scanned, end)

    def in_state(self, state: PositionState) -> list[int]:
        return sorted(p for p, entry in self.positions.items() if entry.state == state)

    def acquire(self, lease_id: int, consumer: str, max_events: int, deadline_ms: int) -> list[int]:
        room = min(max_events, self.rules.in_flight_max - len(self.in_state(LEASED)))
        chosen = self.in_state(READY)[: max(room, 0)]
        for position in chosen:
            entry = self.positions[position]
            entry.state, entry.lease = LEASED, lease_id
            if entry.counted is not None:
                entry.counted = (entry.counted[0] + 1, entry.counted[1])
        if chosen:
            self.leases[lease_id] = (consumer, chosen, deadline_ms)
            self.cursor = max(self.cursor, chosen[-1] + 1)
        return chosen

    def live(self) -> list[int]:
        return [n for n in self.leases if any(self.is_leased_by(n, p) for p in self.leases[n][1])]

    def is_leased_by(self, lease_id: int, position: int) -> bool:
        entry = self.positions.get(position)
        return entry is not None and entry.state == LEASED and entry.lease == lease_id

    def releasable(self, lease_id: int, runs: Sequence[Run]) -> list[int]:
        return [p for p in self.each_of(runs) if self.is_leased_by(lease_id, p)]

    def ackable(self, lease_id: int, runs: Sequence[Run]) -> list[int]:
        if not self.rules.accepts_late_acks:
            return self.releasable(lease_id, runs)
        allowed = (READY, WAITING) if not lease_id else (READY, WAITING, LEASED)
        return [
            p
            for p in self.each_of(runs)
            if self.state(p) in allowed
            and self.positions[p].lease == lease_id
            and (lease_id or p < self.delivered_below)
        ]

    def acquisitions(self, position: int) -> int:
        entry = self.positions.get(position, NaivePosition())
        if entry.counted is not None:
            return entry.counted[0]
        if entry.state == WAITING:
            return 0
        before = self.start <= position < self.delivered_below and position not in self.undelivered
        return before + (entry.state == LEASED)

    def failures(self, position: int) -> int:
        counted = self.positions.get(position, NaivePosition()).counted
        return counted[1] if counted is not None else 0

    def acked(self, runs: Sequence[Run]) -> None:
        for position in self.each_of(runs):
            self.positions[position] = NaivePosition(DONE)

    def released(self, runs: Sequence[Run], counts: bool, due_ms: int | None) -> None:
        for position in self.each_of(runs):
            entry = self.at_position(position)
            if entry.state not in (DONE, DYING):
                acquisitions = self.acquisitions(position) + (entry.state != LEASED)
                entry.counted = (acquisitions, self.failures(position) + counts)
                entry.state, entry.due_ms = (READY if due_ms is None else WAITING), due_ms
                if not self.rules.accepts_late_acks:
                    entry.lease = 0

    def rejecting(self, runs: Sequence[Run], reason: int, delivered: bool = True) -> None:
        for position in self.each_of(runs):
            entry = self.at_position(position)
            if entry.state != DONE:
                if delivered:
                    acquisitions = self.acquisitions(position) + (entry.state != LEASED)
                    entry.counted = (acquisitions, self.failures(position))
                entry.state, entry.reason, entry.due_ms = DYING, reason, None

    def redriven(self, runs: Sequence[Run]) -> None:
        for position in self.each_of(runs):
            if self.state(position) in (DONE, AHEAD):
                self.positions[position] = NaivePosition(READY)

    def delayed(self, due_ms: dict[int, int]) -> None:
        for position, time_ms in due_ms.items():
            entry = self.at_position(position)
            if entry.state in (AHEAD, READY, WAITING):
                entry.state, entry.due_ms = WAITING, time_ms

    def note_undelivered(self, position: int, entry: NaivePosition) -> None:
        if entry.counted is None and position < self.delivered_below:
            self.undelivered.add(position)

    def scheduled(self, runs: Sequence[Run], due_ms: int | None) -> None:
        for position in self.each_of(runs):
            entry = self.at_position(position)
            if entry.state in (AHEAD, READY, WAITING):
                if entry.state == WAITING and due_ms is None and not self.began_ms:
                    self.note_undelivered(position, entry)
                entry.state, entry.due_ms = (READY if due_ms is None else WAITING), due_ms

    def sought(self, position: int) -> None:
        self.positions.clear()
        self.leases.clear()
        self.start = self.scanned = self.marked = self.cursor = position
        self.delivered_below = min(self.delivered_below, position)

    def carried(self, positions: Sequence[int]) -> None:
        for position in positions:
            if self.state(position) == AHEAD:
                self.at_position(position).state = READY

    def trimmed(self, start: int, carried: Sequence[int] = ()) -> None:
        if start > self.start:
            self.start = carried[0] if carried else start
            self.positions = {p: entry for p, entry in self.positions.items() if p >= self.start}
            for position in set(range(self.start, start)) - set(carried):
                self.positions[position] = NaivePosition(DONE)
            self.scanned = max(self.scanned, start)
            self.cursor, self.marked = max(self.cursor, start), max(self.marked, start)

    def wake_due(self, now_ms: int) -> int:
        woken = 0
        for position, entry in self.positions.items():
            if entry.state == WAITING and entry.due_ms is not None and entry.due_ms <= now_ms:
                if entry.due_ms > self.began_ms:
                    self.note_undelivered(position, entry)
                entry.state, entry.due_ms = READY, None
                woken += 1
        if now_ms >= self.began_ms:
            self.began_ms = 0
        return woken

    def restart(self, now_ms: int) -> None:
        """Leases are no more; the marks say what may have been delivered."""
        for entry in self.positions.values():
            entry.lease = 0
            if entry.state == LEASED:
                entry.state = READY
        self.leases.clear()
        self.undelivered.clear()
        self.began_ms = now_ms
        self.cursor = self.delivered_below = max(self.marked, self.start)

    def forget_from(self, end: int) -> int:
        forgotten = sum(p >= end and entry.state != AHEAD for p, entry in self.positions.items())
        self.positions = {p: entry for p, entry in self.positions.items() if p < end}
        self.start, self.scanned = min(self.start, end), min(self.scanned, end)
        self.cursor, self.marked = min(self.cursor, end), min(self.marked, end)
        self.delivered_below = min(self.delivered_below, end)
        return forgotten

    def check(self, view: SequenceView) -> None:
        """I1: the view has each position in the state that it has here, and counts what a recount counts."""
        assert (view.start, view.scanned, view.marked) == (self.start, self.scanned, self.marked)
        assert view.cursor == self.cursor
        low = max(0, self.start - 50)
        high = max([self.scanned, *self.positions]) + 50
        for position in range(low, high):
            assert view.state(position) == self.state(position), position
            assert view.failures(position) == self.failures(position), position
            assert view.acquisitions(position) == self.acquisitions(position), position
        assert view.acquisitions_of([(low, high)]) == [self.acquisitions(p) for p in range(low, high)]
        counts = view.counts()
        assert [counts.ready, counts.leased, counts.waiting, counts.parked, counts.dying] == [
            len(self.in_state(state)) for state in (READY, LEASED, WAITING, PositionState.PARKED, DYING)
        ]
        undone = [p for p, entry in self.positions.items() if entry.state not in (DONE, AHEAD)]
        assert view.oldest == min([*undone, self.scanned])
        assert view.dying(10) == [(p, self.positions[p].reason) for p in self.in_state(DYING)[:10]]
        assert sorted(view.waits.entries()) == sorted(
            (entry.due_ms, p) for p, entry in self.positions.items() if entry.state == WAITING
        )
