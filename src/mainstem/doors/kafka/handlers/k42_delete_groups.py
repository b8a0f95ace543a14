"""42 DeleteGroups.

Versions: 0-2.
Behaviour: deletes groups without members, and their offsets; each has its own code: NON_EMPTY_GROUP,
GROUP_ID_NOT_FOUND. Answered when the deletions are durable.
Notes: v2 is flexible.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import gather_replies, reply_for
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise


def _delete(context: HandlerContext, group_id: str) -> Promise[Message]:
    def done(_: None) -> Message:
        return Message(group_id=group_id)

    def refused(code: int, _: str) -> Message:
        return Message(group_id=group_id, error_code=code)

    return reply_for(context.groups.delete(group_id), done, refused)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Delete groups."""
    results = [_delete(context, group_id) for group_id in dict.fromkeys(request.body.groups_names)]
    return gather_replies(results).map(lambda messages: Message(results=messages))


HANDLER = Handler(key=42, versions=(0, 2), handle=handle)
