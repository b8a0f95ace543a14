"""The ack checker finds every kind of broken promise, and finds nothing where nothing is broken."""

from __future__ import annotations

import pytest

from tests.faults.ack_checker import Ledger, LedgerEvent, Violation

HERE = ("flights", 0)
GROUP = ("board", HERE)


def event(number: int, source: str = "p", payload: bytes = b"") -> LedgerEvent:
    return LedgerEvent.of(source, number, payload or b"%d" % number)


EVENTS = [event(number) for number in range(5)]
THERE = list(enumerate(EVENTS))


@pytest.fixture
def ledger() -> Ledger:
    """Five events sent and acknowledged at offsets 0 to 4, and a sixth sent without an answer."""
    ledger = Ledger(may_repeat=frozenset({"retrying"}))
    for offset, acknowledged_event in THERE:
        ledger.sent(HERE, acknowledged_event)
        ledger.acknowledged(HERE, offset, acknowledged_event)
    ledger.sent(HERE, event(5))
    return ledger


def rules(violations: list[Violation]) -> list[str]:
    return [violation.rule for violation in violations]


def test_a_log_that_kept_its_promises_has_no_violation(ledger: Ledger) -> None:
    assert ledger.judge({HERE: THERE}) == []
    assert ledger.promises == 5


def test_an_event_that_was_never_acknowledged_may_be_there_or_not(ledger: Ledger) -> None:
    assert ledger.judge({HERE: [*THERE, (5, event(5))]}) == []


def test_an_acknowledged_event_that_is_not_there_is_lost(ledger: Ledger) -> None:
    (violation,) = ledger.judge({HERE: THERE[:-1]})
    assert str(violation) == "lost at flights-0: p#4 was promised at offset 4"


def test_a_missing_partition_is_lost(ledger: Ledger) -> None:
    assert rules(ledger.judge({})) == ["lost"] * 5


def test_an_event_that_a_consumer_has_read_must_stay(ledger: Ledger) -> None:
    ledger.shown(HERE, 5, event(5))
    assert rules(ledger.judge({HERE: THERE})) == ["lost"]


def test_another_event_at_an_acknowledged_offset_is_a_change(ledger: Ledger) -> None:
    assert "changed" in rules(ledger.judge({HERE: [*THERE[:4], (4, event(5))]}))


def test_another_payload_of_the_same_number_is_a_change(ledger: Ledger) -> None:
    assert "changed" in rules(ledger.judge({HERE: [*THERE[:4], (4, event(4, payload=b"4 but damaged"))]}))


def test_one_offset_acknowledged_for_two_events_is_a_change(ledger: Ledger) -> None:
    ledger.acknowledged(HERE, 4, event(5))
    assert rules(ledger.judge({HERE: THERE})) == ["changed"]


def test_an_event_at_two_offsets_is_there_twice(ledger: Ledger) -> None:
    assert rules(ledger.judge({HERE: [*THERE, (5, event(4))]})) == ["twice"]


def test_an_event_of_a_retrying_producer_may_be_there_twice(ledger: Ledger) -> None:
    again = event(0, "retrying")
    ledger.sent(HERE, again)
    assert ledger.judge({HERE: [*THERE, (5, again), (6, again)]}) == []


def test_events_of_one_producer_in_another_order_are_a_violation() -> None:
    ledger = Ledger()
    for sent in EVENTS[:2]:
        ledger.sent(HERE, sent)
    assert rules(ledger.judge({HERE: [(0, EVENTS[1]), (1, EVENTS[0])]})) == ["order"]


def test_events_of_two_producers_have_no_order_between_them() -> None:
    ledger = Ledger()
    mixed = [event(1, "a"), event(0, "b"), event(2, "a"), event(1, "b")]
    for sent in mixed:
        ledger.sent(HERE, sent)
    assert ledger.judge({HERE: list(enumerate(mixed))}) == []


def test_an_event_that_was_never_sent_is_invented(ledger: Ledger) -> None:
    assert rules(ledger.judge({HERE: [*THERE, (5, event(99))]})) == ["invented"]


def test_missing_offsets_between_events_are_a_gap(ledger: Ledger) -> None:
    assert rules(ledger.judge({HERE: [*THERE, (6, event(5))]})) == ["gap"]


def test_a_log_that_begins_late_without_retention_is_a_gap_and_a_loss(ledger: Ledger) -> None:
    assert rules(ledger.judge({HERE: THERE[1:]})) == ["lost", "gap"]


def test_what_retention_removed_is_not_lost(ledger: Ledger) -> None:
    assert ledger.judge({HERE: THERE[3:]}, log_starts={HERE: 3}) == []


def test_a_committed_offset_stays(ledger: Ledger) -> None:
    ledger.committing("board", HERE, 3)
    ledger.committed("board", HERE, 3)
    assert ledger.judge({HERE: THERE}, {GROUP: 3}) == []


@pytest.mark.parametrize("now", [2, 0, -1])
def test_a_committed_offset_never_goes_back(ledger: Ledger, now: int) -> None:
    ledger.committing("board", HERE, 3)
    ledger.committed("board", HERE, 3)
    assert rules(ledger.judge({HERE: THERE}, {GROUP: now})) == ["back"]


def test_a_missing_committed_offset_went_back(ledger: Ledger) -> None:
    ledger.committing("board", HERE, 3)
    ledger.committed("board", HERE, 3)
    assert rules(ledger.judge({HERE: THERE}, {})) == ["back"]


def test_a_commit_without_an_answer_may_be_in_force_or_not(ledger: Ledger) -> None:
    ledger.committing("board", HERE, 3)
    ledger.committed("board", HERE, 3)
    ledger.committing("board", HERE, 4)
    assert ledger.judge({HERE: THERE}, {GROUP: 3}) == []
    assert ledger.judge({HERE: THERE}, {GROUP: 4}) == []


def test_a_committed_offset_that_was_never_sent_is_ahead(ledger: Ledger) -> None:
    ledger.committing("board", HERE, 3)
    ledger.committed("board", HERE, 3)
    ledger.committing("board", HERE, 4)
    assert rules(ledger.judge({HERE: THERE}, {GROUP: 5})) == ["ahead"]


def test_positions_are_not_judged_where_they_were_not_read(ledger: Ledger) -> None:
    ledger.committing("board", HERE, 3)
    ledger.committed("board", HERE, 3)
    assert ledger.judge({HERE: THERE}) == []
