"""42 DeleteGroups.

Versions: 0-2.
Behaviour: deletes groups without members, and their offsets; each has its own code: NON_EMPTY_GROUP,
GROUP_ID_NOT_FOUND. Answered when the deletions are durable.
Notes: v2 is flexible.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.doors.kafka.handler import Answer, Context, Handler, Request
from mainstem.doors.kafka.per_item import answered, together
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Later


def _delete(context: Context, group_id: str) -> Later[Message]:
    def done(_: None) -> Message:
        return Message(group_id=group_id)

    def refused(code: int, _: str) -> Message:
        return Message(group_id=group_id, error_code=code)

    return answered(context.groups.delete(group_id), done, refused)


def handle(context: Context, request: Request) -> Answer:
    """Delete groups."""
    results = [_delete(context, group_id) for group_id in dict.fromkeys(request.body.groups_names)]
    return together(results).map(lambda messages: Message(results=messages))


HANDLER = Handler(key=42, versions=(0, 2), handle=handle)
