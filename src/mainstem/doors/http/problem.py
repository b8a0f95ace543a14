"""Refusals, as RFC 9457 problems: what, why, and what to do.

Owns: the one table of kinds. docs/HTTP.md lists it, a test compares. Refuses: tracebacks and anything else
of the inside. Raised by every file of this door, answered by `app.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response

from mainstem import contract

MEDIA = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: its status, its title, and what to do about it unless something better is known."""

    status: int
    title: str
    fix: str


KINDS: dict[str, ProblemKind] = {
    "invalid": ProblemKind(
        400, "The request is not valid", "Correct what `detail` names; /openapi.json has the form."
    ),
    "query": ProblemKind(
        422, "The query cannot be read", "Correct it at `column`; docs/SEARCH.md has the language."
    ),
    "bad-path": ProblemKind(400, "The address is not valid", "See /openapi.json for the addresses."),
    "bad-request": ProblemKind(400, "This is not HTTP", "Send HTTP/1.1, as RFC 9112 has it."),
    "forbidden-host": ProblemKind(
        403,
        "This name is not served here",
        "Use the address of the ready line, or start with --http-hosts NAME.",
    ),
    "forbidden-origin": ProblemKind(
        403, "Another site's page may not do this", "Call from the console's own page or from a program."
    ),
    "not-allowed": ProblemKind(403, "This is not permitted", "Ask whoever runs the server."),
    "not-found": ProblemKind(404, "There is nothing at this address", "See /openapi.json for the addresses."),
    "unknown-topic": ProblemKind(404, "There is no such topic", "GET /api/v1/topics lists them."),
    "unknown-group": ProblemKind(404, "There is no such consumer group", "GET /api/v1/groups lists them."),
    "method": ProblemKind(405, "This address does not take that method", "Use a method of the Allow header."),
    "slow-body": ProblemKind(408, "The body did not arrive", "Send it without long pauses."),
    "slow-request": ProblemKind(408, "The request did not arrive", "Send its headers without pauses."),
    "topic-exists": ProblemKind(409, "There is a topic of this name already", "Choose another name."),
    "group-in-use": ProblemKind(409, "The consumer group has members", "Stop its members first."),
    "body-too-large": ProblemKind(
        413,
        "The body is too large",
        "Send less at once; events: stream application/x-ndjson, or raise http_max_body_bytes.",
    ),
    "event-too-large": ProblemKind(
        413, "The event is larger than the topic takes", "Raise the topic's max.message.bytes, or send less."
    ),
    "media-type": ProblemKind(
        415, "The body's content type is not taken", "Set the Content-Type header as `detail` says."
    ),
    "out-of-range": ProblemKind(
        416, "The offset is not in the partition", "Read from `begin` on; retention removes what is older."
    ),
    "unfit": ProblemKind(
        422, "The request is well formed, but cannot be done", "Change what `detail` names."
    ),
    "not-published": ProblemKind(
        422, "Not all events were published", "Correct the events that `errors` names."
    ),
    "head-too-large": ProblemKind(431, "Address and headers are too large", "Send less than 64 KiB of them."),
    "failed": ProblemKind(500, "The server failed", "Look at the server's log; trying again may help."),
    "busy": ProblemKind(503, "Too much is being searched", "Try again when other searches have ended."),
    "crowded": ProblemKind(503, "There are too many connections", "Keep connections and use them again."),
    "not-reachable": ProblemKind(
        503, "The stream does not answer", "Try again; /readyz tells what is wrong."
    ),
}

_OF_ERRORS: tuple[tuple[type[contract.StreamError], str], ...] = (
    (contract.UnknownTopic, "unknown-topic"),
    (contract.UnknownGroup, "unknown-group"),
    (contract.TopicExists, "topic-exists"),
    (contract.GroupInUse, "group-in-use"),
    (contract.PositionOutOfRange, "out-of-range"),
    (contract.EventTooLarge, "event-too-large"),
    (contract.NotAllowed, "not-allowed"),
    (contract.NotReachable, "not-reachable"),
    (contract.InvalidArgument, "unfit"),
    (contract.StreamError, "failed"),
)


class Problem(Exception):
    """A refusal: `kind` is one of KINDS, `detail` one sentence on this case, `more` further members."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        fix: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.fix = KINDS[kind].fix if fix is None else fix
        self.headers = headers
        self.more = more

    def members(self) -> dict[str, Any]:
        """The JSON object."""
        known = KINDS[self.kind]
        return {
            "type": f"urn:mainstem:{self.kind}",
            "title": known.title,
            "status": known.status,
            "detail": self.detail,
            "fix": self.fix,
            **self.more,
        }

    def response(self) -> Response:
        """The answer."""
        body = msgspec.json.encode(self.members())
        return Response(body, KINDS[self.kind].status, self.headers, MEDIA)


def from_error(error: contract.StreamError, **more: Any) -> Problem:
    """The problem that says what an engine refused."""
    kind = next(kind for each, kind in _OF_ERRORS if isinstance(error, each))
    return Problem(kind, str(error), **more)
