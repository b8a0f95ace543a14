"""The service `google.pubsub.v1.Subscriber`, but for snapshots and Seek: subscriptions and their messages.

Owns: its methods. Refuses: fields (`subscription_fields.py`), streams (`streaming_pull.py`), answers
(`acknowledging.py`), and what a subscription promises, which docs/QUEUES.md says. Source:
google/pubsub/v1/pubsub.proto.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import Engine
from mainstem.doors.pubsub.acknowledging import Acknowledging, check
from mainstem.doors.pubsub.calls import (
    Code,
    RpcCall,
    RpcError,
    RpcMethod,
    RpcRequests,
    RpcResponses,
    engine_of,
)
from mainstem.doors.pubsub.outstanding import OutstandingMessages
from mainstem.doors.pubsub.received_messages import MessageMaker
from mainstem.doors.pubsub.seeking import without_discarded
from mainstem.doors.pubsub.streaming_pull import PULL_BYTES_MAX, DeliveryStream, check_attached, consumer_of
from mainstem.doors.pubsub.subscription_catalog import (
    SubscriptionCatalog,
    parsed,
    queues_of,
    topic_shown,
)
from mainstem.doors.pubsub.subscription_fields import (
    CHANGEABLE,
    FIXED,
    invalid,
    push_of,
    record_of,
    subscription_message,
)
from mainstem.doors.pubsub.topic_catalog import PubsubTopics
from mainstem.pubsub.field_masks import merge_masked
from mainstem.pubsub.messages import pubsub_message
from mainstem.pubsub.names import ResourceName, parse_name, parse_project
from mainstem.pubsub.pages import page_of
from mainstem.pubsub.stored_subscription import StoredSubscription, with_stored
from mainstem.queue_contract import SubscriptionNameTaken, SubscriptionSettings

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext

PULL_MESSAGES_MAX = 1_000
PULL_WAIT_S = 30.0
"""How long a Pull waits for the first message, if its client has no deadline."""
PULL_WAIT_S_MAX = 90.0
PULL_MARGIN = 0.1
PULL_MARGIN_S_MAX = 2.0
"""A Pull answers this part of its time before its client's deadline, and at most this number of seconds."""
SUBSCRIPTION = ResourceType.SUBSCRIPTION
READS = ((Operation.READ, SUBSCRIPTION),)
EMPTY = b""
"""An encoded google.protobuf.Empty."""


class SubscriberService:
    """The methods."""

    def __init__(self, context: DoorContext, default_project: str) -> None:
        self._context = context
        self.catalog = SubscriptionCatalog(context, default_project)
        self._topics = PubsubTopics(context, default_project)
        self._outstanding = OutstandingMessages()
        self._acknowledging = Acknowledging(self._outstanding)
        self._maker = MessageMaker(self.catalog)
        self._streams = itertools.count(1)
        self._random = random.Random()

    # --- subscriptions --------------------------------------------------------------------------------------

    async def create(self, call: RpcCall, data: bytes) -> bytes:
        """CreateSubscription."""
        asked = pubsub_message("Subscription").FromString(data)
        topic = self._topic_name(asked.topic)
        if not asked.name:
            asked.name = f"projects/{topic.project}/subscriptions/s-{self._random.getrandbits(64):016x}"
        name, engine = parsed(asked.name), engine_of(self._context, call)
        queue = await self.catalog.free_name(name)
        log_topic = await self._topics.find(engine, asked.topic)
        letters = await self._dead_letter_topic(engine, asked)
        stored = record_of(asked, name.project, name.id, log_topic.stored_name, log_topic.uid, letters)
        settings = with_stored(SubscriptionSettings(from_latest=True), stored)
        try:
            await queues_of(engine).create_subscription(queue, settings)
        except SubscriptionNameTaken:
            raise RpcError(
                Code.ALREADY_EXISTS, f"Resource already exists in the project (resource={name.id})."
            ) from None
        self.catalog.forget(asked.name)
        return _encoded(stored)

    async def get(self, call: RpcCall, data: bytes) -> bytes:
        """GetSubscription."""
        name = pubsub_message("GetSubscriptionRequest").FromString(data).subscription
        subscription = await self.catalog.find_for(call, name)
        await queues_of(engine_of(self._context, call)).subscription_settings(subscription.queue)
        return _encoded(self._shown(call, subscription.stored))

    def _shown(self, call: RpcCall, stored: StoredSubscription) -> StoredSubscription:
        """The record without topics that who calls may not describe."""
        topic = topic_shown(self._context, call, stored.topic, stored.stored_topic)
        letters = stored.dead_letters
        if letters is not None:
            shown = topic_shown(self._context, call, letters.topic, letters.stored_topic)
            letters = msgspec.structs.replace(letters, topic=shown)
        return msgspec.structs.replace(stored, topic=topic, dead_letters=letters)

    async def update(self, call: RpcCall, data: bytes) -> bytes:
        """UpdateSubscription."""
        request = pubsub_message("UpdateSubscriptionRequest").FromString(data)
        asked, engine = request.subscription, engine_of(self._context, call)
        self.catalog.forget(asked.name)
        subscription = await self.catalog.find_for(call, asked.name)
        old = subscription.stored
        changed, present = subscription_message(old), subscription_message(old)
        try:
            merge_masked(
                changed,
                asked,
                request.update_mask.paths,
                changeable=(*CHANGEABLE, *FIXED),
                request="UpdateSubscriptionRequest",
            )
        except ValueError as error:
            raise invalid(str(error)) from None
        for field in FIXED:
            if getattr(changed, field) != getattr(present, field):
                raise invalid(
                    "Invalid update_mask provided in the UpdateSubscriptionRequest: the"
                    f" '{field}' field in the Subscription is not mutable."
                )
        letters = old.dead_letters.stored_topic if old.dead_letters is not None else ""
        if changed.dead_letter_policy.dead_letter_topic != present.dead_letter_policy.dead_letter_topic:
            letters = await self._dead_letter_topic(engine, changed)
        stored = record_of(changed, old.project, old.id, old.stored_topic, old.topic_uid, letters)
        stored = _with_rest_of(stored, old)
        await self.catalog.store(queues_of(engine), subscription, stored)
        return _encoded(stored)

    async def delete(self, call: RpcCall, data: bytes) -> bytes:
        """DeleteSubscription."""
        name = pubsub_message("DeleteSubscriptionRequest").FromString(data).subscription
        subscription = await self.catalog.find_for(call, name)
        await queues_of(engine_of(self._context, call)).delete_subscription(subscription.queue)
        self.catalog.forget(name)
        return EMPTY

    async def list(self, call: RpcCall, data: bytes) -> bytes:
        """ListSubscriptions."""
        request = pubsub_message("ListSubscriptionsRequest").FromString(data)
        try:
            project = parse_project(request.project)
            listed = await self.catalog.all(queues_of(engine_of(self._context, call)))
            by_name = {item.stored.name: item.stored for item in listed if item.stored.project == project}
            names, token = page_of(
                sorted(by_name), request.page_size, request.page_token, f"subscriptions {project}"
            )
        except ValueError as error:
            raise invalid(str(error)) from None
        response = pubsub_message("ListSubscriptionsResponse")(next_page_token=token)
        shown = [self._shown(call, by_name[name]) for name in names]
        response.subscriptions.extend(map(subscription_message, shown))
        return bytes(response.SerializeToString())

    async def modify_push_config(self, call: RpcCall, data: bytes) -> bytes:
        """ModifyPushConfig: without an endpoint, clients pull."""
        request = pubsub_message("ModifyPushConfigRequest").FromString(data)
        self.catalog.forget(request.subscription)
        subscription = await self.catalog.find_for(call, request.subscription)
        changed = subscription_message(subscription.stored)
        changed.push_config.CopyFrom(request.push_config)
        stored = msgspec.structs.replace(subscription.stored, push=push_of(changed))
        await self.catalog.store(queues_of(engine_of(self._context, call)), subscription, stored)
        return EMPTY

    async def detach(self, call: RpcCall, data: bytes) -> bytes:
        """DetachSubscription, a method of the Publisher."""
        name = pubsub_message("DetachSubscriptionRequest").FromString(data).subscription
        await self.catalog.find_for(call, name)
        await self.catalog.detach(queues_of(engine_of(self._context, call)), name)
        return EMPTY

    def _topic_name(self, text: str) -> ResourceName:
        try:
            return parse_name(text, "topics")
        except ValueError as error:
            raise invalid(str(error)) from None

    async def _dead_letter_topic(self, engine: Engine, asked: Any) -> str:
        """The name in the log of the dead-letter topic that a message names; empty: none."""
        text = asked.dead_letter_policy.dead_letter_topic
        if not text:
            return ""
        return (await self._topics.find(engine, text)).stored_name

    # --- messages -------------------------------------------------------------------------------------------

    async def pull(self, call: RpcCall, data: bytes) -> bytes:
        """Pull: answers when there is a message, or empty before the client's deadline."""
        request = pubsub_message("PullRequest").FromString(data)
        if request.max_messages <= 0:
            raise invalid(f"Invalid max_messages given (value={request.max_messages}): it must be positive.")
        subscription = await self.catalog.find_for(call, request.subscription)
        check_attached(subscription)
        deliveries = await queues_of(engine_of(self._context, call)).pull(
            subscription.queue,
            consumer_of(call, 0),
            max_events=min(request.max_messages, PULL_MESSAGES_MAX),
            wait_ms=0 if request.return_immediately else self._wait_ms(call),
            max_bytes=PULL_BYTES_MAX,
        )
        deliveries = list(await without_discarded(self._context.engine, subscription, deliveries))
        response = pubsub_message("PullResponse")()
        await self._maker.add(response.received_messages, subscription, deliveries)
        return bytes(response.SerializeToString())

    def _wait_ms(self, call: RpcCall) -> int:
        if call.deadline is None:
            return int(PULL_WAIT_S * 1000)
        left_s = call.deadline - self._context.clock.monotonic()
        wait_s = left_s - min(PULL_MARGIN_S_MAX, PULL_MARGIN * left_s)
        return max(0, int(1000 * min(wait_s, PULL_WAIT_S_MAX)))

    async def acknowledge(self, call: RpcCall, data: bytes) -> bytes:
        """Acknowledge."""
        request = pubsub_message("AcknowledgeRequest").FromString(data)
        if not request.ack_ids:
            raise invalid("No ack ids specified.")
        subscription = await self.catalog.find_for(call, request.subscription)
        engine = engine_of(self._context, call)
        check(subscription, await self._acknowledging.acknowledge(engine, subscription, request.ack_ids))
        return EMPTY

    async def modify_ack_deadline(self, call: RpcCall, data: bytes) -> bytes:
        """ModifyAckDeadline: 0 gives messages back."""
        request = pubsub_message("ModifyAckDeadlineRequest").FromString(data)
        if not request.ack_ids:
            raise invalid("No ack ids specified.")
        subscription = await self.catalog.find_for(call, request.subscription)
        engine, seconds = engine_of(self._context, call), request.ack_deadline_seconds
        outcome = await self._acknowledging.modify(
            engine, subscription, request.ack_ids, [seconds] * len(request.ack_ids)
        )
        check(subscription, outcome)
        return EMPTY

    async def streaming_pull(self, call: RpcCall, requests: RpcRequests, responses: RpcResponses) -> None:
        """StreamingPull."""
        stream = DeliveryStream(
            engine_of(self._context, call),
            self._context.clock,
            self.catalog,
            self._outstanding,
            self._acknowledging,
            self._maker,
            responses,
            consumer_of(call, next(self._streams)),
            lambda name: self.catalog.find_for(call, name),
        )
        await stream.run(requests)


def handlers(context: DoorContext) -> Mapping[str, RpcMethod]:
    """The methods, by path."""
    subscriber = SubscriberService(context, default_project_of(context))
    creates = ((Operation.CREATE, SUBSCRIPTION),)
    alters = ((Operation.ALTER, SUBSCRIPTION),)
    deletes = ((Operation.DELETE, SUBSCRIPTION),)
    methods = {
        "CreateSubscription": RpcMethod(unary=subscriber.create, rights=creates, changes=True),
        "GetSubscription": RpcMethod(unary=subscriber.get, rights=()),
        "UpdateSubscription": RpcMethod(unary=subscriber.update, rights=alters, changes=True),
        "ListSubscriptions": RpcMethod(unary=subscriber.list, rights=()),
        "DeleteSubscription": RpcMethod(unary=subscriber.delete, rights=deletes, changes=True),
        "ModifyPushConfig": RpcMethod(unary=subscriber.modify_push_config, rights=alters, changes=True),
        "Pull": RpcMethod(unary=subscriber.pull, rights=READS),
        "Acknowledge": RpcMethod(unary=subscriber.acknowledge, rights=READS),
        "ModifyAckDeadline": RpcMethod(unary=subscriber.modify_ack_deadline, rights=READS),
        "StreamingPull": RpcMethod(stream=subscriber.streaming_pull, rights=READS),
    }
    services = {f"/google.pubsub.v1.Subscriber/{name}": method for name, method in methods.items()}
    services["/google.pubsub.v1.Publisher/DetachSubscription"] = RpcMethod(
        unary=subscriber.detach, rights=alters, changes=True
    )
    return services


def default_project_of(context: DoorContext) -> str:
    """The project whose resources have their ids as names in the log."""
    return str(context.settings.door_values["pubsub_project"])


def _encoded(stored: StoredSubscription) -> bytes:
    return bytes(subscription_message(stored).SerializeToString())


def _with_rest_of(stored: StoredSubscription, old: StoredSubscription) -> StoredSubscription:
    """A record with what no field of the message says."""
    return msgspec.structs.replace(
        stored, is_detached=old.is_detached, discard_until_ms=old.discard_until_ms, filter=old.filter
    )
