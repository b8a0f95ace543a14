"""Answers for leased events, and extends the leases of those that run.

Answers that come while a call is under way go with the next one, so a busy subscriber acknowledges hundreds
in a call and an idle one at once. A server that does not respond is asked again: what was handled is not
handled again only because an answer was lost.

Owns: answers, extensions, and patience. Refuses: to choose what runs, and to pull.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from mainstem.api.handler import HANDLED, Failed, Handled, HandlerOutcome, Rejected, place_of
from mainstem.api.leased_lanes import OpenEvent, Place, opened
from mainstem.api.subscriber_state import SubscriberCounts
from mainstem.contract import NotReachable, StreamError
from mainstem.queue_contract import Ack, Delivery, Extend, Nack, Outcome, Queues, Reject, Verdict

T = TypeVar("T")
ANSWERS_MAX = 2_000
"""In one call."""
RETRY_S_FIRST, RETRY_S_MAX, ANSWER_RETRY_S_MAX = 0.25, 15.0, 2.0
"""Pauses between attempts to reach a server, from the first to the longest."""
STOPPING_ATTEMPTS = 3
"""How often a subscriber that stops tries to reach a server that does not respond."""
CLOSE_S_MAX = 15.0
"""How long a stop waits for a server that has a call and does not answer it."""
EXTENSIONS_PER_LOCK = 3
UNCONFIRMED_MAX = 10_000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The event was not handled: it is delivered again."""

    delay_ms: int | None = None
    """Not before this time; None: at once."""
    was_begun: bool = True
    """False: no handler has seen it, so this was no delivery."""


UNTOUCHED = GivenBack(was_begun=False)
FINAL = (Handled, Rejected)
"""Outcomes after which the event is done."""


class Leases:
    """The answers of one subscriber."""

    def __init__(
        self,
        queues: Queues,
        name: str,
        counts: SubscriberCounts,
        *,
        lock_ms: int,
        attempts_max: int,
        on_settled: Callable[[list[OpenEvent]], None],
        on_lost: Callable[[OpenEvent], None],
    ) -> None:
        self._queues = queues
        self._name = name
        self._counts = counts
        self.lock_ms = lock_ms
        self._attempts_max = attempts_max
        self._on_settled = on_settled
        self._on_lost = on_lost
        self._answers: list[tuple[OpenEvent, HandlerOutcome | GivenBack]] = []
        self._answering: dict[Place, OpenEvent] = {}
        self._has_answers = asyncio.Event()
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._unconfirmed: dict[Place, float] = {}
        """Events that were handled while their lease was over, until when (loop time) that is remembered: if
        they are delivered again, they are acknowledged without another call."""
        self._tasks: list[asyncio.Task[None]] = []
        self.stopping = asyncio.Event()
        self.is_reachable = True
        self.error: Exception | None = None
        """Why the server refuses; None: it does not."""

    def start(self, leased: Callable[[], Iterable[OpenEvent]]) -> None:
        """Begin to answer, and to extend the leases of these events."""
        self._tasks = [
            asyncio.ensure_future(self._answer_all()),
            asyncio.ensure_future(self._extend_all(leased)),
        ]

    async def close(self) -> None:
        """Wait until all answers are given, as far as the server responds, and end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._all_answered.wait()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def all_settled(self) -> None:
        """Wait until all answers are given."""
        await self._all_answered.wait()

    # ------------------------------------------------------------------------------------------------------
    # answers

    @property
    def unanswered(self) -> int:
        """Events whose answer is not taken yet."""
        return len(self._answering)

    def answer(self, leased: OpenEvent, outcome: HandlerOutcome | GivenBack) -> None:
        """Answer for an event, soon."""
        leased.is_answered = True
        if isinstance(outcome, FINAL):  # others do not count for the next delivery of the event
            self._answering[leased.place] = leased
        if not self._answers:
            self._has_answers.set()
            self._all_answered.clear()
        self._answers.append((leased, outcome))

    def is_answered(self, delivery: Delivery, lease_end_s: float) -> bool:
        """Whether an event that was delivered needs no handler: its answer is under way, and is given for
        this delivery then; or it was handled, and the server did not learn of it."""
        event = delivery.event
        place = event.topic, event.partition, event.offset
        answering = self._answering.get(place)
        if answering is not None:
            answering.token, answering.lease_end_s = delivery.token, lease_end_s
            return True
        if not self._unconfirmed or self._unconfirmed.pop(place, 0.0) < self._now_s():
            return False
        self.answer(opened(delivery, lease_end_s), HANDLED)
        return True

    async def _answer_all(self) -> None:
        while True:
            await self._has_answers.wait()
            self._has_answers.clear()
            while self._answers:
                batch = self._answers[:ANSWERS_MAX]
                del self._answers[:ANSWERS_MAX]
                await self._answer_batch(batch)
            self._all_answered.set()

    async def _answer_batch(self, batch: list[tuple[OpenEvent, HandlerOutcome | GivenBack]]) -> None:
        """Give answers, once more for those that were delivered to this consumer again meanwhile."""
        while batch:
            tokens = [leased.token for leased, _ in batch]
            outcomes = [
                Ack(leased.token) if answer is HANDLED else _outcome_of(leased, answer)
                for leased, answer in batch
            ]
            try:
                verdicts = await self.patiently(
                    lambda outcomes=outcomes: self._queues.settle(self._name, outcomes),  # type: ignore[misc]
                    ANSWER_RETRY_S_MAX,
                )
            except Exception as error:  # whatever it is, the events come again when their locks expire
                self._note(error)
                self._settled([leased for leased, _ in batch])
                return
            self.error = None
            again, settled = [], []
            for token, (leased, answer), verdict in zip(tokens, batch, verdicts, strict=True):
                if verdict in ("stale", "invalid") and leased.token != token:
                    again.append((leased, answer))
                    continue
                if answer is HANDLED and verdict == "done":
                    self._counts.done += 1
                else:
                    self._count(leased, answer, verdict)
                settled.append(leased)
            self._settled(settled)
            batch = again

    def _settled(self, events: list[OpenEvent]) -> None:
        answering = self._answering
        for leased in events:
            if answering.get(leased.place) is leased:
                del answering[leased.place]
        self._on_settled(events)

    def _count(self, leased: OpenEvent, answer: HandlerOutcome | GivenBack, verdict: Verdict) -> None:
        counts, is_taken = self._counts, verdict in ("done", "late")
        if isinstance(answer, Handled):
            if is_taken:
                counts.done += 1
            else:
                log.warning("%s: %s was handled, but its lease was over", self._name, place_of(leased.event))
                self._remember(leased.place)
        elif is_taken and not isinstance(answer, GivenBack):
            counts.dead += isinstance(answer, Rejected) or leased.attempt >= self._attempts_max

    def _remember(self, place: Place) -> None:
        """An event was handled, and the server does not know it."""
        now_s = self._now_s()
        if len(self._unconfirmed) >= UNCONFIRMED_MAX:
            self._unconfirmed = {place: end for place, end in self._unconfirmed.items() if end > now_s}
        if len(self._unconfirmed) < UNCONFIRMED_MAX:
            self._unconfirmed[place] = now_s + 2 * self.lock_ms / 1000

    # ------------------------------------------------------------------------------------------------------
    # leases

    async def _extend_all(self, leased: Callable[[], Iterable[OpenEvent]]) -> None:
        """Extend all leases several times in each lock. A lease that could not be extended in time is over:
        another consumer may have the event."""
        pause_s = self.lock_ms / 1000 / EXTENSIONS_PER_LOCK
        while True:
            await asyncio.sleep(pause_s)
            jobs = [job for job in leased() if not job.is_lost]
            jobs += [job for job in self._answering.values() if not job.is_lost]
            begin_s = self._now_s()
            try:
                async with asyncio.timeout(pause_s):
                    await self._extend(jobs, begin_s)
            except (StreamError, TimeoutError, OSError):
                pass  # the pull reports it
            except Exception as error:
                self._note(error)
            now_s = self._now_s()
            for job in jobs:
                if job.lease_end_s <= now_s:
                    self._lose(job)

    async def _extend(self, jobs: list[OpenEvent], begin_s: float) -> None:
        for first in range(0, len(jobs), ANSWERS_MAX):
            part = {job.token: job for job in jobs[first : first + ANSWERS_MAX]}
            verdicts = await self._queues.settle(self._name, [Extend(token, self.lock_ms) for token in part])
            for (token, job), verdict in zip(part.items(), verdicts, strict=True):
                if job.token != token:
                    continue  # delivered to this consumer again meanwhile
                if verdict == "done":
                    job.lease_end_s = begin_s + self.lock_ms / 1000
                else:
                    self._lose(job)

    def _lose(self, job: OpenEvent) -> None:
        if not job.is_lost and not job.is_answered:
            job.is_lost = True
            self._on_lost(job)

    # ------------------------------------------------------------------------------------------------------
    # patience

    async def patiently(self, call: Callable[[], Awaitable[T]], pause_s_max: float = RETRY_S_MAX) -> T:
        """The result of a call, repeated while the server does not respond; a few times only when the
        subscriber stops. StreamError: what the server refuses; NotReachable: it stops."""
        pause_s, attempts = RETRY_S_FIRST, 0
        while True:
            try:
                result = await call()
            except (NotReachable, OSError) as error:
                attempts += 1
                self.is_reachable = False
                if self.stopping.is_set() and attempts >= STOPPING_ATTEMPTS:
                    raise
                if attempts == 1:
                    log.warning("%s: %s; trying again", self._name, error)
                await self.pause(pause_s)
                pause_s = min(2 * pause_s, pause_s_max)
            else:
                if attempts:
                    log.info("%s: the server responds again", self._name)
                self.is_reachable = True
                return result

    async def pause(self, seconds: float) -> None:
        """Wait; a short time only when the subscriber stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
                await asyncio.sleep(min(seconds, RETRY_S_FIRST))

    def _note(self, error: Exception) -> None:
        self.error = error
        self._counts.last_error = str(error)
        is_bug = not isinstance(error, StreamError)
        log.error("%s: a call failed: %s", self._name, error, exc_info=error if is_bug else None)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _outcome_of(leased: OpenEvent, answer: HandlerOutcome | GivenBack) -> Outcome:
    if isinstance(answer, Handled):
        return Ack(leased.token)
    if isinstance(answer, Rejected):
        return Reject(leased.token, answer.reason)
    if isinstance(answer, Failed):
        return Nack(leased.token, answer.delay_ms, reason=answer.reason)
    if answer.was_begun or answer.delay_ms:
        return Nack(leased.token, answer.delay_ms, counts=False)
    return Nack(leased.token, counts=False, delivered=False)
