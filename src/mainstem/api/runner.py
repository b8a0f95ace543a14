"""Runs the subscribers of a stream: starts them, stops them, and says how they are.

Owns: their common life, and that of services that run beside them. Refuses: to know how events come:
`queue_work` and `list_work` over the queues of a mainstem server or of an engine in this process,
`scheduler.cluster_work` over the groups of a Kafka cluster.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Protocol

from mainstem import contract
from mainstem.api.backend import Backend
from mainstem.api.handler import HandlerCall, OnError, SendsReplies
from mainstem.api.list_work import QueueListWork
from mainstem.api.queue_work import QueueWork
from mainstem.api.scheduler.cluster_lists import ClusterListWork
from mainstem.api.scheduler.cluster_work import ClusterWork
from mainstem.api.subscriber import Subscriber
from mainstem.api.subscriber_state import SubscriberCounts, SubscriberState
from mainstem.contract import InvalidArgument, StreamError

LOCK_MS = 30_000
"""How long a killed process keeps its events."""
LAG_S_MAX = 3.0
"""How long a state waits for what the server knows: less than those wait who ask for the metrics."""
SERVICE_RETRY_S_FIRST, SERVICE_RETRY_S_MAX = 1.0, 30.0
log = logging.getLogger(__name__)
_runners = count(1)


class RunsBeside(Protocol):
    """A service that runs where the subscribers run, such as the relay of an outbox."""

    @property
    def name(self) -> str:
        """For messages."""

    async def run(self, log: contract.EventLog) -> None:
        """Work for ever. It is cancelled at the stop, and may finish then what it has begun."""


class SubscriberWork(Protocol):
    """The work of one subscriber, whatever its events come from."""

    subscriber: Subscriber
    counts: SubscriberCounts

    @property
    def is_joined(self) -> bool:
        """Whether it receives events."""

    async def start(self) -> None:
        """Join, and begin. StreamError."""

    async def stop(self, grace_s: float) -> None:
        """Take no further event, wait for the handlers up to `grace_s`, cancel the rest and give them
        back."""

    def cancel_handlers(self) -> None:
        """End the calls that run now, as far as they can be."""

    @property
    def in_threads(self) -> int:
        """Calls that run in threads, which nothing ends."""

    async def lag(self) -> tuple[int, int]:
        """(events that the group has not done, those of them that wait for a time). StreamError."""


class Runner:
    """All subscribers of a stream, on one backend. It is used once, in one event loop."""

    def __init__(
        self,
        backend: Backend,
        subscribers: Sequence[Subscriber],
        services: Sequence[RunsBeside] = (),
        *,
        replies: SendsReplies | None = None,
        on_error: OnError | None = None,
        lock_ms: int = LOCK_MS,
    ) -> None:
        """`on_error` is called with each failure of a handler. `lock_ms`: for how long the events of a
        process that is killed are not delivered to others. InvalidArgument: two subscribers have one topic
        and group."""
        names = [subscriber.options.name for subscriber in subscribers]
        for subscriber in subscribers:
            if names.count(subscriber.options.name) > 1:
                raise InvalidArgument(
                    f"two subscribers have topic {subscriber.options.topic} and group"
                    f" {subscriber.options.group}: events go to one of a group, so give them different groups"
                )
        self._backend = backend
        self._services = services
        self._tasks: list[asyncio.Task[None]] = []
        self._works = [self._work_of(made, replies, on_error, lock_ms) for made in subscribers]

    def _work_of(
        self, subscriber: Subscriber, replies: SendsReplies | None, on_error: OnError | None, lock_ms: int
    ) -> SubscriberWork:
        call = HandlerCall(subscriber, replies, on_error)
        queues = self._backend.queues
        if queues is None:
            cluster_kind = ClusterListWork if subscriber.takes_list else ClusterWork
            return cluster_kind(subscriber, self._backend, call, SubscriberCounts())
        kind = QueueListWork if subscriber.takes_list else QueueWork
        # A name of its own: the events of a key may all be leased to one name.
        consumer = f"{socket.gethostname()}-{os.getpid()}-{next(_runners)}"[:255]
        return kind(
            *(subscriber, self._backend, queues, call, SubscriberCounts()), consumer=consumer, lock_ms=lock_ms
        )

    @property
    def is_joined(self) -> bool:
        """Whether all subscribers receive events."""
        return all(work.is_joined for work in self._works)

    async def start(self) -> None:
        """Make what subscribers need, and start them all. If one cannot start, those that have are stopped
        again. StreamError."""
        try:
            for work in self._works:
                work.counts.rate(asyncio.get_running_loop().time())
                await work.start()
        except BaseException:
            await self.stop(0)
            raise
        self._tasks = [asyncio.ensure_future(self._run_service(service)) for service in self._services]

    async def stop(self, grace_s: float = 30.0) -> None:
        """Take no further event, wait for the handlers up to `grace_s`, cancel the rest and give their events
        back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(work.stop(grace_s) for work in self._works))
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    def cancel_handlers(self) -> None:
        """Cancel the handlers that run, while `stop` waits for them: their events are given back."""
        for work in self._works:
            work.cancel_handlers()

    @property
    def in_threads(self) -> int:
        """Calls of handlers that run in threads. After a stop, they are those that do not end."""
        return sum(work.in_threads for work in self._works)

    async def state(self) -> list[SubscriberState]:
        """How each subscriber is, in the order of their declaration. Never raises a StreamError."""
        return list(await asyncio.gather(*map(self._state_of, self._works)))

    def state_here(self) -> list[SubscriberState]:
        """As `state`, without what only the server knows: a lag of -1."""
        return [self._state_with(work, -1, 0) for work in self._works]

    async def _state_of(self, work: SubscriberWork) -> SubscriberState:
        lag, waiting = -1, 0
        with suppress(StreamError, OSError, TimeoutError):
            async with asyncio.timeout(LAG_S_MAX):
                lag, waiting = await work.lag()
        return self._state_with(work, lag, waiting)

    @staticmethod
    def _state_with(work: SubscriberWork, lag: int, waiting: int) -> SubscriberState:
        counts, options = work.counts, work.subscriber.options
        return SubscriberState(
            topic=options.topic,
            group=options.group,
            joined=work.is_joined,
            read=counts.read,
            done=counts.done,
            failed=counts.failed,
            dead=counts.dead,
            in_flight=counts.in_flight,
            retrying=waiting,
            lag=lag,
            rate=counts.rate(asyncio.get_running_loop().time()),
            last_error=counts.last_error,
        )

    async def _run_service(self, service: RunsBeside) -> None:
        pause_s = SERVICE_RETRY_S_FIRST
        while True:
            try:
                await service.run(self._backend.engine)
                return
            except Exception as error:
                log.error("%s: %s; starting it again in %g s", service.name, error, pause_s, exc_info=error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, SERVICE_RETRY_S_MAX)
