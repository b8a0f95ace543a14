"""The subscriptions of the Pub/Sub door: from the name that a client uses to what the log has.

Owns: the records that are known, which are asked for again after a second, for other doors may change a
subscription, too; and topics that were deleted. Refuses: the fields of a subscription
(`subscription_fields.py`), and who may do what, which the engine of each requester checks.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from mainstem.access_contract import Operation, RequesterRights, ResourceType
from mainstem.contract import Engine, UnknownTopic
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError
from mainstem.pubsub.names import ResourceName, parse_name, stored_name
from mainstem.pubsub.stored_subscription import DELETED_TOPIC, StoredSubscription, stored_of, with_stored
from mainstem.queue_contract import NoSuchSubscription, Queues, SubscriptionSettings

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext

HIDDEN_TOPIC = "_hidden-topic_"
"""In place of a topic that who asks may not describe."""
KNOWN_MAX = 10_000
KNOWN_S = 1.0
"""How long a record is used without a look at the engine's."""


@dataclass(frozen=True, slots=True)
class PubsubSubscription:
    """A subscription."""

    queue: str
    """Its name in the log."""
    settings: SubscriptionSettings
    stored: StoredSubscription


def missing(name: object) -> RpcError:
    """The error for a resource that does not exist, in Google's words."""
    return RpcError(Code.NOT_FOUND, f"Resource not found (resource={str(name).rpartition('/')[2]}).")


def parsed(text: str) -> ResourceName:
    """The name of a subscription. RpcError: it is none."""
    try:
        return parse_name(text, "subscriptions")
    except ValueError as error:
        raise RpcError(Code.INVALID_ARGUMENT, str(error)) from None


class SubscriptionCatalog:
    """All subscriptions."""

    def __init__(self, context: DoorContext, default_project: str) -> None:
        self._context = context
        self.default_project = default_project
        self._known: OrderedDict[str, tuple[float, PubsubSubscription]] = OrderedDict()
        """Full name -> until when it is used, and the subscription."""

    @property
    def queues(self) -> Queues:
        """Those of the server itself, for what is not done for a requester. RpcError: it has none."""
        return queues_of(self._context.engine)

    async def find(self, text: str) -> PubsubSubscription:
        """The subscription of a full name. RpcError: the name is none, or there is no such subscription."""
        now_s = self._context.clock.monotonic()
        if (known := self._known.get(text)) is not None and known[0] > now_s:
            return known[1]
        self._known.pop(text, None)
        name = parsed(text)
        for is_taken in (False, True):
            queue = stored_name(name, self.default_project, is_taken=is_taken)
            try:
                settings = await self.queues.subscription_settings(queue)
            except NoSuchSubscription:
                continue
            stored = stored_of(settings)
            if stored is not None and stored.name == text:
                subscription = await self._checked(PubsubSubscription(queue, settings, stored))
                self._remember(text, now_s, subscription)
                return subscription
        raise missing(text)

    async def find_for(self, call: RpcCall, text: str) -> PubsubSubscription:
        """The subscription, for who may describe it. NotAuthorized, whether it exists or not: they may
        not. RpcError: as `find`."""
        requester = call.requester
        if not self._context.views.limit(requester):
            return await self.find(text)
        queue = stored_name(parsed(text), self.default_project)
        subscription, error = None, missing(text)
        try:
            subscription = await self.find(text)
            queue = subscription.queue
        except RpcError as refusal:
            error = refusal
        rights = RequesterRights(self._context.access.authorizer, requester)
        rights.require(Operation.DESCRIBE, ResourceType.SUBSCRIPTION, queue)
        if subscription is None:
            raise error
        return subscription

    def _remember(self, text: str, now_s: float, subscription: PubsubSubscription) -> None:
        self._known[text] = now_s + KNOWN_S, subscription
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _checked(self, subscription: PubsubSubscription) -> PubsubSubscription:
        """The subscription, without its topic if that was deleted: another one may have its name now."""
        stored = subscription.stored
        if stored.is_topic_deleted:
            return subscription
        try:
            if await self._context.engine.topic_id(stored.stored_topic) == stored.topic_uid:
                return subscription
        except UnknownTopic:
            pass
        return await self.store(
            self.queues, subscription, msgspec.structs.replace(stored, topic=DELETED_TOPIC)
        )

    async def free_name(self, name: ResourceName) -> str:
        """The name that a new subscription gets in the log."""
        for is_taken in (False, True):
            queue = stored_name(name, self.default_project, is_taken=is_taken)
            try:
                settings = await self.queues.subscription_settings(queue)
            except NoSuchSubscription:
                return queue
            stored = stored_of(settings)
            if stored is not None and stored.name == str(name):
                break
        raise RpcError(Code.ALREADY_EXISTS, f"Resource already exists in the project (resource={name.id}).")

    async def store(
        self, queues: Queues, subscription: PubsubSubscription, stored: StoredSubscription
    ) -> PubsubSubscription:
        """Change the record of a subscription, and the settings that follow from it, with the rights of
        `queues`. SettingsHaveChanged: somebody else did meanwhile."""
        settings = with_stored(subscription.settings, stored)
        await queues.alter_subscription(subscription.queue, settings, expected=subscription.settings)
        self.forget(stored.name)
        return PubsubSubscription(subscription.queue, settings, stored)

    def forget(self, text: str) -> None:
        """Ask for the record again when it is needed next."""
        self._known.pop(text, None)

    async def all(self, queues: Queues) -> list[PubsubSubscription]:
        """Those that a requester may see, by full name."""
        visible: list[PubsubSubscription] = []
        for queue in await queues.subscriptions():
            try:
                settings = await self.queues.subscription_settings(queue)
            except NoSuchSubscription:
                continue  # it was deleted meanwhile
            stored = stored_of(settings)
            if stored is not None:
                visible.append(await self._checked(PubsubSubscription(queue, settings, stored)))
        return sorted(visible, key=lambda subscription: subscription.stored.name)

    async def topic_deleted(self, stored_topic: str) -> None:
        """A topic is deleted: its subscriptions have none any more, also if one of that name is made
        again."""
        for subscription in await self.all(self.queues):
            stored = subscription.stored
            if stored.stored_topic == stored_topic and not stored.is_topic_deleted:
                await self.store(
                    self.queues, subscription, msgspec.structs.replace(stored, topic=DELETED_TOPIC)
                )

    async def detach(self, queues: Queues, text: str) -> None:
        """Detach a subscription from its topic: it drops its messages, and receives no more. RpcError."""
        subscription = await self.find(text)
        if not subscription.stored.is_detached:
            await self.store(
                queues, subscription, msgspec.structs.replace(subscription.stored, is_detached=True)
            )


def topic_shown(context: DoorContext, call: RpcCall, topic: str, stored: str) -> str:
    """The full name of a topic that a resource names, or HIDDEN_TOPIC if who calls may not describe it.
    `stored`: its name in the log."""
    if not context.views.limit(call.requester) or topic == DELETED_TOPIC:
        return topic
    rights = RequesterRights(context.access.authorizer, call.requester)
    return topic if rights.allows(Operation.DESCRIBE, ResourceType.TOPIC, stored) else HIDDEN_TOPIC


def queues_of(engine: Engine) -> Queues:
    """The queues of an engine. RpcError: it has none."""
    if not isinstance(engine, Queues):
        raise RpcError(Code.UNIMPLEMENTED, "this server has no subscriptions")
    return engine
