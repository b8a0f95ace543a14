"""19 CreateTopics.

Versions: 2-7.
Behaviour: creates each topic, or refuses it with its own code and text, in the order of the request; the
reply waits until the topics are durable. A name that occurs twice in a request is refused once with
INVALID_REQUEST. -1 means the default number of partitions and of replicas, in every version. A replica
assignment is accepted if it names only this node.
Notes: v5 returns the topic's settings with their sources (KIP-525), v7 its id (KIP-516).
Left out: the timeout: only the disk is waited for; quotas (v6's THROTTLING_QUOTA_EXCEEDED).
"""

from __future__ import annotations

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.configs import created_entry
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import duplicates, gather_replies, reply_for
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    requested = {topic.name: topic for topic in request.body.topics}
    repeated_names = duplicates(topic.name for topic in request.body.topics)
    items = [
        _topic(context, topic, request.body.validate_only, repeated=name in repeated_names)
        for name, topic in requested.items()
    ]
    return gather_replies(items).map(lambda topics: Message(topics=topics))


def _topic(
    context: HandlerContext, requested: Message, validate_only: bool, *, repeated: bool
) -> Promise[Message]:
    def on_success(topic: TopicMetadata) -> Message:
        entries = context.topics.describe_config(topic)
        return Message(
            name=topic.name,
            topic_id=topic.id,
            error_message=None,
            num_partitions=topic.partitions,
            replication_factor=1,
            configs=[created_entry(entry) for entry in entries],
        )

    def on_refusal(code: int, text: str) -> Message:
        return Message(name=requested.name, error_code=code, error_message=text)

    return reply_for(_create(context, requested, validate_only, repeated), on_success, on_refusal)


def _create(
    context: HandlerContext, requested: Message, validate_only: bool, repeated: bool
) -> Promise[TopicMetadata]:
    if repeated:
        return Promise.failed(InvalidRequest("Duplicate topic name."))
    return context.topics.create(
        requested.name,
        requested.num_partitions,
        {config.name: config.value for config in requested.configs},
        replication_factor=requested.replication_factor,
        assignments=[
            (partition.partition_index, partition.broker_ids) for partition in requested.assignments
        ],
        validate_only=validate_only,
    )


HANDLER = Handler(key=19, versions=(2, 7), handle=handle)
