"""75 DescribeTopicPartitions.

Versions: 0. Behaviour: topics by name, all if none is named, with their partitions, page by page: at most
`response_partition_limit` partitions, and 2000, in one reply, which then has the cursor of the next one
(KIP-966). A cursor whose topic is gone goes on with the next topic. Unknown names have their own error.
Notes: the eligible leader replicas are empty: there is one replica. Left out: access control; all
operations are allowed.
"""

from __future__ import annotations

from collections.abc import Iterable

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import TopicMetadata, unknown_topic_error
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message

PARTITIONS_MAX = 2000
"""Kafka's `max.request.partition.size.limit`."""
TOPIC_OPERATIONS = sum(1 << operation for operation in (3, 4, 5, 6, 7, 8, 10, 11))
"""READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS (Kafka's AclOperation)."""


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Describe a page of topics."""
    body = request.body
    first = body.cursor
    if first is not None and first.partition_index < 0:
        raise InvalidRequest("DescribeTopicPartitionsRequest cursor partition must be valid.")
    names = sorted({topic.name for topic in body.topics}) or [topic.name for topic in context.topics.all()]
    if first is not None:
        names = [name for name in names if name >= first.topic_name]
    room = max(min(PARTITIONS_MAX, body.response_partition_limit), 1)
    topics: list[Message] = []
    for name in names:
        if room == 0:
            return _page(context, topics, (name, 0))
        start = first.partition_index if first is not None and first.topic_name == name else 0
        topic = context.topics.get(name)
        if topic is None:
            topics.append(
                Message(name=name, error_code=int(code_of(unknown_topic_error(name))), partitions=[])
            )
            continue
        until = min(topic.partitions, start + room)
        topics.append(_topic(context, topic, range(start, until)))
        room -= max(until - start, 0)
        if until < topic.partitions:
            return _page(context, topics, (name, until))
    return _page(context, topics, None)


def _page(context: HandlerContext, topics: list[Message], cursor: tuple[str, int] | None) -> HandlerResult:
    after = None if cursor is None else Message(topic_name=cursor[0], partition_index=cursor[1])
    return context.node.runtime.read(Message(topics=topics, next_cursor=after))


def _topic(context: HandlerContext, topic: TopicMetadata, indexes: Iterable[int]) -> Message:
    replicas = [context.node_id]
    return Message(
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.internal,
        topic_authorized_operations=TOPIC_OPERATIONS,
        partitions=[
            Message(
                partition_index=index,
                leader_id=context.node_id,
                leader_epoch=context.node.partition(topic, index).epoch,
                replica_nodes=replicas,
                isr_nodes=replicas,
                eligible_leader_replicas=[],
                last_known_elr=[],
                offline_replicas=[],
            )
            for index in indexes
        ],
    )


def on_error(request: Request, code: int) -> Message:
    """The reply has no place for an error of its own: each topic that was named gets it, as in Kafka."""
    return Message(
        topics=[Message(name=one.name, error_code=code, partitions=[]) for one in request.body.topics]
    )


HANDLER = Handler(key=75, versions=(0, 0), handle=handle, on_error=on_error)
