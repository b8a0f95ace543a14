"""What both ways of working on a subscription share: joining it, pulling from it, and stopping.

Owns: the subscription at the start, pulls and their errors, the lag, and the order of a stop. Refuses: to run
a handler; `queue_work` does so for single events and `list_work` for lists.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from mainstem.api import tracing
from mainstem.api.backend import Backend
from mainstem.api.handler import HandlerCall
from mainstem.api.leased_lanes import OpenEvent, Place
from mainstem.api.leases import Leases
from mainstem.api.subscriber import Subscriber
from mainstem.api.subscriber_state import SubscriberCounts
from mainstem.api.subscription import ensure_subscription
from mainstem.contract import NotReachable, StreamError
from mainstem.queue_contract import Delivery, NoSuchSubscription, Queues

PULL_WAIT_MS = 20_000
PULLED_EVENTS_MAX = 1_000
"""In one pull: the limit of the HTTP door."""
CANCEL_S_MAX = 5.0
"""How long a stop waits for handlers that it has cancelled."""
REFUSED_PAUSE_S = 5.0
UNTRIED_MAX = 10_000
log = logging.getLogger(__name__)


class SubscriptionWork:
    """The work of one subscriber."""

    def __init__(
        self,
        subscriber: Subscriber,
        backend: Backend,
        queues: Queues,
        call: HandlerCall,
        counts: SubscriberCounts,
        *,
        consumer: str,
        lock_ms: int,
    ) -> None:
        """`consumer`: a name that no other work has, anywhere. `lock_ms`: how long an event is this
        consumer's if nothing is heard of it."""
        self.subscriber = subscriber
        self.counts = counts
        self._options = subscriber.options
        self._name = subscriber.options.name
        self._backend = backend
        self._queues = queues
        self._call = call
        self._consumer = consumer
        self._leases = Leases(
            queues,
            self._name,
            counts,
            lock_ms=lock_ms,
            attempts_max=self._options.retry.max_attempts,
            on_settled=self._on_settled,
            on_lost=self._on_lost,
        )
        self._stopping = self._leases.stopping
        self._pulling: asyncio.Task[None] | None = None
        self._untried: dict[Place, int] = {}
        """How often an event was delivered and taken back without a call, as far as it is known."""
        self.pulls = 0
        """Number of the latest pull."""

    @property
    def is_joined(self) -> bool:
        """Whether it receives events: it has begun, the server responds and does not refuse."""
        is_working = self._pulling is not None and not self._pulling.done()
        return is_working and self._leases.is_reachable and self._leases.error is None

    async def start(self) -> None:
        """Make the subscription if it is missing, and begin. StreamError."""
        await ensure_subscription(self._backend.engine, self._queues, self._options)
        self._leases.start(self._leased)
        self._pulling = asyncio.ensure_future(self._pull_all())
        self._pulling.add_done_callback(self._on_end)

    def _on_end(self, pulling: asyncio.Task[None]) -> None:
        if not pulling.cancelled() and (error := pulling.exception()) is not None:
            self.counts.last_error = str(error)
            log.error("%s: it takes no further events: %s", self._name, error, exc_info=error)

    async def lag(self) -> tuple[int, int]:
        """(events of the group that are not done, those of them that wait for a time). StreamError."""
        totals = await self._queues.subscription_totals([self._name])
        if not totals:
            raise NoSuchSubscription(f"there is no subscription {self._name}")
        depth = totals[0].depth
        return depth.outstanding, depth.waiting

    async def stop(self, grace_s: float) -> None:
        """Take no further event, wait for the handlers up to `grace_s`, cancel the rest, and give back what
        is not done."""
        self._stopping.set()
        if self._pulling is not None:
            self._pulling.cancel()
            await asyncio.wait((self._pulling,))
            await self._stop_handlers(grace_s)
            await self._leases.close()
        self._call.close()

    @property
    def in_threads(self) -> int:
        """Calls that run in threads, which nothing ends."""
        return self._call.in_threads

    # ------------------------------------------------------------------------------------------------------
    # what the two ways do differently

    def cancel_handlers(self) -> None:
        """End the calls that run now, as far as they can be; only while it stops."""
        raise NotImplementedError

    async def _pull_all(self) -> None:
        """Pull and handle, for ever."""
        raise NotImplementedError

    async def _stop_handlers(self, grace_s: float) -> None:
        """Wait for the handlers that run, cancel those that are too slow, and answer for all events."""
        raise NotImplementedError

    def _leased(self) -> list[OpenEvent]:
        """The events that are here, and not answered."""
        raise NotImplementedError

    def _on_settled(self, events: list[OpenEvent]) -> None:
        """The server knows the answers for these events."""
        raise NotImplementedError

    def _on_lost(self, leased: OpenEvent) -> None:
        """The lease of an event is over: another consumer may have it."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------------

    async def _pull(self, events: int, wait_ms: int = PULL_WAIT_MS) -> Sequence[Delivery]:
        """The next events; none after a refusal of the server, which is noted, and after a pause."""
        begin_ms = self._backend.clock.wall_ms()
        self.pulls += 1
        try:
            deliveries = await self._leases.patiently(
                lambda: self._queues.pull(
                    self._name,
                    self._consumer,
                    max_events=min(events, PULLED_EVENTS_MAX),
                    wait_ms=wait_ms,
                    lock_ms=self._leases.lock_ms,
                )
            )
        except NotReachable:
            return ()  # it stops
        except Exception as error:
            if self._leases.error is None:
                is_bug = not isinstance(error, StreamError)
                log.error("%s: no events: %s", self._name, error, exc_info=error if is_bug else None)
            self._leases.error, self.counts.last_error = error, str(error)
            await self._leases.pause(REFUSED_PAUSE_S)
            return ()
        self._leases.error = None
        if deliveries:
            tracing.receiving(self._options.topic, self._options.group, deliveries, begin_ms)
        return deliveries

    def _lease_end_s(self) -> float:
        """When the lease of an event that was delivered just now is over, monotonic."""
        return asyncio.get_running_loop().time() + self._leases.lock_ms / 1000

    def _note_untried(self, leased: OpenEvent) -> None:
        """An event was delivered, and there was no call for it."""
        if len(self._untried) >= UNTRIED_MAX:
            self._untried.clear()
        self._untried[leased.place] = self._untried.get(leased.place, 0) + 1

    def _attempt_of(self, leased: OpenEvent) -> int:
        """Which attempt of the handler this is: deliveries without a call are none."""
        if leased.attempt == 1:
            return 1
        untried = self._untried.get(leased.place, 0) if self._untried else 0
        return max(1, leased.attempt - untried)
