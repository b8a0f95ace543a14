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

from mainstem.coordinator.groups.types import NO_TOPIC_ID, PartitionOffset, TopicOffsets, TopicRef
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import gather_replies, reply_for
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

GROUPS_SINCE = 8
ERROR_SINCE = 2
Wanted = Sequence[tuple[TopicRef, Sequence[int]]] | None


def _wanted(topics: Sequence[Message] | None, *, by_group: bool) -> Wanted:
    if topics is None:
        return None
    return [
        (TopicRef(topic.name, topic.topic_id if by_group else NO_TOPIC_ID), topic.partition_indexes)
        for topic in topics
    ]


def _partition(one: PartitionOffset) -> Message:
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


def _topics(fetched: Sequence[TopicOffsets], *, by_group: bool) -> list[Message]:
    """Only a group's topics, not those of the versions before them, have a place for an id."""
    return [
        Message(
            name=one.topic.name,
            partitions=[_partition(partition) for partition in one.partitions],
            **({"topic_id": one.topic.id} if by_group else {}),
        )
        for one in fetched
    ]


def _refused_topics(wanted: Wanted, code: int) -> list[Message]:
    """Where the version has no place for an error but the partitions."""
    return [
        Message(
            name=ref.name,
            partitions=[
                Message(partition_index=index, committed_offset=-1, metadata="", error_code=code)
                for index in partitions
            ],
        )
        for ref, partitions in wanted or ()
    ]


def _fetch(context: HandlerContext, version: int, asked: Message) -> Promise[Message]:
    """The reply to a group's part of the request; before v8 the request has one group and is it."""
    by_group = version >= GROUPS_SINCE
    wanted = _wanted(asked.topics, by_group=by_group)
    name = {"group_id": asked.group_id} if by_group else {}

    def done(fetched: list[TopicOffsets]) -> Message:
        return Message(topics=_topics(fetched, by_group=by_group), **name)

    def refused(code: int, _: str) -> Message:
        topics = [] if version >= ERROR_SINCE else _refused_topics(wanted, code)
        return Message(topics=topics, error_code=code, **name)

    return reply_for(context.groups.fetch_offsets(asked.group_id, wanted), done, refused)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Tell committed offsets."""
    version = request.version
    if version < GROUPS_SINCE:
        return _fetch(context, version, request.body)
    groups = [_fetch(context, version, one) for one in request.body.groups]
    return gather_replies(groups).map(lambda messages: Message(groups=messages))


HANDLER = Handler(key=9, versions=(1, 10), handle=handle)
