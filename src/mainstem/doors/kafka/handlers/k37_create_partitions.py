"""37 CreatePartitions.

Versions: 0-3. Behaviour: each topic gets more partitions, or its own refusal; the reply leaves when that is
durable. The number is the total afterwards. A topic named twice is refused with INVALID_REQUEST. An
assignment is taken if it names the only node. Notes: v2 is flexible; v3 only allows
THROTTLING_QUOTA_EXCEEDED. Left out: quotas; the timeout, for nothing has to be waited for but the disk.
"""

from __future__ import annotations

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import attempt, duplicates, gather_replies, reply_for
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Add partitions."""
    asked = {topic.name: topic for topic in request.body.topics}
    twice = duplicates(topic.name for topic in request.body.topics)
    items = [
        _one(context, topic, request.body.validate_only, twice=name in twice) for name, topic in asked.items()
    ]
    return gather_replies(items).map(lambda results: Message(results=results))


def _one(context: HandlerContext, asked: Message, validate_only: bool, *, twice: bool) -> Promise[Message]:
    name = asked.name

    def start() -> Promise[TopicMetadata]:
        if twice:
            raise InvalidRequest("Duplicate topic name.")
        assignments = None if asked.assignments is None else [one.broker_ids for one in asked.assignments]
        return context.topics.add_partitions(
            name, asked.count, assignments=assignments, validate_only=validate_only
        )

    return reply_for(
        attempt(start),
        lambda _: Message(name=name),
        lambda code, text: Message(name=name, error_code=code, error_message=text),
    )


HANDLER = Handler(key=37, versions=(0, 3), handle=handle)
