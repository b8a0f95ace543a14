"""77 ShareGroupDescribe.

Versions: 1.
Behaviour: describes share groups: their state, epochs, members, and which partitions these have. What is no
share group has GROUP_ID_NOT_FOUND; the empty name INVALID_GROUP_ID. A group that is named more than once is
described once. A group with a topic that the client has no right to describe is not described
(TOPIC_AUTHORIZATION_FAILED). Many groups are described in several turns of the event loop.
Notes: v0 was an early-access version, which Kafka has removed.
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from mainstem.access_contract import Operation, Resource, ResourceType
from mainstem.coordinator.errors import GroupIdNotFound
from mainstem.coordinator.groups.share_types import ShareGroupMember, ShareGroupView
from mainstem.doors.kafka.authorized_operations import NOT_REQUESTED, authorized_operations
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.writer import ArrayWriter
from mainstem.turns import run_in_turns

DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.GROUP)
TOPICS = of_each(Operation.DESCRIBE, ResourceType.TOPIC, when="that a member has or subscribes to")
HIDDEN_TOPICS = "The group has described topic(s) that the client is not authorized to describe."
COST_PER_TURN = 500
"""Groups, members, and a tenth of their partitions, that are encoded in one turn of the event loop."""


def _member(context: HandlerContext, member: ShareGroupMember) -> Message:
    facts = member.facts
    named = [
        (topic, partitions)
        for topic_id, partitions in member.assignment.items()
        if (topic := context.topics.by_id(topic_id)) is not None
    ]
    return Message(
        member_id=facts.member_id,
        rack_id=facts.rack_id,
        member_epoch=member.member_epoch,
        client_id=facts.client_id,
        client_host=facts.client_host,
        subscribed_topic_names=facts.topics,
        assignment=Message(
            topic_partitions=[
                Message(topic_id=topic.id, topic_name=topic.name, partitions=partitions)
                for topic, partitions in named
            ]
        ),
    )


def _topic_names(context: HandlerContext, view: ShareGroupView) -> set[str]:
    """The topics that a description of the group would name."""
    names: set[str] = set()
    for member in view.members:
        names.update(member.facts.topics)
        assigned = (context.topics.by_id(topic_id) for topic_id in member.assignment)
        names.update(topic.name for topic in assigned if topic is not None)
    return names


def _described(context: HandlerContext, view: ShareGroupView, operations: int) -> Message:
    return Message(
        error_message=None,
        group_id=view.group_id,
        group_state=view.state.value,
        group_epoch=view.epoch,
        assignment_epoch=view.assignment_epoch,
        assignor_name=view.assignor,
        members=[_member(context, member) for member in view.members],
        authorized_operations=operations,
    )


def _refused(group_id: str, code: int, text: str | None) -> Message:
    return Message(
        error_code=code,
        error_message=text,
        group_id=group_id,
        members=[],
        authorized_operations=NOT_REQUESTED,
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    groups = ArrayWriter(77, request.version, "groups")

    def operations(group_id: str) -> int:
        if not request.body.include_authorized_operations:
            return NOT_REQUESTED
        return authorized_operations(context, request, Resource(ResourceType.GROUP, group_id))

    def encode() -> Iterator[int]:
        for group_id in dict.fromkeys(request.body.group_ids):
            view = context.node.share_groups.view(group_id) if group_id else None
            if not context.allows(request, DESCRIBE, group_id):
                groups.add(_refused(group_id, DESCRIBE.code, None))
            elif view is None:
                groups.add(_refused(group_id, ErrorCode.INVALID_GROUP_ID, None))
            elif isinstance(view, GroupIdNotFound):
                groups.add(_refused(group_id, ErrorCode.GROUP_ID_NOT_FOUND, str(view)))
            elif not all(context.allows(request, TOPICS, name) for name in _topic_names(context, view)):
                groups.add(_refused(group_id, TOPICS.code, HIDDEN_TOPICS))
                yield len(view.members)
            else:
                groups.add(_described(context, view, operations(group_id)))
                yield sum(1 + member.partitions // 10 for member in view.members)
            yield 1

    return (
        run_in_turns(context.clock, encode(), COST_PER_TURN)
        .chain(context.node.queue_runtime.read)
        .map(lambda _: Message(groups=groups.encoded()))
    )


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every group."""
    return Message(groups=[_refused(group_id, code, None) for group_id in request.body.group_ids])


HANDLER = Handler(key=77, versions=(1, 1), handle=handle, rights=(DESCRIBE, TOPICS), on_error=on_error)
