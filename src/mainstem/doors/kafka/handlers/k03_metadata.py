"""3 Metadata.

Versions: 0-13.
Behaviour: describes the one broker, at the advertised address of the listener that the request came by, and
topics: all of them (null; in v0 an empty list) or those named. A topic that does not exist is created with
the default settings if both the server (`auto.create.topics.enable`) and the request allow it, and is part of
this reply: Kafka answers LEADER_NOT_AVAILABLE or UNKNOWN_TOPIC_OR_PARTITION first, on which clients ask
again. That is the answer here, too, for a topic beyond the 50 a second that are created for all clients
together (LEADER_NOT_AVAILABLE). The reply waits until what it reports is durable; a long one is made in
several turns of the event loop.
Notes: v1 adds the controller, the internal flag and the rack; v2 the cluster id; v4
`allow_auto_topic_creation` (older versions always allow it); v5 offline replicas; v7 the leader epoch; v8
authorized operations (v8-10 also the cluster's); v9 is flexible; v10 returns topic ids; v12 accepts them in
the request (KIP-516); v13 has one error code for the whole reply.
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from mainstem.access_contract import Operation, Resource, ResourceType
from mainstem.coordinator.errors import InvalidTopicName, TopicAlreadyExists
from mainstem.coordinator.topics.topics import TopicMetadata, check_name
from mainstem.doors.kafka.authorized_operations import (
    DESCRIBE_CLUSTER,
    NOT_REQUESTED,
    authorized_operations,
    cluster_operations,
)
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal
from mainstem.doors.kafka.fast_replies import metadata_partitions
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.kafka_protocol.writer import ArrayWriter, EncodedArray
from mainstem.promise import Promise, gather
from mainstem.turns import run_in_turns

TOPICS_PER_TURN = 200
"""Topics that are described in one turn of the event loop, 2 ms. One that is created counts as CREATION_COST,
and PARTITION_BYTES of encoded partitions as one."""
CREATION_COST = 10
PARTITION_BYTES = 300
OPERATIONS_COST = 4
"""Of a topic whose operations are listed: these are eight questions."""
DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.TOPIC)
CREATE = of_each(
    Operation.CREATE, ResourceType.TOPIC, or_cluster=Operation.CREATE, when="if the request creates it"
)


def _topic_error(error: int, name: str | None, topic_id: object = NO_UUID) -> Message:
    return Message(error_code=error, name=name, topic_id=topic_id, topic_authorized_operations=NOT_REQUESTED)


def _describe(context: HandlerContext, request: Request, topic: TopicMetadata) -> Message:
    """The reply's part for a topic that exists and that the requester may describe."""
    operations = NOT_REQUESTED
    if request.body.include_topic_authorized_operations:
        operations = authorized_operations(context, request, Resource(ResourceType.TOPIC, topic.name))
    epochs = [context.node.partition(topic, index).epoch for index in range(topic.partitions)]
    return Message(
        error_code=0,
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.internal,
        topic_authorized_operations=operations,
        partitions=metadata_partitions(request.version, context.node_id, epochs),
    )


def _by_name(context: HandlerContext, request: Request, name: str, refusals: dict[str, int]) -> Message:
    """The reply's part for a topic by name; `refusals`: why topics were not created. It does not show whether
    a topic exists that the requester may not describe."""
    if not context.allows(request, DESCRIBE, name):
        return _topic_error(DESCRIBE.code, name)
    topic = context.topics.get(name)
    if topic is not None:
        return _describe(context, request, topic)
    if name in refusals:
        return _topic_error(refusals[name], name)
    try:
        check_name(name)
    except InvalidTopicName as error:
        return _topic_error(code_of(error), name)
    return _topic_error(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)


def _create_missing(
    context: HandlerContext,
    request: Request,
    keys: Iterable[object],
    refusals: dict[str, int],
    created: list[Promise[None]],
) -> Iterator[int]:
    """Create the topics that do not exist and that the requester may create, as many as the rate permits."""
    for key in keys:
        if (
            isinstance(key, str)
            and context.allows(request, DESCRIBE, key, is_filter=True)  # its refusal follows
            and context.topics.get(key) is None
        ):
            if not context.allows(request, CREATE, key):
                refusals[key] = CREATE.code
                continue
            created.append(_create(context, key, refusals))
            yield CREATION_COST
        yield 1


def _create(context: HandlerContext, name: str, refusals: dict[str, int]) -> Promise[None]:
    """Create a topic, or note in `refusals` why not."""
    reply: Promise[None] = Promise()

    def on_created(created: Promise[TopicMetadata]) -> None:
        error = created.error
        if error is not None and not isinstance(error, TopicAlreadyExists):
            if not is_refusal(error):
                context.fault(f"creating topic {name}", error)
            refusals[name] = code_of(error)
        reply.resolve(None)

    context.node.auto_create(name).then(on_created)
    return reply


def _by_id(context: HandlerContext, request: Request, topic_id: UUID) -> Message:
    topic = context.topics.by_id(topic_id)
    no_name = None if request.version >= 12 else ""
    if topic is None:
        return _topic_error(ErrorCode.UNKNOWN_TOPIC_ID, no_name, topic_id)
    if not context.allows(request, DESCRIBE, topic.name):
        return _topic_error(DESCRIBE.code, no_name, topic_id)
    return _describe(context, request, topic)


def _reply(context: HandlerContext, request: Request, topics: EncodedArray) -> Message:
    address = request.connection.advertised
    return Message(
        brokers=[Message(node_id=context.node_id, host=address.host, port=address.port, rack=context.rack)],
        cluster_id=context.cluster_id,
        controller_id=context.node_id,
        cluster_authorized_operations=cluster_operations(context, request),
        topics=topics,
    )


def _encode_topics(
    context: HandlerContext,
    request: Request,
    keys: Iterable[object],
    refusals: dict[str, int],
    out: ArrayWriter,
) -> Iterator[int]:
    """Encode the reply's part for each topic, by name or by id."""
    cost = OPERATIONS_COST if request.body.include_topic_authorized_operations else 1
    for key in keys:
        if isinstance(key, TopicMetadata):  # of all topics: one that was deleted meanwhile is left out
            if context.topics.by_id(key.id) is None or not context.allows(
                request, DESCRIBE, key.name, is_filter=True
            ):
                yield 1
                continue
            described = _describe(context, request, key)
        elif isinstance(key, UUID):
            described = _by_id(context, request, key)
        else:
            described = _by_name(context, request, str(key), refusals)
        out.add(described)
        yield cost + len(described.__dict__.get("partitions", b"")) // PARTITION_BYTES


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    requested = body.topics
    keys: Sequence[object]
    if requested is None or (request.version == 0 and not requested):
        keys = context.topics.all()
    else:
        # The id decides if there is one: Java's Admin sends an empty name beside it, not a null one.
        keys = list(
            dict.fromkeys(
                topic.topic_id if topic.topic_id != NO_UUID or topic.name is None else topic.name
                for topic in requested
            )
        )
    refusals: dict[str, int] = {}
    created: list[Promise[None]] = []
    topics = ArrayWriter(3, request.version, "topics")
    may_create = (
        requested is not None and context.settings.auto_create_topics and body.allow_auto_topic_creation
    )

    def encode() -> Promise[None]:
        return run_in_turns(
            context.clock, _encode_topics(context, request, keys, refusals, topics), TOPICS_PER_TURN
        )

    if may_create:
        steps = _create_missing(context, request, keys, refusals, created)
        encoded = (
            run_in_turns(context.clock, steps, TOPICS_PER_TURN)
            .chain(lambda _: gather(created))
            .chain(lambda _: encode())
        )
    else:
        encoded = encode()
    return encoded.chain(lambda _: context.node.runtime.read(_reply(context, request, topics.encoded())))


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
    key=3,
    versions=(0, 13),
    handle=handle,
    rights=(DESCRIBE, CREATE, DESCRIBE_CLUSTER),
    on_error=on_error,
    body_offset_quirk=body_offset_quirk,
)
