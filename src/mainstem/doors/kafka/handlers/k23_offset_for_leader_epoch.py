"""23 OffsetForLeaderEpoch.

Versions: 2-4.
Behaviour: finds the largest epoch up to the requested one that has batches in the log, and its end offset. A
client that has read past that offset has read events that a crash removed (KIP-320). -1 and -1 if there is no
such epoch.
Notes: v3 adds the replica id; v4 is flexible.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.coordinator.errors import CoordinatorError
from mainstem.doors.kafka.errors import code_of, leader_epoch_error
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def _partition_reply(index: int, error: int, epoch: int = -1, end_offset: int = -1) -> Message:
    return Message(partition=index, error_code=error, leader_epoch=epoch, end_offset=end_offset)


def _end_of_epoch(context: HandlerContext, name: str, requested: Message) -> Message:
    index = requested.partition
    try:
        partition = context.partition(name, index)
    except CoordinatorError as error:
        return _partition_reply(index, code_of(error))
    error_code = leader_epoch_error(requested.current_leader_epoch, partition.epoch)
    if error_code:
        return _partition_reply(index, error_code)
    return _partition_reply(index, 0, *partition.epoch_end(requested.leader_epoch))


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return Message(
        topics=[
            Message(
                topic=topic.topic,
                partitions=[_end_of_epoch(context, topic.topic, partition) for partition in topic.partitions],
            )
            for topic in request.body.topics
        ]
    )


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


HANDLER = Handler(key=23, versions=(2, 4), handle=handle, on_error=on_error)
