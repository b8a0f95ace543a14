"""11 JoinGroup.

Versions: 0-9.
Behaviour: adds a member to the group's next generation. The reply waits until all members have joined or the
rebalance timeout is over; the leader's reply has every member's metadata. Later requests of the same
connection wait until it is sent. An id that is given begins with at most 249 characters of the client id or
instance id. While the soft state of all groups takes `group_memory_max_bytes`, a join gets
COORDINATOR_LOAD_IN_PROGRESS; one that makes its group larger than 24 MiB gets GROUP_MAX_SIZE_REACHED.
Notes: v1 adds the rebalance timeout (in v0 it is the session timeout); v4 gives a new member its id and makes
it join again (MEMBER_ID_REQUIRED, KIP-394); v5 has static members (KIP-345), v8 a reason, which is logged
(KIP-800); v9 lets the leader of an unchanged group skip the assignment (KIP-814).
Left out: joining a group of the consumer protocol (KIP-848) with the classic protocol.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.coordinator.errors import GroupFull, MemberIdRequired, RemovedMember
from mainstem.coordinator.groups.types import JoinReply, JoinRequest
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import error_text
from mainstem.doors.kafka.rights import of_group
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

MUST_KNOW_ID_SINCE = 4
REBALANCE_TIMEOUT_SINCE = 1
NO_PROTOCOL_SINCE = 7
SKIP_ASSIGNMENT_SINCE = 9


def _join(request: Request) -> JoinRequest:
    body, version = request.body, request.version
    has_rebalance_timeout = version >= REBALANCE_TIMEOUT_SINCE
    return JoinRequest(
        group_id=body.group_id,
        member_id=body.member_id,
        instance_id=body.group_instance_id,
        client_id=request.client_id or "",
        client_host="/" + request.peer.rpartition(":")[0],
        protocol_type=body.protocol_type,
        protocols=tuple((protocol.name, bytes(protocol.metadata)) for protocol in body.protocols),
        session_timeout_ms=body.session_timeout,
        rebalance_timeout_ms=body.rebalance_timeout if has_rebalance_timeout else body.session_timeout,
        reason=body.reason or "",
        requires_member_id=version >= MUST_KNOW_ID_SINCE,
        supports_skip_assignment=version >= SKIP_ASSIGNMENT_SINCE,
    )


def _joined(joined: JoinReply) -> Message:
    return Message(
        generation_id=joined.generation,
        protocol_type=joined.protocol_type,
        protocol_name=joined.protocol or "",
        leader=joined.leader,
        skip_assignment=joined.skip_assignment,
        member_id=joined.member_id,
        members=[
            Message(
                member_id=member.member_id, group_instance_id=member.instance_id, metadata=member.metadata
            )
            for member in joined.members
        ],
    )


def _refused(error: BaseException, request: Request) -> Message:
    error_text(error)  # logs the error if it is a fault of the server
    member_id = request.body.member_id
    if isinstance(error, MemberIdRequired):
        member_id = error.member_id
    elif isinstance(error, GroupFull | RemovedMember):
        member_id = ""
    name = None if request.version >= NO_PROTOCOL_SINCE else ""
    return Message(error_code=code_of(error), generation_id=-1, member_id=member_id, protocol_name=name)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    reply: Promise[Message] = Promise()

    def on_joined(joined: Promise[JoinReply]) -> None:
        error = joined.error
        reply.resolve(_joined(joined.result()) if error is None else _refused(error, request))

    context.groups.join(_join(request)).then(on_joined)
    return reply


def on_error(request: Request, code: int) -> Message:
    """The reply with an error code and no member."""
    name = None if request.version >= NO_PROTOCOL_SINCE else ""
    return Message(error_code=code, generation_id=-1, member_id="", protocol_name=name)


HANDLER = Handler(
    key=11, versions=(0, 9), handle=handle, rights=(of_group(Operation.READ),), on_error=on_error
)
