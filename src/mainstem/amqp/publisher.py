"""Publishes the messages of a virtual host: those of a turn of the event loop in one call of the engine.

Owns: the order of messages, the topics of exchanges, which are made when they are first published to, and
what a message's own times mean. Refuses: to confirm or return anything: the doors do, by the results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from mainstem.amqp.binding_tables import Routable, keys_of
from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_tables import FieldTableError
from mainstem.amqp.messages import (
    AmqpMessage,
    delay_ms,
    event_key,
    expiration_ms,
    stored_headers_of,
    with_headers,
)
from mainstem.amqp.queue_arguments import LIVE_MOMENT_MS
from mainstem.amqp.router import Router
from mainstem.amqp.stored_topology import TOPIC
from mainstem.amqp.stream_publisher import AppendsEvents, StreamEvent, append_to_streams, stream_event
from mainstem.amqp.topic_names import SHARED, TOPIC_AS_EXCHANGE, topic_name
from mainstem.amqp.topology import AmqpQueue, Exchange
from mainstem.clock import Clock
from mainstem.contract import Event, Headers, NewEvent, Position, StreamError, TopicExists, UnknownTopic
from mainstem.routing_contract import EXCHANGE_HEADER, MOVED_FROM_HEADER, RoutedEvent, RoutedQueues

PublishOutcome: TypeAlias = Literal["routed", "unrouted", "refused"]
"""What became of a message. Routed: its queues have it, durably. Unrouted: no queue gets it; it is stored all
the same. Refused: it was not stored, or one of its queues did not take it."""
TOPIC_SETTINGS = {
    "retention.ms": str(24 * 3600 * 1000),
    "max.message.bytes": str(32 << 20),
    "mainstem.publishers": "exchange",
}
"""Those of the topic of an exchange: what its queues have done with is kept for a day, what they have not is
kept in any case; there is room for the largest message that the doors accept, with its headers; and what no
queue would get is refused."""


class CreatesTopics(AppendsEvents, Protocol):
    """The methods of an engine that this needs."""

    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = ...
    ) -> None:
        """See `mainstem.contract.Admin`."""


class StoredMessage(NamedTuple):
    """What is stored of a message."""

    event: RoutedEvent | None
    """For queues; None: it has streams only."""
    streams: Sequence[StreamEvent]
    has_route: bool


class VhostPublisher:
    """Publishes for one virtual host."""

    def __init__(
        self,
        namespace: str,
        *,
        routed: RoutedQueues,
        topics: CreatesTopics,
        router: Router,
        exchanges: Mapping[str, Exchange],
        queues: Mapping[str, AmqpQueue],
        clock: Clock,
        start_task: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`exchanges`, `queues`: those of the virtual host, live."""
        self._namespace = namespace
        self._routed = routed
        self._engine = topics
        self._router = router
        self._exchanges = exchanges
        self._queues = queues
        self._clock = clock
        self._start_task = start_task
        self.topics: dict[str, str] = {}
        """Exchange -> its topic."""
        self.exchange_of_topic: dict[str, str] = {}
        self._existing: set[str] = set()
        """Topics that are known to exist."""
        self._pending: list[tuple[Sequence[AmqpMessage], asyncio.Future[list[PublishOutcome]]]] = []
        self._is_running = False

    def know_topic(self, exchange: str, topic: str) -> None:
        """A note says that this is the exchange's topic."""
        self.topics[exchange] = topic
        self.exchange_of_topic[topic] = exchange

    def publish(self, messages: Sequence[AmqpMessage]) -> asyncio.Future[list[PublishOutcome]]:
        """Publish messages after those of earlier calls. The value has the result of each, when all of them
        are durable or have failed; it does not fail."""
        done: asyncio.Future[list[PublishOutcome]] = asyncio.get_running_loop().create_future()
        self._pending.append((messages, done))
        if not self._is_running:
            self._run_soon()
        return done

    def _run_soon(self) -> None:
        self._is_running = True
        self._clock.call_soon(lambda: self._start_task(self._run()))

    async def _run(self) -> None:
        """Publish what has gathered. What gathers meanwhile is next, after the call has taken its place."""
        calls, self._pending = self._pending, []
        try:
            for exchange in {message.exchange for messages, _ in calls for message in messages}:
                try:
                    await self.ensure_topic(exchange)
                except StreamError:
                    pass  # its messages are refused, by their own results
            self._start_task(self._publish(calls))
        finally:
            self._is_running = False
            if self._pending:
                self._run_soon()

    async def _publish(
        self, calls: Sequence[tuple[Sequence[AmqpMessage], asyncio.Future[list[PublishOutcome]]]]
    ) -> None:
        prepared = [self._prepare(message) for messages, _ in calls for message in messages]
        errors = iter(await self.publish_prepared([message for message in prepared if message is not None]))
        outcomes = iter(prepared)
        for messages, done in calls:
            answer: list[PublishOutcome] = []
            for _ in messages:
                message = next(outcomes)
                if message is None or next(errors) is not None:
                    answer.append("refused")
                else:
                    answer.append("routed" if message.has_route else "unrouted")
            if not done.done():
                done.set_result(answer)

    async def publish_prepared(self, prepared: Sequence[StoredMessage]) -> list[StreamError | None]:
        """Publish messages, after those of earlier calls. The error of each; None: all its queues and streams
        have it, durably. Never raises a StreamError."""
        for_streams = [event for message in prepared for event in message.streams]
        appending = (
            asyncio.ensure_future(append_to_streams(self._engine, for_streams)) if for_streams else None
        )
        events = [message.event for message in prepared if message.event is not None]
        results = iter(await self.publish_events(events))
        appended = iter(await appending if appending is not None else ())
        return [self._error_of(message, results, appended) for message in prepared]

    def _error_of(
        self,
        message: StoredMessage,
        results: Iterator[Position | StreamError],
        appended: Iterator[Position | StreamError],
    ) -> StreamError | None:
        """What has failed of a message, by the next results of its queues and streams."""
        mine = [next(results)] if message.event is not None else []
        mine += [next(appended) for _ in message.streams]
        failures = [result for result in mine if isinstance(result, StreamError)]
        if message.event is not None and isinstance(mine[0], UnknownTopic):
            self._existing.discard(message.event.topic)  # it was deleted: the next message makes it
        return failures[0] if failures else None

    async def publish_events(self, events: Sequence[RoutedEvent]) -> list[Position | StreamError]:
        """Publish events that are routed, in this order for each queue. Never raises a StreamError."""
        if not events:
            return []
        # The engine keeps the order of a call within a partition, and that of calls over all of them.
        runs = [list(run) for _, run in groupby(events, key=lambda event: event.topic)]
        if len(runs) == 1:
            return await self._publish_run(events)
        results = await asyncio.gather(*(self._publish_run(run) for run in runs))
        return [result for run in results for result in run]

    async def _publish_run(self, events: Sequence[RoutedEvent]) -> list[Position | StreamError]:
        try:
            return await self._routed.publish(self._namespace, events)
        except StreamError as error:
            return [error] * len(events)

    # --- one message --------------------------------------------------------------------------------------

    def _prepare(self, message: AmqpMessage) -> StoredMessage | None:
        """What is stored of a message; None: it cannot be published."""
        try:
            keys = keys_of(message.routing_key, message.properties.headers)
            queues = self._router.route(message.exchange, Routable(keys, message.properties))
            live = queues
            if any(self._dies_at_once(name) for name in queues):
                live = tuple(name for name in queues if not self._dies_at_once(name))
            return self.prepared(message, live, has_route=bool(queues))
        except (AmqpError, FieldTableError, ValueError, KeyError):
            return None

    def prepared(
        self, message: AmqpMessage, queues: Sequence[str], origin: str = "", *, has_route: bool = True
    ) -> StoredMessage:
        """What is stored of a message for these queues. What the default exchange sends to streams alone is
        stored there alone. Errors as `routed_event`."""
        places = [
            queue.place
            for name in queues
            if (queue := self._queues.get(name)) is not None and queue.place is not None
        ]
        if not places:
            return StoredMessage(self.routed_event(message, queues, origin), (), has_route)
        streams = [stream_event(message, place) for place in places]
        others = [name for name in queues if (queue := self._queues.get(name)) and queue.place is None]
        if not others and message.exchange == "":
            return StoredMessage(None, streams, has_route)
        return StoredMessage(self.routed_event(message, others, origin), streams, has_route)

    def _dies_at_once(self, name: str) -> bool:
        """Whether a message expires when it gets to a queue: its time to live is 0, there is no consumer,
        and nothing else is to become of it."""
        queue = self._queues.get(name)
        if queue is None or queue.consumers:
            return False
        return queue.effective.get("message-ttl") == 0 and "dead-letter-exchange" not in queue.effective

    def routed_event(self, message: AmqpMessage, queues: Sequence[str], origin: str = "") -> RoutedEvent:
        """The event of a message for these queues. `origin`: of what it is a copy. AmqpError,
        FieldTableError: a property is invalid. KeyError: the exchange has no topic."""
        exchange = self._exchanges.get(message.exchange)
        not_before_ms: int | None = None
        if exchange is not None and exchange.kind == "x-delayed-message":
            wait_ms = delay_ms(message.properties)
            if wait_ms:
                not_before_ms = self._clock.wall_ms() + wait_ms
                negative = with_headers(message.properties, {"x-delay": -wait_ms})
                message = AmqpMessage(
                    message.exchange, message.routing_key, negative, message.body, message.user
                )
        lives_ms = expiration_ms(message.properties)
        expires_ms: int | None = None
        if lives_ms is not None:
            if lives_ms == 0 and any(self._queues[name].consumers for name in queues if name in self._queues):
                lives_ms = LIVE_MOMENT_MS
            expires_ms = (not_before_ms or self._clock.wall_ms()) + lives_ms
        key = event_key(message)
        headers: Headers = stored_headers_of(message, key, expires_ms=expires_ms, not_before_ms=not_before_ms)
        if origin:
            headers = (*headers, (MOVED_FROM_HEADER, origin.encode()))
        place = self._place_of(message.exchange)
        if place == SHARED:
            headers = (*headers, (EXCHANGE_HEADER, message.exchange.encode("utf-8", "surrogateescape")))
        return RoutedEvent(NewEvent(message.body, key), self.topics[place], queues, headers)

    def exchange_of(self, event: Event) -> str:
        """The exchange to which a message was published; a topic that is no exchange's is one by itself."""
        exchange = self.exchange_of_topic.get(event.topic, TOPIC_AS_EXCHANGE + event.topic)
        if exchange != SHARED:
            return exchange
        names = (value for name, value in event.headers if name == EXCHANGE_HEADER)
        return (next(names, None) or b"").decode("utf-8", "surrogateescape")

    # --- topics -------------------------------------------------------------------------------------------

    def _place_of(self, exchange: str) -> str:
        """The exchange, or SHARED."""
        known = self._exchanges.get(exchange)
        is_lasting = known is None or (known.durable and not known.auto_delete)
        return exchange if is_lasting else SHARED

    async def ensure_topic(self, exchange: str) -> str:
        """The topic of an exchange, which is created if there is none. StreamError: that is not possible."""
        exchange = self._place_of(exchange)
        known = self.topics.get(exchange)
        if known is not None and known in self._existing:
            return known
        name = known or topic_name(self._namespace, exchange)
        if known is None and name in self.exchange_of_topic:
            name = topic_name(self._namespace, exchange, is_taken=True)
        try:
            await self._engine.create_topic(name, partitions=1, settings=TOPIC_SETTINGS)
        except TopicExists:
            pass  # a crash came before the note; or somebody else has made it, and may read it there
        if known is None:
            await self._routed.set_note(self._namespace, TOPIC + exchange, name.encode())
            self.know_topic(exchange, name)
        self._existing.add(name)
        return name
