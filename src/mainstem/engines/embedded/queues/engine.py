"""The queues of the embedded engine: implements `Queues` on the node of the same process.

Owns: the translation of errors. All state is the node's. Refuses: use from another thread or event loop than
the node's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mainstem.attach_contract import AttachedConsumers, DeadLetterSink
from mainstem.contract import Position
from mainstem.engines.embedded.queues.attached_consumers import EmbeddedAttachedConsumers
from mainstem.engines.embedded.queues.block_exclusions import BlockTester
from mainstem.engines.embedded.queues.chosen_events import ChosenEvents
from mainstem.engines.embedded.queues.error_context import about
from mainstem.engines.embedded.queues.length_limits import LengthLimits
from mainstem.engines.embedded.queues.management import QueueManagement
from mainstem.engines.embedded.queues.routed_deadlines import RoutedDeadlines
from mainstem.engines.embedded.queues.routed_queues import EmbeddedRoutedQueues
from mainstem.engines.embedded.queues.service import QueueService
from mainstem.engines.embedded.queues.totals import QueueTotals
from mainstem.engines.embedded.topic_watch import TopicWatch
from mainstem.node import Node
from mainstem.queue_contract import (
    PULL_BYTES_MAX,
    BrowsedEvent,
    DeadLetterInfo,
    Delivery,
    EventInSubscription,
    EventState,
    Outcome,
    Pusher,
    SnapshotInfo,
    SnapshotName,
    SubscriptionInfo,
    SubscriptionTotals,
    Verdict,
)
from mainstem.queues.settings import SubscriptionSettings
from mainstem.routing_contract import RoutedQueues
from mainstem.share_contract import BatchQueues


class EmbeddedQueues:
    """Implements `Queues` and `PushesEvents`."""

    def __init__(self, node: Node) -> None:
        self._queue_node = node
        self._topic_watch = TopicWatch(node)
        self._queue_service = QueueService(node, self._topic_watch)
        self._queue_management = QueueManagement(self._queue_service)
        self._queue_chosen = ChosenEvents(self._queue_service, self._queue_management)
        self._queue_totals = QueueTotals(self._queue_service)
        self._queue_attached = EmbeddedAttachedConsumers(self._queue_service)
        service = self._queue_service
        self._queue_deadlines = RoutedDeadlines(service, service.expiry.give_up, service.dead_letters.run)
        node.queue_runtime.on_reloaded.append(self._queue_deadlines.learn_soon)
        node.clock.call_soon(self._queue_deadlines.learn_soon)
        limits = LengthLimits(self._queue_service, self._queue_attached)
        self._queue_routed = EmbeddedRoutedQueues(self._queue_service, self._queue_management, limits)
        node.clock.call_soon(self._queue_service.start)

    @property
    def routed_queues(self) -> RoutedQueues:
        """See `OffersRoutedQueues`."""
        return self._queue_routed

    def skip_blocks_by(self, tester: BlockTester) -> None:
        """Let the scans of filters pass the blocks that, by this test, have no event for them."""
        self._queue_service.skip_blocks_by(tester)

    @property
    def attached(self) -> AttachedConsumers:
        """See `AttachesConsumers`."""
        return self._queue_attached

    @property
    def batch_queues(self) -> BatchQueues:
        """See `OffersBatchQueues`."""
        return self._queue_service.batches

    async def subscriptions(self) -> list[str]:
        """See the contract."""
        with about("list"):
            stored = await self._queue_node.queue_runtime.read(self._queue_node.subscriptions.all())
        return [subscription.name for subscription in stored]

    async def subscription(self, name: str) -> SubscriptionInfo:
        """See the contract."""
        with about(name):
            return await self._queue_management.describe(name)

    async def subscription_settings(self, name: str) -> SubscriptionSettings:
        """See the contract."""
        with about(name):
            stored = await self._queue_node.queue_runtime.read(self._queue_service.queue(name).stored)
        return stored.settings

    async def subscription_totals(self, names: Sequence[str] | None = None) -> list[SubscriptionTotals]:
        """See the contract."""
        with about("list"):
            return await self._queue_totals.read(names)

    async def create_subscription(self, name: str, settings: SubscriptionSettings) -> None:
        """See the contract."""
        with about(name):
            await self._queue_management.create(name, settings)

    async def alter_subscription(
        self,
        name: str,
        settings: SubscriptionSettings,
        *,
        expected: SubscriptionSettings | None = None,
        dry_run: bool = False,
    ) -> None:
        """See the contract."""
        with about(name):
            await self._queue_management.alter(name, settings, expected, dry_run=dry_run)

    async def delete_subscription(self, name: str) -> None:
        """See the contract."""
        with about(name):
            await self._queue_management.delete(name)

    async def pull(
        self,
        name: str,
        consumer: str,
        *,
        max_events: int = 100,
        wait_ms: int = 0,
        max_bytes: int = PULL_BYTES_MAX,
        lock_ms: int | None = None,
    ) -> list[Delivery]:
        """See the contract."""
        with about(name):
            return await self._queue_service.pull(
                name,
                consumer,
                max_events=max_events,
                wait_ms=wait_ms,
                max_bytes=max_bytes,
                lock_ms=lock_ms,
            )

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> list[Verdict]:
        """See the contract."""
        with about(name):
            return await self._queue_service.settle(name, outcomes)

    async def browse(
        self,
        name: str,
        state: EventState | None = None,
        *,
        after: Position | None = None,
        max_events: int = 100,
        consumer: str | None = None,
    ) -> list[BrowsedEvent]:
        """See the contract."""
        with about(name):
            return await self._queue_management.browse(name, state, after, max_events, consumer)

    async def event_states(self, position: Position) -> list[EventInSubscription]:
        """See the contract."""
        with about("list"):
            return await self._queue_chosen.states(position)

    async def wake(self, name: str, positions: Sequence[Position] | None, *, dry_run: bool = False) -> int:
        """See the contract."""
        with about(name):
            return await self._queue_chosen.wake(name, positions, dry_run)

    async def cancel(self, name: str, positions: Sequence[Position] | None, *, dry_run: bool = False) -> int:
        """See the contract."""
        with about(name):
            return await self._queue_chosen.cancel(name, positions, dry_run)

    async def snapshots(self, name: str) -> list[SnapshotInfo]:
        """See the contract."""
        with about(name):
            return await self._queue_management.snapshots(name)

    async def take_snapshot(self, name: str, snapshot: str) -> SnapshotInfo:
        """See the contract."""
        with about(name):
            return await self._queue_management.take_snapshot(name, snapshot)

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """See the contract."""
        with about(name):
            await self._queue_management.delete_snapshot(name, snapshot)

    async def seek(self, name: str, to: Literal["earliest", "latest"] | int | Position | SnapshotName) -> int:
        """See the contract."""
        with about(name):
            return await self._queue_management.seek(name, to)

    async def purge(self, name: str) -> int:
        """See the contract."""
        with about(name):
            return await self._queue_management.purge(name)

    async def dead_letters(
        self, name: str, *, since_ms: int = 0, after: Position | None = None, max_events: int = 100
    ) -> list[DeadLetterInfo]:
        """See the contract."""
        with about(name):
            return await self._queue_management.dead_letters(name, since_ms, after, max_events)

    async def redrive(
        self,
        name: str,
        positions: Sequence[Position],
        *,
        dry_run: bool = False,
        per_s: float | None = None,
    ) -> int:
        """See the contract."""
        with about(name):
            return await self._queue_management.redrive(name, positions, dry_run, per_s)

    def attach_dead_letter_sink(self, sink: DeadLetterSink) -> None:
        """See `OffersDeadLetterSink`."""
        self._queue_service.dead_letters.attach_sink(sink)

    def attach_pusher(self, pusher: Pusher) -> None:
        """See the contract."""
        self._queue_service.pushed.attach(pusher)

    def clock_moved(self) -> None:
        """The wall clock was moved forward, as tests do: look now at what is due, and at what is over. Locks
        that end at a time are over, too."""
        self._queue_service.clock_moved()
        self._queue_deadlines.look_now()

    async def close(self) -> None:
        """Stop serving queues. Does not close the node, which the engine does not own."""
        self._queue_deadlines.close()
        self._queue_service.close()
