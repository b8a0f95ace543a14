"""Works on the events of a subscription: pulls them, runs a job for each, and settles it by its exit code.

Owns: how many jobs run at once, what their exit codes mean, the extension of leases while jobs run, the order
of a stop, and patience with a server that does not respond. Refuses: to have more events than jobs, because
what is not begun is for other workers; and to run a job again that runs, or whose end the server does not
know yet, when a restarted server delivers its event again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

from mainstem.http_api.deliveries import (
    REASON_CHARACTERS_MAX,
    AckJson,
    DeliveryJson,
    ExtendJson,
    NackJson,
    RejectJson,
)
from mainstem.stream_errors import NotReachable, StreamError

T = TypeVar("T")
PULL_WAIT_MS = 20_000
LAST_PULL_WAIT_MS = 1_000
"""How long a worker that ends when nothing is left waits for a further event."""
RETRY_S_FIRST = 1.0
RETRY_S_MAX = 15.0
ANSWER_RETRY_S_MAX = 2.0
"""Longest pause between attempts to settle an event: another worker may get it when the server is back."""
STOPPING_ATTEMPTS = 3
"""How often a worker that was asked to stop tries to reach a server that does not respond; to settle an event
it tries until the lock of the event is over."""
EXTENSIONS_PER_LOCK = 3


class JobCode(IntEnum):
    """Exit codes of a job with a meaning of their own; the names are those of sysexits.h."""

    OK = 0
    DATA_ERROR = 65
    """EX_DATAERR: the event is rejected."""
    TEMPORARY_FAILURE = 75
    """EX_TEMPFAIL: the event is delivered again after the delay for it."""


class WorkSource(Protocol):
    """The calls of `SubscriptionCalls` that a worker makes."""

    async def pull(
        self, name: str, consumer: str, max_events: int, wait_ms: int
    ) -> Sequence[DeliveryJson]: ...
    async def ack(self, name: str, body: AckJson) -> Sequence[str]: ...
    async def nack(self, name: str, body: NackJson) -> Sequence[str]: ...
    async def reject(self, name: str, body: RejectJson) -> Sequence[str]: ...
    async def extend(self, name: str, body: ExtendJson) -> Sequence[str]: ...
    async def is_done(self, name: str, topic: str, partition: int, offset: int) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkPlan:
    """What a worker works on, and how."""

    subscription: str
    consumer: str
    lock_ms: int
    jobs: int = 1
    count: int | None = None
    """It ends after this many events; None: there is no such limit."""
    until_empty: bool = False
    """It ends when no event is ready."""
    retry_delay_ms: int | None = None
    """Delay of an event whose job failed temporarily; None: as the subscription says."""


@dataclass(slots=True)
class WorkCounts:
    """How many events were settled in each way."""

    acknowledged: int = 0
    failed: int = 0
    rejected: int = 0
    given_back: int = 0


@dataclass(slots=True)
class _EventJob:
    """The work on an event, from its delivery until it is settled."""

    delivery: DeliveryJson
    token: str
    """Of the latest delivery of the event to this worker."""
    lease_end_s: float
    """When its lock expires, monotonic."""
    is_lost: bool = False
    """Whether the server has said that its lock is over."""
    is_unknown: bool = False
    """Whether an answer was sent of which it is not known whether it arrived."""

    @property
    def position(self) -> str:
        """Where the event is, as text."""
        return position_of(self.delivery)

    @property
    def title(self) -> str:
        """The event and the attempt, for people."""
        return f"{self.position} (attempt {self.delivery.attempt})"


def position_of(delivery: DeliveryJson) -> str:
    """Where an event is, as text."""
    event = delivery.event
    return f"{event.topic}/{event.partition}/{event.offset}"


class Worker:
    """Runs until it is stopped, or until the plan is fulfilled. `run_job` returns the exit code of a job, and
    raises OSError if it cannot be started; `report` shows a line to people."""

    def __init__(
        self,
        source: WorkSource,
        plan: WorkPlan,
        run_job: Callable[[DeliveryJson], Awaitable[int]],
        report: Callable[[str], None],
    ) -> None:
        self._source = source
        self._plan = plan
        self._run_job = run_job
        self._report = report
        self._left = plan.count
        self._jobs: set[asyncio.Task[None]] = set()
        self._running: dict[str, _EventJob] = {}
        """The jobs whose events are not settled, by position."""
        self._unconfirmed: dict[str, float] = {}
        """Events whose job was successful, but may not be done for the server, because it did not respond.
        Until that time (monotonic) they are acknowledged without another run if they are delivered again."""
        self._stopping = asyncio.Event()
        self._aborted = False
        self._failure: StreamError | None = None
        self.counts = WorkCounts()

    def stop(self) -> None:
        """Begin no further job, and end when those that run are done."""
        self._stopping.set()

    def abort(self) -> None:
        """As `stop`, and give back the events of jobs that end from now on without success."""
        self._aborted = True
        self.stop()

    async def run(self) -> None:
        """Work. Raises NotReachable, or another StreamError of the server, when the jobs have ended."""
        extending = asyncio.ensure_future(self._extend_leases())
        try:
            await self._pull_and_start()
        finally:
            self.stop()
            try:
                while self._jobs:
                    await asyncio.wait(set(self._jobs))
            finally:
                extending.cancel()
                with suppress(asyncio.CancelledError):
                    await extending
        if self._failure is not None:
            raise self._failure

    # ------------------------------------------------------------------------------------------------------
    # pulling

    async def _pull_and_start(self) -> None:
        while not self._stopping.is_set() and self._left != 0:
            room = self._plan.jobs - len(self._jobs)
            if room == 0:
                await asyncio.wait(set(self._jobs), return_when=asyncio.FIRST_COMPLETED)
                continue
            deliveries = await self._pull(room if self._left is None else min(room, self._left))
            for delivery in deliveries:
                self._start(delivery)
            if not deliveries and self._plan.until_empty and not self._jobs:
                return

    async def _pull(self, max_events: int) -> Sequence[DeliveryJson]:
        """The next events; none if the worker is asked to stop meanwhile. Leaving the request gives back what
        it has leased."""
        wait_ms = LAST_PULL_WAIT_MS if self._plan.until_empty else PULL_WAIT_MS
        plan = self._plan
        pulling = asyncio.ensure_future(
            self._patiently(lambda: self._source.pull(plan.subscription, plan.consumer, max_events, wait_ms))
        )
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((pulling, stopping), return_when=asyncio.FIRST_COMPLETED)
            return pulling.result() if pulling.done() else ()
        finally:
            for task in (stopping, pulling):
                if task.cancel():
                    await asyncio.wait((task,))

    async def _patiently(
        self, call: Callable[[], Awaitable[T]], retry_s_max: float = RETRY_S_MAX, until_s: float = 0.0
    ) -> T:
        """The result of a call, which is repeated while the server does not respond. When the worker is to
        stop, it is given up after a few attempts, but not before the time `until_s`."""
        delay_s, attempts = RETRY_S_FIRST, 0
        while True:
            try:
                result = await call()
            except NotReachable as error:
                attempts += 1
                is_over = attempts >= STOPPING_ATTEMPTS and time.monotonic() >= until_s
                if self._aborted or (self._stopping.is_set() and is_over):
                    raise
                if attempts == 1:
                    self._report(f"{error}; trying again")
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, retry_s_max)
            else:
                if attempts:
                    self._report("the server responds again")
                return result

    # ------------------------------------------------------------------------------------------------------
    # jobs

    def _start(self, delivery: DeliveryJson) -> None:
        position, lease_end_s = position_of(delivery), time.monotonic() + self._plan.lock_ms / 1000
        running = self._running.get(position)
        if running is not None:
            # The server was restarted, and its leases with it: the job that runs has the event by this one.
            running.token, running.lease_end_s, running.is_lost = delivery.token, lease_end_s, False
            return
        job = self._running[position] = _EventJob(delivery, delivery.token, lease_end_s)
        if self._unconfirmed.pop(position, 0.0) > time.monotonic():
            work = self._finish(job, self._acknowledge(job))
        elif self._stopping.is_set():
            # Pulled while the worker was asked to stop.
            work = self._finish(job, self._give_back(job, was_begun=False))
        else:
            if self._left is not None:
                self._left -= 1
            work = self._finish(job, self._work_on(job))
        task = asyncio.ensure_future(work)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _finish(self, job: _EventJob, work: Awaitable[None]) -> None:
        """Do the work of a job. A server that refuses ends the worker."""
        try:
            await work
        except StreamError as error:
            self._failure = self._failure or error
            self.stop()
        finally:
            del self._running[job.position]

    async def _work_on(self, job: _EventJob) -> None:
        """Run the job of an event and settle the event."""
        try:
            code = await self._run_job(job.delivery)
        except OSError as error:
            self._report(f"{job.title}: the command cannot be started: {error}; failed")
            await self._fail(job, None, f"the command cannot be started: {error}")
            return
        if code == JobCode.OK:
            await self._acknowledge(job)
            return
        ended = f"exit code {code}" if code > 0 else f"signal {-code}"
        if self._aborted:
            await self._give_back(job)
        elif code == JobCode.DATA_ERROR:
            await self._reject(job, ended)
        else:
            self._report(f"{job.title}: {ended}, failed")
            delay_ms = self._plan.retry_delay_ms if code == JobCode.TEMPORARY_FAILURE else None
            await self._fail(job, delay_ms, ended)

    async def _answer(self, job: _EventJob, call: Callable[[str], Awaitable[Sequence[str]]]) -> bool:
        """Settle an event, by a call with its token, which is repeated until the server has answered it.
        Whether the event is settled."""

        async def attempt() -> tuple[str, str]:
            token = job.token
            try:
                return token, (await call(token))[0]
            except NotReachable:
                job.is_unknown = True
                raise

        while True:
            token, verdict = await self._patiently(attempt, ANSWER_RETRY_S_MAX, job.lease_end_s)
            if verdict in ("done", "late"):
                return True
            if job.is_unknown and await self._is_done(job):
                return True
            if token == job.token:
                return False
            # The event was delivered to this worker again meanwhile.

    async def _is_done(self, job: _EventJob) -> bool:
        """Whether an attempt was recorded that got no answer."""
        event = job.delivery.event
        return await self._patiently(
            lambda: self._source.is_done(self._plan.subscription, event.topic, event.partition, event.offset)
        )

    async def _acknowledge(self, job: _EventJob) -> None:
        name = self._plan.subscription
        if await self._answer(job, lambda token: self._source.ack(name, AckJson([token]))):
            self.counts.acknowledged += 1
            return
        self._report(f"{job.title}: done, but its lease was over, and it may be delivered again")
        if job.is_unknown:
            now_s = time.monotonic()
            self._unconfirmed = {
                position: end_s for position, end_s in self._unconfirmed.items() if end_s > now_s
            }
            self._unconfirmed[job.position] = now_s + self._plan.lock_ms / 1000

    async def _reject(self, job: _EventJob, ended: str) -> None:
        reason = f"{self._plan.consumer}: {ended}"
        name = self._plan.subscription
        if await self._answer(job, lambda token: self._source.reject(name, RejectJson([token], reason))):
            self._report(f"{job.title}: {ended}, rejected")
            self.counts.rejected += 1
        else:
            self._report(f"{job.title}: {ended}, but its lease was over, and it may be delivered again")

    async def _fail(self, job: _EventJob, delay_ms: int | None, why: str) -> None:
        name, reason = self._plan.subscription, f"{self._plan.consumer}: {why}"[:REASON_CHARACTERS_MAX]
        await self._answer(
            job, lambda token: self._source.nack(name, NackJson([token], delay_ms, reason=reason))
        )
        self.counts.failed += 1

    async def _give_back(self, job: _EventJob, *, was_begun: bool = True) -> None:
        """`was_begun`: whether there was a command for the event; without one, this was no delivery."""
        name = self._plan.subscription
        await self._answer(
            job,
            lambda token: self._source.nack(name, NackJson([token], counts=False, delivered=was_begun)),
        )
        self.counts.given_back += 1

    # ------------------------------------------------------------------------------------------------------
    # leases

    async def _extend_leases(self) -> None:
        """Extend the leases of all jobs that run, several times in each lock."""
        lock_ms = self._plan.lock_ms
        while True:
            await asyncio.sleep(lock_ms / 1000 / EXTENSIONS_PER_LOCK)
            jobs = {job.token: job for job in self._running.values() if not job.is_lost}
            if not jobs:
                continue
            begin_s = time.monotonic()
            try:
                body = ExtendJson(list(jobs), lock_ms)
                verdicts = await self._source.extend(self._plan.subscription, body)
            except StreamError:
                continue  # the next round tries again, and the pull reports it
            for (token, job), verdict in zip(jobs.items(), verdicts, strict=True):
                if job.token != token or self._running.get(job.position) is not job:
                    continue  # it was settled, or delivered to this worker again, meanwhile
                if verdict == "done":
                    job.lease_end_s = begin_s + lock_ms / 1000
                else:
                    job.is_lost = True
                    self._report(f"{job.position}: its lease is over, and it may be delivered again")
