"""21 DeleteRecords.

Versions: 0-2. Behaviour: the log start of each partition moves to the offset, durably, before the reply
leaves; whole segments below it are removed afterwards. -1 stands for the high watermark. An offset past it,
or negative, is OFFSET_OUT_OF_RANGE; one below the log start changes nothing. Notes: v2 is flexible. Left
out: the timeout, for nothing has to be waited for but the disk.
"""

from __future__ import annotations

from mainstem.coordinator.topics.topics import unknown_topic_error
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import attempt, gather_replies, reply_for
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Move log starts."""
    asked = request.body.topics
    topics = [
        gather_replies([_one(context, topic.name, part) for part in topic.partitions]).map(
            lambda partitions, name=topic.name: Message(name=name, partitions=partitions)  # type: ignore[misc]
        )
        for topic in asked
    ]
    return gather_replies(topics).map(lambda done: Message(topics=done))


def _one(context: HandlerContext, name: str, asked: Message) -> Promise[Message]:
    index = asked.partition_index

    def start() -> Promise[int]:
        topic = context.topics.get(name)
        if topic is None:
            raise unknown_topic_error(name)
        return context.node.partition(topic, index).delete_records(asked.offset)

    return reply_for(
        attempt(start),
        lambda low: Message(partition_index=index, low_watermark=low),
        lambda code, _: Message(partition_index=index, low_watermark=-1, error_code=code),
    )


HANDLER = Handler(key=21, versions=(0, 2), handle=handle)
