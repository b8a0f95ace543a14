"""20 DeleteTopics.

Versions: 1-6.
Behaviour: deletes each topic, or refuses it with its own code; the reply waits until the deletions are
durable, and the files are removed afterwards. Requests that wait for events of a deleted topic are answered
at once. A topic named twice, or both by name and by id, is refused with INVALID_REQUEST.
Notes: v5 has error texts; v6 accepts ids (KIP-516; unknown: UNKNOWN_TOPIC_ID).
Left out: the timeout: only the disk is waited for.
"""

from __future__ import annotations

from typing import TypeAlias
from uuid import UUID

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.errors import InvalidRequest, UnknownTopicOrPartition
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import duplicates, gather_replies, reply_for
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.promise import Promise

TopicToDelete: TypeAlias = tuple[str | None, UUID]
DELETE = of_each(Operation.DELETE, ResourceType.TOPIC, or_cluster=Operation.DELETE)
DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.TOPIC, or_cluster=Operation.DELETE)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    requested: list[TopicToDelete] = [(name, NO_UUID) for name in request.body.topic_names]
    requested += [(topic.name, topic.topic_id) for topic in request.body.topics]
    repeated = duplicates(requested)
    by_id = {topic.name for _, topic_id in requested if (topic := context.topics.by_id(topic_id)) is not None}
    named_twice = {name for name, _ in requested if name is not None} & by_id
    items = [
        _denial(context, request, topic, is_repeated=topic in repeated)
        or _topic(context, topic, _objection(context, topic, named_twice, repeated=topic in repeated))
        for topic in dict.fromkeys(requested)
    ]
    return gather_replies(items).map(lambda responses: Message(responses=responses))


def _denial(
    context: HandlerContext, request: Request, requested: TopicToDelete, *, is_repeated: bool
) -> Promise[Message] | None:
    """The reply's part for a topic that the requester may not delete; None if they may. As in Kafka it does
    not show whether a name exists, nor the name of an id, to those who may not describe the topic."""
    name, topic_id = requested
    is_by_id = name is None
    if is_repeated or is_by_id == (topic_id == NO_UUID):
        return None
    if name is None:
        topic = context.topics.by_id(topic_id)
        if topic is None:
            return None
        name = topic.name
    may_delete = context.allows(request, DELETE, name)
    may_describe = context.allows(request, DESCRIBE, name)
    if may_delete and (is_by_id or may_describe):
        return None
    if not is_by_id and may_describe and context.topics.get(name) is None:
        return None
    shown = None if is_by_id and not may_describe else name
    denied = Message(name=shown, topic_id=topic_id, error_code=DELETE.code, error_message=DELETE.text)
    return Promise.resolved(denied)


def _objection(
    context: HandlerContext, requested: TopicToDelete, named_twice: set[str], *, repeated: bool
) -> str | None:
    """Why one topic of the request is refused; None if it is not. `named_twice`: topics that the request
    has both by name and by id."""
    name, topic_id = requested
    if name is not None and topic_id != NO_UUID:
        return "You may not specify both topic name and topic id."
    if name is None and topic_id == NO_UUID:
        return "Neither topic name nor id were specified."
    if repeated:
        return "Duplicate topic name." if name is not None else "Duplicate topic id."
    topic = context.topics.get(name) if name is not None else context.topics.by_id(topic_id)
    if topic is not None and topic.name in named_twice:
        return "The provided topic name maps to an ID that was already supplied."
    return None


def _topic(context: HandlerContext, requested: TopicToDelete, objection: str | None) -> Promise[Message]:
    name, topic_id = requested

    def on_success(topic: TopicMetadata) -> Message:
        return Message(name=topic.name, topic_id=topic.id)

    def on_refusal(code: int, text: str) -> Message:
        # A null name is legal from v6 on, and only there a topic is requested by id.
        return Message(name=name, topic_id=topic_id, error_code=code, error_message=text)

    if objection is not None:
        return reply_for(Promise.failed(InvalidRequest(objection)), on_success, on_refusal)
    if name is not None and context.topics.get(name) is None:
        # Also for an invalid name, for which other requests return INVALID_TOPIC_EXCEPTION.
        return reply_for(
            Promise.failed(UnknownTopicOrPartition("This server does not host this topic.")),
            on_success,
            on_refusal,
        )
    return reply_for(context.topics.delete(name if name is not None else topic_id), on_success, on_refusal)


HANDLER = Handler(key=20, versions=(1, 6), handle=handle, rights=(DELETE, DESCRIBE))
