"""23 OffsetForLeaderEpoch.

Versions: 2-4. Behaviour: for an epoch, the largest epoch up to it that the log has batches of, and where it
ends: a client that read past that end has read what a crash took back (KIP-320). -1 and -1 when there is
none. Notes: v3 adds the replica id, v4 is flexible. Left out: nothing.
"""

from __future__ import annotations

from mainstem.coordinator.errors import CoordinatorError
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.lookup import epoch_error, partition_of
from mainstem.kafka_protocol.message import Message


def _answer(index: int, error: int, epoch: int = -1, end_offset: int = -1) -> Message:
    return Message(partition=index, error_code=error, leader_epoch=epoch, end_offset=end_offset)


def _end_of_epoch(context: HandlerContext, name: str, asked: Message) -> Message:
    index = asked.partition
    try:
        partition = partition_of(context, name, index)
    except CoordinatorError as error:
        return _answer(index, code_of(error))
    error_code = epoch_error(partition, asked.current_leader_epoch)
    if error_code:
        return _answer(index, error_code)
    return _answer(index, 0, *partition.epoch_end(asked.leader_epoch))


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return Message(
        topics=[
            Message(
                topic=topic.topic,
                partitions=[_end_of_epoch(context, topic.topic, asked) for asked in topic.partitions],
            )
            for topic in request.body.topics
        ]
    )


def on_error(request: Request, code: int) -> Message:
    """The same error for every partition."""
    return Message(
        topics=[
            Message(
                topic=topic.topic, partitions=[_answer(asked.partition, code) for asked in topic.partitions]
            )
            for topic in request.body.topics
        ]
    )


HANDLER = Handler(key=23, versions=(2, 4), handle=handle, on_error=on_error)
