"""Writes dead letters: copies of the events that a subscription gave up, in its dead-letter topic.

Owns: trying again while the topic refuses: the event is dying until its copy is durable, so nothing is lost,
and a kill in between leads to a second copy. Refuses: to give events up; the headers are in `letters.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from mainstem.attach_contract import DeadLetterSink
from mainstem.contract import Event, NewEvent, NotReachable, Position, StreamError, UnknownTopic
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues.types import SubscriptionMetadata, WrittenDeadLetter
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.engines.embedded.errors import translate
from mainstem.engines.embedded.publish import PublishResult, append, partition_of, results_of
from mainstem.engines.embedded.queues.carried import CarriedEvents, RoutedViewSource, ViewSource
from mainstem.engines.embedded.queues.counters import QueueCounters, reason_name
from mainstem.engines.embedded.queues.events import EventSource, positions_of
from mainstem.engines.embedded.queues.letters import letter_headers, share_group_headers, users_headers
from mainstem.engines.embedded.queues.routed_source import RoutedSource
from mainstem.engines.embedded.queues.sink_moves import SinkMoves
from mainstem.engines.embedded.topics import format_id
from mainstem.log.errors import LogError
from mainstem.node import Node
from mainstem.queue_contract import DeadLetterInfo
from mainstem.queues.runs import runs_of

LETTERS_OF_WRITE = 100
BYTES_OF_WRITE = 4 << 20
"""Dead letters that are written at once are not more, or are those of one batch."""
RETRY_S_MIN = 1.0
RETRY_S_MAX = 30.0

log = logging.getLogger(__name__)


class DeadLetterWriter:
    """Writes the dead letters of all subscriptions of a service."""

    def __init__(
        self, node: Node, counters_of: defaultdict[int, QueueCounters], carried: CarriedEvents
    ) -> None:
        self.problems: dict[int, str] = {}
        """Subscription -> why its dead letters cannot be written at the moment, for people."""
        self.sink_moves = SinkMoves(node, counters_of)
        self._node = node
        self._machine = node.subscriptions
        self._counters_of = counters_of
        self._carried = carried
        self._writing: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._written = itertools.count()
        self._closed = False

    def are_kept(self, subscription: int) -> bool:
        """Whether what a subscription gives up is not just dropped."""
        stored = self._machine.by_id(subscription)
        return stored is not None and stored.settings.has_dead_letters

    def move_refused(self, stored: SubscriptionMetadata, event: Event) -> None:
        """Hand over an event that a full queue has refused to take, once: it is nowhere."""
        self.run(lambda: self.sink_moves.move_refused(stored, event), "handing over what a queue refused")

    def attach_sink(self, sink: DeadLetterSink) -> None:
        """See `OffersDeadLetterSink`."""
        self.sink_moves.sink = sink
        for stored in self._machine.all():
            if self._dying(stored.id):
                self.write_soon(stored.id)
            else:
                self.sink_moves.note_end(stored)

    def run(self, work: Callable[[], Awaitable[None]], title: str) -> asyncio.Task[None]:
        """Run something in the background. Errors of the log and the coordinator are logged."""

        async def logged() -> None:
            try:
                await work()
            except (StreamError, LogError, CoordinatorError) as error:
                if not self._closed:
                    log.warning("%s failed: %s", title, error)

        task = asyncio.get_running_loop().create_task(logged())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def write_soon(self, subscription: int) -> None:
        """Write the dead letters of a subscription, if there are some to write."""
        if self._closed or subscription in self._writing or not self._dying(subscription):
            return
        task = self.run(lambda: self._write(subscription), "writing dead letters")
        self._writing[subscription] = task

        def on_done(_: asyncio.Task[None]) -> None:
            del self._writing[subscription]
            # More may have died after the last look.
            self._node.clock.call_soon(lambda: self.write_soon(subscription))

        task.add_done_callback(on_done)

    def _dying(self, subscription: int) -> list[SubscriptionView]:
        stored = self._machine.by_id(subscription)
        if stored is not None and self.sink_moves.waits_for_sink(stored):
            return []
        views = self._machine.views.of_subscription(subscription)
        return [view for view in views if view.sequence.counts().dying]

    async def _write(self, subscription: int) -> None:
        wait_s = RETRY_S_MIN
        while not self._closed and (views := self._dying(subscription)):
            problem = ""
            for view in views:
                try:
                    problem = await self._write_some(view) or problem
                except (StreamError, LogError, CoordinatorError) as error:
                    problem = str(error)
            if not problem:
                self.problems.pop(subscription, None)
                wait_s = RETRY_S_MIN
                continue
            if self.problems.get(subscription) != problem and not self._closed:
                log.warning("dead letters wait: %s", problem)
            self.problems[subscription] = problem
            await self._sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_S_MAX)
        self.problems.pop(subscription, None)
        if not self._closed and (stored := self._machine.by_id(subscription)) is not None:
            self.sink_moves.note_end(stored)

    async def _sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._node.clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    async def _write_some(self, view: SubscriptionView) -> str:
        """Write some dead letters of a view. Returns the first problem, or nothing if all of them are
        durable."""
        machine, node = self._machine, self._node
        stored, source = machine.by_id(view.subscription), self._source_of(view)
        if stored is None or source is None:
            return "the subscription or its topic was deleted, and its views have not ended yet"
        if self.sink_moves.takes(stored):
            return await self.sink_moves.move_some(stored, view, source)
        name = stored.last_dead_letter_topic
        assert name is not None, "else the sink takes it"
        target, server_id = node.topics.get(name), node.producer_ids.server_id
        if target is None:
            return f"subscription {stored.name}: topic {name} does not exist"
        if server_id is None:
            return f"subscription {stored.name}: the disk has refused to record the server's producer id"
        dying = dict(view.sequence.dying(LETTERS_OF_WRITE))
        events = await source.read(runs_of(dying), BYTES_OF_WRITE)
        for position in positions_of(events.left):
            del dying[position]
        letters = []
        for position, reason in dying.items():
            event = events.get(position) or Event(source.topic, view.partition, position, -1, None, None)
            facts = self._facts(view, position, event, reason)
            if stored.kind == "share group":
                letters.append(self._share_group_letter(stored.name, view, facts, target))
                continue
            headers = (*users_headers(event.headers), *letter_headers(facts, stored.name))
            letters.append(NewEvent(event.value, event.key, headers))
        results = await self._publish(target, letters, server_id)
        durable = [
            WrittenDeadLetter(position, target.id, result.partition, result.offset)
            for position, result in zip(dying, results, strict=True)
            if isinstance(result, Position)
        ]
        await machine.changes.dead_lettered(view, durable)
        self._counters_of[view.subscription].dead_lettered.update(
            dying[letter.position] for letter in durable
        )
        problem = next((result for result in results if isinstance(result, StreamError)), "")
        return f"subscription {stored.name}: {problem}" if problem else ""

    def _source_of(self, view: SubscriptionView) -> ViewSource | RoutedViewSource | None:
        """Where the events of a view are; None if it ends."""
        node = self._node
        namespace = self._machine.topology.by_sequence(view.topic_id)
        if namespace is not None:
            return self._carried.over_routed(RoutedSource(node, node.routed.of(namespace)), view.place)
        origin = node.topics.by_id(view.topic_id)
        if origin is None:
            return None
        partition = node.partition(origin, view.partition)
        return self._carried.over(EventSource(node.clock, origin.name, partition), view.place)

    def _facts(self, view: SubscriptionView, position: int, event: Event, reason: int) -> DeadLetterInfo:
        return DeadLetterInfo(
            letter=event,
            origin=Position(event.topic, event.partition, event.offset),
            topic_id=self._topic_id(view, event),
            reason=reason_name(reason),
            detail=self._machine.views.reasons.get(view.id, position),
            attempts=view.sequence.acquisitions(position),
            time_ms=self._node.clock.wall_ms(),
        )

    def _share_group_letter(
        self, group: str, view: SubscriptionView, facts: DeadLetterInfo, target: TopicMetadata
    ) -> NewEvent:
        """A dead letter as Kafka writes it (KIP-1191), in the partition of the same number."""
        event = facts.letter
        deliveries = view.sequence.failures(event.offset) + 1
        headers = [*share_group_headers(facts, group, deliveries), *letter_headers(facts, group)]
        partition = view.partition % target.partitions
        if not self._node.group_settings.of(group).dead_letter_copies:
            return NewEvent(None, None, tuple(headers), partition=partition)
        return NewEvent(
            event.value, event.key, (*users_headers(event.headers), *headers), partition=partition
        )

    def _topic_id(self, view: SubscriptionView, event: Event) -> str:
        """That of the event's topic, which a routed queue has not in its view."""
        if self._machine.topology.by_sequence(view.topic_id) is None:
            return format_id(view.topic_id)
        topic = self._node.topics.get(event.topic)
        return format_id(topic.id) if topic is not None else ""

    async def _publish(
        self, topic: TopicMetadata, letters: Sequence[NewEvent], server_id: int
    ) -> list[PublishResult]:
        """Append events to a topic in batches of the server; the result of each of them."""
        node = self._node
        if node.rejection_reason is not None:
            return [NotReachable(f"topic {topic.name}: {node.rejection_reason}")] * len(letters)
        keyless = next(self._written) % topic.partitions
        by_partition: dict[int, list[int]] = {}
        for number, letter in enumerate(letters):
            index = keyless
            if letter.partition is not None:
                index = letter.partition
            elif letter.key is not None:
                index = partition_of(letter.key, topic.partitions)
            by_partition.setdefault(index, []).append(number)
        results: list[PublishResult] = [UnknownTopic(f"topic {topic.name}: it was deleted")] * len(letters)
        for index, numbers in by_partition.items():
            try:
                partition = node.partition_to_append(topic, index)
            except (LogError, CoordinatorError) as error:
                translated = translate(error, f"topic {topic.name}")
                assert isinstance(translated, StreamError)
                for number in numbers:
                    results[number] = translated
                continue
            chosen = [letters[number] for number in numbers]
            now_ms = node.clock.wall_ms()
            written = append(topic.name, partition, chosen, now_ms, producer_id=server_id)
            batches = await results_of(written)
            for number, result in zip(numbers, itertools.chain.from_iterable(batches), strict=True):
                results[number] = result
        return results

    def close(self) -> None:
        """Stop writing. Idempotent."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
