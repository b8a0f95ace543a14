"""The limits of routed queues: how many ready events they have, and how many bytes of values.

What attached consumers have room for does not count: it is theirs as soon as the loop comes to it. A queue
that drops gives up its earliest ready events, in the turns after a commit; one that refuses does so before
anything is stored, and counts what is published and not committed yet, so that it never has too many.

Owns: what counts. Refuses: what becomes of events that are given up.
"""

from __future__ import annotations

from collections.abc import Sequence

from mainstem.contract import Event
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.engines.embedded.queues.attached_consumers import EmbeddedAttachedConsumers
from mainstem.engines.embedded.queues.queue_feed import QueueFeed
from mainstem.engines.embedded.queues.routed_feed import RoutedFeed
from mainstem.engines.embedded.queues.routed_publish import (
    RoutedPublish,
    published_headers,
    stored_headers,
)
from mainstem.engines.embedded.queues.service import QueueService
from mainstem.engines.embedded.queues.subscription_queue import SubscriptionQueue
from mainstem.log.errors import StorageError
from mainstem.promise import Promise
from mainstem.queues.pages import PositionState
from mainstem.queues.routes import QueueSet
from mainstem.queues.settings import OVERFLOWS, SubscriptionSettings
from mainstem.routing_contract import RoutedEvent
from mainstem.turns import next_turn

LOOK_PAUSE = 10
"""A look at bytes is followed by a pause of this many times what it took."""


class LengthLimits:
    """The limits of the queues of a service."""

    def __init__(self, service: QueueService, attached: EmbeddedAttachedConsumers) -> None:
        self._service = service
        self._attached = attached
        self._clock = service.node.clock
        self._looking: dict[int, bool] = {}
        """Queue -> whether to look again."""
        self._pending: dict[int, list[int]] = {}
        """Queue that refuses -> events that are published and not committed, and their bytes."""
        service.on_limited = self.look_soon
        service.machine.on_deleted.append(lambda stored: self.forget(stored.id))

    def forget(self, queue: int) -> None:
        """The queue was deleted."""
        self._pending.pop(queue, None)

    # --- queues that refuse ---------------------------------------------------------------------------------

    def may_refuse(self, queues: QueueSet) -> bool:
        """Whether one of the queues may refuse an event."""
        return any(map(self._may_refuse, queues))

    async def refusing(self, queues: QueueSet, size: int) -> list[int]:
        """Those of the queues that refuse an event with a value of this size. The others count the event
        until `settle`. Errors of the log and the coordinator, StreamError."""
        refusing: list[int] = []
        for queue in queues:
            stored = self._service.machine.by_id(queue)
            if stored is not None and _may_refuse(stored.settings) and await self._is_full(stored, size):
                refusing.append(queue)
        for queue in queues:
            if queue not in refusing and self._may_refuse(queue):
                pending = self._pending.setdefault(queue, [0, 0])
                pending[0] += 1
                pending[1] += size
        return refusing

    def _may_refuse(self, queue: int) -> bool:
        stored = self._service.machine.by_id(queue)
        return stored is not None and _may_refuse(stored.settings)

    async def _is_full(self, stored: SubscriptionMetadata, size: int) -> bool:
        settings, (count, count_bytes) = stored.settings, self._pending.get(stored.id, (0, 0))
        ready = self._attached.queue_counts(stored.name).ready + count - self._attached.room(stored.id)
        if 0 <= settings.length_max <= ready:
            return True
        if settings.length_bytes_max < 0 or ready < 0:
            return False
        total = await self._all_bytes(self._service.queue(stored.name))
        return total + count_bytes + size > settings.length_bytes_max

    def settle(self, events: Sequence[RoutedPublish]) -> None:
        """These events are committed, or have failed."""
        for event in events if self._pending else ():
            for queue in event.queues:
                pending = self._pending.get(queue)
                if pending is not None and pending[0]:
                    pending[0] -= 1
                    pending[1] -= len(event.event.value or b"")

    def note_refused(self, queues: Sequence[int], routed: RoutedEvent, topic: str, partition: int) -> None:
        """These queues have refused an event: it is a dead letter of those that say so."""
        for queue in queues:
            stored = self._service.machine.by_id(queue)
            if stored is None or not stored.settings.dead_letters_to_sink:
                continue
            if stored.settings.overflow == OVERFLOWS[2]:
                headers = published_headers([*routed.door_headers, *stored_headers(routed.event.headers)])
                now_ms = self._clock.wall_ms()
                source = routed.event
                event = Event(topic, partition, -1, now_ms, source.key, source.value, headers)
                self._service.dead_letters.move_refused(stored, event)

    async def _all_bytes(self, queue: SubscriptionQueue) -> int:
        await queue.refresh()
        total = 0
        for feed in queue.feeds.values():
            if await queue.reading.prepare(feed) and not feed.is_scanned:
                await feed.make_ready(feed.end)
            total += sum(await self._ready_sizes(feed))
        return total

    # --- queues that drop -----------------------------------------------------------------------------------

    def look_soon(self, queue: SubscriptionQueue) -> None:
        """Give up what is too much, after attached consumers have got what they have room for."""
        if queue.stored.settings.overflow != OVERFLOWS[0]:
            return
        subscription = queue.stored.id
        is_looking = subscription in self._looking
        self._looking[subscription] = True
        if not is_looking:
            self._service.dead_letters.run(lambda: self._look(queue), "limiting a queue")

    async def _look(self, queue: SubscriptionQueue) -> None:
        subscription = queue.stored.id
        try:
            while self._looking[subscription]:
                self._looking[subscription] = False
                await next_turn(self._clock)
                began_s = self._clock.monotonic()
                await self._drop_excess(queue)
                if queue.stored.settings.length_bytes_max >= 0:
                    await self._pause(LOOK_PAUSE * (self._clock.monotonic() - began_s))
        finally:
            del self._looking[subscription]

    async def _pause(self, seconds: float) -> None:
        over: Promise[None] = Promise()
        if seconds > 0:
            self._clock.call_later(seconds, lambda: over.resolve(None))
            await over

    async def _drop_excess(self, queue: SubscriptionQueue) -> None:
        stored = queue.stored
        await queue.refresh()
        for feed in list(queue.feeds.values()):
            if not await queue.reading.prepare(feed):
                continue
            if not feed.is_scanned:
                await feed.make_ready(feed.end)
            count = await self._excess(queue, feed)
            if count <= 0:
                continue
            given_up = self._service.dropping(
                lambda view=feed.view, count=count: self._service.machine.changes.give_up_first(  # type: ignore[misc]
                    view, count, has_dead_letters=stored.settings.has_dead_letters
                )
            )
            if isinstance(given_up.error, StorageError):
                raise given_up.error
            given_up.then(lambda _: self._service.after_expiry(stored.id))

    async def _excess(self, queue: SubscriptionQueue, feed: QueueFeed) -> int:
        """How many of the ready events are too many."""
        settings, ready = queue.stored.settings, feed.view.sequence.counts().ready
        room = self._attached.room(queue.stored.id)
        count = ready - room - settings.length_max if settings.length_max >= 0 else 0
        if settings.length_bytes_max < 0 or ready <= room:
            return count
        sizes = await self._ready_sizes(feed)
        too_many, number = sum(sizes) - settings.length_bytes_max, 0
        while too_many > 0:
            too_many -= sizes[number]
            number += 1
        return max(count, min(number, ready - room))

    async def _ready_sizes(self, feed: QueueFeed) -> list[int]:
        """The sizes of the values of what is ready, the earliest first."""
        assert isinstance(feed, RoutedFeed), "only routed queues have limits"
        sequence = feed.view.sequence
        return await feed.value_sizes(list(sequence.runs_in(PositionState.READY, sequence.oldest)))


def _may_refuse(settings: SubscriptionSettings) -> bool:
    return settings.is_limited and settings.overflow != OVERFLOWS[0]
