"""Subscriptions: their views, which answers of consumers count, and what survives."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.queues import settlements
from mainstem.coordinator.queues.settlements import difference
from mainstem.coordinator.queues.types import (
    GiveUpReason,
    Settlement,
    WrittenDeadLetter,
)
from mainstem.log.errors import StorageError
from mainstem.queues.ordered_view import OrderedView
from mainstem.queues.pages import PositionState
from tests.coordinator.queue_rig import TOPIC, QueueRig, states, uncommitted_rig
from tests.coordinator.state_rig import code, done

# --- views ------------------------------------------------------------------------------------------------


def test_a_view_begins_where_the_settings_say_and_remembers_it() -> None:
    rig = QueueRig()
    done(rig.subscriptions.create("all"))
    done(rig.subscriptions.create("new", {"from_latest": True}))
    assert done(rig.subscriptions.open_view("all", TOPIC, 0, 3, 9)).sequence.start == 3
    assert done(rig.subscriptions.open_view("new", TOPIC, 0, 3, 9)).sequence.start == 9
    rig.restart()
    for name, start in (("all", 3), ("new", 9)):
        assert done(rig.subscriptions.open_view(name, TOPIC, 0, 5, 50)).sequence.start == start


def test_a_view_that_is_asked_for_twice_is_one() -> None:
    rig = QueueRig(auto_commit=False)
    rig.subscriptions.create("mail")
    first = rig.subscriptions.open_view("mail", TOPIC, 0, 0, 0)
    second = rig.subscriptions.open_view("mail", TOPIC, 0, 0, 0)
    other = rig.subscriptions.open_view("mail", TOPIC, 1, 0, 0)
    assert not second.done
    rig.log.commit()
    assert done(first) is done(second) is not done(other)
    assert len({done(first).id, done(other).id, rig.subscriptions.get("mail").id}) == 3


def test_a_deleted_subscription_takes_its_views_with_it() -> None:
    rig = QueueRig()
    view = rig.view()
    lease = rig.lease(view, 5)
    done(rig.subscriptions.delete("mail"))
    assert rig.settle(rig.answer(view, lease)) == [[]]
    assert done(rig.subscriptions.acquire(view, "c", 5)) is None
    again = rig.view()
    assert states(again, 5) == "rrrrr"
    assert again.id not in (view.id, lease.id)
    rig.restart()
    assert len(rig.subscriptions.views.all()) == 1


def test_the_views_of_a_deleted_topic_end() -> None:
    rig = QueueRig()
    view = rig.view()
    other = done(rig.subscriptions.open_view("mail", UUID(int=78), 0, 0, 0))
    done(rig.subscriptions.changes.end_topic(TOPIC))
    assert rig.subscriptions.views_of("mail") == [other]
    assert rig.subscriptions.views.get(view.id) is None
    rig.restart()
    assert [known.topic_id for known in rig.subscriptions.views_of("mail")] == [UUID(int=78)]


def test_at_a_start_the_views_of_what_does_not_exist_end() -> None:
    rig = QueueRig()
    rig.view()
    done(rig.subscriptions.open_view("mail", UUID(int=78), 0, 0, 0))
    done(rig.subscriptions.changes.end_unknown(lambda topic_id, _: 100 if topic_id == TOPIC else None))
    assert [known.topic_id for known in rig.subscriptions.views_of("mail")] == [TOPIC]


# --- answers ----------------------------------------------------------------------------------------------


def test_what_is_acknowledged_is_done_and_stays_so() -> None:
    rig = QueueRig()
    view = rig.view()
    lease = rig.lease(view, 6)
    assert rig.settle(rig.answer(view, lease, (0, 2), (4, 5))) == [[(0, 2), (4, 5)]]
    assert states(view, 7) == "xxllxlr"
    rig.restart()
    known = rig.known()
    known.sequence.scan(100)
    assert states(known, 7) == "xxrrxrr"
    assert known.sequence.oldest == 2


def test_an_answer_waits_until_it_is_durable() -> None:
    rig, view = uncommitted_rig()
    leased = rig.subscriptions.acquire(view, "c", 4)
    assert not leased.done, "the mark is not durable"
    rig.log.commit()
    lease = done(leased)
    assert lease is not None
    acked = rig.subscriptions.settle([rig.answer(view, lease, (0, 1))])
    nothing = rig.subscriptions.settle([rig.answer(view, lease, (0, 1))])
    more = rig.subscriptions.acquire(view, "c", 1)
    assert not acked.done
    assert not nothing.done, "it shows what is not durable"
    assert not more.done
    rig.log.commit()
    assert done(acked) == [[(0, 1)]]
    assert done(nothing) == [[]]
    assert done(more) is not None


def test_a_lease_within_the_mark_writes_nothing() -> None:
    rig = QueueRig()
    view = rig.view(5_000)
    rig.lease(view, 1)
    end = rig.log.log_end_offset
    for _ in range(999):
        rig.lease(view, 1)
    assert rig.log.log_end_offset == end
    rig.lease(view, 1_000)
    assert rig.log.log_end_offset == end + 1
    rig.restart()
    sequence = rig.known().sequence
    sequence.scan(5_000)
    assert (sequence.acquisitions(0), sequence.acquisitions(1_999)) == (1, 1), "delivered before the restart"


def test_what_the_log_does_not_have_yet_was_not_delivered_before() -> None:
    rig = QueueRig()
    view = rig.view(10)
    rig.lease(view, 10)
    rig.ends[TOPIC, 0] = 10
    rig.restart()
    sequence = rig.known().sequence
    sequence.scan(20)
    assert [sequence.acquisitions(position) for position in (9, 10, 11)] == [1, 0, 0]


def test_answers_of_one_turn_are_one_record_of_each_kind() -> None:
    rig = QueueRig()
    view = rig.view(accepts_late_acks=False)
    leases = [rig.lease(view, 10, f"c{number}") for number in range(4)]
    end = rig.log.log_end_offset
    answers = [rig.answer(view, lease, (first, first + 1)) for lease in leases for first, _ in lease.runs]
    answers += [rig.answer(view, leases[0], (4, 5), verb="nack", delay_ms=50)]
    answers += [rig.answer(view, leases[1], (14, 15), verb="nack", delay_ms=50)]
    answers += [rig.answer(view, leases[2], (24, 25), verb="reject")]
    assert rig.settle(*answers) == [
        [(0, 1)], [(10, 11)], [(20, 21)], [(30, 31)], [(4, 5)], [(14, 15)], [(24, 25)],
    ]  # fmt: skip
    assert rig.log.log_end_offset == end + 3


def test_of_two_answers_about_an_event_the_first_counts() -> None:
    rig = QueueRig()
    view = rig.view()
    lease = rig.lease(view, 10)
    answers = (
        rig.answer(view, lease, (2, 4)),
        rig.answer(view, lease, (0, 6), verb="nack"),
        rig.answer(view, lease, (0, 10)),
    )
    assert rig.settle(*answers) == [[(2, 4)], [(0, 2), (4, 6)], [(6, 10)]]
    assert states(view, 11) == "rrxxrrxxxxr"


def test_an_answer_with_a_lease_that_is_over_settles_nothing_that_another_has() -> None:
    rig = QueueRig()
    view = rig.view()
    old = rig.lease(view, 3)
    rig.clock.advance(31)
    assert done(rig.subscriptions.release_expired()) == 3
    new = rig.lease(view, 2, "d")
    assert new.runs == ((0, 2),)
    for verb in ("ack", "nack", "reject"):
        expected: list[Any] = [[(2, 3)]] if verb == "ack" else [[]]
        assert rig.settle(rig.answer(view, old, verb=verb)) == expected, verb
    assert states(view, 4) == "llxr"


def test_a_late_acknowledgement_is_refused_where_the_settings_say_so() -> None:
    rig = QueueRig()
    view = rig.view(accepts_late_acks=False)
    lease = rig.lease(view, 3)
    rig.clock.advance(31)
    done(rig.subscriptions.release_expired())
    assert rig.settle(rig.answer(view, lease)) == [[]]


def test_leases_of_an_earlier_life_acknowledge_only_what_no_other_has_received() -> None:
    rig = QueueRig()
    view = rig.view()
    lease = rig.lease(view, 4)
    before = [rig.answer(view, lease), rig.answer(view, lease, verb="nack")]
    rig.restart()
    view = rig.known()
    view.sequence.scan(100)
    new = rig.lease(view, 2, "d")
    assert new.id == lease.id, "so the epoch must differ"
    assert rig.settle(*before) == [[(2, 4)], []]
    assert states(view, 5) == "llxxr"


def test_garbage_settles_nothing() -> None:
    rig = QueueRig()
    view = rig.view()
    lease = rig.lease(view, 4)
    epoch = rig.subscriptions.epoch
    garbage = [
        Settlement(view.id + 1000, lease.id, epoch, ((0, 4),)),
        Settlement(view.id, 0, epoch, ((0, 4),)),
        Settlement(view.id, -5, epoch, ((0, 4),)),
        Settlement(view.id, 1 << 80, epoch, ((0, 4),)),
        Settlement(view.id, lease.id, epoch ^ 1, ((0, 4),)),
        Settlement(view.id, lease.id, epoch, ()),
        Settlement(view.id, lease.id, epoch, ((4, 0), (-9, -3), (90, 95), (1 << 62, (1 << 62) + 9))),
    ]
    assert rig.settle(*garbage) == [[] for _ in garbage]
    too_many = rig.subscriptions.settle([rig.answer(view, lease, (0, 1 << 62))])
    assert isinstance(too_many.error, InvalidRequest)
    assert states(view, 5) == "llllr"


def test_the_order_of_runs_in_an_answer_does_not_matter() -> None:
    rig = QueueRig()
    view = rig.view()
    lease = rig.lease(view, 9)
    assert rig.settle(rig.answer(view, lease, (6, 8), (0, 2), (1, 3))) == [[(0, 3), (6, 8)]]


# --- failures ---------------------------------------------------------------------------------------------


def test_a_nack_is_delivered_again_after_its_delay() -> None:
    rig = QueueRig()
    view = rig.view()
    lease = rig.lease(view, 3)
    rig.settle(rig.answer(view, lease, (0, 1), verb="nack", delay_ms=500))
    rig.settle(rig.answer(view, lease, (1, 2), verb="nack", counts=False))
    assert states(view, 4) == "wrlr"
    rig.restart()
    view = rig.known()
    view.sequence.scan(100)
    assert states(view, 4) == "wrrr"
    assert [view.sequence.failures(position) for position in range(3)] == [1, 0, 0]
    rig.clock.advance(0.4)
    assert view.sequence.wake_due(rig.clock.wall_ms()) == 0
    rig.clock.advance(0.2)
    assert view.sequence.wake_due(rig.clock.wall_ms()) == 1
    assert states(view, 4) == "rrrr"


def test_the_wait_grows_with_each_failure() -> None:
    rig = QueueRig()
    view = rig.view(1, backoff_min_ms=1_000, backoff_max_ms=3_000, backoff_factor=2.0)
    for wait_ms in (1_000, 2_000, 3_000, 3_000):
        rig.settle(rig.answer(view, rig.lease(view, 1), verb="nack"))
        due_ms = view.sequence.next_due_ms()
        assert due_ms is not None
        assert abs(due_ms - rig.clock.wall_ms() - wait_ms) <= wait_ms // 10
        rig.clock.advance(4)
        view.sequence.wake_due(rig.clock.wall_ms())


@pytest.mark.parametrize("restarts", [False, True])
def test_after_its_last_failure_an_event_is_dropped_or_dies(restarts: bool) -> None:
    rig = QueueRig()
    dropping = rig.view(3, "dropping", failures_max=2)
    dying = rig.view(3, "dying", failures_max=2, dead_letter_topic="lost")
    for _ in range(2):
        if restarts:
            rig.restart()
            dropping, dying = rig.known("dropping"), rig.known("dying")
            for view in (dropping, dying):
                view.sequence.scan(3)
        for view in (dropping, dying):
            lease = rig.lease(view, 1)
            assert rig.settle(rig.answer(view, lease, verb="nack")) == [[(0, 1)]]
    assert (states(dropping, 3), states(dying, 3)) == ("xrr", "drr")
    assert dying.sequence.dying(5) == [(0, GiveUpReason.FAILED)]
    assert rig.subscriptions.given_up("dropping", GiveUpReason.FAILED) == 1
    letter = WrittenDeadLetter(0, UUID(int=9), 0, 5)
    done(rig.subscriptions.changes.dead_lettered(dying, [letter, WrittenDeadLetter(1, UUID(int=9), 0, 6)]))
    assert states(dying, 3) == "xrr", "what is not dying has no dead letter"
    rig.restart()
    known = rig.known("dying")
    known.sequence.scan(3)
    assert states(known, 3) == "xrr"


def test_a_rejected_event_is_dying_with_its_reason_until_its_dead_letter_is_durable() -> None:
    rig = QueueRig()
    view = rig.view(5, dead_letter_topic="lost")
    lease = rig.lease(view, 4)
    rig.settle(rig.answer(view, lease, (1, 3), verb="reject", reason=300))
    assert states(view, 5) == "lddlr"
    rig.restart()
    known = rig.known()
    known.sequence.scan(5)
    assert states(known, 5) == "rddrr"
    assert known.sequence.dying(9) == [(1, 300), (2, 300)]


def test_an_expired_lease_is_a_failure_and_an_extended_one_is_not() -> None:
    rig = QueueRig()
    view = rig.view(9)
    first, second = rig.lease(view, 2), rig.lease(view, 2)
    rig.clock.advance(20)
    assert view.sequence.extend(second.id, rig.clock.wall_ms())
    rig.clock.advance(11)
    assert done(rig.subscriptions.release_expired()) == 2
    assert done(rig.subscriptions.release_expired()) == 0
    assert states(view, 5) == "rrllr"
    assert [view.sequence.failures(position) for position in (0, 2)] == [1, 0]
    assert view.sequence.lease(first.id) is None


@pytest.mark.parametrize("counts", [True, False])
def test_what_a_lost_consumer_had_is_ready_again(counts: bool) -> None:
    rig = QueueRig()
    view, other = rig.view(9, lock_ms=0), rig.view(9, "other", lock_ms=0)
    rig.lease(view, 2, "lost")
    rig.lease(view, 2, "there")
    rig.lease(other, 3, "lost")
    assert done(rig.subscriptions.detach("lost", counts=counts)) == 5
    assert (states(view, 5), states(other, 5)) == ("rrllr", "rrrrr")
    assert view.sequence.failures(0) == other.sequence.failures(0) == counts


# --- key order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot", [False, True])
def test_in_key_order_a_nack_takes_the_later_events_of_its_key_back(snapshot: bool) -> None:
    rig = QueueRig()
    done(rig.subscriptions.create("mail", {"in_key_order": True}))
    view = done(rig.subscriptions.open_view("mail", TOPIC, 0, 0, 0))
    keys = {position: position % 2 for position in range(8)}
    assert isinstance(view.sequence, OrderedView)
    view.sequence.scan(8, keys=keys)
    lease = rig.lease(view, 6)
    answers = (
        rig.answer(view, lease, (0, 1)),
        rig.answer(view, lease, (2, 3), verb="nack", delay_ms=60_000),
        rig.answer(view, lease, (1, 2), (3, 5)),
    )
    assert rig.settle(*answers) == [[(0, 1)], [(2, 3)], [(1, 2), (3, 5)]]
    assert states(view, 4) == "xxwx"
    if snapshot:
        rig.runtime.take_snapshot()
        rig.clock.run()
    rig.restart()
    view = rig.known()
    assert isinstance(view.sequence, OrderedView)
    view.sequence.learn_keys(8, keys)
    view.sequence.scan(8, keys=keys)
    assert [rig.lease(view, 1, "d").runs, rig.lease(view, 1, "d").runs] == [((5, 6),), ((7, 8),)]
    assert done(rig.subscriptions.acquire(view, "d", 9)) is None, "6 waits behind 2"
    rig.clock.advance(61)
    view.sequence.wake_due(rig.clock.wall_ms())
    assert rig.lease(view, 9, "c").runs == ((2, 3), (6, 7))


# --- a failed commit --------------------------------------------------------------------------------------


def test_a_failed_commit_forgets_what_was_not_durable() -> None:
    rig, view = uncommitted_rig()
    leased = rig.subscriptions.acquire(view, "c", 6)
    rig.log.commit()
    lease = done(leased)
    assert lease is not None
    first = rig.subscriptions.settle([rig.answer(view, lease, (0, 2))])
    rig.log.commit()
    lost = rig.subscriptions.settle([rig.answer(view, lease, (2, 4))])
    answer = rig.answer(view, lease, (4, 6))
    rig.log.fail()
    assert isinstance(lost.error, StorageError)
    assert isinstance(rig.subscriptions.acquire(view, "c", 1).error, StorageError)
    rig.clock.run()
    assert done(first) == [[(0, 2)]]
    known = rig.known()
    assert known is not view
    known.sequence.scan(9)
    assert states(known, 9) == "xxrrrrrrr"
    assert done(rig.subscriptions.acquire(view, "c", 1)) is None, "a view of before the load"
    late = rig.subscriptions.settle([answer])
    rig.log.commit()
    assert done(late) == [[(4, 6)]], "it was delivered, and no other consumer has it"
    assert states(known, 9) == "xxrrxxrrr"


def test_a_lease_whose_mark_cannot_be_written_is_given_back() -> None:
    rig = QueueRig()
    view = rig.view(9, lock_ms=0)
    rig.log.append_error = "the disk is full"
    assert isinstance(rig.subscriptions.acquire(view, "c", 3).error, StorageError)
    assert states(view, 4) == "rrrr"
    rig.log.append_error = None
    assert rig.lease(view, 3).runs == ((0, 3),)


# --- pieces -----------------------------------------------------------------------------------------------


def test_the_difference_of_runs_is_that_of_their_positions() -> None:
    rng = random.Random(3)

    def runs() -> list[tuple[int, int]]:
        edges = sorted(rng.sample(range(30), 2 * rng.randint(0, 5)))
        return list(zip(edges[::2], edges[1::2], strict=True))

    def positions(those: list[tuple[int, int]]) -> set[int]:
        return {position for first, end in those for position in range(first, end)}

    for _ in range(500):
        left, right = runs(), runs()
        assert positions(difference(left, right)) == positions(left) - positions(right)


def test_an_answer_may_name_so_many_events_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlements, "POSITIONS_MAX", 5)
    rig = QueueRig()
    view = rig.view()
    lease = rig.lease(view, 9)
    assert rig.settle(rig.answer(view, lease, (0, 5))) == [[(0, 5)]]
    assert code(rig.subscriptions.settle([rig.answer(view, lease, (5, 8), (6, 9))])) == "INVALID_REQUEST"
    assert view.sequence.state(5) is PositionState.LEASED
