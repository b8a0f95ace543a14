"""Finds out which events of a partition routed queues still need, by the index of their namespace.

Owns: this search, with a budget: what it does not reach in one run of retention it goes on with in the next,
and until then the queue counts as needing what it needed before. Refuses: to decide what is kept
(`QueueRetention`), and waiting for the disk on the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice

from mainstem.coordinator.queues.retention import undone_runs
from mainstem.coordinator.queues.routed_floors import RoutedNeed
from mainstem.coordinator.queues.settlements import difference
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.events import positions_of
from mainstem.engines.embedded.queues.routed_source import RoutedIndexReader
from mainstem.log.partition.partition import Partition
from mainstem.node import Node
from mainstem.queues.index_page import Arrival
from mainstem.queues.pages import PositionState
from mainstem.queues.routed_index import RoutedIndex
from mainstem.turns import next_turn

LOOKED_MAX = 100_000
"""Events of a queue that one search looks at."""
LOOKED_OF_TURN = 500
NEEDS_OF_TURN = 50
"""Queues that are looked at in a turn of the loop."""


class RoutedNeeds:
    """The searches of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._retention = node.queue_retention

    async def look(self, partition: Partition) -> None:
        """Note for each routed queue what it needs of a partition. StreamError: an index is being built
        anew."""
        needs = list(self._retention.routed.needs(partition.topic_id, partition.index))
        for number, need in enumerate(needs, 1):
            await self._note_floor(partition, need)
            if number % NEEDS_OF_TURN == 0:
                await next_turn(self._node.clock)

    async def _note_floor(self, partition: Partition, need: RoutedNeed) -> None:
        sequence, reopenings = need.view.sequence, need.view.sequence.reopenings
        noted = self._retention.routed.noted(need)
        first, floor = (0, 0) if noted is None else (noted.first, noted.floor)
        routed = self._node.routed.of(need.namespace)
        # What is not readable yet is at these offsets, or after them.
        end, end_offset = (
            routed.end,
            routed.readable_ends({need.ordinal: partition.high_watermark})[need.ordinal],
        )
        searching = self.outstanding(need, first, end)
        looked = 0
        async for arrival in searching:
            if arrival.partition == need.ordinal:
                first, floor = arrival.sequence, arrival.offset
                break
            first = arrival.sequence + 1
            looked += 1
            if looked >= LOOKED_MAX:
                break
        else:
            first, floor = end, end_offset
        self._retention.routed.note(need, reopenings, sequence, first, floor)

    def _reader(self, need: RoutedNeed) -> RoutedIndexReader:
        return RoutedIndexReader(self._node, self._node.routed.of(need.namespace))

    async def few_pinned(
        self, partition: Partition, end: int, limit: int
    ) -> dict[int, list[SubscriptionView]] | None:
        """The offsets below `end` of the events that routed queues pin in a partition, with the views; None:
        there are more than `limit`, or it is not known."""
        pinned: dict[int, list[SubscriptionView]] = {}
        for need in list(self._retention.routed_pins(partition)):
            noted = self._retention.routed.noted(need)
            if noted is None:
                return None
            if noted.floor >= end:
                continue
            looked = 0
            since_ms = self._retention.pinned_since_ms(need.view)
            stored = self._node.subscriptions.by_id(need.view.subscription)
            is_filtered = stored is not None and bool(stored.settings.filter)
            routed = self._node.routed.of(need.namespace)
            async for arrival in self.outstanding(need, noted.first, routed.end):
                looked += 1
                if arrival.partition == need.ordinal:
                    if arrival.offset >= end:
                        break
                    if is_filtered and arrival.sequence >= need.view.sequence.scanned:
                        return None  # it may be none of the queue
                    if arrival.arrived_ms >= since_ms:
                        pinned.setdefault(arrival.offset, []).append(need.view)
                if len(pinned) > limit or looked >= LOOKED_MAX:
                    return None
        return pinned

    async def count_below(self, need: RoutedNeed, ends: Mapping[int, int]) -> int:
        """How many events of a queue are not done and below these offsets, by the ordinals of partitions; at
        most LOOKED_MAX are looked at."""
        left = {ordinal for ordinal, end in ends.items() if end > 0}
        count = looked = 0
        if not left:
            return 0
        async for arrival in self.outstanding(need, 0, self._node.routed.of(need.namespace).end):
            looked += 1
            if arrival.offset < ends.get(arrival.partition, 0):
                count += 1
            else:
                left.discard(arrival.partition)
            if not left or looked >= LOOKED_MAX:
                break
        return count

    async def outstanding(self, need: RoutedNeed, first: int, end: int) -> AsyncIterator[Arrival]:
        """The events of a queue from a sequence on that are not done, but for those that are carried over,
        ascending."""
        reader, view = self._reader(need), need.view
        while first < end:
            numbers, following = await reader.look(self._undone(view, first, end))
            for number in numbers:
                arrival = await reader.look(lambda index, number=number: index.arrival(number))  # type: ignore[misc]
                if arrival is not None and number not in view.carried:
                    yield arrival
            first = following
            await next_turn(self._node.clock)

    @staticmethod
    def _undone(
        view: SubscriptionView, first: int, end: int
    ) -> Callable[[RoutedIndex], tuple[list[int], int]]:
        """Looks up some of those sequences, and from where to go on."""

        def look(index: RoutedIndex) -> tuple[list[int], int]:
            sequence = view.sequence
            scanned = min(sequence.scanned, end)
            numbers: list[int] = []
            if first < scanned:
                undone = undone_runs(view, first, scanned)
                numbers = list(islice(positions_of(undone), LOOKED_OF_TURN))
                if len(numbers) == LOOKED_OF_TURN:
                    return numbers, numbers[-1] + 1
                return numbers, scanned
            runs, following = index.runs(view.subscription, first, LOOKED_OF_TURN)
            stop = end if following is None else min(end, following)
            # After a restart, the scan has not reached what is known to be done.
            done = list(sequence.runs_in(PositionState.DONE, first, stop))
            return [number for number in positions_of(difference(runs, done)) if number < stop], stop

        return look
