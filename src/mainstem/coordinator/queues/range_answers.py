"""Decides what a consumer answers about ranges of positions: all of its answers about a view count, or none.

For doors whose consumers name offsets, not leases (Kafka's share groups, KIP-932). Owns: `decide_ranges`,
which changes no durable state: one record of each kind a view, and the errors with which Kafka refuses.
Refuses: to apply records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mainstem.coordinator.errors import (
    CoordinatorError,
    InvalidRecordState,
    InvalidRequest,
    UnknownSubscription,
)
from mainstem.coordinator.queues.records import EventsAcked, ViewRecord, encoded
from mainstem.coordinator.queues.settlements import DecisionContext, give_up_record, release_records
from mainstem.coordinator.queues.types import GiveUpReason
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.queues.range_answer import RangeAnswer, RangeVerb
from mainstem.queues.runs import Run, add_run, merge_runs
from mainstem.queues.view import SequenceView


class RangeDecision:
    """What the answers about some views come to."""

    def __init__(self) -> None:
        self.records: list[ViewRecord] = []
        self.errors: dict[int, CoordinatorError] = {}
        """View -> why none of its answers counts."""
        self._renewals: list[tuple[SequenceView, list[Run]]] = []

    def add(
        self, view: SubscriptionView, chosen: Mapping[RangeVerb, list[Run]], context: DecisionContext
    ) -> None:
        """The positions of a view, by what is to become of them."""
        if acked := chosen.get("ack"):
            self.records.append(EventsAcked(view.id, *encoded(merge_runs(acked))))
        if released := chosen.get("release"):
            self.records += release_records(view, merge_runs(released), True, None, context)
        if rejected := chosen.get("reject"):
            self.records.append(give_up_record(view, merge_runs(rejected), GiveUpReason.REJECTED, context))
        if renewed := chosen.get("renew"):
            self._renewals.append((view.sequence, renewed))

    def renew(self, now_ms: int) -> None:
        """Renew the locks that are to be renewed: they are in no record."""
        for sequence, runs in self._renewals:
            sequence.renew(runs, now_ms)


def decide_ranges(
    consumer: str,
    answers: Mapping[int, Sequence[RangeAnswer]],
    view_of: Callable[[int], SubscriptionView | None],
    context: DecisionContext,
) -> RangeDecision:
    """What the answers of a consumer come to. `answers`: by view, ascending, and not empty."""
    decision = RangeDecision()
    for view_id, parts in answers.items():
        view = view_of(view_id)
        if view is None:
            decision.errors[view_id] = UnknownSubscription("the subscription or the topic was deleted")
            continue
        chosen: dict[RangeVerb, list[Run]] = {}
        try:
            for verb, run in _checked(view.sequence, consumer, parts):
                chosen.setdefault(verb, []).append(run)
        except CoordinatorError as error:
            decision.errors[view_id] = error
        else:
            decision.add(view, chosen, context)
    return decision


def _checked(
    sequence: SequenceView, consumer: str, answers: Sequence[RangeAnswer]
) -> Iterator[tuple[RangeVerb, Run]]:
    """The positions that the answers settle. Those below the oldest that is not done are done, and ignored;
    all others must be leased to the consumer. InvalidRecordState: they are not; InvalidRequest: they were
    never delivered."""
    oldest, cursor = sequence.oldest, sequence.cursor
    spans: list[Run] = []
    """The answers that follow each other are checked together."""
    for answer in answers:
        first, end = max(answer.first, oldest), answer.end
        if end <= oldest:
            continue
        if oldest >= cursor:
            raise InvalidRecordState("nothing is acquired in this partition")
        if end > cursor:
            raise InvalidRequest("an acknowledgement is beyond the acquired records")
        if spans and first < spans[-1][1]:
            raise InvalidRecordState("a record is acknowledged twice")
        add_run(spans, first, end)
    for span in spans:
        if not sequence.has_leased(consumer, [span]):
            raise InvalidRecordState("a record is not acquired by this member")
    for answer in answers:
        if answer.end > oldest:
            yield answer.verb, (max(answer.first, oldest), answer.end)
