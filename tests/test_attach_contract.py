"""The windows of attached consumers."""

from __future__ import annotations

import pytest

from mainstem.attach_contract import UNANSWERED_MAX, DeliveryWindow


def test_a_window_has_room_up_to_its_limit_and_wakes_who_waits_for_it_once() -> None:
    window = DeliveryWindow(2)
    woken: list[int] = []
    window.take(2)
    assert window.room == 0
    window.wait(lambda: woken.append(window.room))
    window.free(1)
    window.free(1)
    assert (woken, window.room) == ([1], 2)


def test_a_lower_limit_takes_nothing_back_and_a_higher_one_wakes() -> None:
    window = DeliveryWindow(5)
    window.take(4)
    window.set_limit(2)
    assert (window.taken, window.room) == (4, 0)
    woken: list[bool] = []
    window.wait(lambda: woken.append(True))
    window.free(1)
    assert not woken, "there is still no room"
    window.set_limit(0)
    assert woken
    assert window.room == UNANSWERED_MAX - 3


def test_more_than_was_taken_is_not_freed() -> None:
    with pytest.raises(AssertionError):
        DeliveryWindow(1).free(1)
