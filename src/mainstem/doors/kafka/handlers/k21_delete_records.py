"""21 DeleteRecords.

Versions: 0-2.
Behaviour: moves the log start of each partition to the requested offset; the reply waits until that is
durable. Whole segments below it are removed afterwards. -1 means the end of the log. What is to be deleted is
committed first, for a producer with acks=0 or acks=1 knows of it already; if that takes longer than the
request's timeout, or 5 s, OFFSET_NOT_AVAILABLE. An offset past the end of the log, or below -1, is
OFFSET_OUT_OF_RANGE; one below the log start changes nothing.
Notes: v2 is flexible.
Left out: the timeout of the deletion itself: only the disk is waited for.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.topics.topics import unknown_topic_error
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import attempt, gather_replies, reply_for
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.log.partition.commit_wait import wait_limit_s
from mainstem.promise import Promise

DELETE = of_each(Operation.DELETE, ResourceType.TOPIC)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    limit_s = wait_limit_s(request.body.timeout)
    topics = []
    for topic in request.body.topics:
        delete = _partition if context.allows(request, DELETE, topic.name) else _denied
        partitions = [delete(context, topic.name, item, limit_s) for item in topic.partitions]
        topics.append(
            gather_replies(partitions).map(
                lambda partitions, name=topic.name: Message(name=name, partitions=partitions)  # type: ignore[misc]
            )
        )
    return gather_replies(topics).map(lambda messages: Message(topics=messages))


def _denied(context: HandlerContext, name: str, requested: Message, limit_s: float) -> Promise[Message]:
    """The reply for a partition of a topic that the requester may not delete from."""
    index = requested.partition_index
    return Promise.resolved(Message(partition_index=index, low_watermark=-1, error_code=DELETE.code))


def _partition(context: HandlerContext, name: str, requested: Message, limit_s: float) -> Promise[Message]:
    index = requested.partition_index

    def start() -> Promise[int]:
        topic = context.topics.get(name)
        if topic is None:
            raise unknown_topic_error(name)
        partition = context.node.partition(topic, index)
        return context.node.delete_records(partition, requested.offset, limit_s)

    return reply_for(
        attempt(start),
        lambda log_start: Message(partition_index=index, low_watermark=log_start),
        lambda code, _: Message(partition_index=index, low_watermark=-1, error_code=code),
    )


HANDLER = Handler(key=21, versions=(0, 2), handle=handle, rights=(DELETE,))
