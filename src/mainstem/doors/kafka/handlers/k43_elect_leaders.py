"""43 ElectLeaders.

Versions: 0-2.
Behaviour: the one node leads every partition already: ELECTION_NOT_NEEDED. Null means all topics, which are
named without partitions, because none needs an election. An unknown type of election is INVALID_REQUEST.
Notes: v1 adds the type: the preferred replica (0), or any (1, unclean); v2 is flexible.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message

PREFERRED, UNCLEAN = 0, 1
ELECTION_TYPE_SINCE = 1


def _elect(context: HandlerContext, name: str, index: int, refusal: str | None) -> Message:
    code, text = ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition."
    if refusal is not None:
        code, text = ErrorCode.INVALID_REQUEST, refusal
    elif not context.has_partition(name, index):
        code, text = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"There is no partition {index} of a topic {name}."
    return Message(partition_id=index, error_code=code, error_message=text)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    refusal = None
    if request.version >= ELECTION_TYPE_SINCE and body.election_type not in (PREFERRED, UNCLEAN):
        refusal = f"Unknown election type {body.election_type}"
    if body.topic_partitions is None:
        results = [Message(topic=topic.name, partition_result=[]) for topic in context.topics.all()]
    else:
        results = [
            Message(
                topic=item.topic,
                partition_result=[_elect(context, item.topic, index, refusal) for index in item.partitions],
            )
            for item in body.topic_partitions
        ]
    code = ErrorCode.NONE if refusal is None else ErrorCode.INVALID_REQUEST
    return Message(error_code=code, replica_election_results=results)


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code`, also for every partition: version 0 has it only there."""
    results = [
        Message(
            topic=item.topic,
            partition_result=[Message(partition_id=index, error_code=code) for index in item.partitions],
        )
        for item in request.body.topic_partitions or ()
    ]
    return Message(error_code=code, replica_election_results=results)


HANDLER = Handler(
    key=43, versions=(0, 2), handle=handle, rights=(of_cluster(Operation.ALTER),), on_error=on_error
)
