"""37 CreatePartitions.

Versions: 0-3.
Behaviour: adds partitions to each topic, or refuses it with its own code and text; the reply waits until the
partitions are durable. The requested number is the total afterwards. A topic named twice is refused with
INVALID_REQUEST. A replica assignment is accepted if it names only this node.
Notes: v2 is flexible; v3 only allows THROTTLING_QUOTA_EXCEEDED.
Left out: quotas; the timeout: only the disk is waited for.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import attempt, duplicates, gather_replies, reply_for
from mainstem.doors.kafka.rights import RightDenied, of_each
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

ALTER = of_each(Operation.ALTER, ResourceType.TOPIC)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    requested = {topic.name: topic for topic in request.body.topics}
    repeated_names = duplicates(topic.name for topic in request.body.topics)
    items = [
        _topic(context, request, topic, repeated=name in repeated_names) for name, topic in requested.items()
    ]
    return gather_replies(items).map(lambda results: Message(results=results))


def _topic(
    context: HandlerContext, request: Request, requested: Message, *, repeated: bool
) -> Promise[Message]:
    name = requested.name

    def start() -> Promise[TopicMetadata]:
        if repeated:
            raise InvalidRequest("Duplicate topic name.")
        if not context.allows(request, ALTER, name):
            raise RightDenied(ALTER)
        assignments = (
            None
            if requested.assignments is None
            else [partition.broker_ids for partition in requested.assignments]
        )
        return context.topics.add_partitions(
            name, requested.count, assignments=assignments, validate_only=request.body.validate_only
        )

    return reply_for(
        attempt(start),
        lambda _: Message(name=name),
        lambda code, text: Message(name=name, error_code=code, error_message=text),
    )


HANDLER = Handler(key=37, versions=(0, 3), handle=handle, rights=(ALTER,))
