"""Policies of retries and the signals of handlers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mainstem.api.signals import DeadLetter, Retry, RetryIn
from mainstem.contract import StreamError


def test_delays_grow_to_their_limit() -> None:
    retry = Retry(initial_delay=1, max_delay=10, factor=3)
    assert [retry.delay_after(failures) for failures in (1, 2, 3, 4, 1_000_000_000)] == [1, 3, 9, 10, 10]
    assert Retry(initial_delay=0).delay_after(10**9) == 0
    assert Retry(initial_delay=5, factor=1).delay_after(3) == 5


@pytest.mark.parametrize(
    "numbers",
    [
        {"max_attempts": 0},
        {"initial_delay": -1},
        {"initial_delay": 61},
        {"initial_delay": float("nan")},
        {"max_delay": 8 * 86_400},
        {"factor": 0.5},
        {"factor": float("nan")},
    ],
)
def test_a_number_out_of_range_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(numbers))):
        Retry(**numbers)  # type: ignore[arg-type]


def test_signals_say_what_they_are_and_are_no_errors_of_the_stream() -> None:
    later = RetryIn(timedelta(minutes=2), "busy")
    assert (later.delay_s, later.reason, str(later)) == (120.0, "busy", "retry in 120 s: busy")
    assert RetryIn(0.5).delay_s == 0.5
    assert str(DeadLetter("unknown customer")) == DeadLetter("unknown customer").reason == "unknown customer"
    assert not issubclass(RetryIn, StreamError)
    assert not issubclass(DeadLetter, StreamError)


@pytest.mark.parametrize("delay", [-1, 8 * 86_400, float("nan"), timedelta(days=-1)])
def test_a_delay_out_of_range_is_refused(delay: float | timedelta) -> None:
    with pytest.raises(ValueError, match="is not 0 to"):
        RetryIn(delay)
