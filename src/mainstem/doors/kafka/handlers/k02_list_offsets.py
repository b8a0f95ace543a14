"""2 ListOffsets.

Versions: 1-11.
Behaviour: finds the offset for a timestamp. -1 is the high watermark, -2 the log start, -3 (v7) the record
with the largest timestamp, -4 (v8) the first offset on this machine, which is the log start; a timestamp from
0 on is the first record (not batch) at or after it. Offset -1 in the reply: there is no such record.
Notes: v2 adds the isolation level, v4 the leader epoch; v6 is flexible; v9 adds -5, v10 a timeout, v11 -6. A
special timestamp that is newer than the request's version is answered with UNSUPPORTED_VERSION.
Left out: tiered storage: -5 (last tiered offset) and -6 (first offset to upload) find nothing; transactions:
the last stable offset is the high watermark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.coordinator.errors import CoordinatorError
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal, leader_epoch_error
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise, gather

if TYPE_CHECKING:
    from mainstem.log.partition.partition import Partition, TimedOffset

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6
_FIRST_VERSIONS = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
"""The first version that has each special timestamp (Kafka: ReplicaManager.timestampMinSupportedVersion)."""


def _partition_reply(
    index: int, error: int = 0, offset: int = -1, timestamp: int = -1, epoch: int = -1
) -> Message:
    return Message(
        partition_index=index, error_code=error, offset=offset, timestamp=timestamp, leader_epoch=epoch
    )


def _find(partition: Partition, requested: Message, version: int) -> Message | Promise[TimedOffset | None]:
    """The reply for a partition, or the search for its offset."""
    index, timestamp = requested.partition_index, requested.timestamp
    error = leader_epoch_error(requested.current_leader_epoch, partition.epoch)
    if error:
        return _partition_reply(index, error)
    if timestamp < 0 and version < _FIRST_VERSIONS.get(timestamp, version + 1):
        return _partition_reply(index, ErrorCode.UNSUPPORTED_VERSION)
    if timestamp == LATEST:
        return _partition_reply(index, 0, partition.high_watermark, -1, partition.epoch)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return _partition_reply(index, 0, partition.log_start_offset, -1, partition.epoch_at_start())
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return _partition_reply(index)
    return (
        partition.offset_of_max_timestamp()
        if timestamp == MAX_TIMESTAMP
        else partition.offset_for_time(timestamp)
    )


def _search(context: HandlerContext, name: str, requested: Message, version: int) -> Promise[Message]:
    index = requested.partition_index
    try:
        search = _find(context.partition(name, index), requested, version)
    except CoordinatorError as error:
        return Promise.resolved(_partition_reply(index, code_of(error)))
    if isinstance(search, Message):
        return Promise.resolved(search)
    reply: Promise[Message] = Promise()

    def on_found(search: Promise[TimedOffset | None]) -> None:
        if search.error is not None:
            if not is_refusal(search.error):
                context.fault(f"ListOffsets of {name}-{index}", search.error)
            reply.resolve(_partition_reply(index, code_of(search.error)))
            return
        match = search.result()
        if match is None:
            reply.resolve(_partition_reply(index))
        else:
            reply.resolve(_partition_reply(index, 0, match.offset, match.timestamp_ms, match.leader_epoch))

    search.then(on_found)
    return reply


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    topics = request.body.topics
    searches = [
        [_search(context, topic.name, requested, request.version) for requested in topic.partitions]
        for topic in topics
    ]

    def reply(_: list[Promise[Message]]) -> Message:
        return Message(
            topics=[
                Message(name=topic.name, partitions=[partition.result() for partition in partitions])
                for topic, partitions in zip(topics, searches, strict=True)
            ]
        )

    return gather([partition for partitions in searches for partition in partitions]).map(reply)


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every partition of the request."""
    return Message(
        topics=[
            Message(
                name=topic.name,
                partitions=[
                    _partition_reply(partition.partition_index, code) for partition in topic.partitions
                ],
            )
            for topic in request.body.topics
        ]
    )


HANDLER = Handler(key=2, versions=(1, 11), handle=handle, on_error=on_error)
