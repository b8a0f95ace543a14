"""Time to live: gives up the events whose time is over before a consumer has them.

With `ttl_ms` the time counts from the arrival in the log, which is known to a second: an event expires not
before its time, and at most a second after it; but where a restart has forgotten the arrival, the time counts
from the restart. In a routed queue the arrival is known to a millisecond, and nothing forgets it. An event
with the header `expires-at` is not delivered from that time on: it is given up when it would be delivered, or
when `header_times.py` comes by.

Owns: when to look, once more for each subscription that has a time to live. Refuses: to take events from
consumers: what one has expires when it comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from mainstem.clock import Timer
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.feed import arrived_before
from mainstem.engines.embedded.queues.queue_feed import QueueFeed
from mainstem.engines.embedded.queues.subscription_queue import SubscriptionQueue
from mainstem.log.errors import StorageError
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.arrival_index import SPACING_MS
from mainstem.node import Node
from mainstem.turns import next_turn

DYING_OF_TURN = 5_000
"""Events whose dead letters are to be written that are given up in a turn of the loop; without dead letters a
range costs the same however long it is."""
DROPPED_OF_TURN = 10_000_000
WAIT_S_MIN, WAIT_S_MAX = 0.05, 3600.0
RETRY_S = 1.0
"""Time after which a subscription is looked at again, when the disk or the log has refused."""

Result = TypeVar("Result")


class ExpiryHost(Protocol):
    """The service of queues, as far as this needs it."""

    node: Node

    def after_expiry(self, subscription: int) -> None:
        """Events of a subscription were given up."""

    def dropping(self, release: Callable[[], Result]) -> Result:
        """Run a call that may give events up, and count them."""


class QueueExpiry:
    """Looks at the subscriptions that have a time to live."""

    def __init__(self, host: ExpiryHost, run: Callable[..., object]) -> None:
        """`run` runs something in the background."""
        self._host = host
        self._clock = host.node.clock
        self._start_ms = host.node.clock.wall_ms()
        self._changes = host.node.subscriptions.changes
        self._run = run
        self._timers: dict[int, tuple[Timer, float]] = {}
        """By the id of the subscription, each with its time, monotonic."""
        self._looked_s: dict[int, float] = {}
        """When each subscription was looked at last, monotonic: the answers of consumers would have it looked
        at in each turn of the loop."""
        self._closed = False

    def look_soon(self, queue: SubscriptionQueue) -> None:
        """Look at a subscription, if it has a time to live, and then whenever one of its events expires. Not
        sooner than WAIT_S_MIN after the last look."""
        subscription = queue.stored.id
        if self._closed or not queue.stored.settings.ttl_ms:
            return
        at_s = max(self._looked_s.get(subscription, 0.0) + WAIT_S_MIN, self._clock.monotonic())
        if subscription not in self._timers or at_s < self._timers[subscription][1]:
            self._set(queue, subscription, at_s)

    def look_now(self, queue: SubscriptionQueue) -> None:
        """Look at a subscription at once, if it has a time to live."""
        if not self._closed and queue.stored.settings.ttl_ms:
            self._set(queue, queue.stored.id, self._clock.monotonic())

    def _set(self, queue: SubscriptionQueue, subscription: int, at_s: float) -> None:
        if subscription in self._timers:
            self._timers.pop(subscription)[0].cancel()

        def start() -> None:
            self._timers.pop(subscription, None)
            self._looked_s[subscription] = self._clock.monotonic()
            if not self._closed:
                self._run(lambda: self._look(queue), f"expiring events of {queue.stored.name}")

        wait_s = max(0.0, at_s - self._clock.monotonic())
        self._timers[subscription] = self._clock.call_later(wait_s, start), at_s

    async def _look(self, queue: SubscriptionQueue) -> None:
        stored = queue.stored
        if self._host.node.subscriptions.by_id(stored.id) is None or not stored.settings.ttl_ms:
            self._looked_s.pop(stored.id, None)
            return
        wait_s = RETRY_S
        try:
            wait_s = await self._expire_all(queue, stored)
        finally:
            if stored.id not in self._timers and not self._closed:
                self._set(queue, stored.id, self._clock.monotonic() + max(wait_s, WAIT_S_MIN))

    async def _expire_all(self, queue: SubscriptionQueue, stored: SubscriptionMetadata) -> float:
        """Give up what is over. Returns after how many seconds to look again."""
        await queue.refresh()
        # What arrives from now on in a partition that is not there yet expires after this, too.
        wait_s = min(WAIT_S_MAX, max(stored.settings.ttl_ms, SPACING_MS) / 1000)
        for feed in list(queue.feeds.values()):
            while feed.bind() and await self.expire(stored, feed):
                await next_turn(self._clock)
            wait_s = min(wait_s, self._wait_s(stored, feed))
        return wait_s

    def _wait_s(self, stored: SubscriptionMetadata, feed: QueueFeed) -> float:
        """When the next event of a feed expires, or one that arrives from now on."""
        ttl_ms, now_ms = stored.settings.ttl_ms, self._clock.wall_ms()
        end = feed.arrived_before(now_ms - ttl_ms, self._start_ms)
        if end >= feed.end:
            return max(ttl_ms, SPACING_MS) / 1000
        next_ms = feed.arrived_by_ms(end) + ttl_ms
        if next_ms <= now_ms:  # it may have arrived as late as the server's end
            next_ms = min(self._start_ms + ttl_ms, now_ms + SPACING_MS)
        return (next_ms - now_ms) / 1000

    async def expire(self, stored: SubscriptionMetadata, feed: QueueFeed, late_ms: int = 0) -> bool:
        """Give up what of a feed is over for this time, or a part of it. Whether there may be more.
        StorageError: what is over is still there, and must not be delivered."""
        ttl_ms = stored.settings.ttl_ms
        if not ttl_ms:
            return False
        over_ms = self._clock.wall_ms() - ttl_ms - late_ms
        end = min(feed.arrived_before(over_ms, self._start_ms), feed.end)
        if end > feed.scanned and not feed.is_scanned:
            await feed.make_ready(end)  # it needs no look
        return self._expire_below(stored, feed.view, end)

    def expire_view(self, stored: SubscriptionMetadata, view: SubscriptionView, partition: Partition) -> bool:
        """As `expire`, for a view of a partition that has no feed and is not scanned."""
        ttl_ms, sequence = stored.settings.ttl_ms, view.sequence
        if not ttl_ms:
            return False
        end = arrived_before(partition, self._clock.wall_ms() - ttl_ms, self._start_ms)
        end = min(end, partition.high_watermark)
        if end > sequence.scanned:
            sequence.scan(end)
        return self._expire_below(stored, view, end)

    def _expire_below(self, stored: SubscriptionMetadata, view: SubscriptionView, end: int) -> bool:
        sequence = view.sequence
        has_dead_letters = stored.settings.has_dead_letters
        limit = DYING_OF_TURN if has_dead_letters else DROPPED_OF_TURN
        if sequence.oldest >= end or not (runs := sequence.expirable(end, 1)):
            return False
        given_up = self._host.dropping(
            lambda: self._changes.expire(view, end, limit, has_dead_letters=has_dead_letters)
        )
        if isinstance(given_up.error, StorageError):
            raise given_up.error
        self._host.after_expiry(stored.id)
        return sequence.expirable(end, 1) != runs and bool(sequence.expirable(end, 1))

    def give_up(self, stored: SubscriptionMetadata, view: SubscriptionView, positions: list[int]) -> None:
        """Give up events that are ready, because their own time is over. StorageError: they are still
        ready."""
        has_dead_letters = stored.settings.has_dead_letters
        given_up = self._host.dropping(
            lambda: self._changes.expire_events(view, positions, has_dead_letters=has_dead_letters)
        )
        if given_up.done:
            given_up.result()
        self._host.after_expiry(stored.id)

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._closed = True
        for timer, _ in self._timers.values():
            timer.cancel()
        self._timers.clear()
