"""45 AlterPartitionReassignments.

Versions: 0-1.
Behaviour: there is one node. A partition can be assigned to where it is, which changes nothing; any other
assignment is INVALID_REPLICA_ASSIGNMENT. To cancel (null) is NO_REASSIGNMENT_IN_PROGRESS.
Notes: both versions are flexible; v1 may forbid a change of the replication factor, which is always 1.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message


def _assign(context: HandlerContext, name: str, requested: Message) -> tuple[ErrorCode, str | None]:
    replicas = requested.replicas
    if not context.has_partition(name, requested.partition_index):
        text = f"There is no partition {requested.partition_index} of a topic {name}."
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, text
    if replicas is None:
        return ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, None
    if not replicas:
        return ErrorCode.INVALID_REPLICA_ASSIGNMENT, "The assignment has no replica."
    for broker in replicas:
        if broker != context.node_id:
            text = f"The assignment includes broker {broker}, but the only broker is {context.node_id}."
            return ErrorCode.INVALID_REPLICA_ASSIGNMENT, text
    if len(replicas) > 1:
        text = f"The assignment includes broker {context.node_id} more than once."
        return ErrorCode.INVALID_REPLICA_ASSIGNMENT, text
    return ErrorCode.NONE, None


def _partition(context: HandlerContext, name: str, requested: Message) -> Message:
    code, text = _assign(context, name, requested)
    return Message(partition_index=requested.partition_index, error_code=code, error_message=text)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    return Message(
        allow_replication_factor_change=body.allow_replication_factor_change,
        error_message=None,
        responses=[
            Message(
                name=topic.name,
                partitions=[_partition(context, topic.name, item) for item in topic.partitions],
            )
            for topic in body.topics
        ],
    )


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code`, also for every partition."""
    return Message(
        error_code=code,
        error_message=None,
        responses=[
            Message(
                name=topic.name,
                partitions=[
                    Message(partition_index=item.partition_index, error_code=code)
                    for item in topic.partitions
                ],
            )
            for topic in request.body.topics
        ],
    )


HANDLER = Handler(
    key=45, versions=(0, 1), handle=handle, rights=(of_cluster(Operation.ALTER),), on_error=on_error
)
