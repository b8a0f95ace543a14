"""Redrive, and the dead letters that lead to it.

Owns: which events may be redriven: those that are done, and that a filter does not exclude; and which letters
are of the past, because their events were redriven since. Refuses: to
believe what others have published in a dead-letter topic (`letters.py`). Methods raise errors of the log and
the coordinator, and StreamError.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from mainstem.contract import InvalidArgument, Position, UnknownTopic
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.engines.embedded.queues.events import positions_of
from mainstem.engines.embedded.queues.letters import letters_of
from mainstem.engines.embedded.queues.queue_feed import QueueFeed
from mainstem.engines.embedded.queues.subscription_queue import SubscriptionQueue
from mainstem.node import Node
from mainstem.queue_contract import DeadLetterInfo
from mainstem.queues.runs import Run, cut_runs, runs_of

LETTERS_MAX = 1_000
EVENTS_OF_READ = 1_000
"""Events that are read at once to test them against a filter."""


async def dead_letters(
    node: Node, stored: SubscriptionMetadata, since_ms: int, after: Position | None, max_events: int
) -> list[DeadLetterInfo]:
    """See `Queues.dead_letters`."""
    if not 1 <= max_events <= LETTERS_MAX:
        raise InvalidArgument(f"max_events is {max_events:,}; it is from 1 to {LETTERS_MAX:,}")
    name = stored.last_dead_letter_topic
    if name is None:
        raise InvalidArgument(f"subscription {stored.name} has no dead-letter topic")
    topic = node.topics.get(name)
    if topic is None:
        raise UnknownTopic(f"topic {name}: there is no such topic")
    letters: list[DeadLetterInfo] = []
    server_id = node.producer_ids.server_id
    if server_id is None:
        return letters
    for index in range(node.topics.durable_partitions(topic)):
        start = 0
        if after is not None:
            if index < after.partition:
                continue
            start = after.offset + 1 if index == after.partition else 0
        partition = node.partition(topic, index)
        if since_ms:
            timed = await partition.offset_for_time(since_ms)
            if timed is None:
                continue
            start = max(start, timed.offset)
        reading = letters_of(node.clock, name, partition, start, server_id, stored.name)
        async with aclosing(reading):
            async for letter in reading:
                if letter.letter.timestamp_ms >= since_ms:
                    letters.append(letter)
                    if len(letters) == max_events:
                        return letters
    return letters


async def with_redrives(
    feeds: Iterable[QueueFeed], letters: Sequence[DeadLetterInfo]
) -> list[DeadLetterInfo]:
    """The letters, and of each whether its event was redriven and not given up since."""
    redriven: set[Position] = set()
    for feed in feeds:
        sequence = feed.view.sequence
        if not sequence.exempt:
            continue
        runs = await feed.runs_of([letter.origin for letter in letters])
        if any(map(sequence.was_redriven, positions_of(runs))):
            for letter in letters:
                own = await feed.runs_of([letter.origin])
                if own and sequence.was_redriven(own[0][0]):
                    redriven.add(letter.origin)
    return [replace(letter, is_redriven=letter.origin in redriven) for letter in letters]


async def redrivable(
    queue: SubscriptionQueue, feeds: Sequence[QueueFeed], positions: Sequence[Position]
) -> list[tuple[QueueFeed, list[Run]]]:
    """Of each feed, the named positions that are done and may be redriven, if there are some."""
    chosen_runs: list[tuple[QueueFeed, list[Run]]] = []
    for feed in feeds:
        sequence = feed.view.sequence
        first = max(sequence.start, feed.partition.log_start_offset)
        runs = await feed.runs_of(positions)
        done = sequence.redrivable([(max(first, low), high) for low, high in runs if first < high])
        if done and queue.matcher is not None:
            done = await _matching(queue, feed, done)
        if done:
            chosen_runs.append((feed, done))
    return chosen_runs


async def _matching(queue: SubscriptionQueue, feed: QueueFeed, runs: Sequence[Run]) -> list[Run]:
    """The positions whose events the filter of the subscription does not exclude."""
    assert queue.matcher is not None
    matching: list[int] = []
    for part in cut_runs(runs, EVENTS_OF_READ):
        events = await feed.source.read(part)
        matching += [position for position in sorted(events) if queue.matcher.matches_event(events[position])]
    return runs_of(matching)
