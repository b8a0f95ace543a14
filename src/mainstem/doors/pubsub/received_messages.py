"""From deliveries of the engine to messages that clients receive.

Owns: `ReceivedMessage`, and the attributes by which Pub/Sub says where a dead letter comes from. Refuses: the
mapping of events (`mainstem.pubsub.events`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mainstem.contract import Event
from mainstem.doors.pubsub.subscription_catalog import PubsubSubscription, SubscriptionCatalog
from mainstem.pubsub.ack_ids import ack_id_of
from mainstem.pubsub.events import fill_message
from mainstem.pubsub.stored_subscription import stored_of
from mainstem.queue_contract import (
    DEAD_LETTER_ATTEMPTS_HEADER,
    DEAD_LETTER_EVENT_TIME_HEADER,
    DEAD_LETTER_SUBSCRIPTION_HEADER,
    Delivery,
    NoSuchSubscription,
)
from mainstem.timespec import format_iso

SOURCE = "CloudPubSubDeadLetterSource"
"""What the names of the attributes of a dead letter begin with."""
NAMES_KNOWN_MAX = 1_000


class MessageMaker:
    """Makes the messages that clients receive."""

    def __init__(self, catalog: SubscriptionCatalog) -> None:
        self._catalog = catalog
        self._names: dict[str, tuple[str, str]] = {}
        """Name in the log -> project and id of a subscription, of those that have given events up."""

    async def add(
        self, target: Any, subscription: PubsubSubscription, deliveries: Sequence[Delivery]
    ) -> None:
        """Add deliveries to the repeated field of received messages `target`."""
        has_letters = subscription.stored.dead_letters is not None
        for delivery in deliveries:
            event = delivery.event
            received = target.add()
            received.ack_id = ack_id_of(delivery.token)
            if has_letters:
                received.delivery_attempt = delivery.failures + 1
            fill_message(received.message, event, event.timestamp_ms)
            if any(name == DEAD_LETTER_SUBSCRIPTION_HEADER for name, _ in event.headers):
                await self._add_source(received.message, event)

    async def _add_source(self, target: Any, event: Event) -> None:
        """The event is a dead letter: say where it comes from."""
        headers = {name: (value or b"").decode(errors="replace") for name, value in event.headers}
        project, id_ = await self._name_of(headers[DEAD_LETTER_SUBSCRIPTION_HEADER])
        attributes = target.attributes
        attributes[f"{SOURCE}DeliveryCount"] = headers.get(DEAD_LETTER_ATTEMPTS_HEADER, "")
        attributes[f"{SOURCE}Subscription"] = id_
        attributes[f"{SOURCE}SubscriptionProject"] = project
        time_ms = headers.get(DEAD_LETTER_EVENT_TIME_HEADER, "")
        is_time = time_ms.isascii() and time_ms.isdigit() and len(time_ms) < 20  # a producer may write any
        attributes[f"{SOURCE}TopicPublishTime"] = format_iso(int(time_ms)) if is_time else ""

    async def _name_of(self, queue: str) -> tuple[str, str]:
        """Project and id of a subscription with this name in the log, which may have been deleted."""
        if (known := self._names.get(queue)) is not None:
            return known
        try:
            stored = stored_of(await self._catalog.queues.subscription_settings(queue))
        except NoSuchSubscription:
            stored = None
        name = (stored.project, stored.id) if stored is not None else (self._catalog.default_project, queue)
        if len(self._names) < NAMES_KNOWN_MAX:
            self._names[queue] = name
        return name
