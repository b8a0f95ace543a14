"""75 DescribeTopicPartitions.

Versions: 0.
Behaviour: describes topics by name, or all if none is named, with their partitions, page by page. A reply has
at most `response_partition_limit` partitions, never more than 2000, and the cursor of the next page
(KIP-966). If the topic of a cursor was deleted, the page begins with the next topic. Unknown names have their
own error code.
Notes: the eligible leader replicas are empty, because there is one replica.
Left out: access control: all operations are allowed.
"""

from __future__ import annotations

from collections.abc import Iterable

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import TopicMetadata, unknown_topic_error
from mainstem.doors.kafka.authorized_operations import TOPIC_OPERATIONS
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message

PARTITIONS_MAX = 2000
"""Most partitions of one reply: the default of Kafka's `max.request.partition.size.limit`."""


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    cursor = body.cursor
    if cursor is not None and cursor.partition_index < 0:
        raise InvalidRequest("DescribeTopicPartitionsRequest cursor partition must be valid.")
    names = sorted({topic.name for topic in body.topics}) or [topic.name for topic in context.topics.all()]
    if cursor is not None:
        names = [name for name in names if name >= cursor.topic_name]
    remaining = max(min(PARTITIONS_MAX, body.response_partition_limit), 1)
    topics: list[Message] = []
    for name in names:
        if remaining == 0:
            return _page(context, topics, (name, 0))
        start = cursor.partition_index if cursor is not None and cursor.topic_name == name else 0
        topic = context.topics.get(name)
        if topic is None:
            topics.append(
                Message(name=name, error_code=int(code_of(unknown_topic_error(name))), partitions=[])
            )
            continue
        until = min(topic.partitions, start + remaining)
        topics.append(_topic(context, topic, range(start, until)))
        remaining -= max(until - start, 0)
        if until < topic.partitions:
            return _page(context, topics, (name, until))
    return _page(context, topics, None)


def _page(context: HandlerContext, topics: list[Message], next_page: tuple[str, int] | None) -> HandlerResult:
    """The reply. `next_page`: (topic, partition) where the next page begins; None if this is the last."""
    next_cursor = (
        None if next_page is None else Message(topic_name=next_page[0], partition_index=next_page[1])
    )
    return context.node.runtime.read(Message(topics=topics, next_cursor=next_cursor))


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
    """The reply with the error `code` for every named topic, as in Kafka: it has no error code of its own."""
    return Message(
        topics=[Message(name=topic.name, error_code=code, partitions=[]) for topic in request.body.topics]
    )


HANDLER = Handler(key=75, versions=(0, 0), handle=handle, on_error=on_error)
