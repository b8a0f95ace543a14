"""42 DeleteGroups.

Versions: 0-2.
Behaviour: deletes groups without members, with their committed offsets, or with what a share group knows of
records; the reply waits until that is durable. Each group has its own error code: NON_EMPTY_GROUP,
GROUP_ID_NOT_FOUND.
Notes: v2 is flexible.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import gather_replies, reply_for
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

DELETE = of_each(Operation.DELETE, ResourceType.GROUP)


def _delete(context: HandlerContext, request: Request, group_id: str) -> Promise[Message]:
    def on_success(_: None) -> Message:
        return Message(group_id=group_id)

    def on_refusal(code: int, _: str) -> Message:
        return Message(group_id=group_id, error_code=code)

    if not context.allows(request, DELETE, group_id):
        return Promise.resolved(on_refusal(DELETE.code, DELETE.text))
    share_groups = context.node.share_groups
    is_share = share_groups.find(group_id) is not None
    deleted = share_groups.delete(group_id) if is_share else context.groups.delete(group_id)
    return reply_for(deleted, on_success, on_refusal)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    results = [_delete(context, request, group_id) for group_id in dict.fromkeys(request.body.groups_names)]
    return gather_replies(results).map(lambda messages: Message(results=messages))


HANDLER = Handler(key=42, versions=(0, 2), handle=handle, rights=(DELETE,))
