"""Confirmations of a channel: each message once, and few frames."""

from __future__ import annotations

import random

from mainstem.doors.amqp091.confirms import Confirmation, ConfirmTracker


def numbered(count: int) -> ConfirmTracker:
    """A tracker to which this number of messages were added."""
    tracker = ConfirmTracker()
    for number in range(1, count + 1):
        assert tracker.next() == number
    return tracker


def test_what_is_stored_in_order_is_confirmed_by_one_frame() -> None:
    tracker = numbered(5)
    assert tracker.settle([1, 2, 3]) == [Confirmation(3, True, True)]
    assert len(tracker) == 2
    assert tracker.settle([4]) == [Confirmation(4, False, True)]


def test_what_overtakes_another_message_is_confirmed_alone() -> None:
    tracker = numbered(4)
    assert tracker.settle([2, 4]) == [Confirmation(2, False, True), Confirmation(4, False, True)]
    assert tracker.settle([1, 3]) == [Confirmation(3, True, True)]


def test_no_frame_acknowledges_what_is_refused_with_it() -> None:
    tracker = numbered(4)
    assert tracker.settle([1, 2, 4], [3]) == [
        Confirmation(2, True, True),
        Confirmation(4, False, True),
        Confirmation(3, False, False),
    ]


def test_every_message_is_confirmed_once_whatever_the_order() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        count = rng.randint(1, 60)
        tracker = numbered(count)
        open_numbers = list(range(1, count + 1))
        rng.shuffle(open_numbers)
        fates: dict[int, bool] = {}
        known: dict[int, bool] = {}
        while open_numbers:
            part = sorted(open_numbers.pop() for _ in range(min(len(open_numbers), rng.randint(1, 7))))
            refused = [number for number in part if rng.random() < 0.2]
            stored = [number for number in part if number not in refused]
            fates |= dict.fromkeys(stored, True) | dict.fromkeys(refused, False)
            for number, multiple, is_ack in tracker.settle(stored, refused):
                first = 1 if multiple else number
                for confirmed in range(first, number + 1):
                    # A client ignores the numbers that it has an answer for.
                    known.setdefault(confirmed, is_ack)
            assert known == fates, f"seed {seed}"
        assert len(tracker) == 0
