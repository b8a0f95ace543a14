"""3 Metadata.

Versions: 0-13. Behaviour: the one broker with the address of the listener that was asked, and topics: all
of them (null, in v0 an empty list), or those named. A topic that is not there is created with the default
settings if the server (`auto.create.topics.enable`) and the request allow it, and is in this very reply.
The reply waits until what it tells is durable. Notes: v1 adds the controller, the internal flag and the
rack, v2 the cluster id, v4 `allow_auto_topic_creation` (before it is always allowed), v5 offline replicas,
v7 the leader epoch, v8 authorized operations (in v8-10 also the cluster's), v9 is flexible, v10 tells topic
ids, v12 takes them in the request (KIP-516), v13 has an error code for all. Left out: authorization: the
operations, if asked for, are all that Kafka knows, as without an authorizer.
"""

from __future__ import annotations

from mainstem.coordinator.errors import TopicAlreadyExists, UnknownTopicOrPartition
from mainstem.coordinator.topics.topics import TopicMetadata, check_name
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal
from mainstem.doors.kafka.fast_replies import metadata_partitions
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.promise import Promise, gather

TOPIC_OPERATIONS = sum(1 << bit for bit in (3, 4, 5, 6, 7, 8, 10, 11))
CLUSTER_OPERATIONS = sum(1 << bit for bit in (5, 7, 8, 9, 10, 11, 12))
"""Bits are Kafka's AclOperation codes. Kafka: AclEntry.supportedOperations."""
NOT_ASKED = -(1 << 31)


def _missing(error: int, name: str | None, topic_id: object = NO_UUID) -> Message:
    return Message(error_code=error, name=name, topic_id=topic_id, topic_authorized_operations=NOT_ASKED)


def _describe(context: HandlerContext, topic: TopicMetadata, operations: int, version: int) -> Message:
    """What the reply says of a topic that is there."""
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
    """One topic by name; it is made if it is not there and may be."""
    topic = context.topics.get(name)
    if topic is not None:
        return _describe(context, topic, operations, request.version)
    if not (context.settings.auto_create_topics and request.body.allow_auto_topic_creation):
        try:
            check_name(name)
        except Exception as error:
            return _missing(code_of(error), name)
        return _missing(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)
    out: Promise[Message] = Promise()

    def done(created: Promise[TopicMetadata]) -> None:
        error = created.error
        topic = context.topics.get(name)
        if topic is not None and (error is None or isinstance(error, TopicAlreadyExists)):
            out.resolve(_describe(context, topic, operations, request.version))
            return
        error = error or UnknownTopicOrPartition(name)
        if not is_refusal(error):
            context.fault(f"creating topic {name}", error)
        out.resolve(_missing(code_of(error), name))

    context.node.auto_create(name).then(done)
    return out


def _by_id(context: HandlerContext, asked: Message, operations: int, version: int) -> Message:
    topic = context.topics.by_id(asked.topic_id)
    if topic is None:
        return _missing(ErrorCode.UNKNOWN_TOPIC_ID, None if version >= 12 else "", asked.topic_id)
    return _describe(context, topic, operations, version)


def _reply(context: HandlerContext, request: Request, topics: list[Message]) -> Message:
    listener = request.connection.listener
    asked = request.body.include_cluster_authorized_operations
    return Message(
        brokers=[Message(node_id=context.node_id, host=listener.host, port=listener.port, rack=context.rack)],
        cluster_id=context.cluster_id,
        controller_id=context.node_id,
        cluster_authorized_operations=CLUSTER_OPERATIONS if asked else NOT_ASKED,
        topics=topics,
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    asked = request.body.topics
    operations = TOPIC_OPERATIONS if request.body.include_topic_authorized_operations else NOT_ASKED
    if asked is None or (request.version == 0 and not asked):
        every = [_describe(context, topic, operations, request.version) for topic in context.topics.all()]
        return context.node.runtime.read(_reply(context, request, every))
    answers: dict[object, Promise[Message]] = {}
    for one in asked:
        # The id counts when there is one: Java's Admin then sends an empty name, not a null one.
        if one.topic_id != NO_UUID or one.name is None:
            if one.topic_id not in answers:
                answers[one.topic_id] = Promise.resolved(_by_id(context, one, operations, request.version))
        elif one.name not in answers:
            answer = _by_name(context, request, one.name, operations)
            answers[one.name] = answer if isinstance(answer, Promise) else Promise.resolved(answer)
    out: Promise[Message] = Promise()

    def parked(read: Promise[Message]) -> None:
        if read.error is None:
            out.resolve(read.result())
        else:
            out.fail(read.error)

    def done(laters: Promise[list[Promise[Message]]]) -> None:
        reply = _reply(context, request, [later.result() for later in laters.result()])
        context.node.runtime.read(reply).then(parked)

    gather(list(answers.values())).then(done)
    return out


def on_error(request: Request, code: int) -> Message:
    """The same error for every topic that was asked for."""
    return Message(
        error_code=code, topics=[_missing(code, topic.name or "") for topic in request.body.topics or ()]
    )


def body_offset_quirk(version: int, frame: memoryview, at: int) -> int:
    """librdkafka says "all topics" with four zero bytes where the flexible versions have one
    (librdkafka#5049). Apache Kafka ignores what is left over; without the three bytes it is what was
    meant."""
    fixed = 5 if version <= 10 else 4
    if version >= 9 and len(frame) - at == fixed + 3 and bytes(frame[at : at + 4]) == b"\0\0\0\0":
        at += 3
    return at


HANDLER = Handler(
    key=3, versions=(0, 13), handle=handle, on_error=on_error, body_offset_quirk=body_offset_quirk
)
