"""3 Metadata.

Versions: 0-13.
Behaviour: describes the one broker, at the advertised address of the listener that the request came by, and
topics: all of them (null; in v0 an empty list) or those named. A topic that does not exist is created with
the default settings if both the server (`auto.create.topics.enable`) and the request allow it, and is part of
this reply. The reply waits until what it reports is durable.
Notes: v1 adds the controller, the internal flag and the rack; v2 the cluster id; v4
`allow_auto_topic_creation` (older versions always allow it); v5 offline replicas; v7 the leader epoch; v8
authorized operations (v8-10 also the cluster's); v9 is flexible; v10 returns topic ids; v12 accepts them in
the request (KIP-516); v13 has one error code for the whole reply.
Left out: authorization: the operations, if requested, are all those that Kafka knows, as without an
authorizer.
"""

from __future__ import annotations

from uuid import UUID

from mainstem.coordinator.errors import TopicAlreadyExists, UnknownTopicOrPartition
from mainstem.coordinator.topics.topics import TopicMetadata, check_name
from mainstem.doors.kafka.authorized_operations import CLUSTER_OPERATIONS, NOT_REQUESTED, TOPIC_OPERATIONS
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal
from mainstem.doors.kafka.fast_replies import metadata_partitions
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.promise import Promise, gather


def _topic_error(error: int, name: str | None, topic_id: object = NO_UUID) -> Message:
    return Message(error_code=error, name=name, topic_id=topic_id, topic_authorized_operations=NOT_REQUESTED)


def _describe(context: HandlerContext, topic: TopicMetadata, operations: int, version: int) -> Message:
    """The reply's part for a topic that exists."""
    epochs = [context.node.partition(topic, index).epoch for index in range(topic.partitions)]
    return Message(
        error_code=0,
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.internal,
        topic_authorized_operations=operations,
        partitions=metadata_partitions(version, context.node_id, epochs),
    )


def _by_name(
    context: HandlerContext, request: Request, name: str, operations: int
) -> Message | Promise[Message]:
    """The reply's part for a topic by name; created if it does not exist and creation is allowed."""
    topic = context.topics.get(name)
    if topic is not None:
        return _describe(context, topic, operations, request.version)
    if not (context.settings.auto_create_topics and request.body.allow_auto_topic_creation):
        try:
            check_name(name)
        except Exception as error:
            return _topic_error(code_of(error), name)
        return _topic_error(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)
    reply: Promise[Message] = Promise()

    def on_created(created: Promise[TopicMetadata]) -> None:
        error = created.error
        topic = context.topics.get(name)
        if topic is not None and (error is None or isinstance(error, TopicAlreadyExists)):
            reply.resolve(_describe(context, topic, operations, request.version))
            return
        error = error or UnknownTopicOrPartition(name)
        if not is_refusal(error):
            context.fault(f"creating topic {name}", error)
        reply.resolve(_topic_error(code_of(error), name))

    context.node.auto_create(name).then(on_created)
    return reply


def _by_id(context: HandlerContext, topic_id: UUID, operations: int, version: int) -> Message:
    topic = context.topics.by_id(topic_id)
    if topic is None:
        return _topic_error(ErrorCode.UNKNOWN_TOPIC_ID, None if version >= 12 else "", topic_id)
    return _describe(context, topic, operations, version)


def _reply(context: HandlerContext, request: Request, topics: list[Message]) -> Message:
    address = request.connection.advertised
    is_requested = request.body.include_cluster_authorized_operations
    return Message(
        brokers=[Message(node_id=context.node_id, host=address.host, port=address.port, rack=context.rack)],
        cluster_id=context.cluster_id,
        controller_id=context.node_id,
        cluster_authorized_operations=CLUSTER_OPERATIONS if is_requested else NOT_REQUESTED,
        topics=topics,
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    requested = request.body.topics
    operations = TOPIC_OPERATIONS if request.body.include_topic_authorized_operations else NOT_REQUESTED
    if requested is None or (request.version == 0 and not requested):
        topics = [_describe(context, topic, operations, request.version) for topic in context.topics.all()]
        return context.node.runtime.read(_reply(context, request, topics))
    descriptions: dict[object, Promise[Message]] = {}
    for topic in requested:
        # The id decides if there is one: Java's Admin sends an empty name beside it, not a null one.
        key = topic.topic_id if topic.topic_id != NO_UUID or topic.name is None else topic.name
        if key in descriptions:
            continue
        if isinstance(key, UUID):
            description: Message | Promise[Message] = _by_id(context, key, operations, request.version)
        else:
            description = _by_name(context, request, key, operations)
        descriptions[key] = description if isinstance(description, Promise) else Promise.resolved(description)
    durable_reply: Promise[Message] = Promise()

    def on_described(topics: Promise[list[Promise[Message]]]) -> None:
        reply = _reply(context, request, [topic.result() for topic in topics.result()])
        context.node.runtime.read(reply).then(durable_reply.copy_result)

    gather(list(descriptions.values())).then(on_described)
    return durable_reply


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every requested topic."""
    return Message(
        error_code=code, topics=[_topic_error(code, topic.name or "") for topic in request.body.topics or ()]
    )


def body_offset_quirk(version: int, frame: memoryview, position: int) -> int:
    """librdkafka requests all topics with four zero bytes where the flexible versions have one
    (librdkafka#5049). Without the first three of them the request means what it should."""
    fixed = 5 if version <= 10 else 4  # bytes of a request for all topics
    if (
        version >= 9
        and len(frame) - position == fixed + 3
        and bytes(frame[position : position + 4]) == b"\0\0\0\0"
    ):
        position += 3
    return position


HANDLER = Handler(
    key=3, versions=(0, 13), handle=handle, on_error=on_error, body_offset_quirk=body_offset_quirk
)
