"""8 OffsetCommit.

Versions: 2-10.
Behaviour: stores a group's committed offsets; the reply waits until they are durable. A member commits with
its generation, also while the members join again; between join and assignment it gets REBALANCE_IN_PROGRESS.
Generation -1 without a member id (consumers outside of the group, tools that reset offsets) is accepted while
the group has no members, and refused with UNKNOWN_MEMBER_ID otherwise. A commit counts as a heartbeat. An
error of the group is repeated for every partition; unknown topics and partitions, and metadata longer than
offset.metadata.max.bytes, are errors of their partitions only. More than 24 MiB in one request are refused
whole (INVALID_COMMIT_OFFSET_SIZE).
Notes: v2-4 may set how long the offsets are kept; v6 adds the leader epoch, v7 the instance id, v9 the errors
of KIP-848; v10 names topics by id (KIP-516; unknown: UNKNOWN_TOPIC_ID).
Left out: member epochs of the consumer protocol (KIP-848); transactional commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.groups.offsets import PartitionErrors
from mainstem.coordinator.groups.types import CommitRequest, NewOffset, TopicRef
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import reply_for
from mainstem.doors.kafka.rights import of_each, of_group
from mainstem.kafka_protocol.message import Message

TOPIC_IDS_SINCE = 10
READ = of_each(Operation.READ, ResourceType.TOPIC)


def _commit(body: Message, topics: Sequence[Message]) -> CommitRequest:
    """The commit of those topics of the request that its sender may read."""
    return CommitRequest(
        group_id=body.group_id,
        member_id=body.member_id,
        generation=body.generation_id_or_member_epoch,
        instance_id=body.group_instance_id,
        retention_ms=body.retention_time,
        topics=tuple(
            (
                TopicRef(topic.name, topic.topic_id),
                tuple(
                    NewOffset(
                        partition.partition_index,
                        partition.committed_offset,
                        partition.committed_leader_epoch,
                        partition.committed_metadata or "",
                    )
                    for partition in topic.partitions
                ),
            )
            for topic in topics
        ),
    )


def _reply(body: Message, codes: list[list[int]]) -> Message:
    return Message(
        topics=[
            Message(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    Message(partition_index=partition.partition_index, error_code=code)
                    for partition, code in zip(topic.partitions, partition_codes, strict=True)
                ],
            )
            for topic, partition_codes in zip(body.topics, codes, strict=True)
        ]
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    is_allowed = [_may_read(context, request, topic) for topic in body.topics]
    allowed = list(compress(body.topics, is_allowed))

    def merged(allowed_codes: Iterator[list[int]]) -> Message:
        codes = [
            next(allowed_codes) if may_read else [int(READ.code)] * len(topic.partitions)
            for topic, may_read in zip(body.topics, is_allowed, strict=True)
        ]
        return _reply(body, codes)

    def on_success(errors: PartitionErrors) -> Message:
        return merged([0 if error is None else code_of(error) for error in topic] for topic in errors)

    def on_refusal(code: int, _: str) -> Message:
        return merged([code] * len(topic.partitions) for topic in allowed)

    if body.topics and not allowed:
        return merged(iter(()))
    return reply_for(context.groups.commit(_commit(body, allowed)), on_success, on_refusal)


def _may_read(context: HandlerContext, request: Request, topic: Message) -> bool:
    """Whether the requester may read the topic. An id that no topic has is refused as such, later."""
    name = topic.name
    if request.version >= TOPIC_IDS_SINCE:
        known = context.topics.by_id(topic.topic_id)
        if known is None:
            return True
        name = known.name
    return context.allows(request, READ, name)


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every partition of the request."""
    return _reply(request.body, [[code] * len(topic.partitions) for topic in request.body.topics])


HANDLER = Handler(
    key=8,
    versions=(2, 10),
    handle=handle,
    rights=(of_group(Operation.READ), READ),
    on_error=on_error,
)
