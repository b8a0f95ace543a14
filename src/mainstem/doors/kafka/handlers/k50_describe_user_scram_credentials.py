"""50 DescribeUserScramCredentials.

Versions: 0.
Behaviour: the mechanisms and iterations of each user that is named, or of all (null or an empty list). Never
a salt or a key. RESOURCE_NOT_FOUND for a user that does not exist, DUPLICATE_RESOURCE for one that the
request repeats.
Notes: the only version is flexible.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import duplicates
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    users = {user.name: user.mechanisms for user in context.access.admin.users()}
    names = [user.name for user in request.body.users or ()]
    repeated = duplicates(names)
    results = []
    for name in dict.fromkeys(names or users):
        code, text = ErrorCode.NONE, ""
        if name in repeated:
            code = ErrorCode.DUPLICATE_RESOURCE
            text = f"Cannot describe SCRAM credentials for the same user twice in a single request: {name}"
        elif name not in users:
            code = ErrorCode.RESOURCE_NOT_FOUND
            text = f"Attempt to describe a user credential that does not exist: {name}"
        mechanisms = {} if code else users[name]
        infos = [
            Message(mechanism=int(mechanism), iterations=iterations)
            for mechanism, iterations in sorted(mechanisms.items())
        ]
        results.append(Message(user=name, error_code=code, error_message=text, credential_infos=infos))
    return Message(error_message="", results=results)


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code`, also for every user that is named."""
    names = dict.fromkeys(user.name for user in request.body.users or ())
    results = [Message(user=name, error_code=code, credential_infos=[]) for name in names]
    return Message(error_code=code, error_message=None, results=results)


HANDLER = Handler(
    key=50, versions=(0, 0), handle=handle, rights=(of_cluster(Operation.DESCRIBE),), on_error=on_error
)
