"""2 ListOffsets.

Versions: 1-11.
Behaviour: finds the offset for a timestamp. -1 is the high watermark, -2 the log start, -3 (v7) the record
with the largest timestamp, -4 (v8) the first offset on this machine, which is the log start; a timestamp from
0 on is the first record (not batch) at or after it. Offset -1 in the reply: there is no such record.
All but -2 and -4 wait until what was appended before the request is committed, so that a producer with acks=0
or acks=1 finds its events; if that takes too long, OFFSET_NOT_AVAILABLE (LEADER_NOT_AVAILABLE before v5), as
Kafka answers while its high watermark is behind; clients try again.
Notes: v2 adds the isolation level, v4 the leader epoch; v6 is flexible; v9 adds -5, v10 a timeout, v11 -6. A
special timestamp that is newer than the request's version is answered with UNSUPPORTED_VERSION.
Left out: tiered storage: -5 (last tiered offset) and -6 (first offset to upload) find nothing; transactions:
the last stable offset is the high watermark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.errors import CoordinatorError
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal, leader_epoch_error
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.log.partition.commit_wait import wait_limit_s, when_end_committed
from mainstem.log.partition.offset_lookup import TimedOffset
from mainstem.promise import Promise, gather

if TYPE_CHECKING:
    from mainstem.log.partition.partition import Partition

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6
OFFSET_NOT_AVAILABLE_SINCE = 5
TIMEOUT_SINCE = 10
DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.TOPIC)
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


def _find_at_once(partition: Partition, requested: Message, version: int) -> Message | None:
    """The reply for a partition if it does not depend on the end of its log."""
    index, timestamp = requested.partition_index, requested.timestamp
    error = leader_epoch_error(requested.current_leader_epoch, partition.epoch)
    if error:
        return _partition_reply(index, error)
    if timestamp < 0 and version < _FIRST_VERSIONS.get(timestamp, version + 1):
        return _partition_reply(index, ErrorCode.UNSUPPORTED_VERSION)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return _partition_reply(index, 0, partition.log_start_offset, -1, partition.epoch_at_start())
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return _partition_reply(index)
    return None


def _find(partition: Partition, timestamp: int) -> Promise[TimedOffset | None]:
    """The end of the log, or the search for a record; everything that was appended is committed."""
    if timestamp == LATEST:
        return Promise.resolved(TimedOffset(partition.high_watermark, -1, partition.epoch))
    if timestamp == MAX_TIMESTAMP:
        return partition.offset_of_max_timestamp()
    return partition.offset_for_time(timestamp)


def _search(
    context: HandlerContext, name: str, requested: Message, version: int, limit_s: float
) -> Promise[Message]:
    """The reply for a partition of a topic that the requester may see."""
    index = requested.partition_index
    try:
        partition = context.partition(name, index)
    except CoordinatorError as error:
        return Promise.resolved(_partition_reply(index, code_of(error)))
    answer = _find_at_once(partition, requested, version)
    if answer is not None:
        return Promise.resolved(answer)
    reply: Promise[Message] = Promise()

    def on_found(search: Promise[TimedOffset | None]) -> None:
        if search.error is not None:
            if not is_refusal(search.error):
                context.fault(f"ListOffsets of {name}-{index}", search.error)
            code = code_of(search.error)
            if code == ErrorCode.OFFSET_NOT_AVAILABLE and version < OFFSET_NOT_AVAILABLE_SINCE:
                code = ErrorCode.LEADER_NOT_AVAILABLE
            reply.resolve(_partition_reply(index, code))
            return
        match = search.result()
        if match is None:
            reply.resolve(_partition_reply(index))
        else:
            reply.resolve(_partition_reply(index, 0, match.offset, match.timestamp_ms, match.leader_epoch))

    committed = when_end_committed(partition, context.clock, limit_s)
    committed.chain(lambda _: _find(partition, requested.timestamp)).then(on_found)
    return reply


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    topics = request.body.topics
    limit_s = wait_limit_s(request.body.timeout if request.version >= TIMEOUT_SINCE else 0)
    searches = [
        [_search(context, topic.name, requested, request.version, limit_s) for requested in topic.partitions]
        if context.allows(request, DESCRIBE, topic.name)
        else [
            Promise.resolved(_partition_reply(requested.partition_index, DESCRIBE.code))
            for requested in topic.partitions
        ]
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


HANDLER = Handler(key=2, versions=(1, 11), handle=handle, rights=(DESCRIBE,), on_error=on_error)
