"""Refusals as RFC 9457 problems: their kinds, their JSON, and the errors of the contract that they report.

Owns: the one table of kinds; docs/HTTP.md lists it and a test compares them. The door turns errors into
problems with `kind_of`, and the client turns problems back into errors with `error_of`. Refuses: writing the
replies, which the HTTP door does.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mainstem import contract, queue_contract

MEDIA_TYPE = "application/problem+json"
URN = "urn:mainstem:"
"""What the `type` of every problem begins with; its kind follows."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: HTTP status, title, and the advice to give unless a better one is known."""

    status: int
    title: str
    fix: str


KINDS: dict[str, ProblemKind] = {
    "invalid": ProblemKind(
        400, "The request is not valid", "Correct what `detail` names; /openapi.json describes the request."
    ),
    "query": ProblemKind(
        422, "The query cannot be parsed", "Correct it at `column`; docs/SEARCH.md describes the language."
    ),
    "bad-path": ProblemKind(400, "The path is not valid", "See /openapi.json for the paths."),
    "bad-request": ProblemKind(400, "This is not HTTP", "Send HTTP/1.1 as RFC 9112 describes it."),
    "forbidden-host": ProblemKind(
        403,
        "This host name is not served here",
        "Use the address in the ready line, or start the server with --http-hosts NAME.",
    ),
    "forbidden-origin": ProblemKind(
        403,
        "A page of another site must not send this request",
        "Send it from the console's own page or from a program.",
    ),
    "unauthorized": ProblemKind(
        401,
        "A login is needed",
        "Send user and password as Basic credentials, or a token as Bearer credentials.",
    ),
    "forbidden": ProblemKind(
        403,
        "Access control does not permit this",
        "Ask an administrator for an access control entry that allows it.",
    ),
    "not-allowed": ProblemKind(403, "This is not permitted", "Ask the administrator of the server."),
    "not-found": ProblemKind(404, "There is nothing at this path", "See /openapi.json for the paths."),
    "unknown-topic": ProblemKind(404, "There is no such topic", "GET /api/v1/topics lists the topics."),
    "unknown-group": ProblemKind(
        404, "There is no such consumer group", "GET /api/v1/groups lists the groups."
    ),
    "unknown-token": ProblemKind(404, "There is no such API token", "GET /api/v1/tokens lists the tokens."),
    "unknown-user": ProblemKind(404, "There is no such user", "Add the user first."),
    "unknown-masking-rule": ProblemKind(
        404, "There is no such masking rule", "GET /api/v1/masking-rules lists them."
    ),
    "unknown-subscription": ProblemKind(
        404, "There is no such subscription", "GET /api/v1/subscriptions lists them."
    ),
    "not-offered": ProblemKind(
        404,
        "This event log does not offer that",
        "Subscriptions are offered by `mainstem serve`, and not in front of a Kafka cluster.",
    ),
    "unknown-snapshot": ProblemKind(
        404,
        "There is no such snapshot",
        "GET /api/v1/subscriptions/{subscription}/snapshots lists those of a subscription.",
    ),
    "method": ProblemKind(405, "This path does not accept that method", "Use a method of the Allow header."),
    "slow-body": ProblemKind(408, "The body did not arrive in time", "Send it without long pauses."),
    "slow-request": ProblemKind(
        408, "The request did not arrive in time", "Send its headers without pauses."
    ),
    "topic-exists": ProblemKind(409, "A topic of this name exists already", "Choose another name."),
    "user-exists": ProblemKind(409, "A user of this name exists already", "Change its password instead."),
    "subscription-exists": ProblemKind(
        409, "A subscription of this name exists already", "Choose another name."
    ),
    "settings-changed": ProblemKind(
        409, "The settings have been changed by another request", "Read them again, and repeat the change."
    ),
    "snapshot-exists": ProblemKind(409, "A snapshot of this name exists already", "Choose another name."),
    "group-in-use": ProblemKind(409, "The consumer group has members", "Stop its members first."),
    "body-too-large": ProblemKind(
        413,
        "The body is too large",
        "Send less at once. Events: stream application/x-ndjson, or raise http_max_body_bytes.",
    ),
    "event-too-large": ProblemKind(
        413,
        "The event is larger than the topic accepts",
        "Raise the topic's max.message.bytes, or send a smaller event.",
    ),
    "media-type": ProblemKind(
        415,
        "The content type of the body is not supported",
        "Set the Content-Type header as `detail` says.",
    ),
    "out-of-range": ProblemKind(
        416,
        "The partition has no such offset",
        "Read from `begin` on; retention has removed what is older.",
    ),
    "unfit": ProblemKind(
        422, "The request is well-formed but cannot be executed", "Change what `detail` names."
    ),
    "not-published": ProblemKind(
        422, "Not all events were published", "Correct the events that `errors` names."
    ),
    "too-many-attempts": ProblemKind(
        429, "Too many attempts to log in have failed", "Wait as long as the Retry-After header says."
    ),
    "quota-exceeded": ProblemKind(
        429,
        "The client has published, read or computed more than its quota",
        "Wait as long as the Retry-After header says, or have the quota raised.",
    ),
    "head-too-large": ProblemKind(
        431, "The request line and headers are too large", "Keep them below 64 KiB."
    ),
    "failed": ProblemKind(500, "The server failed", "See the server's log; trying again may help."),
    "busy": ProblemKind(
        503, "The server has no capacity for this request now", "Try again when other requests have ended."
    ),
    "no-keys": ProblemKind(
        503,
        "Tokens cannot be checked now",
        "Try again later, or log in with a password; the server's log says what is wrong with the keys.",
    ),
    "crowded": ProblemKind(
        503, "There are too many connections", "Reuse connections instead of opening more."
    ),
    "not-reachable": ProblemKind(
        503, "The event log does not respond", "Try again; /readyz reports what is wrong."
    ),
}

_KINDS_OF_ERRORS: tuple[tuple[type[contract.StreamError], str], ...] = (
    (contract.UnknownTopic, "unknown-topic"),
    (contract.UnknownGroup, "unknown-group"),
    (contract.NoSuchUser, "unknown-user"),
    (contract.NoSuchToken, "unknown-token"),
    (queue_contract.NoSuchSubscription, "unknown-subscription"),
    (queue_contract.NoSuchSnapshot, "unknown-snapshot"),
    (queue_contract.SnapshotNameTaken, "snapshot-exists"),
    (queue_contract.SettingsHaveChanged, "settings-changed"),
    (contract.TopicExists, "topic-exists"),
    (queue_contract.SubscriptionNameTaken, "subscription-exists"),
    (contract.GroupInUse, "group-in-use"),
    (contract.PositionOutOfRange, "out-of-range"),
    (contract.EventTooLarge, "event-too-large"),
    (contract.NotAuthorized, "forbidden"),
    (contract.NotAllowed, "not-allowed"),
    (contract.NotReachable, "not-reachable"),
    (contract.InvalidArgument, "unfit"),
    (contract.StreamError, "failed"),
)
_ERRORS_OF_KINDS: dict[str, type[contract.StreamError]] = {
    **{kind: error for error, kind in _KINDS_OF_ERRORS},
    "invalid": contract.InvalidArgument,
    "forbidden-host": contract.NotAllowed,
    "busy": contract.NotReachable,
    "crowded": contract.NotReachable,
    "unauthorized": contract.NotAllowed,
    "too-many-attempts": contract.NotReachable,
    "quota-exceeded": contract.NotReachable,
    "no-keys": contract.NotReachable,
}


class ProblemJson(msgspec.Struct):
    """The body of every refusal (RFC 9457): what went wrong, and what to do. Some kinds have further
    members."""

    type: str
    title: str
    status: int
    detail: str
    fix: str

    @property
    def kind(self) -> str:
        """The problem's key in KINDS. A kind that a later version added is not in KINDS."""
        return self.type.removeprefix(URN)


class QueryProblemJson(ProblemJson):
    """A problem of the kind `query`: the place in the query that cannot be parsed."""

    column: int
    length: int


def kind_of(error: contract.StreamError) -> str:
    """The kind of the problem that reports an error of the contract."""
    return next(kind for error_type, kind in _KINDS_OF_ERRORS if isinstance(error, error_type))


def error_of(problem: ProblemJson) -> contract.StreamError:
    """The error of the contract that a problem reports."""
    return _ERRORS_OF_KINDS.get(problem.kind, contract.StreamError)(problem.detail or problem.title)
