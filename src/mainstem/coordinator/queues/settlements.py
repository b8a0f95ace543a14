"""Decides what consumers answer about the events that they received: which answers count, and the records.

Owns: `decide`, which changes nothing: one record of each kind a view, however many answers there are.
Refuses: to apply records, and to know who may answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.queues.records import (
    EventsAcked,
    EventsDropped,
    EventsReason,
    EventsRejecting,
    EventsReleased,
    ViewRecord,
    encoded,
)
from mainstem.coordinator.queues.types import GiveUpReason, LeasedEvent, Settlement
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.queues.runs import Run, count_positions, merge_runs

POSITIONS_MAX = 1_000_000
"""Positions that one answer may name, between the first and the last of each run."""


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """What decisions depend on beside the views."""

    epoch: int
    """The leases of other epochs are over."""
    known_epochs: Collection[int]
    """Late acknowledgements count in these: in any other, the position may be another event's now."""
    now_ms: int
    spread: float
    """From -1 to 1, drawn for each call: the part of the backoff that is random."""
    has_dead_letters: Callable[[SubscriptionView], bool]
    """Whether the subscription of a view has a dead-letter topic."""


def decide(
    settlements: Sequence[Settlement],
    view_of: Callable[[int], SubscriptionView | None],
    context: DecisionContext,
) -> tuple[list[ViewRecord], list[list[Run]]]:
    """The records that the answers lead to, and of each answer the positions that it settled: the others
    were not leased to it any more. InvalidRequest: an answer names too many positions."""
    by_view: dict[int, list[int]] = {}
    for number, settlement in enumerate(settlements):
        if count_positions(settlement.runs) > POSITIONS_MAX:
            raise InvalidRequest(f"more than {POSITIONS_MAX:,} events are settled with one answer")
        by_view.setdefault(settlement.view, []).append(number)
    settled: list[list[Run]] = [[] for _ in settlements]
    records: list[ViewRecord] = []
    for view_id, numbers in by_view.items():
        view = view_of(view_id)
        if view is None:
            continue
        for number in numbers:
            settled[number] = _taken(view, settlements[number], context)
        _without_repeats([settled[number] for number in numbers])
        records += _records(view, [(settlements[number], settled[number]) for number in numbers], context)
    return records, settled


def decide_acknowledged(
    events: Sequence[LeasedEvent], view_of: Callable[[int], SubscriptionView | None], epoch: int
) -> tuple[list[ViewRecord], list[bool]]:
    """The records of events that their consumers acknowledge, and of each event whether it is done by them:
    its lease still has it, and no earlier one of these is the same."""
    by_view: dict[int, set[int]] = {}
    acked: list[bool] = []
    for view_id, position, lease, leased_in in events:
        view, positions = view_of(view_id), by_view.setdefault(view_id, set())
        if leased_in != epoch or view is None or position in positions:
            acked.append(False)
            continue
        is_leased = view.sequence.is_leased(lease, position)
        acked.append(is_leased)
        if is_leased:
            positions.add(position)
    return [
        EventsAcked(view_id, *encoded([(position, position + 1) for position in sorted(positions)]))
        for view_id, positions in by_view.items()
        if positions
    ], acked


def _taken(view: SubscriptionView, settlement: Settlement, context: DecisionContext) -> list[Run]:
    """The positions that one answer may settle, if it is the only one."""
    sequence = view.sequence
    runs: Sequence[Run] = settlement.runs
    if len(runs) != 1:
        runs = merge_runs(runs)
    if not runs or runs[0][0] >= runs[0][1]:
        return []
    lease = settlement.lease
    if settlement.epoch != context.epoch:
        if settlement.epoch not in context.known_epochs:
            return []
        lease = 0
    if settlement.verb == "ack":
        return sequence.ackable(lease, runs)
    return sequence.releasable(lease, runs)


def _without_repeats(parts: Sequence[list[Run]]) -> None:
    """Take out of each list the positions that an earlier one has."""
    if len(parts) < 2:
        return
    total = sum(map(count_positions, parts))
    if count_positions(merge_runs(run for part in parts for run in part)) == total:
        return
    seen: list[Run] = []
    for part in parts:
        part[:] = difference(part, seen)
        seen = merge_runs([*seen, *part])


def difference(runs: Sequence[Run], without: Sequence[Run]) -> list[Run]:
    """The positions of `runs` that `without` has not. Both are ascending and disjoint."""
    left: list[Run] = []
    index = 0
    for first, end in runs:
        while index < len(without) and without[index][1] <= first:
            index += 1
        following = index
        while following < len(without) and without[following][0] < end:
            if first < without[following][0]:
                left.append((first, without[following][0]))
            first = max(first, without[following][1])
            following += 1
        if first < end:
            left.append((first, end))
    return left


def _records(
    view: SubscriptionView, answers: Sequence[tuple[Settlement, list[Run]]], context: DecisionContext
) -> list[ViewRecord]:
    acked: list[Run] = []
    released: dict[tuple[bool, int | None], list[Run]] = {}
    given_up: dict[int, list[Run]] = {}
    texts: dict[str, list[Run]] = {}
    for settlement, runs in answers:
        if settlement.text and settlement.verb != "ack":
            texts.setdefault(settlement.text, []).extend(runs)
        if settlement.verb == "ack":
            acked += runs
        elif settlement.verb == "reject":
            given_up.setdefault(settlement.reason, []).extend(runs)
        else:
            released.setdefault((settlement.counts, settlement.delay_ms), []).extend(runs)
    records: list[ViewRecord] = []
    if acked:
        records.append(EventsAcked(view.id, *encoded(merge_runs(acked))))
    for (counts, delay_ms), runs in released.items():
        if runs:
            records += release_records(view, merge_runs(runs), counts, delay_ms, context)
    for reason, runs in given_up.items():
        if runs:
            records.append(give_up_record(view, merge_runs(runs), reason, context))
    for text, runs in texts.items():
        if runs:
            records.append(EventsReason(view.id, *encoded(merge_runs(runs)), text))
    return records


def release_records(
    view: SubscriptionView, runs: Sequence[Run], counts: bool, delay_ms: int | None, context: DecisionContext
) -> list[ViewRecord]:
    """The records that give back events, which are leased: to be delivered again, or given up if this is
    their last failure."""
    plan = view.sequence.plan_release(runs, counts, context.now_ms, context.spread, delay_ms)
    records: list[ViewRecord] = [
        EventsReleased(view.id, *encoded(part), counts, due_ms) for part, due_ms in plan.released
    ]
    if plan.exhausted:
        records.append(give_up_record(view, plan.exhausted, GiveUpReason.FAILED, context))
    return records


def give_up_record(
    view: SubscriptionView, runs: Sequence[Run], reason: int, context: DecisionContext
) -> ViewRecord:
    """The record that gives up events: they die until their dead letters are durable, or are done at once
    where there are no dead letters."""
    if context.has_dead_letters(view):
        return EventsRejecting(view.id, *encoded(runs), reason)
    return EventsDropped(view.id, *encoded(runs), reason)
