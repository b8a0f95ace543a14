"""A member of a consumer group, through librdkafka.

Owns: commits with notes, and the hooks of a member, which librdkafka's callbacks call from the thread that
polls and wait for. Refuses: to call a hook while it closes, and events that were fetched before their
partition was given up.

A member with hooks has Kafka's cooperative assignor, with which only the partitions that move to another
member are given up. Members with another assignor cannot join its group. That assignor shares the partitions
of all topics as if they were of one, so of two topics each of two members may get one. Therefore the group
shares the first topic, and a member's partitions of the other topics follow.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from mainstem import contract
from mainstem.clock import BlockingClock
from mainstem.contract import NO_NOTES, AssignedPartition, MemberHooks, Position, StreamError
from mainstem.engines.kafka.errors import translate
from mainstem.engines.kafka.headers import HeaderReader
from mainstem.engines.kafka.read import CONSUMER_SETTINGS, PollingConsumer

COMMITTED_TIMEOUT_S, COMMITTED_ATTEMPTS, COMMITTED_PAUSE_S = 10.0, 5, 0.2
HOOK_TIMEOUT_S = 60.0
HOOKS_POLL_S = 0.01
"""Longest poll of a member with hooks, whose commits wait until it ends."""


class Membership(NamedTuple):
    """What a member joins, and who is called when its partitions change."""

    group: str
    topics: tuple[str, ...]
    start: Literal["earliest", "latest"]
    hooks: MemberHooks | None = None


class _HookCommit(NamedTuple):
    """A commit that the thread is to make that waits for a hook."""

    offsets: list[TopicPartition]
    done: concurrent.futures.Future[None]

    def run(self, commit: Callable[[list[TopicPartition]], None]) -> None:
        """Make the commit, whose result or error its requester gets."""
        try:
            commit(self.offsets)
        except StreamError as error:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)


class KafkaMember(PollingConsumer):
    """Implements the contract's Member."""

    def __init__(
        self,
        executor: Executor,
        common: dict[str, Any],
        clock: BlockingClock,
        headers: HeaderReader,
        membership: Membership,
    ) -> None:
        settings = {
            **common,
            **CONSUMER_SETTINGS,
            "group.id": membership.group,
            "auto.offset.reset": membership.start,
        }
        if membership.hooks is not None:
            settings["partition.assignment.strategy"] = "cooperative-sticky"
        super().__init__(executor, clock, headers, Consumer(settings), f"group {membership.group}")
        self._hooks = membership.hooks
        subscribed = membership.topics if membership.hooks is None else membership.topics[:1]
        self._following = membership.topics[len(subscribed) :]
        """The topics whose partitions follow those of the first."""
        self._loop = asyncio.get_running_loop()
        self._owned: set[contract.TopicPartition] = set()
        self._given_up: set[contract.TopicPartition] = set()
        """Partitions that were given up during the present poll."""
        self._requests: SimpleQueue[_HookCommit | None] | None = None
        """Of commits during the call of a hook; None: no hook is being called."""
        self._closing = False
        if membership.hooks is not None:
            self._poll_s = HOOKS_POLL_S
        self._consumer.subscribe(
            list(subscribed),
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )

    # --- called by librdkafka, in the thread that polls ---------------------------------------------------

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        if self._hooks is None or self._closing or not partitions:
            return
        partitions = [*partitions, *self._followers(consumer, partitions)]
        committed = self._committed(consumer, partitions)
        described = [
            AssignedPartition(
                partition.topic,
                partition.partition,
                partition.offset if partition.offset >= 0 else None,
                (partition.metadata or "") if partition.offset >= 0 else "",
            )
            for partition in committed
        ]
        self._owned.update(_keys(partitions))
        self._await(self._hooks.assigned, described)
        consumer.incremental_assign(partitions)

    def _followers(
        self, consumer: Consumer, partitions: Sequence[TopicPartition]
    ) -> Iterator[TopicPartition]:
        """The partitions of the other topics that have the numbers of those that are assigned. A topic may
        have fewer partitions."""
        for topic in self._following:
            try:
                known = consumer.list_topics(topic, timeout=COMMITTED_TIMEOUT_S).topics[topic].partitions
            except KafkaException as error:
                self._errors.append(translate(error, self._subject))
                continue
            for partition in partitions:
                if partition.partition in known:
                    yield TopicPartition(topic, partition.partition)

    def _committed(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        for attempt in range(COMMITTED_ATTEMPTS):
            try:
                committed: list[TopicPartition] = consumer.committed(
                    list(partitions), timeout=COMMITTED_TIMEOUT_S
                )
                errors = [partition.error for partition in committed if partition.error is not None]
                if errors:
                    raise KafkaException(errors[0])
                return committed
            except KafkaException as error:
                # Without the notes, what they say is done is repeated, but nothing is lost.
                if attempt == COMMITTED_ATTEMPTS - 1 or not error.args[0].retriable():
                    self._errors.append(translate(error, self._subject))
                    break
                self._clock.sleep(COMMITTED_PAUSE_S)
        return [TopicPartition(partition.topic, partition.partition) for partition in partitions]

    def _revoked(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._give_up(consumer, partitions, None if self._hooks is None else self._hooks.revoked)

    def _lost(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._give_up(consumer, partitions, None if self._hooks is None else self._hooks.lost)

    def _give_up(
        self,
        consumer: Consumer,
        partitions: Sequence[TopicPartition],
        hook: Callable[[Sequence[contract.TopicPartition]], Awaitable[None]] | None,
    ) -> None:
        if hook is None:
            self._forget(partitions)
            return
        numbers = {partition.partition for partition in partitions}
        followers = [key for key in self._owned if key[0] in self._following and key[1] in numbers]
        partitions = [*partitions, *(TopicPartition(*key) for key in followers)]
        if not self._closing:
            self._await(hook, _keys(partitions))
        self._forget(partitions)
        consumer.incremental_unassign(partitions)

    def _forget(self, partitions: Sequence[TopicPartition]) -> None:
        for key in _keys(partitions):
            self._positions.pop(key, None)
            self._owned.discard(key)
            self._given_up.add(key)

    def _await(self, hook: Callable[[Any], Awaitable[None]], argument: object) -> None:
        """Run a hook in the loop of the member's user, wait for it, and make the commits that it asks for."""

        async def call() -> None:
            async with asyncio.timeout(HOOK_TIMEOUT_S):
                await hook(argument)

        requests: SimpleQueue[_HookCommit | None] = SimpleQueue()
        self._requests = requests
        calling: Coroutine[Any, Any, None] = call()
        future = asyncio.run_coroutine_threadsafe(calling, self._loop)
        future.add_done_callback(lambda _: requests.put(None))
        while (request := requests.get()) is not None:
            request.run(self._commit)
        self._requests = None
        while not requests.empty():
            late = requests.get()
            if late is not None:
                late.run(self._commit)
        future.result()

    # --- called by the member's user ----------------------------------------------------------------------

    def _poll(self, max_events: int, wait_s: float) -> contract.ReadResult:
        self._given_up.clear()
        return super()._poll(max_events, wait_s)

    def _owns(self, first: Message) -> bool:
        """librdkafka drops what it has fetched of a partition that is given up, except what it has returned
        already."""
        return (first.topic(), first.partition()) not in self._given_up

    async def commit(
        self,
        positions: Sequence[Position] | None = None,
        notes: Mapping[contract.TopicPartition, str] = NO_NOTES,
    ) -> None:
        """See the contract. Those of a hook are made by the thread that calls it: librdkafka has the commits
        of other threads wait until the callback has returned."""
        if self._closing:
            raise StreamError(f"{self._subject}: the member is closed")
        if positions is None:
            positions = [Position(*key, offset) for key, offset in list(self._positions.items())]
        offsets = [
            TopicPartition(
                position.topic,
                position.partition,
                position.offset,
                notes.get((position.topic, position.partition), ""),
            )
            for position in positions
        ]
        if not offsets:
            return
        requests = self._requests
        if requests is not None:
            request = _HookCommit(offsets, concurrent.futures.Future())
            requests.put(request)
            await asyncio.wrap_future(request.done)
            return
        async with self._lock:
            if self._closing:
                raise StreamError(f"{self._subject}: the member is closed")
            if self._hooks is not None and not all(key in self._owned for key in _keys(offsets)):
                raise StreamError(f"{self._subject}: partitions were given up before the commit")
            await self._in_thread(self._commit, offsets)

    def _commit(self, offsets: list[TopicPartition]) -> None:
        try:
            committed = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise translate(error, self._subject) from None
        for partition in committed or ():
            if partition.error is not None:
                raise translate(partition.error, self._subject)

    def pause(self, partitions: Collection[contract.TopicPartition]) -> None:
        """See the contract."""
        self._change_each(self._consumer.pause, partitions)

    def resume(self, partitions: Collection[contract.TopicPartition]) -> None:
        """See the contract."""
        self._change_each(self._consumer.resume, partitions)

    def _change_each(
        self,
        change: Callable[[list[TopicPartition]], object],
        partitions: Collection[contract.TopicPartition],
    ) -> None:
        for key in partitions:
            try:
                change([TopicPartition(*key)])
            except KafkaException:
                continue  # given up meanwhile
            except RuntimeError:
                return  # closed

    async def close(self) -> None:
        """See the contract."""
        self._closing = True
        await super().close()


def _keys(partitions: Sequence[TopicPartition]) -> list[contract.TopicPartition]:
    return [(partition.topic, partition.partition) for partition in partitions]
