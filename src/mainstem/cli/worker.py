"""Works on the events of a subscription: pulls them, runs a job for each, and settles it by its exit code.

Owns: how many jobs run at once, what their exit codes mean, the extension of leases while jobs run, the order
of a stop, and patience with a server that does not respond. Refuses: to have more events than jobs, because
what is not begun is for other workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

from mainstem.contract import NotReachable, StreamError
from mainstem.http_api.deliveries import (
    REASON_CHARACTERS_MAX,
    AckJson,
    DeliveryJson,
    ExtendJson,
    NackJson,
    RejectJson,
)

T = TypeVar("T")
PULL_WAIT_MS = 20_000
LAST_PULL_WAIT_MS = 1_000
"""How long a worker that ends when nothing is left waits for a further event."""
RETRY_S_FIRST = 1.0
RETRY_S_MAX = 15.0
STOPPING_ATTEMPTS = 3
"""How often a worker that was asked to stop tries to reach a server that does not respond."""
EXTENSIONS_PER_LOCK = 3


class JobCode(IntEnum):
    """Exit codes of a job with a meaning of their own; the names are those of sysexits.h."""

    OK = 0
    DATA_ERROR = 65
    """EX_DATAERR: the event is rejected."""
    TEMPORARY_FAILURE = 75
    """EX_TEMPFAIL: the event is delivered again after the delay for it."""


class WorkSource(Protocol):
    """The calls of `RemoteQueues` that a worker makes."""

    async def pull(
        self, name: str, consumer: str, max_events: int, wait_ms: int
    ) -> Sequence[DeliveryJson]: ...
    async def ack(self, name: str, body: AckJson) -> Sequence[str]: ...
    async def nack(self, name: str, body: NackJson) -> Sequence[str]: ...
    async def reject(self, name: str, body: RejectJson) -> Sequence[str]: ...
    async def extend(self, name: str, body: ExtendJson) -> Sequence[str]: ...


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
        self._leased: dict[str, str] = {}
        """The position of the event of each token that is not settled, as text."""
        self._lost: set[str] = set()
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

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of a call, which is repeated while the server does not respond."""
        delay_s, attempts = RETRY_S_FIRST, 0
        while True:
            try:
                result = await call()
            except NotReachable as error:
                attempts += 1
                if self._aborted or (self._stopping.is_set() and attempts >= STOPPING_ATTEMPTS):
                    raise
                if attempts == 1:
                    self._report(f"{error}; trying again")
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_S_MAX)
            else:
                if attempts:
                    self._report("the server responds again")
                return result

    # ------------------------------------------------------------------------------------------------------
    # jobs

    def _start(self, delivery: DeliveryJson) -> None:
        event = delivery.event
        self._leased[delivery.token] = f"{event.topic}/{event.partition}/{event.offset}"
        if self._left is not None:
            self._left -= 1
        # Pulled while the worker was asked to stop: it is given back.
        begins = not self._stopping.is_set()
        job = asyncio.ensure_future(self._work_on(delivery, begins=begins))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _work_on(self, delivery: DeliveryJson, *, begins: bool) -> None:
        """Run the job of an event and settle the event. A server that refuses ends the worker."""
        token = delivery.token
        where = f"{self._leased[token]} (attempt {delivery.attempt})"
        try:
            if not begins:
                await self._give_back(token)
                return
            try:
                code = await self._run_job(delivery)
            except OSError as error:
                self._report(f"{where}: the command cannot be started: {error}; failed")
                await self._fail(token, None, f"the command cannot be started: {error}")
            else:
                await self._settle(token, where, code)
        except StreamError as error:
            self._failure = self._failure or error
            self.stop()
        finally:
            del self._leased[token]
            self._lost.discard(token)

    async def _settle(self, token: str, where: str, code: int) -> None:
        if code == JobCode.OK:
            name = self._plan.subscription
            verdicts = await self._patiently(lambda: self._source.ack(name, AckJson([token])))
            if verdicts[0] in ("done", "late"):
                self.counts.acknowledged += 1
            else:
                self._report(f"{where}: done, but its lease was over, and it may be delivered again")
            return
        ended = f"exit code {code}" if code > 0 else f"signal {-code}"
        if self._aborted:
            await self._give_back(token)
        elif code == JobCode.DATA_ERROR:
            self._report(f"{where}: {ended}, rejected")
            await self._reject(token, ended)
        else:
            self._report(f"{where}: {ended}, failed")
            delay_ms = self._plan.retry_delay_ms if code == JobCode.TEMPORARY_FAILURE else None
            await self._fail(token, delay_ms, ended)

    async def _reject(self, token: str, reason: str) -> None:
        self.counts.rejected += 1
        body = RejectJson([token], f"{self._plan.consumer}: {reason}")
        await self._patiently(lambda: self._source.reject(self._plan.subscription, body))

    async def _fail(self, token: str, delay_ms: int | None, reason: str) -> None:
        self.counts.failed += 1
        body = NackJson([token], delay_ms, reason=f"{self._plan.consumer}: {reason}"[:REASON_CHARACTERS_MAX])
        await self._patiently(lambda: self._source.nack(self._plan.subscription, body))

    async def _give_back(self, token: str) -> None:
        self.counts.given_back += 1
        body = NackJson([token], counts=False)
        await self._patiently(lambda: self._source.nack(self._plan.subscription, body))

    # ------------------------------------------------------------------------------------------------------
    # leases

    async def _extend_leases(self) -> None:
        """Extend the leases of all jobs that run, several times in each lock."""
        lock_ms = self._plan.lock_ms
        while True:
            await asyncio.sleep(lock_ms / 1000 / EXTENSIONS_PER_LOCK)
            tokens = [token for token in self._leased if token not in self._lost]
            if not tokens:
                continue
            try:
                verdicts = await self._source.extend(self._plan.subscription, ExtendJson(tokens, lock_ms))
            except StreamError:
                continue  # the next round tries again, and the pull reports it
            for token, verdict in zip(tokens, verdicts, strict=True):
                if verdict != "done" and token in self._leased:
                    self._lost.add(token)
                    self._report(f"{self._leased[token]}: its lease is over, and it may be delivered again")
