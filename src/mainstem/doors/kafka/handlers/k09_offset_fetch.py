"""9 OffsetFetch.

Versions: 1-10.
Behaviour: tells a group's committed offsets, of the partitions asked for or of all; -1 with empty metadata
and no error where there is none, also for a group or topic that does not exist.
Notes: v2 may ask for all partitions and has an error for the whole reply, v5 adds the leader epoch, v7
require_stable (no offset is ever pending here), v8 many groups at once, v10 topic ids (KIP-516,
UNKNOWN_TOPIC_ID).
Left out: member ids and epochs of the consumer protocol (v9, KIP-848) are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from mainstem.coordinator.group_types import FetchedPartition, FetchedTopic, TopicRef
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Answer, Context, Handler, Request
from mainstem.doors.kafka.items import answered, together
from mainstem.doors.kafka.message import Message
from mainstem.later import Later

GROUPS_SINCE = 8
ERROR_SINCE = 2
Wanted = Sequence[tuple[TopicRef, Sequence[int]]] | None


def _wanted(topics: Sequence[Message] | None) -> Wanted:
    if topics is None:
        return None
    return [(TopicRef(topic.name, topic.topic_id), topic.partition_indexes) for topic in topics]


def _partition(one: FetchedPartition) -> Message:
    code = 0 if one.error is None else code_of(one.error)
    if one.offset is None:
        return Message(partition_index=one.partition, committed_offset=-1, metadata="", error_code=code)
    return Message(
        partition_index=one.partition,
        committed_offset=one.offset.offset,
        committed_leader_epoch=one.offset.leader_epoch,
        metadata=one.offset.metadata,
        error_code=code,
    )


def _topics(fetched: Sequence[FetchedTopic]) -> list[Message]:
    return [
        Message(
            name=one.topic.name,
            topic_id=one.topic.id,
            partitions=[_partition(partition) for partition in one.partitions],
        )
        for one in fetched
    ]


def _failed_topics(wanted: Wanted, code: int) -> list[Message]:
    """Where the version has no place for an error but the partitions."""
    return [
        Message(
            name=ref.name,
            topic_id=ref.id,
            partitions=[
                Message(partition_index=index, committed_offset=-1, metadata="", error_code=code)
                for index in partitions
            ],
        )
        for ref, partitions in wanted or ()
    ]


def _fetch(context: Context, version: int, group_id: str, wanted: Wanted) -> Later[Message]:
    def done(fetched: list[FetchedTopic]) -> Message:
        return Message(group_id=group_id, topics=_topics(fetched))

    def refused(code: int, _: str) -> Message:
        topics = [] if version >= ERROR_SINCE else _failed_topics(wanted, code)
        return Message(group_id=group_id, topics=topics, error_code=code)

    return answered(context.groups.fetch_offsets(group_id, wanted), done, refused)


def handle(context: Context, request: Request) -> Answer:
    """Tell committed offsets."""
    body, version = request.body, request.version
    if version < GROUPS_SINCE:
        return _fetch(context, version, body.group_id, _wanted(body.topics))
    groups = [_fetch(context, version, one.group_id, _wanted(one.topics)) for one in body.groups]
    return together(groups).map(lambda messages: Message(groups=messages))


HANDLER = Handler(key=9, versions=(1, 10), handle=handle)
