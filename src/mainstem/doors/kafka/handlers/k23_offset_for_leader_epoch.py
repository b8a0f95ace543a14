"""23 OffsetForLeaderEpoch.

Versions: 2-4.
Behaviour: finds the largest epoch up to the requested one that has batches in the log, and its end offset. A
client that has read past that offset has read events that a crash removed (KIP-320). -1 and -1 if there is no
such epoch. Waits until what was appended before the request is committed, as ListOffsets does.
Notes: v3 adds the replica id; v4 is flexible.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.errors import CoordinatorError
from mainstem.doors.kafka.errors import code_of, leader_epoch_error
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import gather_replies, reply_for
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.log.partition.commit_wait import when_end_committed
from mainstem.promise import Promise

DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.TOPIC, or_cluster=Operation.CLUSTER_ACTION)


def _partition_reply(index: int, error: int, epoch: int = -1, end_offset: int = -1) -> Message:
    return Message(partition=index, error_code=error, leader_epoch=epoch, end_offset=end_offset)


def _end_of_epoch(
    context: HandlerContext, name: str, requested: Message, is_allowed: bool
) -> Promise[Message]:
    index = requested.partition
    if not is_allowed:
        return Promise.resolved(_partition_reply(index, DESCRIBE.code))
    try:
        partition = context.partition(name, index)
    except CoordinatorError as error:
        return Promise.resolved(_partition_reply(index, code_of(error)))
    error_code = leader_epoch_error(requested.current_leader_epoch, partition.epoch)
    if error_code:
        return Promise.resolved(_partition_reply(index, error_code))
    return reply_for(
        when_end_committed(partition, context.clock).map(
            lambda _: partition.epoch_end(requested.leader_epoch)
        ),
        lambda end: _partition_reply(index, 0, *end),
        lambda code, _: _partition_reply(index, code),
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    topics = []
    for topic in request.body.topics:
        is_allowed = context.allows(request, DESCRIBE, topic.topic)
        partitions = [_end_of_epoch(context, topic.topic, item, is_allowed) for item in topic.partitions]
        topics.append(
            gather_replies(partitions).map(
                lambda partitions, name=topic.topic: Message(topic=name, partitions=partitions)  # type: ignore[misc]
            )
        )
    return gather_replies(topics).map(lambda messages: Message(topics=messages))


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every partition of the request."""
    return Message(
        topics=[
            Message(
                topic=topic.topic,
                partitions=[_partition_reply(partition.partition, code) for partition in topic.partitions],
            )
            for topic in request.body.topics
        ]
    )


HANDLER = Handler(key=23, versions=(2, 4), handle=handle, rights=(DESCRIBE,), on_error=on_error)
