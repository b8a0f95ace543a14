"""2 ListOffsets.

Versions: 1-11. Behaviour: the offset of a time: -1 the high watermark, -2 the log start, -3 (v7) the record
with the largest timestamp, -4 (v8) the first offset on this machine, which is the log start; any time from
0 on: the first record, not batch, at or after it. Offset -1 says that there is none. Notes: v2 adds the
isolation level, v4 the leader epoch, v6 is flexible, v9 -5, v10 a timeout, v11 -6. A special time that came
after the request's version is UNSUPPORTED_VERSION. Left out: tiered storage: -5 (last tiered offset) and -6
(first that waits for upload) find nothing. The last stable offset is the high watermark, as there are no
transactions yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.coordinator.errors import CoordinatorError
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.lookup import epoch_error, partition_of
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise, gather

if TYPE_CHECKING:
    from mainstem.log.partition.partition import Partition, TimedOffset

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD = (
    -1,
    -2,
    -3,
    -4,
    -5,
    -6,
)
_SINCE = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
"""The first version that knows each special time. Kafka: ReplicaManager.timestampMinSupportedVersion."""


def _answer(index: int, error: int = 0, offset: int = -1, timestamp: int = -1, epoch: int = -1) -> Message:
    return Message(
        partition_index=index, error_code=error, offset=offset, timestamp=timestamp, leader_epoch=epoch
    )


def _at_time(partition: Partition, asked: Message, version: int) -> Message | Promise[TimedOffset | None]:
    """The answer, or the search for it."""
    index, time = asked.partition_index, asked.timestamp
    error = epoch_error(partition, asked.current_leader_epoch)
    if error:
        return _answer(index, error)
    if time < 0 and version < _SINCE.get(time, version + 1):
        return _answer(index, ErrorCode.UNSUPPORTED_VERSION)
    if time == LATEST:
        return _answer(index, 0, partition.high_watermark, -1, partition.epoch)
    if time in (EARLIEST, EARLIEST_LOCAL):
        return _answer(index, 0, partition.log_start_offset, -1, partition.epoch_at_start())
    if time in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return _answer(index)
    return partition.offset_of_max_timestamp() if time == MAX_TIMESTAMP else partition.offset_for_time(time)


def _search(context: HandlerContext, name: str, asked: Message, version: int) -> Promise[Message]:
    try:
        found = _at_time(partition_of(context, name, asked.partition_index), asked, version)
    except CoordinatorError as error:
        return Promise.resolved(_answer(asked.partition_index, code_of(error)))
    if isinstance(found, Message):
        return Promise.resolved(found)
    out: Promise[Message] = Promise()

    def done(later: Promise[TimedOffset | None]) -> None:
        if later.error is not None:
            if not is_refusal(later.error):
                context.fault(f"ListOffsets of {name}-{asked.partition_index}", later.error)
            out.resolve(_answer(asked.partition_index, code_of(later.error)))
            return
        hit = later.result()
        if hit is None:
            out.resolve(_answer(asked.partition_index))
        else:
            out.resolve(_answer(asked.partition_index, 0, hit.offset, hit.timestamp_ms, hit.leader_epoch))

    found.then(done)
    return out


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    topics = request.body.topics
    answers = [
        [_search(context, topic.name, asked, request.version) for asked in topic.partitions]
        for topic in topics
    ]

    def reply(_: list[Promise[Message]]) -> Message:
        return Message(
            topics=[
                Message(name=topic.name, partitions=[later.result() for later in partitions])
                for topic, partitions in zip(topics, answers, strict=True)
            ]
        )

    return gather([later for partitions in answers for later in partitions]).map(reply)


def on_error(request: Request, code: int) -> Message:
    """The same error for every partition."""
    return Message(
        topics=[
            Message(
                name=topic.name,
                partitions=[_answer(asked.partition_index, code) for asked in topic.partitions],
            )
            for topic in request.body.topics
        ]
    )


HANDLER = Handler(key=2, versions=(1, 11), handle=handle, on_error=on_error)
