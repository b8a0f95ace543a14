"""Lets the events of a namespace be done that retention has deleted, and scans its queues without a look.

Owns: these steps, for the view of any queue of the namespace, served or not. Refuses: to decide what is
deleted.
"""

from __future__ import annotations

from collections.abc import Sequence

from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.routed_source import RoutedIndexReader
from mainstem.engines.embedded.queues.subscription_feed import scan_unseen
from mainstem.node import Node
from mainstem.queues.runs import Run, complement
from mainstem.turns import next_turn

SCAN_EVENTS = 16_384
"""Events of a queue that become ready in one turn of the loop, about."""


async def positions_ahead(
    reader: RoutedIndexReader, queue: int, end: int, first: int, events_max: int
) -> tuple[list[Run], int]:
    """The positions of a queue from one on and below `end`, about `events_max`, and the position up to which
    these are all. NotReachable."""
    runs, following = await reader.look(lambda index: index.runs(queue, first, events_max))
    stop = end if following is None else min(end, following)
    return [(low, min(high, stop)) for low, high in runs if low < stop], stop


def take_runs(view: SubscriptionView, runs: Sequence[Run], end: int) -> None:
    """Let these positions of a view be ready, and all others up to `end` be done."""
    sequence = view.sequence
    first = sequence.scanned
    if first < end:  # else it was moved meanwhile
        ready = [(max(low, first), min(high, end)) for low, high in runs if high > first and low < end]
        scan_unseen(sequence, end, complement(first, end, ready))


async def trim_namespace(node: Node, reader: RoutedIndexReader, sequence: RoutedSequence) -> None:
    """Let the events be done that were deleted, in all queues of a namespace: those that were not done are
    counted. Errors of the log and the coordinator, NotReachable."""
    start = await reader.look(lambda _: node.routed.first_existing(sequence))
    if start <= sequence.index.start:
        return
    machine, sequence_id = node.subscriptions, sequence.namespace.sequence_id
    for view in machine.views.of_topic(sequence_id):
        while view.sequence.scanned < start:
            ahead = await positions_ahead(
                reader, view.subscription, sequence.end, view.sequence.scanned, SCAN_EVENTS
            )
            take_runs(view, ahead[0], min(ahead[1], start))
            await next_turn(node.clock)
    await machine.changes.trim(sequence_id, 0, start)
    sequence.index.trim(start)
