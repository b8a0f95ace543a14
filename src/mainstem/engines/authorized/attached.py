"""Attached consumers for one requester.

Owns: the right that each call needs: what `AuthorizedQueues` needs to pull, to settle and to describe. It is
asked again at each delivery, so that a consumer whose right was revoked gets nothing more. Refuses: events
without the masks of the requester.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import msgspec

from mainstem.access_contract import Operation, ResourceType
from mainstem.attach_contract import (
    AttachedConsumer,
    AttachRequest,
    DeliveryState,
    OnDeliveries,
    OnEnded,
    QueueCounts,
)
from mainstem.contract import NotAuthorized
from mainstem.engines.authorized.declared import NO_RIGHT, AuthorizedPart, checked, needs
from mainstem.engines.authorized.log import READ_TOPIC
from mainstem.engines.authorized.queues import (
    ALTER_SUBSCRIPTION,
    DESCRIBE_SUBSCRIPTION,
    READ_SUBSCRIPTION,
    AuthorizedQueues,
)
from mainstem.queue_contract import Delivery, Outcome


class AuthorizedAttaching(AuthorizedQueues):
    """Implements `AttachesConsumers`."""

    @property
    @needs(*NO_RIGHT)
    def attached(self) -> AuthorizedAttachedConsumers:
        """See the contract. What each call of it needs is declared there."""
        return AuthorizedAttachedConsumers(self, self._require_receiving)


class AuthorizedAttachedConsumers(AuthorizedPart):
    """Implements `AttachedConsumers`: `engine` is the one of the engine."""

    def __init__(
        self,
        view: AuthorizedPart,
        require_receiving: Callable[[str], Awaitable[tuple[Callable[[], None], frozenset[str]]]],
    ) -> None:
        """`require_receiving`: see `AuthorizedQueues`."""
        super().__init__(view.engine.attached, view.rights, view.masks, view.clock)
        self._require_receiving = require_receiving

    def _masked(self, delivery: Delivery) -> Delivery:
        return msgspec.structs.replace(delivery, event=self.masks.visible(delivery.event))

    @needs(READ_SUBSCRIPTION, READ_TOPIC)
    async def attach(self, request: AttachRequest, deliver: OnDeliveries, ended: OnEnded) -> AttachedConsumer:
        """See the contract."""
        require, _ = await self._require_receiving(request.subscription)
        attached = _CheckedDeliveries(require, self.masks.are_any, self._masked, deliver, ended)
        attached.consumer = await self.engine.attach(request, attached.deliver, ended)
        return cast(AttachedConsumer, attached.consumer)

    @needs(READ_SUBSCRIPTION)
    def settle_soon(self, subscription: str, outcomes: Sequence[Outcome]) -> None:
        """See the contract."""
        self.rights.require(Operation.READ, ResourceType.SUBSCRIPTION, subscription)
        self.engine.settle_soon(subscription, outcomes)

    @needs(READ_SUBSCRIPTION)
    async def settle(self, subscription: str, outcomes: Sequence[Outcome]) -> None:
        """See the contract."""
        self.rights.require(Operation.READ, ResourceType.SUBSCRIPTION, subscription)
        await self.engine.settle(subscription, outcomes)

    @needs(READ_SUBSCRIPTION, READ_TOPIC)
    async def take(self, subscription: str, consumer: str, *, auto_ack: bool = False) -> Delivery | None:
        """See the contract."""
        await self._require_receiving(subscription)
        delivery: Delivery | None = await self.engine.take(subscription, consumer, auto_ack=auto_ack)
        return delivery if delivery is None or not self.masks.are_any else self._masked(delivery)

    @needs(DESCRIBE_SUBSCRIPTION)
    def queue_counts(self, subscription: str) -> QueueCounts:
        """See the contract."""
        self.rights.require(Operation.DESCRIBE, ResourceType.SUBSCRIPTION, subscription)
        return cast(QueueCounts, self.engine.queue_counts(subscription))

    @needs(READ_SUBSCRIPTION)
    def delivery_states(self, subscription: str, tokens: Sequence[str]) -> list[DeliveryState]:
        """See the contract."""
        self.rights.require(Operation.READ, ResourceType.SUBSCRIPTION, subscription)
        return cast("list[DeliveryState]", self.engine.delivery_states(subscription, tokens))

    purge_ready = checked("purge_ready", ALTER_SUBSCRIPTION, "subscription")


class _CheckedDeliveries:
    """The deliveries of a consumer, while its requester may have them."""

    def __init__(
        self,
        require: Callable[[], None],
        has_masks: bool,
        masked: Callable[[Delivery], Delivery],
        deliver: OnDeliveries,
        ended: OnEnded,
    ) -> None:
        self.consumer: Any = None
        self._require = require
        self._has_masks = has_masks
        self._masked = masked
        self._deliver = deliver
        self._ended = ended

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Pass them on, or detach the consumer."""
        try:
            self._require()
        except NotAuthorized as error:
            self.consumer.detach(requeue=True)
            self._ended(error)
            return
        if self._has_masks:
            deliveries = [self._masked(delivery) for delivery in deliveries]
        self._deliver(deliveries)
