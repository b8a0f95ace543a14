"""What people ask of chosen events: to wake or cancel them, and what each subscription knows of one.

Owns: these calls. Refuses: dead letters and redrive (`management.py`), and to change an event that a consumer
has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.contract import Position, PositionOutOfRange, UnknownTopic
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.management import QueueManagement
from mainstem.engines.embedded.queues.queue_feed import QueueFeed
from mainstem.engines.embedded.queues.routed_source import place_of_event
from mainstem.engines.embedded.queues.service import QueueService
from mainstem.engines.embedded.queues.states import ViewStates
from mainstem.log.partition.partition import Partition
from mainstem.promise import Promise
from mainstem.queue_contract import EventInSubscription
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run, count_positions, cut_runs
from mainstem.queues.view import SequenceView
from mainstem.turns import next_turn

POSITIONS_OF_CHANGE = 10_000
"""Positions of a record: some 10 ms to apply."""
VIEWS_OF_TURN = 100
"""Views that are looked at in a turn of the loop for an event, about a millisecond."""


class ChosenEvents:
    """These calls, on the subscriptions of a service."""

    def __init__(self, service: QueueService, management: QueueManagement) -> None:
        self._service = service
        self._management = management
        self._machine = service.machine
        self._node = service.node

    async def wake(self, name: str, positions: Sequence[Position] | None, dry_run: bool) -> int:
        """See `Queues.wake`."""
        return await self._change(
            name, positions, dry_run, SequenceView.waiting_among, self._machine.changes.wake
        )

    async def cancel(self, name: str, positions: Sequence[Position] | None, dry_run: bool) -> int:
        """See `Queues.cancel`."""
        return await self._change(
            name, positions, dry_run, SequenceView.unleased_among, self._machine.changes.cancel
        )

    async def _change(
        self,
        name: str,
        positions: Sequence[Position] | None,
        dry_run: bool,
        changeable: Callable[[SequenceView, Sequence[Run]], list[Run]],
        change: Callable[[SubscriptionView, Sequence[Run]], Promise[list[Run]]],
    ) -> int:
        stored, feeds = await self._management.feeds(name)
        changed = 0
        for feed in feeds:
            runs = await self._runs(feed, positions)
            if runs and dry_run:
                changed += count_positions(changeable(feed.view.sequence, runs))
            else:
                for part in cut_runs(runs, POSITIONS_OF_CHANGE):
                    changed += count_positions(await change(feed.view, part))
        self._service.after_release(stored.id)
        return changed

    @staticmethod
    async def _runs(feed: QueueFeed, positions: Sequence[Position] | None) -> list[Run]:
        """The chosen positions of a feed; all that wait if none are chosen."""
        sequence = feed.view.sequence
        if positions is None:
            return list(sequence.runs_in(PositionState.WAITING)) if sequence.counts().waiting else []
        return await feed.runs_of(positions)

    async def states(self, position: Position) -> list[EventInSubscription]:
        """See `Queues.event_states`."""
        topic = self._node.topics.get(position.topic)
        if topic is None or not 0 <= position.partition < topic.partitions:
            raise UnknownTopic(f"there is no partition {position.partition} of a topic {position.topic}")
        partition = self._node.partition(topic, position.partition)
        if not partition.log_start_offset <= position.offset < partition.high_watermark:
            raise PositionOutOfRange(
                f"topic {position.topic}, partition {position.partition}: there is no event with offset"
                f" {position.offset}; its offsets begin at {partition.log_start_offset} and end before"
                f" {partition.high_watermark}"
            )
        states: list[EventInSubscription] = []
        views = [
            (view, position.offset) for view in self._machine.views.of_partition(topic.id, partition.index)
        ]
        views += await self._routed_views(partition, position.offset)
        for number, (view, offset) in enumerate(await self._node.queue_runtime.read(views), 1):
            stored = self._machine.by_id(view.subscription)
            if stored is not None:
                looks = bool(stored.settings.filter or stored.settings.in_key_order)
                states.append(await self._state(stored.name, view, offset, looks))
            if not number % VIEWS_OF_TURN:
                await next_turn(self._node.clock)
        return sorted(states, key=lambda state: state.subscription)

    async def _routed_views(self, partition: Partition, offset: int) -> list[tuple[SubscriptionView, int]]:
        """The views of the routed queues that get an event, with its arrival sequence."""
        topology = self._machine.topology
        key = partition.topic_id, partition.index
        if not topology.joined_by(key):
            return []
        place = await place_of_event(partition, offset, self._node.producer_ids.server_id)
        namespace = topology.by_id(place.namespace) if place is not None else None
        if place is None or namespace is None or key not in namespace.ordinals:
            return []
        find = self._machine.views.find
        views = (find((queue, namespace.sequence_id, 0)) for queue in namespace.routes.queues(place.route))
        return [(view, place.sequence) for view in views if view is not None]

    async def _state(
        self, name: str, view: SubscriptionView, offset: int, looks: bool
    ) -> EventInSubscription:
        """`looks`: whether the subscription looks at events before it delivers them."""
        sequence = view.sequence
        is_frozen = not sequence.table.open_pages
        facts = (await ViewStates(view, self._machine, self._node.clock).facts([(offset, offset + 1)])).get(
            offset
        )
        is_done = sequence.state(offset) is PositionState.DONE
        if is_frozen:
            sequence.freeze()  # an open page takes 22 KB, and there may be 100,000 views
        if facts is not None:
            return EventInSubscription(name, *facts)
        if is_done:
            return EventInSubscription(name, "done")
        return EventInSubscription(name, "ahead") if looks else EventInSubscription(name, "ready")
