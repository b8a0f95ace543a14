"""Dead lettering: what queues give up is published to their dead-letter exchange.

Owns: the copy of a message, with its headers, the queues that it goes to, and that each has its own outcome.
Refuses: to decide what is dead, and to mark it done: the engine does, when the copy is durable. After a kill
between the two, the copy is known by its `mainstem-moved-from` (`moved_copies.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from mainstem.amqp.binding_tables import Routable, keys_of
from mainstem.amqp.deaths import Death, buried, without_cycles
from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_tables import FieldTableError
from mainstem.amqp.messages import AmqpMessage, properties_of, routing_key_of
from mainstem.amqp.publisher import StoredMessage
from mainstem.amqp.topology import AmqpQueue
from mainstem.amqp.vhost import Vhost
from mainstem.attach_contract import DeadEvent
from mainstem.clock import Clock
from mainstem.contract import EventTooLarge, InvalidArgument, StreamError

REASONS = {"failed": "delivery_limit"}
"""The engine's word -> RabbitMQ's, where they differ."""
log = logging.getLogger(__name__)


class DeadLettering:
    """Implements `mainstem.attach_contract.DeadLetterSink` for all virtual hosts."""

    def __init__(self, find: Callable[[str], tuple[Vhost, str] | None], clock: Clock) -> None:
        """`find`: the virtual host and the queue that a subscription is."""
        self._find = find
        self._clock = clock
        self._warned: set[tuple[str, str]] = set()

    async def move(self, subscription: str, events: Sequence[DeadEvent]) -> list[StreamError | None]:
        """See the contract. What has no dead-letter exchange, or none that exists, is dropped, and so is what
        would go in a circle."""
        place = self._find(subscription)
        if place is None:
            return [None] * len(events)
        vhost, name = place
        queue = vhost.queues.get(name)
        target = None if queue is None else queue.effective.get("dead-letter-exchange")
        if queue is None or target not in vhost.exchanges:
            return [None] * len(events)
        copies = vhost.copies
        missing = {event.origin: event for event in events if not copies.has(subscription, event.origin)}
        is_once = "" in missing  # nothing comes again: a queue has refused to take it
        try:
            topic = await vhost.publisher.ensure_topic(str(target))
            if not is_once:
                await copies.begin(subscription, topic)
        except StreamError as error:
            return [error if event.origin in missing else None for event in events]
        routed: dict[str, StoredMessage] = {}
        for event in missing.values():
            letter = self._letter(vhost, queue, str(target), event)
            if (copy := self._routed(vhost, name, letter, event)) is not None:
                routed[event.origin] = copy
        results = dict(zip(routed, await vhost.publisher.publish_prepared([*routed.values()]), strict=True))
        errors = {
            origin: error
            for origin, error in results.items()
            if error is not None and not self._never_fits(vhost.name, name, routed[origin], error)
        }
        if not is_once:
            copies.copied(subscription, results.keys() - errors.keys())
        return [errors.get(event.origin) for event in events]

    def recorded(self, subscription: str, *, is_all: bool) -> None:
        """See the contract."""
        place = self._find(subscription)
        if place is not None:
            place[0].copies.recorded(subscription, is_all=is_all)

    def _letter(self, vhost: Vhost, queue: AmqpQueue, target: str, dead: DeadEvent) -> AmqpMessage | None:
        """The message that is published; None: its properties cannot be read."""
        event = dead.event
        properties = properties_of(event)
        routing_key = routing_key_of(event)
        headers = properties.headers or {}
        try:
            keys = keys_of(routing_key, {"CC": headers["CC"]} if "CC" in headers else None)
        except ValueError:
            keys = (routing_key,)
        named = queue.effective.get("dead-letter-routing-key")
        death = Death(
            queue.name,
            REASONS.get(dead.reason, dead.reason),
            vhost.publisher.exchange_of(event),
            keys,
            self._clock.wall_ms() // 1_000,
        )
        letter = buried(properties, death, drops_cc=named is not None)
        return AmqpMessage(target, routing_key if named is None else str(named), letter, event.value or b"")

    def _routed(
        self, vhost: Vhost, queue: str, letter: AmqpMessage | None, dead: DeadEvent
    ) -> StoredMessage | None:
        """What is stored of a letter; None: it goes nowhere."""
        if letter is None:
            return None
        try:
            keys = keys_of(letter.routing_key, letter.properties.headers)
            queues = vhost.router.route(letter.exchange, Routable(keys, letter.properties))
            reason = REASONS.get(dead.reason, dead.reason)
            if reason != "rejected":
                allowed, circular = without_cycles(queues, letter.properties)
                self._warn(vhost.name, queue, circular)
                queues = tuple(allowed)
            return vhost.publisher.prepared(letter, queues, dead.origin) if queues else None
        except (AmqpError, FieldTableError, ValueError):
            log.warning("queue %s: a message without valid properties is dropped", queue, exc_info=True)
            return None

    @staticmethod
    def _never_fits(vhost: str, queue: str, copy: StoredMessage, error: StreamError) -> bool:
        """Whether a stream refuses a letter whenever it comes, so that it is not tried again: that would only
        repeat it in the queues and streams that have it."""
        if not copy.streams or not isinstance(error, InvalidArgument | EventTooLarge):
            return False
        log.warning("vhost %s: a dead letter of queue %s is not in all its streams: %s", vhost, queue, error)
        return True

    def _warn(self, vhost: str, queue: str, circular: Sequence[str]) -> None:
        """Log once for each queue that its messages are dropped, for they would go in a circle."""
        if circular and (vhost, queue) not in self._warned:
            self._warned.add((vhost, queue))
            log.warning(
                "vhost %s: messages of queue %s are dropped: they were dead in %s before, and no consumer has"
                " rejected them",
                vhost,
                queue,
                ", ".join(circular),
            )
