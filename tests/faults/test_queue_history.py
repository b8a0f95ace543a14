"""The judge of histories recognizes each violation, and no other."""

from __future__ import annotations

import pytest

from tests.faults.queue_history import QueueEvent, WorkHistory

A, B, C = (QueueEvent("k", number) for number in range(3))
LOCK_S = 5.0


def history(*, in_key_order: bool = True) -> WorkHistory:
    """With three published events of a key."""
    made = WorkHistory("s", lock_s=LOCK_S, in_key_order=in_key_order)
    made.publishing([A, B, C])
    made.published([A, B, C])
    return made


class Ticks:
    """Time that passes with each call."""

    now_s = 0.0

    def __call__(self, seconds: float = 0.01) -> float:
        self.now_s += seconds
        return self.now_s


tick = Ticks()


def deliver(
    made: WorkHistory, event: QueueEvent, consumer: str, attempt: int, *, after_s: float = 0.01
) -> None:
    start = made.pulling(tick(after_s))
    made.delivered(event, consumer, attempt, tick(), start)


def die(made: WorkHistory) -> None:
    made.dying()
    made.dead()


def settle(
    made: WorkHistory, event: QueueEvent, verb: str = "ack", verdict: str = "done", consumer: str = "c"
) -> None:
    number = made.answering(event, verb, consumer, tick())  # type: ignore[arg-type]
    made.answered(number, verdict, tick())


def work(made: WorkHistory, *events: QueueEvent) -> None:
    for event in events:
        deliver(made, event, "c", 1)
        settle(made, event)


def rules(made: WorkHistory, letters: dict[QueueEvent, int] | None = None) -> list[str]:
    return [line.split(":")[0] for line in made.judge(letters or {})]


def test_a_good_history_has_no_violation() -> None:
    made = history()
    deliver(made, A, "c", 1)
    deliver(made, B, "c", 1)  # to the same consumer
    settle(made, A, "nack")
    settle(made, B, verdict="stale")  # taken back with the earlier one
    deliver(made, A, "d", 2)
    made.answering(A, "ack", "d", tick())  # without an answer
    die(made)
    deliver(made, A, "d", 2)
    settle(made, A)
    deliver(made, B, "d", 2)
    deliver(made, B, "e", 3, after_s=LOCK_S)  # its lock had expired
    settle(made, B, "reject")
    deliver(made, C, "d", 1)
    settle(made, C, verdict="late")
    assert rules(made, {B: 2}) == []


def test_an_event_that_was_not_published_and_one_that_may_not_exist() -> None:
    made = history()
    unknown, next_one = QueueEvent("k", 3), QueueEvent("k", 4)
    made.publishing([unknown, next_one])
    made.published([next_one])
    work(made, A, B, C, next_one)
    assert rules(made) == []
    deliver(made, QueueEvent("k", 5), "c", 1)
    assert rules(made) == ["unexpected"]
    deliver(made, unknown, "c", 1)
    assert "inversion" in rules(made)


def test_an_event_that_is_not_done_in_the_end_is_lost() -> None:
    made = history()
    work(made, A, B)
    assert rules(made) == ["lost"]
    assert rules(history(), {A: 1, B: 1, C: 1}) == []


def test_an_event_that_is_delivered_after_its_answer_is_resurrected() -> None:
    made = history()
    work(made, A, B, C)
    die(made)
    deliver(made, A, "d", 2)
    assert rules(made) == ["resurrected"]


@pytest.mark.parametrize("in_key_order", [True, False])
def test_an_event_that_overtakes_an_earlier_one_of_its_key(in_key_order: bool) -> None:
    made = history(in_key_order=in_key_order)
    deliver(made, A, "c", 1)
    deliver(made, B, "d", 1)
    for event in (A, B):
        settle(made, event)
    work(made, C)
    assert rules(made) == (["inversion"] if in_key_order else [])
    made = history(in_key_order=in_key_order)
    deliver(made, A, "c", 1)
    settle(made, A, "nack")
    work(made, B, C)
    deliver(made, A, "c", 2)
    settle(made, A)
    assert rules(made) == (["inversion", "inversion"] if in_key_order else [])


def test_a_repeat_without_a_reason_and_an_attempt_that_does_not_rise() -> None:
    made = history(in_key_order=False)
    deliver(made, A, "c", 1)
    deliver(made, A, "d", 2)
    work(made, A, B, C)
    assert rules(made) == ["duplicate", "duplicate", "attempts"]
    made = history(in_key_order=False)
    deliver(made, A, "c", 3)
    die(made)
    deliver(made, A, "c", 1)
    settle(made, A)
    work(made, B, C)
    assert rules(made) == ["attempts"]


def test_a_rejected_event_has_a_dead_letter_and_not_too_many() -> None:
    made = history()
    deliver(made, A, "c", 1)
    settle(made, A, "reject")
    work(made, B, C)
    assert rules(made, {A: 1}) == []
    assert rules(made, {A: 2}) == ["letters"]


def test_what_a_dying_server_has_delivered_is_of_no_certain_life() -> None:
    made = history(in_key_order=False)
    start = made.pulling(tick())
    made.dying()
    made.delivered(A, "c", 2, tick(), start)
    made.delivered(B, "c", 2, tick(), made.pulling(tick()))
    made.dead()
    for event in (A, B):
        deliver(made, event, "d", 2)
        settle(made, event)
    work(made, C)
    assert rules(made) == []


def test_what_a_slow_consumer_reports_late_is_neither_before_nor_after() -> None:
    made = history()
    start = made.pulling(tick())
    deliver(made, A, "d", 2)
    settle(made, A)
    made.delivered(A, "c", 1, tick(), start)  # its lock had expired before the reply was read
    deliver(made, B, "d", 1)
    settle(made, B)
    deliver(made, C, "c", 1)
    settle(made, C)
    assert rules(made) == []


def test_what_a_consumer_gives_back_that_another_has_by_now_changes_nothing() -> None:
    made = history()
    deliver(made, A, "c", 1)
    deliver(made, A, "d", 2, after_s=LOCK_S)
    settle(made, A, "nack", "stale", consumer="c")
    deliver(made, B, "d", 1)
    for event in (A, B):
        settle(made, event, consumer="d")
    work(made, C)
    assert rules(made) == []
