"""Namespaces and their queues for one requester.

Owns: the right that each call needs. A queue is the subscription of its name, and a namespace is the
subscription whose name is that of the namespace with a slash: what an entry for all names that begin with
`shop/` allows, it allows for the namespace `shop` and all its queues. Refuses: to say whether a namespace
exists to a requester that may not describe it; and what exchanges and bindings allow, which the door decides
that knows what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import NotAuthorized, Position, StreamError
from mainstem.engines.authorized.declared import NO_RIGHT, AuthorizedPart, CallRight, needs
from mainstem.engines.authorized.log import READ_TOPIC, WRITE_TOPIC, AuthorizedLog
from mainstem.engines.authorized.queues import (
    ALTER_SUBSCRIPTION,
    CREATE_SUBSCRIPTION,
    DELETE_SUBSCRIPTION,
    DESCRIBE_SUBSCRIPTION,
    require_settings,
)
from mainstem.queue_contract import SubscriptionSettings
from mainstem.routing_contract import QueueBinding, RoutedEvent

WRITE_SUBSCRIPTION = CallRight(Operation.WRITE, ResourceType.SUBSCRIPTION)


class AuthorizedRouting(AuthorizedLog):
    """Implements `OffersRoutedQueues`."""

    @property
    @needs(*NO_RIGHT)
    def routed_queues(self) -> AuthorizedRoutedQueues:
        """See the contract. What each call of it needs is declared there."""
        return AuthorizedRoutedQueues(self.engine.routed_queues, self.rights, self.masks, self.clock)


class AuthorizedRoutedQueues(AuthorizedPart):
    """Implements `RoutedQueues`: `engine` is the one of the engine."""

    def _allows(self, operation: Operation, namespace: str, queue: str = "") -> bool:
        return self.rights.allows(
            operation, ResourceType.SUBSCRIPTION, self.subscription_of(namespace, queue)
        )

    def _require(self, operation: Operation, namespace: str, queue: str = "") -> None:
        """Raise NotAuthorized unless the requester may do this to the queue, or to the namespace."""
        self.rights.require(operation, ResourceType.SUBSCRIPTION, self.subscription_of(namespace, queue))

    @needs(*NO_RIGHT)
    def subscription_of(self, namespace: str, queue: str) -> str:
        """See the contract. It depends on nothing that exists."""
        return cast(str, self.engine.subscription_of(namespace, queue))

    # --- namespaces and queues ----------------------------------------------------------------------------

    @needs(DESCRIBE_SUBSCRIPTION)
    async def namespaces(self) -> list[str]:
        """See the contract. Those that the requester may not describe are left out."""
        return [name for name in await self.engine.namespaces() if self._allows(Operation.DESCRIBE, name)]

    @needs(CREATE_SUBSCRIPTION)
    async def create_namespace(self, name: str) -> None:
        """See the contract."""
        self._require(Operation.CREATE, name)
        await self.engine.create_namespace(name)

    @needs(DELETE_SUBSCRIPTION)
    async def delete_namespace(self, name: str) -> None:
        """See the contract. The right is needed for each of its queues, too."""
        self._require(Operation.DELETE, name)
        for queue in await self.engine.queues_of(name):
            if not self._allows(Operation.DELETE, name, queue):
                who = self.rights.requester.principal.text
                raise NotAuthorized(f"{who} may not DELETE all queues of namespace {name}")
        await self.engine.delete_namespace(name)

    @needs(DESCRIBE_SUBSCRIPTION)
    async def queues_of(self, namespace: str) -> list[str]:
        """See the contract. Those that the requester may not describe are left out."""
        self._require(Operation.DESCRIBE, namespace)
        queues = await self.engine.queues_of(namespace)
        return [queue for queue in queues if self._allows(Operation.DESCRIBE, namespace, queue)]

    @needs(CREATE_SUBSCRIPTION, READ_TOPIC, WRITE_TOPIC)
    async def create_queue(self, namespace: str, name: str, settings: SubscriptionSettings) -> None:
        """See the contract. READ is needed for topics, and WRITE for the dead-letter topic."""
        self._require(Operation.CREATE, namespace, name)
        for topic in settings.topics:
            self.rights.require(Operation.READ, ResourceType.TOPIC, topic)
        require_settings(self.rights, self.masks, settings)
        await self.engine.create_queue(namespace, name, settings)

    # --- bindings -----------------------------------------------------------------------------------------

    @needs(ALTER_SUBSCRIPTION)
    async def bind_queue(self, namespace: str, queue: str, data: bytes) -> int:
        """See the contract."""
        self._require(Operation.ALTER, namespace, queue)
        return cast(int, await self.engine.bind_queue(namespace, queue, data))

    @needs(DESCRIBE_SUBSCRIPTION, ALTER_SUBSCRIPTION)
    async def unbind_queue(self, namespace: str, binding: int) -> bool:
        """See the contract. The right to ALTER its queue is needed, which a refusal does not name."""
        self._require(Operation.DESCRIBE, namespace)
        known: list[QueueBinding] = await self.engine.bindings(namespace)
        for queue in (item.queue for item in known if item.id == binding):
            if not self._allows(Operation.ALTER, namespace, queue):
                who = self.rights.requester.principal.text
                raise NotAuthorized(f"{who} may not remove binding {binding} of namespace {namespace}")
        return cast(bool, await self.engine.unbind_queue(namespace, binding))

    @needs(DESCRIBE_SUBSCRIPTION)
    async def bindings(self, namespace: str) -> list[QueueBinding]:
        """See the contract. Those of queues that the requester may not describe are left out."""
        self._require(Operation.DESCRIBE, namespace)
        known: list[QueueBinding] = await self.engine.bindings(namespace)
        return [item for item in known if self._allows(Operation.DESCRIBE, namespace, item.queue)]

    # --- notes --------------------------------------------------------------------------------------------

    @needs(ALTER_SUBSCRIPTION)
    async def set_note(self, namespace: str, name: str, data: bytes | None) -> None:
        """See the contract."""
        self._require(Operation.ALTER, namespace)
        await self.engine.set_note(namespace, name, data)

    @needs(DESCRIBE_SUBSCRIPTION)
    async def notes(self, namespace: str) -> dict[str, bytes]:
        """See the contract."""
        self._require(Operation.DESCRIBE, namespace)
        return cast(dict[str, bytes], await self.engine.notes(namespace))

    # --- events -------------------------------------------------------------------------------------------

    @needs(WRITE_TOPIC, WRITE_SUBSCRIPTION)
    async def publish(self, namespace: str, events: Sequence[RoutedEvent]) -> list[Position | StreamError]:
        """See the contract. An event needs the right to WRITE its topic and each of its queues, or the
        namespace if it has none; the result of one without it is NotAuthorized."""
        refusals = [self._refusal(namespace, event) for event in events]
        allowed = [event for event, refusal in zip(events, refusals, strict=True) if refusal is None]
        results = iter(await self.engine.publish(namespace, allowed) if allowed else ())
        return [next(results) if refusal is None else refusal for refusal in refusals]

    def _refusal(self, namespace: str, event: RoutedEvent) -> NotAuthorized | None:
        """Why the requester may not publish an event; None: they may."""
        try:
            self.rights.require(Operation.WRITE, ResourceType.TOPIC, event.topic)
            for queue in event.queues or ("",):
                self._require(Operation.WRITE, namespace, queue)
        except NotAuthorized as error:
            return error
        return None
