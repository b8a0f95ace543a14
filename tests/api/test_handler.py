"""What becomes of an event, for every way in which a handler can end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from mainstem.api.event import Event
from mainstem.api.handler import HANDLED, REASON_CHARACTERS_MAX, Failed, HandlerCall, HandlerOutcome, Rejected
from mainstem.api.signals import DeadLetter, Retry, RetryIn
from mainstem.api.subscriber import Subscriber
from mainstem.contract import Event as LogEvent
from mainstem.contract import NotReachable, UnknownTopic
from tests.api.subscriber_rig import subscriber

T = TypeVar("T")
EVENT = LogEvent("orders", 0, 7, 1_000, b"k", b"1")


class Declined(Exception):
    """An error that no further attempt cures."""


class Unprintable(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


def run(made: Subscriber, event: LogEvent = EVENT, attempt: int = 1, **named: Any) -> HandlerOutcome:
    async def call() -> HandlerOutcome:
        handler = HandlerCall(made, **named)
        try:
            return await handler.run(event, attempt)
        finally:
            handler.close()

    return asyncio.run(call())


def raising(make: Callable[[], BaseException]) -> list[Callable[[Any], Any]]:
    """A coroutine function and a plain function that raise this."""

    async def in_loop(order: int) -> None:
        raise make()

    def in_thread(order: int) -> None:
        raise make()

    return [in_loop, in_thread]


def from_cause() -> BaseException:
    error = DeadLetter()
    error.__cause__ = KeyError("customer")
    return error


@pytest.mark.parametrize(
    ("make", "outcome"),
    [
        (lambda: ValueError("bad total"), Failed("ValueError: bad total")),
        (lambda: ValueError(), Failed("ValueError")),
        (lambda: Declined("no funds"), Rejected("Declined: no funds")),
        (lambda: RetryIn(2.5), Failed("", 2_500)),
        (lambda: RetryIn(timedelta(minutes=1), "down"), Failed("down", 60_000)),
        (lambda: DeadLetter("unknown customer"), Rejected("unknown customer")),
        (from_cause, Rejected("KeyError: 'customer'")),
        (lambda: SystemExit(3), Failed("SystemExit: 3")),
        (lambda: asyncio.CancelledError(), Failed("CancelledError")),
        (lambda: StopIteration(1), None),
        (
            lambda: ExceptionGroup("two", [ValueError(), KeyError()]),
            Failed("ExceptionGroup: two (2 sub-exceptions)"),
        ),
        (Unprintable, Failed("Unprintable: (its text cannot be made)")),
        (lambda: ValueError("\ud800"), Failed("ValueError: ?")),
        (lambda: TimeoutError("of a client"), Failed("TimeoutError: of a client")),
    ],
)
def test_an_exception_has_an_outcome(
    make: Callable[[], BaseException], outcome: HandlerOutcome | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest cannot report what is no UTF-8
    for function in raising(make):
        made = subscriber(function, model=int, retry=Retry(give_up_on=(Declined,)))
        given = run(made)
        assert given == outcome if outcome is not None else isinstance(given, Failed)


def test_a_long_reason_is_cut() -> None:
    function, _ = raising(lambda: ValueError("x" * 5_000))
    outcome = run(subscriber(function, model=int))
    assert isinstance(outcome, Failed)
    assert len(outcome.reason) == REASON_CHARACTERS_MAX


def test_a_value_that_cannot_be_decoded_is_rejected_without_a_call() -> None:
    calls: list[Any] = []
    outcome = run(subscriber(calls.append, model=int), LogEvent("orders", 0, 1, 0, None, b'"text"'))
    assert isinstance(outcome, Rejected)
    assert "int" in outcome.reason
    assert calls == []


def test_the_handler_gets_the_payload_or_the_event() -> None:
    payloads: list[Any] = []
    events: list[Event[int]] = []

    def with_event(event: Event[int]) -> None:
        events.append(event)

    assert run(subscriber(payloads.append, model=int)) == HANDLED
    assert run(subscriber(with_event, model=int), attempt=3) == HANDLED
    assert payloads == [1]
    assert [(event.value, event.attempt, event.raw) for event in events] == [(1, 3, EVENT)]


def test_a_handler_that_takes_too_long_has_failed() -> None:
    ended: list[str] = []

    async def slow(order: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    outcome = run(subscriber(slow, model=int, timeout=0.01))
    assert outcome == Failed("TimeoutError: the handler took longer than 0.01 s")
    assert ended == ["cancelled"]


def test_a_function_in_a_thread_keeps_its_event_beyond_the_timeout(caplog: pytest.LogCaptureFixture) -> None:
    def slow(order: int) -> None:
        threading.Event().wait(0.05)

    assert run(subscriber(slow, model=int, timeout=0.01)) == HANDLED
    assert "cannot be stopped" in caplog.text


def test_a_stop_is_no_failure_of_the_event() -> None:
    noted: list[Any] = []

    async def endless(order: int) -> None:
        await asyncio.Event().wait()

    async def cancel() -> None:
        handler = HandlerCall(subscriber(endless, model=int), on_error=lambda *failure: noted.append(failure))
        task = asyncio.ensure_future(handler.run(EVENT, 1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert noted == []


def test_every_failure_is_reported_with_its_exception() -> None:
    noted: list[Any] = []
    function, _ = raising(lambda: ValueError("bad"))
    made = subscriber(function, model=int)
    run(made, on_error=lambda *failure: noted.append(failure))
    ((who, event, reason, error),) = noted
    assert (who, event, reason) == (made, EVENT, "ValueError: bad")
    assert isinstance(error, ValueError)


REQUEST: ContextVar[str] = ContextVar("REQUEST", default="")


def test_context_variables_and_what_is_around_reach_the_function_in_its_thread() -> None:
    steps: list[tuple[str, bool]] = []

    def step(name: str) -> None:
        steps.append((name, threading.current_thread() is threading.main_thread()))

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        step("enter")
        yield
        step("leave")

    def in_thread(order: int) -> None:
        step(REQUEST.get())

    async def in_loop(order: int) -> None:
        step(REQUEST.get())

    REQUEST.set("r1")
    for function in (in_thread, in_loop):
        made = subscriber(function, model=int)
        made.around.append(around)
        assert run(made) == HANDLED
    names = ["enter", "r1", "leave"]
    assert steps == [*((name, False) for name in names), *((name, True) for name in names)]


class RecordedReplies:
    """What was sent to those who wait."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[tuple[str, object]] = []
        self._error = error

    def wants_reply(self, event: LogEvent) -> bool:
        return any(name == "reply-to" for name, _ in event.headers)

    async def send_reply(self, event: LogEvent, value: object) -> None:
        if self._error is not None:
            raise self._error
        self.sent.append(("reply", value))

    async def send_failure(self, event: LogEvent, reason: str) -> None:
        self.sent.append(("failure", reason))


ASKING = LogEvent("orders", 0, 1, 0, None, b"2", (("reply-to", b"topic:orders.replies"),))


async def doubled(order: int) -> int:
    return order * 2


async def failing(order: int) -> int:
    raise ValueError("no quote")


@pytest.mark.parametrize(
    ("function", "event", "attempt", "error", "sent", "outcome"),
    [
        (doubled, ASKING, 1, None, [("reply", 4)], HANDLED),
        (doubled, EVENT, 1, None, [], HANDLED),
        (failing, ASKING, 1, None, [], Failed("ValueError: no quote")),
        (failing, ASKING, 5, None, [("failure", "ValueError: no quote")], Failed("ValueError: no quote")),
        (doubled, ASKING, 1, NotReachable("away"), [], Failed("no reply sent: away")),
        (doubled, ASKING, 1, UnknownTopic("no topic"), [], HANDLED),
        (
            *(doubled, ASKING, 1, TypeError("a set")),
            [("failure", "the reply cannot be encoded: a set")],
            Rejected("the reply cannot be encoded: a set"),
        ),
    ],
)
def test_what_a_handler_returns_is_the_reply(
    function: Callable[[int], Awaitable[int]],
    event: LogEvent,
    attempt: int,
    error: Exception | None,
    sent: list[tuple[str, object]],
    outcome: HandlerOutcome,
) -> None:
    replies = RecordedReplies(error)
    assert run(subscriber(function, model=int), event, attempt, replies=replies) == outcome
    assert replies.sent == sent


def test_a_list_is_handled_without_what_cannot_be_decoded() -> None:
    lists: list[list[int]] = []

    async def store(orders: list[int]) -> None:
        lists.append(orders)
        if 3 in orders:
            raise DeadLetter("a three")

    async def call(*values: bytes) -> list[HandlerOutcome]:
        handler = HandlerCall(subscriber(store, model=int, batch=10))
        events = [LogEvent("orders", 0, offset, 0, None, value) for offset, value in enumerate(values)]
        return await handler.run_list(events, [1] * len(events))

    first, second, third = asyncio.run(call(b"1", b"x", b"2"))
    assert (first, third) == (HANDLED, HANDLED)
    assert isinstance(second, Rejected)
    assert asyncio.run(call(b"1", b"3")) == [Failed("a three")] * 2
    assert asyncio.run(call(b"3")) == [Rejected("a three")]
    assert lists == [[1, 2], [1, 3], [3]]
