"""50 DescribeUserScramCredentials.

Versions: 0.
Behaviour: there is no user: an empty list for all (null or an empty list), RESOURCE_NOT_FOUND for a name, and
DUPLICATE_RESOURCE for a name that the request repeats.
Notes: the only version is flexible.
Left out: users, which do not exist yet.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import duplicates
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    names = [user.name for user in request.body.users or ()]
    repeated = duplicates(names)
    results = []
    for name in dict.fromkeys(names):
        code, text = ErrorCode.RESOURCE_NOT_FOUND, "This server has no users yet."
        if name in repeated:
            code, text = ErrorCode.DUPLICATE_RESOURCE, "The request names this user more than once."
        results.append(Message(user=name, error_code=code, error_message=text, credential_infos=[]))
    return Message(error_message=None, results=results)


HANDLER = Handler(key=50, versions=(0, 0), handle=handle)
