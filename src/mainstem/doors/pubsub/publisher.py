"""The service `google.pubsub.v1.Publisher`: topics, and what is published to them.

Owns: its methods, but for DetachSubscription and ListTopicSnapshots, which belong to subscriptions. Refuses:
records of topics (`topic_catalog.py`), fields (`topic_fields.py`), limits (`mainstem.pubsub.publish_limits`).
Source: google/pubsub/v1/pubsub.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import NewEvent, UnknownTopic
from mainstem.doors.pubsub.calls import RpcCall, RpcMethod, engine_of
from mainstem.doors.pubsub.refusals import arguments, not_found
from mainstem.doors.pubsub.schema_catalog import SchemaCatalog
from mainstem.doors.pubsub.schemas import encoding_of
from mainstem.doors.pubsub.subscription_catalog import SubscriptionCatalog, queues_of
from mainstem.doors.pubsub.topic_catalog import PubsubTopic, PubsubTopics, new_record
from mainstem.doors.pubsub.topic_fields import CHANGEABLE, checked_record, shown
from mainstem.pubsub.events import message_id, new_event
from mainstem.pubsub.field_masks import merge_masked
from mainstem.pubsub.messages import pubsub_message
from mainstem.pubsub.names import parse_project
from mainstem.pubsub.pages import page_of
from mainstem.pubsub.publish_limits import check_encoded, check_request

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext

EMPTY = b""
"""An encoded google.protobuf.Empty."""
SCHEMA_ATTRIBUTE = "googclient_schemaname"
ENCODING_ATTRIBUTE = "googclient_schemaencoding"
REVISION_ATTRIBUTE = "googclient_schemarevisionid"


class PublisherService:
    """The methods."""

    def __init__(self, context: DoorContext) -> None:
        self._context = context
        default_project = context.settings.door_values["pubsub_project"]
        self._catalog = PubsubTopics(context, default_project)
        self._subscriptions = SubscriptionCatalog(context, default_project)
        self._schemas = SchemaCatalog(context)
        self._request = pubsub_message("PublishRequest")
        self._response = pubsub_message("PublishResponse")

    # --- topics ---------------------------------------------------------------------------------------------

    async def create(self, call: RpcCall, data: bytes) -> bytes:
        """CreateTopic."""
        record = checked_record(pubsub_message("Topic").FromString(data))
        await self._check_schema(record)
        await self._catalog.create(engine_of(self._context, call), record)
        return bytes(shown(record).SerializeToString())

    async def update(self, call: RpcCall, data: bytes) -> bytes:
        """UpdateTopic."""
        request = pubsub_message("UpdateTopicRequest").FromString(data)
        asked, engine = request.topic, engine_of(self._context, call)
        async with self._catalog.changing:
            self._catalog.forget(asked.name)
            topic = await self._catalog.find(engine, asked.name)
            changed = new_record()
            changed.CopyFrom(topic.record)
            with arguments():
                merge_masked(
                    changed,
                    asked,
                    request.update_mask.paths,
                    changeable=CHANGEABLE,
                    request="UpdateTopicRequest",
                )
            record = checked_record(changed)
            if record.schema_settings != topic.record.schema_settings:
                await self._check_schema(record)
            await self._catalog.store(engine, topic, record)
        return await self._encoded(record)

    async def get(self, call: RpcCall, data: bytes) -> bytes:
        """GetTopic."""
        name = pubsub_message("GetTopicRequest").FromString(data).topic
        topic = await self._catalog.find(engine_of(self._context, call), name)
        return await self._encoded(topic.record)

    async def list_topics(self, call: RpcCall, data: bytes) -> bytes:
        """ListTopics."""
        request = pubsub_message("ListTopicsRequest").FromString(data)
        with arguments():
            project = parse_project(request.project)
        stored = await self._catalog.names(engine_of(self._context, call), project)
        with arguments():
            names, token = page_of(sorted(stored), request.page_size, request.page_token, f"topics {project}")
        response = pubsub_message("ListTopicsResponse")(next_page_token=token)
        for record in await self._catalog.records([stored[name] for name in names]):
            response.topics.append(shown(record, has_schema=await self._has_schema(record)))
        return bytes(response.SerializeToString())

    async def delete(self, call: RpcCall, data: bytes) -> bytes:
        """DeleteTopic."""
        name = pubsub_message("DeleteTopicRequest").FromString(data).topic
        engine = engine_of(self._context, call)
        topic = await self._catalog.find(engine, name)
        await engine.delete_topic(topic.stored_name)
        self._catalog.forget(name)
        await self._subscriptions.topic_deleted(topic.stored_name)
        return EMPTY

    async def list_subscriptions(self, call: RpcCall, data: bytes) -> bytes:
        """ListTopicSubscriptions: the names of those that are attached."""
        request = pubsub_message("ListTopicSubscriptionsRequest").FromString(data)
        engine = engine_of(self._context, call)
        topic = await self._catalog.find(engine, request.topic)
        attached = [
            subscription.stored.name
            for subscription in await self._subscriptions.all(queues_of(engine))
            if subscription.stored.topic == topic.name and not subscription.stored.is_detached
        ]
        with arguments():
            names, token = page_of(
                attached, request.page_size, request.page_token, f"subscriptions of {topic.name}"
            )
        response = pubsub_message("ListTopicSubscriptionsResponse")(
            subscriptions=names, next_page_token=token
        )
        return bytes(response.SerializeToString())

    async def _encoded(self, record: Any) -> bytes:
        return bytes(shown(record, has_schema=await self._has_schema(record)).SerializeToString())

    async def _has_schema(self, record: Any) -> bool:
        """Whether there is the schema of its settings, or it has none."""
        if not record.HasField("schema_settings"):
            return True
        return await self._schemas.exists(record.schema_settings.schema)

    async def _check_schema(self, record: Any) -> None:
        """RpcError: there is no such schema, or revision of it."""
        if record.HasField("schema_settings"):
            settings = record.schema_settings
            for id_ in {"", settings.first_revision_id, settings.last_revision_id}:
                await self._schemas.revision(self._context.engine, settings.schema, id_)

    # --- messages -------------------------------------------------------------------------------------------

    async def publish(self, call: RpcCall, data: bytes) -> bytes:
        """Publish: answers when the messages are durable."""
        with arguments():
            check_encoded(data)
        request = self._request.FromString(data)
        messages = request.messages
        with arguments():
            check_request(messages, len(data))
        engine = engine_of(self._context, call)
        topic = await self._catalog.find(engine, request.topic)
        if topic.record.HasField("schema_settings"):
            events = await self._events_of_schema(topic, messages)
        else:
            events = [new_event(item.data, item.attributes, item.ordering_key) for item in messages]
        try:
            positions = await engine.publish(topic.stored_name, events)
        except UnknownTopic:
            raise not_found(request.topic) from None
        ids = [message_id(position.partition, position.offset) for position in positions]
        return bytes(self._response(message_ids=ids).SerializeToString())

    async def _events_of_schema(self, topic: PubsubTopic, messages: Sequence[Any]) -> list[NewEvent]:
        """The events of messages that agree with the schema of their topic, with attributes that say so."""
        settings = topic.record.schema_settings
        encoding = encoding_of(settings.encoding)
        revisions = await self._schemas.check_messages(
            settings.schema,
            encoding,
            [item.data for item in messages],
            first_revision=settings.first_revision_id,
            last_revision=settings.last_revision_id,
        )
        events = []
        for item, revision in zip(messages, revisions, strict=True):
            attributes = {
                **item.attributes,
                SCHEMA_ATTRIBUTE: settings.schema,
                ENCODING_ATTRIBUTE: encoding,
                REVISION_ATTRIBUTE: revision,
            }
            events.append(new_event(item.data, attributes, item.ordering_key))
        return events


def handlers(context: DoorContext) -> Mapping[str, RpcMethod]:
    """The methods, by path."""
    publisher, topic = PublisherService(context), ResourceType.TOPIC
    alters, deletes, writes = (
        ((operation, topic),) for operation in (Operation.ALTER_CONFIGS, Operation.DELETE, Operation.WRITE)
    )
    methods = {
        # The right to create topics may be one to the cluster.
        "CreateTopic": RpcMethod(unary=publisher.create, rights=(), changes=True),
        "UpdateTopic": RpcMethod(unary=publisher.update, rights=alters, changes=True),
        "Publish": RpcMethod(unary=publisher.publish, rights=writes, changes=True),
        "GetTopic": RpcMethod(unary=publisher.get, rights=()),
        "ListTopicSubscriptions": RpcMethod(unary=publisher.list_subscriptions, rights=()),
        "ListTopics": RpcMethod(unary=publisher.list_topics, rights=()),
        "DeleteTopic": RpcMethod(unary=publisher.delete, rights=deletes, changes=True),
    }
    return {f"/google.pubsub.v1.Publisher/{name}": method for name, method in methods.items()}
