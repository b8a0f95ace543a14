"""31 DeleteAcls.

Versions: 1-3.
Behaviour: removes the access control entries that each filter matches, and names them; the reply waits until
that is durable. An entry that several filters match is named by each. Entries about resources that Kafka does
not have stay. All filters together match 10,000 entries at most (POLICY_VIOLATION; then none is removed), and
there are 1,000 filters at most. With access control off SECURITY_DISABLED, as from a Kafka broker without an
authorizer.
Notes: v2 is flexible; v3 knows user resources. A number that Kafka does not have is INVALID_REQUEST for its
filter, also 0, at which a Kafka broker closes the connection.
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from mainstem.access_contract import Acl, Operation
from mainstem.coordinator.access.acls import ACLS_OF_WRITE_MAX
from mainstem.coordinator.errors import InvalidRequest, TooManyAcls
from mainstem.doors.kafka.acls import DISABLED, filter_of, matching_message, of_kafka
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import error_text, reply_for
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise
from mainstem.turns import run_in_turns

FILTERS_MAX = 1_000
Matched: TypeAlias = Sequence[Acl] | InvalidRequest
"""The entries that a filter matches, or why it is refused."""


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    access, filters = context.access, request.body.filters
    if not access.authorizer.is_on:
        disabled = Message(error_code=DISABLED[0], error_message=DISABLED[1], matching_acls=[])
        return Message(filter_results=[disabled] * len(filters))
    matched: list[Matched] = []

    def match() -> Iterator[int]:
        count = 0
        if len(filters) > FILTERS_MAX:
            raise TooManyAcls(f"{len(filters)} filters in a request; at most {FILTERS_MAX} are possible")
        for message in filters:
            acls = _match(context, message)
            matched.append(acls)
            count += 0 if isinstance(acls, InvalidRequest) else len(acls)
            if count > ACLS_OF_WRITE_MAX:
                raise TooManyAcls(f"more than {ACLS_OF_WRITE_MAX} access control entries at once")
            yield 1

    def delete(_: None) -> Promise[None]:
        acls = [acl for acls in matched if not isinstance(acls, InvalidRequest) for acl in acls]
        return access.admin.delete_acls(list(dict.fromkeys(acls)))

    return reply_for(
        run_in_turns(context.clock, match(), 1).chain(delete),
        lambda _: Message(filter_results=[_result(acls) for acls in matched]),
        lambda code, text: _refused(request, code, text),
    )


def _match(context: HandlerContext, message: Message) -> Matched:
    try:
        filter_ = filter_of(message)
    except InvalidRequest as error:
        return error
    return [] if filter_ is None else of_kafka(context.access.admin.acls(filter_))


def _result(acls: Matched) -> Message:
    if isinstance(acls, InvalidRequest):
        return Message(error_code=int(code_of(acls)), error_message=error_text(acls), matching_acls=[])
    return Message(error_message=None, matching_acls=[matching_message(acl) for acl in acls])


def _refused(request: Request, code: int, text: str | None) -> Message:
    results = [Message(error_code=code, error_message=text, matching_acls=[]) for _ in request.body.filters]
    return Message(filter_results=results)


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every filter."""
    return _refused(request, code, None)


HANDLER = Handler(
    key=31, versions=(1, 3), handle=handle, rights=(of_cluster(Operation.ALTER),), on_error=on_error
)
