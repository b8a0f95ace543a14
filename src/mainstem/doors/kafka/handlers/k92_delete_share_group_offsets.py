"""92 DeleteShareGroupOffsets.

Versions: 0.
Behaviour: lets a share group without members forget what it knows of topics: when it reads them again, it
begins where `share.auto.offset.reset` says. GROUP_ID_NOT_FOUND and NON_EMPTY_GROUP are errors of the request,
a topic that the group does not know has UNKNOWN_TOPIC_OR_PARTITION.
Notes: there is one version.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.errors import InvalidGroupId
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each, of_group
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.schema import NO_UUID

READ = of_each(Operation.READ, ResourceType.TOPIC)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    group_id, node = request.body.group_id, context.node
    if not group_id:
        raise InvalidGroupId("the name of the group is empty")
    requested = dict.fromkeys(topic.topic_name for topic in request.body.topics)
    may_read = {name: context.allows(request, READ, name) for name in requested}
    names = [name for name in requested if may_read[name]]
    responses = [
        Message(topic_name=name, topic_id=NO_UUID, error_code=READ.code, error_message=READ.text)
        for name in requested
        if not may_read[name]
    ]
    subscription = node.share_groups.find(group_id)
    known = set() if subscription is None else set(subscription.settings.topics)
    for view in [] if subscription is None else node.subscriptions.views.of_subscription(subscription.id):
        topic = context.topics.by_id(view.topic_id)
        if topic is not None:
            known.add(topic.name)
    topics = {name: context.topics.get(name) for name in names}

    def reply(_: None) -> Message:
        for name, topic in topics.items():
            is_known = topic is not None and name in known
            responses.append(
                Message(
                    topic_name=name,
                    topic_id=NO_UUID if topic is None or not is_known else topic.id,
                    error_code=0 if is_known else int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
                    error_message=None if is_known else "There is no offset information to delete.",
                )
            )
        return Message(responses=responses)

    return node.share_groups.forget_topics(group_id, [name for name in names if name in known]).map(reply)


HANDLER = Handler(key=92, versions=(0, 0), handle=handle, rights=(of_group(Operation.DELETE), READ))
