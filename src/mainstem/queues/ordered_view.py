"""A view whose events are offered in key order.

`keys.py` selects what is leased; the rest is as in any view. Keys are in no record: after a restart, and
after a redrive, the view asks for those of its outstanding positions (`unkeyed`, `learn_keys`), and offers
these then. A parked position is ready in the pages of the view; what is parked is soft state.

Owns: the connection of the two. Refuses: to compute hashes of keys, and to read events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from mainstem.queues.keys import KeyOrder
from mainstem.queues.learning_view import LearningView
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.pages import LEASED, PositionState
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, add_run, complement, runs_of
from mainstem.queues.view_types import StateCounts
from mainstem.queues.waits import WaitingPositions


class OrderedView(LearningView):
    """A view in key order. `rules.in_key_order` is fixed for its life."""

    def __init__(self, rules: DeliveryRules, start: int, waits: WaitingPositions | None = None) -> None:
        super().__init__(rules, start, waits)
        self._order = KeyOrder(rules.parked_max)

    # ------------------------------------------------------------------------------------------------------
    # what is asked

    def counts(self) -> StateCounts:
        """See `AppliedView.counts`."""
        counts, parked = super().counts(), self._order.parked
        return StateCounts(counts.ready - parked, counts.leased, counts.waiting, parked, counts.dying)

    def state(self, position: int) -> PositionState:
        """See `AppliedView.state`. A position is parked from the time when it was its turn and its key was
        taken, and until it is leased."""
        return PositionState.PARKED if self._order.is_parked(position) else super().state(position)

    def runs_in(self, state: PositionState, first: int = 0, end: int | None = None) -> Iterator[Run]:
        """See `AppliedView.runs_in`."""
        if state not in (PositionState.READY, PositionState.PARKED):
            yield from super().runs_in(state, first, end)
            return
        runs: list[Run] = []
        for low, high in super().runs_in(PositionState.READY, first, end):
            for position in range(low, high):
                if self._order.is_parked(position) == (state == PositionState.PARKED):
                    add_run(runs, position, position + 1)
        yield from runs

    @property
    def is_full(self) -> bool:
        """Whether the scan is to wait: what follows would only be parked."""
        return self._order.is_full

    def may_offer(self, consumer: str) -> bool:
        """See `SequenceView.may_offer`."""
        if self.table.counts[LEASED] >= self.rules.in_flight_max:
            return False
        return self._order.may_take(consumer)

    def blocker(self, position: int) -> int | None:
        """The earlier outstanding position of the same key, or None: why this one is not offered."""
        return self._order.blocker(position)

    def may_be_delayed(self, position: int) -> bool:
        """See `ExpiringView.may_be_delayed`: not once it is offered."""
        return not self._order.knows(position) and super().may_be_delayed(position)

    # ------------------------------------------------------------------------------------------------------
    # keys

    def scan(
        self,
        end: int,
        skipped: Iterable[Run] = (),
        due_ms: Mapping[int, int] | None = None,
        keys: Mapping[int, int] | None = None,
    ) -> None:
        """See `SequenceView.scan`. Keys: position -> hash of its key, from 0 below 2⁶³; a position that has
        none has no key. ValueError also if keys of earlier positions are missing (`unkeyed`)."""
        if self.has_unkeyed():
            raise ValueError("the keys of earlier positions are not known yet")
        first = self.scanned
        super().scan(end, skipped, due_ms)
        self._learn(first, end, keys or {})

    def _scan_again(self, end: int, skipped: Sequence[Run]) -> None:
        self.scan_keyless(end, skipped)

    def scan_keyless(self, end: int, skipped: Iterable[Run] = ()) -> None:
        """As `scan`, of positions whose keys are not known: they are not offered before `learn_keys`."""
        first = self.scanned
        super().scan(end, skipped)
        self._add_unknown([(first, end)])

    def unkeyed(self, max_positions: int) -> list[Run]:
        """Outstanding positions whose keys are not known, the lowest first, at most this number."""
        positions = (position for position in self._unknown_positions() if not self._order.knows(position))
        return runs_of(islice(positions, max_positions))

    def learn_keys(self, end: int, keys: Mapping[int, int]) -> None:
        """The keys of all unkeyed positions below `end`, as for `scan`: these are offered from now on."""
        for first, stop in self._take_unknown(end):
            self._learn(first, stop, keys)

    def has_unkeyed(self) -> bool:
        """Whether there are outstanding positions whose keys are not known."""
        if self._unknown and not self.unkeyed(1):
            self._unknown = []
        return bool(self._unknown)

    def _learn(self, first: int, end: int, keys: Mapping[int, int]) -> None:
        order = self._order
        for position, waits in self._outstanding(first, end):
            if waits:
                order.add_waiting(position, keys.get(position))
            else:
                order.add(position, keys.get(position))

    # ------------------------------------------------------------------------------------------------------
    # transitions

    def acquire(
        self, consumer: str, max_events: int, now_ms: int, lock_ms: int | None = None
    ) -> DeliveryLease | None:
        """See `SequenceView.acquire`: the lowest positions that the order of their keys allows."""
        room = min(max_events, self.rules.in_flight_max - self.table.counts[LEASED])
        positions = self._order.take(consumer, room)
        return self._lease_positions(positions, consumer, now_ms, lock_ms) if positions else None

    def apply_acked(self, runs: Sequence[Run]) -> None:
        """See `AppliedView.apply_acked`. Later positions of the keys may be leased to others."""
        super().apply_acked(runs)
        self._order.done_runs(runs)

    def apply_released(self, runs: Sequence[Run], counts: bool, due_ms: int | None) -> None:
        """See `AppliedView.apply_released`. Later leased positions of the keys are taken back: ready again,
        with no failure and no record."""
        super().apply_released(runs, counts, due_ms)
        if not self._order.busy_keys:
            return
        released = [position for first, end in runs for position in range(first, end)]
        if due_ms is None:
            self._void(self._order.give_back(released))
        else:
            self._void(self._order.hold_back(released))

    def withdraw(self, lease_id: int, runs: Sequence[Run]) -> list[Run]:
        """See `SequenceView.withdraw`. Later leased positions of the keys are taken back, too."""
        withdrawn = super().withdraw(lease_id, runs)
        self._void(self._order.give_back(position for run in withdrawn for position in range(*run)))
        return withdrawn

    def apply_scheduled(self, runs: Sequence[Run], due_ms: int | None) -> None:
        """See `ScheduledView.apply_scheduled`. What is made to wait has a key that is not known yet."""
        super().apply_scheduled(runs, due_ms)
        if due_ms is None:
            self._order.wake(position for first, end in runs for position in range(first, end))

    def apply_rejecting(self, runs: Sequence[Run], reason: int, delivered: bool = True) -> None:
        """See `AppliedView.apply_rejecting`. The keys are free of these positions at once."""
        super().apply_rejecting(runs, reason, delivered)
        self._order.done_runs(runs)

    def apply_trimmed(self, start: int, carried: Sequence[int] = ()) -> None:
        """See `LearningView.apply_trimmed`."""
        super().apply_trimmed(start, carried)
        self._order.done_runs(complement(0, start, [(position, position + 1) for position in carried]))

    def _forget_learned(self) -> None:
        super()._forget_learned()
        self._order = KeyOrder(self.rules.parked_max)

    def wake_due(self, now_ms: int, max_entries: int | None = None) -> int:
        """See `SequenceView.wake_due`."""
        woken = self._wake_due(now_ms, max_entries)
        self._order.wake(woken)
        return len(woken)
