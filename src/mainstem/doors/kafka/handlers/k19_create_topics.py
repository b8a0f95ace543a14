"""19 CreateTopics.

Versions: 2-7. Behaviour: each topic is made, or refused with its own code and text, in the order of the
request; the reply leaves when the topics are durable. A name that stands twice in a request is refused once
with INVALID_REQUEST. -1 stands for the default number of partitions and replicas in every version. An
assignment is taken if it names the only node. Notes: v5 returns the topic's settings with their sources
(KIP-525); v7 its id (KIP-516). Left out: the timeout, for nothing has to be waited for but the disk; quotas
(v6's THROTTLING_QUOTA_EXCEEDED).
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
    """Make topics."""
    asked = {topic.name: topic for topic in request.body.topics}
    twice = duplicates(topic.name for topic in request.body.topics)
    items = [
        _one(context, topic, request.body.validate_only, twice=name in twice) for name, topic in asked.items()
    ]
    return gather_replies(items).map(lambda topics: Message(topics=topics))


def _one(context: HandlerContext, asked: Message, validate_only: bool, *, twice: bool) -> Promise[Message]:
    def done(topic: TopicMetadata) -> Message:
        entries = context.topics.describe_config(topic)
        return Message(
            name=topic.name,
            topic_id=topic.id,
            error_message=None,
            num_partitions=topic.partitions,
            replication_factor=1,
            configs=[created_entry(entry) for entry in entries],
        )

    def refused(code: int, text: str) -> Message:
        return Message(name=asked.name, error_code=code, error_message=text)

    return reply_for(_create(context, asked, validate_only, twice), done, refused)


def _create(
    context: HandlerContext, asked: Message, validate_only: bool, twice: bool
) -> Promise[TopicMetadata]:
    if twice:
        return Promise.failed(InvalidRequest("Duplicate topic name."))
    return context.topics.create(
        asked.name,
        asked.num_partitions,
        {config.name: config.value for config in asked.configs},
        replication_factor=asked.replication_factor,
        assignments=[(one.partition_index, one.broker_ids) for one in asked.assignments],
        validate_only=validate_only,
    )


HANDLER = Handler(key=19, versions=(2, 7), handle=handle)
