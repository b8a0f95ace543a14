"""20 DeleteTopics.

Versions: 1-6. Behaviour: each topic is deleted, or refused with its own code; the reply leaves when the
deletions are durable, the files go afterwards. What waits for events of a deleted topic is told at once. A
topic named twice, or by name and by id, is refused with INVALID_REQUEST. Notes: v5 has texts of errors; v6
takes ids (KIP-516), unknown ones are UNKNOWN_TOPIC_ID. Left out: the timeout, for nothing has to be waited
for but the disk.
"""

from __future__ import annotations

from uuid import UUID

from mainstem.coordinator.errors import InvalidRequest, UnknownTopicOrPartition
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import duplicates, gather_replies, reply_for
from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.promise import Promise

TopicToDelete = tuple[str | None, UUID]


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Delete topics."""
    asked: list[TopicToDelete] = [(name, NO_UUID) for name in request.body.topic_names]
    asked += [(topic.name, topic.topic_id) for topic in request.body.topics]
    twice = duplicates(asked)
    by_id = {topic.name for _, id_ in asked if (topic := context.topics.by_id(id_)) is not None}
    both = {name for name, _ in asked if name is not None} & by_id
    items = [
        _one(context, one, _objection(context, one, both, twice=one in twice)) for one in dict.fromkeys(asked)
    ]
    return gather_replies(items).map(lambda responses: Message(responses=responses))


def _objection(context: HandlerContext, asked: TopicToDelete, both: set[str], *, twice: bool) -> str | None:
    name, topic_id = asked
    if name is not None and topic_id != NO_UUID:
        return "You may not specify both topic name and topic id."
    if name is None and topic_id == NO_UUID:
        return "Neither topic name nor id were specified."
    if twice:
        return "Duplicate topic name." if name is not None else "Duplicate topic id."
    topic = context.topics.get(name) if name is not None else context.topics.by_id(topic_id)
    if topic is not None and topic.name in both:
        return "The provided topic name maps to an ID that was already supplied."
    return None


def _one(context: HandlerContext, asked: TopicToDelete, objection: str | None) -> Promise[Message]:
    name, topic_id = asked

    def done(topic: TopicMetadata) -> Message:
        return Message(name=topic.name, topic_id=topic.id)

    def refused(code: int, text: str) -> Message:
        # Only v6 can say no name; what it was asked by id it is told by id.
        return Message(name=name, topic_id=topic_id, error_code=code, error_message=text)

    if objection is not None:
        return reply_for(Promise.failed(InvalidRequest(objection)), done, refused)
    if name is not None and context.topics.get(name) is None:
        # Also of a name that none can have, where other requests say INVALID_TOPIC_EXCEPTION.
        return reply_for(
            Promise.failed(UnknownTopicOrPartition("This server does not host this topic.")), done, refused
        )
    return reply_for(context.topics.delete(name if name is not None else topic_id), done, refused)


HANDLER = Handler(key=20, versions=(1, 6), handle=handle)
