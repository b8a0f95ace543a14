"""8 OffsetCommit.

Versions: 2-10.
Behaviour: keeps offsets of a group, answered when they are durable. A member commits with its generation,
also while the group joins again; between join and assignment it gets REBALANCE_IN_PROGRESS. Generation -1
without a member id (simple consumers, tools that reset) is taken while nobody is in the group,
UNKNOWN_MEMBER_ID otherwise. A commit counts as a heartbeat. An error of the group stands at every partition,
one of a partition only there: unknown topics and partitions, metadata longer than offset.metadata.max.bytes.
Notes: v2-4 may tell how long to keep the offsets; v6 adds the leader epoch, v7 the instance id, v9 the errors
of KIP-848; v10 names topics by id (KIP-516, UNKNOWN_TOPIC_ID).
Left out: member epochs of the consumer protocol (KIP-848), transactional commits.
"""

from __future__ import annotations

from mainstem.coordinator.groups.offsets import PartitionErrors
from mainstem.coordinator.groups.types import CommitRequest, NewOffset, TopicRef
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import reply_for
from mainstem.kafka_protocol.message import Message


def _commit(body: Message) -> CommitRequest:
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
                        one.partition_index,
                        one.committed_offset,
                        one.committed_leader_epoch,
                        one.committed_metadata or "",
                    )
                    for one in topic.partitions
                ),
            )
            for topic in body.topics
        ),
    )


def _reply(body: Message, codes: list[list[int]]) -> Message:
    return Message(
        topics=[
            Message(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    Message(partition_index=one.partition_index, error_code=code)
                    for one, code in zip(topic.partitions, verdicts, strict=True)
                ],
            )
            for topic, verdicts in zip(body.topics, codes, strict=True)
        ]
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Commit offsets."""
    body = request.body

    def done(verdicts: PartitionErrors) -> Message:
        return _reply(
            body, [[0 if error is None else code_of(error) for error in topic] for topic in verdicts]
        )

    def refused(code: int, _: str) -> Message:
        return _reply(body, [[code] * len(topic.partitions) for topic in body.topics])

    return reply_for(context.groups.commit(_commit(body)), done, refused)


HANDLER = Handler(key=8, versions=(2, 10), handle=handle)
