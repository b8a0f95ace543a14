"""9 OffsetFetch.

Versions: 1-10.
Behaviour: returns a group's committed offsets, of the requested partitions or of all. Offset -1 with empty
metadata and no error: nothing is committed, also for a group or a topic that does not exist. A group, or a
partition of a topic, that is named more than once is answered once.
Notes: v2 may request all partitions and has an error code for the whole reply; v5 adds the leader epoch, v7
require_stable (no effect: without transactions no offset is ever pending); v8 requests several groups at
once; v10 names topics by id (KIP-516; unknown: UNKNOWN_TOPIC_ID).
Left out: member ids and epochs of the consumer protocol (v9, KIP-848), which are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.groups.types import NO_TOPIC_ID, PartitionOffset, TopicOffsets, TopicRef
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import gather_replies, reply_for
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

GROUPS_SINCE = 8
ERROR_SINCE = 2
TOPIC_IDS_SINCE = 10
OF_GROUP = of_each(Operation.DESCRIBE, ResourceType.GROUP)
OF_TOPIC = of_each(Operation.DESCRIBE, ResourceType.TOPIC)
RequestedPartitions: TypeAlias = Sequence[tuple[TopicRef, Sequence[int]]] | None


def _requested(topics: Sequence[Message] | None, *, by_group: bool) -> RequestedPartitions:
    if topics is None:
        return None
    return [
        (
            TopicRef(topic.name, topic.topic_id if by_group else NO_TOPIC_ID),
            list(dict.fromkeys(topic.partition_indexes)),
        )
        for topic in topics
    ]


def _partition(fetched: PartitionOffset) -> Message:
    code = 0 if fetched.error is None else code_of(fetched.error)
    if fetched.offset is None:
        return Message(partition_index=fetched.partition, committed_offset=-1, metadata="", error_code=code)
    return Message(
        partition_index=fetched.partition,
        committed_offset=fetched.offset.offset,
        committed_leader_epoch=fetched.offset.leader_epoch,
        metadata=fetched.offset.metadata,
        error_code=code,
    )


def _topics(fetched: Sequence[TopicOffsets], *, by_group: bool) -> list[Message]:
    """The topics of the reply. From v8 on, where they are listed by group, each has an id as well."""
    return [
        Message(
            name=topic.topic.name,
            partitions=[_partition(partition) for partition in topic.partitions],
            **({"topic_id": topic.topic.id} if by_group else {}),
        )
        for topic in fetched
    ]


def _refused_topics(requested: RequestedPartitions, code: int, *, by_group: bool) -> list[Message]:
    """The reply's topics with an error code for each partition."""
    return [
        Message(
            name=ref.name,
            partitions=[
                Message(partition_index=index, committed_offset=-1, metadata="", error_code=code)
                for index in partitions
            ],
            **({"topic_id": ref.id} if by_group else {}),
        )
        for ref, partitions in requested or ()
    ]


def _may_see(context: HandlerContext, request: Request, ref: TopicRef) -> bool:
    """Whether the requester may see the offsets of a topic. An id that no topic has is refused as such,
    later."""
    name = ref.name
    if request.version >= TOPIC_IDS_SINCE:
        topic = context.topics.by_id(ref.id)
        if topic is None:
            return True
        name = topic.name
    return context.allows(request, OF_TOPIC, name)


def _fetch(context: HandlerContext, request: Request, group: Message) -> Promise[Message]:
    """The reply for one group. `group`: its part of the request, or before v8 the request itself."""
    version = request.version
    by_group = version >= GROUPS_SINCE
    requested = _requested(group.topics, by_group=by_group)
    name = {"group_id": group.group_id} if by_group else {}

    def on_refusal(code: int, _: str) -> Message:
        topics = [] if version >= ERROR_SINCE else _refused_topics(requested, code, by_group=by_group)
        return Message(topics=topics, error_code=code, **name)

    if not context.allows(request, OF_GROUP, group.group_id):
        return Promise.resolved(on_refusal(OF_GROUP.code, OF_GROUP.text))
    seen: list[tuple[TopicRef, Sequence[int]]] = []
    hidden: list[tuple[TopicRef, Sequence[int]]] = []
    for item in requested or ():
        (seen if _may_see(context, request, item[0]) else hidden).append(item)

    selection = None if requested is None else seen

    def on_success(fetched: list[TopicOffsets]) -> Message:
        if requested is None:
            fetched = [
                topic
                for topic in fetched
                if context.allows(request, OF_TOPIC, topic.topic.name, is_filter=True)
            ]
        topics = _topics(fetched, by_group=by_group)
        return Message(topics=topics + _refused_topics(hidden, OF_TOPIC.code, by_group=by_group), **name)

    return reply_for(context.groups.fetch_offsets(group.group_id, selection), on_success, on_refusal)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    version = request.version
    if version < GROUPS_SINCE:
        return _fetch(context, request, request.body)
    requested = {group.group_id: group for group in reversed(request.body.groups)}
    groups = [_fetch(context, request, group) for group in reversed(requested.values())]
    return gather_replies(groups).map(lambda messages: Message(groups=messages))


HANDLER = Handler(key=9, versions=(1, 10), handle=handle, rights=(OF_GROUP, OF_TOPIC))
