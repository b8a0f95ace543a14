"""55 DescribeQuorum.

Versions: 0-2.
Behaviour: the one node is the quorum: leader and only voter of `__cluster_metadata`, partition 0, with the
epoch and the offsets of the state log, which is what it has in its place. Any other partition is
UNKNOWN_TOPIC_OR_PARTITION.
Notes: v1 adds the times of the last fetch, which are now; v2 (KIP-853) the directory id, which is zero, and
the nodes: this one, without addresses, because there is no listener for controllers.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import NO_UUID, Message

QUORUM_TOPIC = "__cluster_metadata"
UNKNOWN = "This server does not host this topic-partition."


def _partition(context: HandlerContext, name: str, index: int) -> Message:
    if (name, index) != (QUORUM_TOPIC, 0):
        return Message(
            partition_index=index,
            error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            error_message=UNKNOWN,
            leader_id=0,
            leader_epoch=0,
            high_watermark=0,
            current_voters=[],
            observers=[],
        )
    state, now_ms = context.log.state, context.clock.wall_ms()
    voter = Message(
        replica_id=context.node_id,
        replica_directory_id=NO_UUID,
        log_end_offset=state.log_end_offset,
        last_fetch_timestamp=now_ms,
        last_caught_up_timestamp=now_ms,
    )
    return Message(
        partition_index=index,
        error_message=None,
        leader_id=context.node_id,
        leader_epoch=state.epoch,
        high_watermark=state.high_watermark,
        current_voters=[voter],
        observers=[],
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    topics = [
        Message(
            topic_name=topic.topic_name,
            partitions=[
                _partition(context, topic.topic_name, item.partition_index) for item in topic.partitions
            ],
        )
        for topic in request.body.topics
    ]
    described = any(partition.current_voters for topic in topics for partition in topic.partitions)
    return Message(
        error_message=None,
        topics=topics,
        nodes=[Message(node_id=context.node_id, listeners=[])] if described else [],
    )


HANDLER = Handler(key=55, versions=(0, 2), handle=handle, rights=(of_cluster(Operation.DESCRIBE),))
