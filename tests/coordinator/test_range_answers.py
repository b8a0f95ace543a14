"""Answers by ranges: all answers of a consumer about a view count, or none of them."""

from __future__ import annotations

import pytest

from mainstem.coordinator.queues.types import GiveUpReason
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.range_answer import RangeAnswer, RangeVerb
from tests.coordinator.queue_rig import TOPIC, QueueRig, states
from tests.coordinator.state_rig import done


def answer(
    rig: QueueRig, view: SubscriptionView, *parts: tuple[int, int, RangeVerb], consumer: str = "c"
) -> str:
    """The name of the error with which the answers were refused, or nothing."""
    errors = done(
        rig.subscriptions.settle_ranges(consumer, {view.id: [RangeAnswer(*part) for part in parts]})
    )
    return type(errors[view.id]).__name__ if errors else ""


def leased(rig: QueueRig, count: int) -> SubscriptionView:
    view = rig.view(failures_max=2)
    rig.lease(view, count)
    return view


def test_each_verb_does_what_it_says_and_all_of_it_survives() -> None:
    rig = QueueRig()
    view = leased(rig, 8)
    rig.clock.advance(10)
    assert answer(rig, view, (0, 2, "ack"), (2, 4, "release"), (4, 6, "reject"), (7, 8, "renew")) == ""
    assert states(view, 9) == "xxrrxxllr"
    assert done(rig.subscriptions.release_expired()) == 0
    rig.clock.advance(25)
    assert done(rig.subscriptions.release_expired()) == 1, "the lock that was not renewed"
    assert rig.subscriptions.given_up("mail", GiveUpReason.REJECTED) == 2
    rig.restart()
    known = rig.known()
    known.sequence.scan(100)
    assert states(known, 9) == "xxrrxxrrr"
    assert [known.sequence.failures(position) for position in (2, 3, 6, 7)] == [1, 1, 1, 0]


def test_the_failure_that_is_the_last_gives_up() -> None:
    rig = QueueRig()
    view = leased(rig, 2)
    assert answer(rig, view, (0, 1, "release")) == ""
    done(rig.subscriptions.acquire_runs(view, "c", [(0, 1)]))
    assert answer(rig, view, (0, 2, "release")) == ""
    assert states(view, 3) == "xrr"
    assert rig.subscriptions.given_up("mail", GiveUpReason.FAILED) == 1


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([(0, 3, "ack"), (3, 9, "ack")], "InvalidRequest"),  # beyond what was ever acquired
        ([(0, 3, "ack"), (20, 30, "ack")], "InvalidRequest"),
        ([(0, 3, "ack"), (0, 2**62, "ack")], "InvalidRequest"),
        ([(0, 3, "ack"), (5, 6, "ack")], "InvalidRecordState"),  # another consumer has it
        ([(0, 3, "ack"), (2, 4, "ack")], "InvalidRecordState"),  # twice
        ([(3, 4, "ack"), (2, 3, "ack")], "InvalidRecordState"),  # disordered
    ],
)
def test_a_wrong_answer_refuses_all_others(parts: list[tuple[int, int, RangeVerb]], error: str) -> None:
    rig = QueueRig()
    view = leased(rig, 5)
    rig.lease(view, 3, "d")
    assert answer(rig, view, *parts) == error
    assert states(view, 9) == "llllllllr"


def test_what_is_done_below_the_oldest_is_ignored_and_above_it_refused() -> None:
    rig = QueueRig()
    view = leased(rig, 6)
    assert answer(rig, view, (0, 2, "ack"), (4, 5, "ack")) == ""
    assert answer(rig, view, (0, 2, "ack")) == "", "as Kafka does with what is before its start offset"
    assert answer(rig, view, (0, 3, "ack")) == ""
    assert answer(rig, view, (4, 5, "ack")) == "InvalidRecordState"
    assert answer(rig, view, (3, 6, "ack")) == "InvalidRecordState"
    assert answer(rig, view, (3, 4, "ack"), (5, 6, "ack")) == ""
    assert answer(rig, view, (7, 8, "ack")) == "InvalidRecordState", "nothing is acquired any more"
    assert states(view, 7) == "xxxxxxr"


def test_a_refused_view_refuses_no_other() -> None:
    rig = QueueRig()
    view = leased(rig, 4)
    other = done(rig.subscriptions.open_view("mail", TOPIC, 1, 0, 0))
    other.sequence.scan(10)
    rig.lease(other, 4, "d")
    answers = {
        view.id: [RangeAnswer(0, 4, "ack")],
        other.id: [RangeAnswer(0, 4, "ack")],
        999: [RangeAnswer(0, 1, "ack")],
    }
    errors = done(rig.subscriptions.settle_ranges("c", answers))
    assert {view_id: error.code for view_id, error in errors.items()} == {
        other.id: "INVALID_RECORD_STATE",
        999: "GROUP_ID_NOT_FOUND",
    }
    assert states(view, 5) == "xxxxr"


def test_a_consumer_that_is_gone_gives_back_what_it_has_of_these_views() -> None:
    rig = QueueRig()
    view = leased(rig, 4)
    rig.lease(view, 2, "d")
    assert done(rig.subscriptions.detach("c", counts=True, views=[])) == 0
    assert done(rig.subscriptions.detach("c", counts=True, views=[view])) == 4
    assert states(view, 7) == "rrrrllr"
    lease: DeliveryLease | None = done(rig.subscriptions.acquire_runs(view, "d", [(2, 9)]))
    assert lease is not None
    assert lease.runs == ((2, 4), (6, 9))
