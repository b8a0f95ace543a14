"""Runs the function of a subscriber for an event or a list of them, and says what became of it.

Owns: decoding, threads for functions that are not async, the timeout, and the meaning of every exception.
Refuses: to know where events come from and how an outcome is recorded; queues and the scheduler for Kafka
clusters use it alike. A cancellation of the task that calls it comes out as CancelledError: a stop is no
failure of an event. Every other end is an outcome.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from mainstem import contract
from mainstem.api import tracing
from mainstem.api.errors import Undecodable
from mainstem.api.event import Event
from mainstem.api.signals import DeadLetter, RetryIn
from mainstem.api.subscriber import Subscriber

REASON_CHARACTERS_MAX = 1_000
"""As the reason of an answer to a subscription."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handled:
    """The event is done."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler failed: the event is tried again if its subscriber has attempts left."""

    reason: str
    """For people, REASON_CHARACTERS_MAX at most."""
    delay_ms: int | None = None
    """Wait before the next attempt; None: as `Retry` says."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The event cannot be handled, ever: it goes to the dead letters."""

    reason: str


HandlerOutcome: TypeAlias = Handled | Failed | Rejected
HANDLED = Handled()


class SendsReplies(Protocol):
    """Sends replies to those who wait for one."""

    def wants_reply(self, event: contract.Event) -> bool:
        """Whether the publisher of an event waits for a reply."""

    async def send_reply(self, event: contract.Event, value: object) -> None:
        """Send what the handler returned. TypeError: the value cannot be encoded. StreamError."""

    async def send_failure(self, event: contract.Event, reason: str) -> None:
        """Say that there will be no reply. StreamError."""


OnError: TypeAlias = Callable[[Subscriber, contract.Event, str, BaseException | None], None]
"""Is called with each failure: the event (the first one of a list), the reason, and the exception."""


class HandlerCall:
    """Calls the function of one subscriber. Of its methods only those that are async wait."""

    def __init__(
        self, subscriber: Subscriber, replies: SendsReplies | None = None, on_error: OnError | None = None
    ) -> None:
        self._subscriber = subscriber
        self._replies = replies if _may_return_something(subscriber.call) else None
        self._on_error = on_error
        self._options = subscriber.options
        self._retry = subscriber.options.retry
        self._decode = subscriber.codec.decode
        self._is_plain = subscriber.is_async and self._options.timeout is None
        """Whether the function is called as it is, but for what is entered around it."""
        self._threads: ThreadPoolExecutor | None = None
        self.in_threads = 0
        """Calls that run in threads at the moment. No stop ends them."""

    def close(self) -> None:
        """Begin no further call in a thread. Does not wait for those that run."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, event: contract.Event, attempt: int) -> HandlerOutcome:
        """Handle an event; `attempt` counts from 1."""
        if self._is_plain and not self._subscriber.around and tracing.has_no_trace(event):
            return await self._run_plain(event, attempt)  # most events: one call in place of seven
        outcome, result = await self._run_single(event, attempt)
        if self._replies is not None and event.headers and self._replies.wants_reply(event):
            outcome = await self._reply(self._replies, event, attempt, outcome, result)
        return outcome

    async def run_list(
        self, events: Sequence[contract.Event], attempts: Sequence[int]
    ) -> list[HandlerOutcome]:
        """Handle events as one list. Returns the outcome of each: those that cannot be decoded are rejected,
        and left out of the list; all others have the same one. A list of several is never rejected, only
        failed: which of its events is meant shows when they are handled one by one."""
        outcomes: list[HandlerOutcome | None] = []
        values: list[Any] = []
        for event, attempt in zip(events, attempts, strict=True):
            value = self._value_of(event, attempt)
            outcomes.append(value if isinstance(value, Failed | Rejected) else None)
            if outcomes[-1] is None:
                values.append(value)
        common: HandlerOutcome = HANDLED
        if values:
            handled = [event for event, outcome in zip(events, outcomes, strict=True) if outcome is None]
            common, _ = await self._call(values, handled, max(attempts))
            if isinstance(common, Rejected) and len(values) > 1:
                common = Failed(common.reason)
        return [common if outcome is None else outcome for outcome in outcomes]

    # ------------------------------------------------------------------------------------------------------

    async def _run_plain(self, event: contract.Event, attempt: int) -> HandlerOutcome:
        """As `run`, where there is no thread, no trace and, without headers, no reply that is waited for."""
        try:
            value = self._decode(event.value)
        except Exception:
            return (await self._run_single(event, attempt))[0]
        subscriber = self._subscriber
        try:
            await subscriber.call(Event(event, value, attempt) if subscriber.takes_event else value)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            return self._noted(self._outcome_of(error), event, attempt, error)
        return HANDLED

    async def _run_single(self, event: contract.Event, attempt: int) -> tuple[HandlerOutcome, Any]:
        value = self._value_of(event, attempt)
        if isinstance(value, Failed | Rejected):
            return value, None
        return await self._call(value, (event,), attempt)

    def _value_of(self, event: contract.Event, attempt: int) -> Any:
        """What the function gets for an event; a Failed or Rejected if there is no such thing."""
        try:
            value = self._decode(event.value)
        except Undecodable as error:
            return self._noted(Rejected(_bounded(str(error))), event, attempt, error)
        except Exception as error:  # of a model's own code
            return self._noted(self._outcome_of(error), event, attempt, error)
        return Event(event, value, attempt) if self._subscriber.takes_event else value

    async def _call(
        self, argument: Any, events: Sequence[contract.Event], attempt: int
    ) -> tuple[HandlerOutcome, Any]:
        with tracing.handling(self._options.group, events):
            try:
                if self._subscriber.is_async:
                    return HANDLED, await self._run_async(argument)
                result = await self._run_in_thread(argument, events[0])
                return HANDLED, await result if inspect.iscoroutine(result) else result
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                outcome = self._noted(self._outcome_of(error), events[0], attempt, error)
                tracing.failed(error, outcome.reason)
                return outcome, None

    async def _run_async(self, argument: Any) -> Any:
        subscriber, timeout_s = self._subscriber, self._options.timeout
        if timeout_s is None and not subscriber.around:
            return await subscriber.call(argument)
        with ExitStack() as entered:
            for around in subscriber.around:
                entered.enter_context(around())
            if timeout_s is None:
                return await subscriber.call(argument)
            try:
                async with asyncio.timeout(timeout_s) as limit:
                    return await subscriber.call(argument)
            except TimeoutError as error:
                if limit.expired():
                    raise TimeoutError(f"the handler took longer than {timeout_s:g} s") from error
                raise

    async def _run_in_thread(self, argument: Any, event: contract.Event) -> Any:
        """Call the function in a thread. One that takes longer than its timeout cannot be stopped: this is
        noted, and its event stays with it until it returns."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(
                self._options.concurrency, thread_name_prefix=f"mainstem-{self._options.name}"
            )
        context = copy_context()
        loop = asyncio.get_running_loop()
        self.in_threads += 1
        running = loop.run_in_executor(self._threads, context.run, self._enter_and_call, argument)
        running.add_done_callback(self._on_returned)
        if self._options.timeout is not None:
            done, _ = await asyncio.wait((running,), timeout=self._options.timeout)
            if not done:
                log.warning(
                    "%s: on %s it runs for longer than %g s; a function in a thread cannot be stopped",
                    *(self._subscriber.title, place_of(event), self._options.timeout),
                )
        return await asyncio.shield(running)

    def _on_returned(self, running: asyncio.Future[Any]) -> None:
        self.in_threads -= 1
        if not running.cancelled():
            running.exception()  # so that one that nothing waits for any more is not reported as forgotten

    def _enter_and_call(self, argument: Any) -> Any:
        try:
            with ExitStack() as entered:
                for around in self._subscriber.around:
                    entered.enter_context(around())
                return self._subscriber.call(argument)
        except StopIteration as error:  # a future refuses it
            raise RuntimeError(f"the handler raised {_text_of(error)}") from error

    # ------------------------------------------------------------------------------------------------------
    # outcomes

    def _outcome_of(self, error: BaseException) -> Failed | Rejected:
        if isinstance(error, DeadLetter):
            return Rejected(_reason_of_signal(error.reason, error))
        if isinstance(error, RetryIn):
            return Failed(_reason_of_signal(error.reason, error), round(error.delay_s * 1000))
        if isinstance(error, self._retry.give_up_on):
            return Rejected(_text_of(error))
        return Failed(_text_of(error))

    def _noted(
        self, outcome: Failed | Rejected, event: contract.Event, attempt: int, error: BaseException
    ) -> Failed | Rejected:
        is_signal = isinstance(error, RetryIn | DeadLetter | Undecodable)
        shows_trace = not is_signal and (attempt == 1 or attempt >= self._retry.max_attempts)
        log.warning(
            "%s: %s on %s, attempt %d of %d: %s",
            self._subscriber.title,
            "gave up" if isinstance(outcome, Rejected) else "failed",
            place_of(event),
            attempt,
            self._retry.max_attempts,
            outcome.reason,
            exc_info=error if shows_trace else None,
        )
        if self._on_error is not None:
            self._on_error(self._subscriber, event, outcome.reason, error)
        return outcome

    async def _reply(
        self,
        replies: SendsReplies,
        event: contract.Event,
        attempt: int,
        outcome: HandlerOutcome,
        result: Any,
    ) -> HandlerOutcome:
        """Send the reply, before the event is acknowledged, or say that there will be none."""
        try:
            if isinstance(outcome, Handled):
                await replies.send_reply(event, result)
            elif isinstance(outcome, Rejected) or attempt >= self._retry.max_attempts:
                await replies.send_failure(event, outcome.reason)
        except contract.NotReachable as error:
            if isinstance(outcome, Handled):
                return self._noted(Failed(_bounded(f"no reply sent: {error}")), event, attempt, error)
        except contract.StreamError as error:  # such as a topic of replies that is not there any more
            log.warning("%s: no reply to %s: %s", self._subscriber.title, place_of(event), error)
        except TypeError as error:
            outcome = Rejected(_bounded(f"the reply cannot be encoded: {error}"))
            self._noted(outcome, event, attempt, error)
            return await self._reply(replies, event, attempt, outcome, None)
        return outcome


def _may_return_something(function: Callable[..., Any]) -> bool:
    """Whether a handler may be one that replies: not if its annotation says that it returns nothing. Other
    groups of its topic are then free to reply."""
    try:
        annotation = inspect.signature(function).return_annotation
    except (TypeError, ValueError):
        return True
    return annotation not in (None, "None")


def place_of(event: contract.Event) -> str:
    """Where an event is, for people."""
    return f"{event.topic}/{event.partition}/{event.offset}"


def _is_cancelled() -> bool:
    """Whether the task that runs was asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _reason_of_signal(reason: str, signal: BaseException) -> str:
    if reason:
        return _bounded(reason)
    cause = signal.__cause__ or signal.__context__
    return "" if cause is None else _text_of(cause)


def _text_of(error: BaseException) -> str:
    """Type and message of an exception, bounded."""
    name = type(error).__qualname__
    try:
        message = str(error)
    except Exception:
        message = "(its text cannot be made)"
    return _bounded(f"{name}: {message}" if message else name)


def _bounded(text: str) -> str:
    """A text as a reason may be: short, and UTF-8."""
    if len(text) > REASON_CHARACTERS_MAX:
        text = text[: REASON_CHARACTERS_MAX - 1] + "…"
    return text.encode(errors="replace").decode()
