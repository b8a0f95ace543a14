"""51 AlterUserScramCredentials.

Versions: 0.
Behaviour: sets and deletes verifiers of users; the reply has one result for each user. A user is added with
the first verifier and deleted with the last, which disconnects it. The client sends a salted password; only
what follows from it is stored. UNACCEPTABLE_CREDENTIAL for an empty name, for one that SASLprep changes, and
for iterations outside of 4,096 to 16,384; UNSUPPORTED_SASL_MECHANISM; RESOURCE_NOT_FOUND for a verifier that
does not exist; DUPLICATE_RESOURCE for one that is altered twice. Nothing of such a user is changed then.
Notes: the only version is flexible. Kafka refuses two mechanisms of one user in a request, here they are two
changes.
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from mainstem.access_contract import (
    ITERATIONS_MAX,
    ITERATIONS_MIN,
    Operation,
    ScramMechanism,
    ScramVerifier,
)
from mainstem.authentication.scram import verifier_of
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import attempt, duplicates, gather_replies, reply_for
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise


class _Refused(Exception):
    """The changes of one user cannot be made."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Changes:
    """What a request changes of one user."""

    def __init__(self) -> None:
        self.deletions: list[int] = []
        self.upsertions: list[Message] = []


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    by_user: dict[str, _Changes] = {}
    for deletion in request.body.deletions:
        by_user.setdefault(deletion.name, _Changes()).deletions.append(deletion.mechanism)
    for upsertion in request.body.upsertions:
        by_user.setdefault(upsertion.name, _Changes()).upsertions.append(upsertion)
    results = [_result(context, name, changes) for name, changes in by_user.items()]
    return gather_replies(results).map(lambda messages: Message(results=messages))


def _result(context: HandlerContext, name: str, changes: _Changes) -> Promise[Message]:
    """Make the changes of one user, and the message of their result."""

    def message(code: int, text: str | None) -> Message:
        return Message(user=name, error_code=code, error_message=text)

    try:
        mechanisms, verifiers = _read(context, name, changes)
    except _Refused as error:
        return Promise.resolved(message(error.code, str(error)))
    done = attempt(lambda: _change(context, name, mechanisms, verifiers))
    return reply_for(done, lambda _: message(0, None), message)


def _change(
    context: HandlerContext, name: str, mechanisms: list[ScramMechanism], verifiers: list[ScramVerifier]
) -> Promise[None]:
    # What is new comes first: a user whose only verifier is replaced by another stays connected.
    admin = context.access.admin
    done = admin.put_verifiers(name, verifiers) if verifiers else Promise.resolved(None)
    return done.chain(lambda _: admin.delete_verifiers(name, mechanisms)) if mechanisms else done


def _read(
    context: HandlerContext, name: str, changes: _Changes
) -> tuple[list[ScramMechanism], list[ScramVerifier]]:
    """The mechanisms to delete and the verifiers to set. _Refused as Kafka refuses them."""
    kinds = [*changes.deletions, *(upsertion.mechanism for upsertion in changes.upsertions)]
    if not name:
        raise _Refused(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Username must not be empty")
    if not set(kinds) <= set(ScramMechanism):
        raise _Refused(ErrorCode.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism")
    if duplicates(kinds):
        raise _Refused(
            ErrorCode.DUPLICATE_RESOURCE, "A user credential cannot be altered twice in the same request"
        )
    mechanisms = [ScramMechanism(kind) for kind in changes.deletions]
    if any(context.access.admin.verifier(name, mechanism) is None for mechanism in mechanisms):
        raise _Refused(
            ErrorCode.RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist"
        )
    return mechanisms, list(_verifiers(changes.upsertions))


def _verifiers(upsertions: Iterable[Message]) -> Iterable[ScramVerifier]:
    for upsertion in upsertions:
        if upsertion.iterations < ITERATIONS_MIN:
            raise _Refused(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too few iterations")
        if upsertion.iterations > ITERATIONS_MAX:
            raise _Refused(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too many iterations")
        try:
            yield verifier_of(
                ScramMechanism(upsertion.mechanism),
                bytes(upsertion.salted_password),
                bytes(upsertion.salt),
                upsertion.iterations,
            )
        except ValueError as error:
            raise _Refused(ErrorCode.UNACCEPTABLE_CREDENTIAL, str(error)) from None


def on_error(request: Request, code: int) -> Message:
    """The reply that refuses every user of the request."""
    text = "Cluster authorization failed." if code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED else None
    names = dict.fromkeys(change.name for change in (*request.body.deletions, *request.body.upsertions))
    return Message(results=[Message(user=name, error_code=code, error_message=text) for name in names])


HANDLER = Handler(
    key=51, versions=(0, 0), handle=handle, rights=(of_cluster(Operation.ALTER),), on_error=on_error
)
