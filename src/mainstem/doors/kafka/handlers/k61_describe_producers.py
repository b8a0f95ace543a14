"""61 DescribeProducers.

Versions: 0.
Behaviour: lists the idempotent producers whose sequence each partition remembers: id, epoch, last sequence
and timestamp.
Notes: there is one version (KIP-664).
Left out: transactions: none is ever open, and the coordinator epoch is always -1.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.errors import CoordinatorError
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message

READ = of_each(Operation.READ, ResourceType.TOPIC)


def _producers(context: HandlerContext, request: Request, name: str, index: int) -> Message:
    if not context.allows(request, READ, name):
        return Message(partition_index=index, error_code=READ.code, error_message=READ.text)
    try:
        partition = context.partition(name, index)
    except CoordinatorError as error:
        return Message(partition_index=index, error_code=code_of(error), error_message=str(error))
    return Message(
        partition_index=index,
        active_producers=[
            Message(
                producer_id=producer.producer_id,
                producer_epoch=producer.producer_epoch,
                last_sequence=producer.last_sequence,
                last_timestamp=producer.last_timestamp_ms,
                coordinator_epoch=-1,
            )
            for producer in partition.producers()
        ],
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return Message(
        topics=[
            Message(
                name=topic.name,
                partitions=[
                    _producers(context, request, topic.name, index) for index in topic.partition_indexes
                ],
            )
            for topic in request.body.topics
        ]
    )


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every partition of the request."""
    return Message(
        topics=[
            Message(
                name=topic.name,
                partitions=[
                    Message(partition_index=index, error_code=code) for index in topic.partition_indexes
                ],
            )
            for topic in request.body.topics
        ]
    )


HANDLER = Handler(key=61, versions=(0, 0), handle=handle, rights=(READ,), on_error=on_error)
