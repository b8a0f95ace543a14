"""30 CreateAcls.

Versions: 1-3.
Behaviour: adds access control entries; the reply waits until they are durable. One that Kafka would refuse
has its own INVALID_REQUEST, and the others are added; one that exists stays as it is. Entries about resources
that Kafka does not have are refused. More than 10,000 new ones in a request, or 100,000 in all, are
POLICY_VIOLATION, and none is added. With access control off SECURITY_DISABLED, as from a Kafka broker without
an authorizer: what is not enforced must not look as if it were.
Notes: v2 is flexible; v3 knows user resources. The number 0 of a type is INVALID_REQUEST, where a Kafka
broker closes the connection, and so is ANY, for which it has UNKNOWN_SERVER_ERROR.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Acl, Operation
from mainstem.coordinator.errors import InvalidAcl
from mainstem.doors.kafka.acls import DISABLED, acl_of
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import error_text, reply_for
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    access, creations = context.access, request.body.creations
    if not access.authorizer.is_on:
        disabled = Message(error_code=DISABLED[0], error_message=DISABLED[1])
        return Message(results=[disabled] * len(creations))
    parsed = [_parse(creation) for creation in creations]

    def reply(valid: Message) -> Message:
        """The reply with this result for each valid entry."""
        return Message(
            results=[
                valid
                if isinstance(item, Acl)
                else Message(error_code=int(code_of(item)), error_message=error_text(item))
                for item in parsed
            ]
        )

    valid = [item for item in parsed if isinstance(item, Acl)]
    return reply_for(
        access.admin.create_acls(valid) if valid else Promise.resolved(None),
        lambda _: reply(Message(error_message=None)),
        lambda code, text: reply(Message(error_code=code, error_message=text)),
    )


def _parse(creation: Message) -> Acl | InvalidAcl:
    """The entry, or why it is refused."""
    try:
        return acl_of(creation)
    except InvalidAcl as error:
        return error


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every entry."""
    return Message(results=[Message(error_code=code) for _ in request.body.creations])


HANDLER = Handler(
    key=30, versions=(1, 3), handle=handle, rights=(of_cluster(Operation.ALTER),), on_error=on_error
)
