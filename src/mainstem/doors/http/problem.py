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
class Kind:
    """A kind of problem: its status, its title, and what to do about it unless something better is known."""

    status: int
    title: str
    fix: str


KINDS: dict[str, Kind] = {
    "invalid": Kind(
        400, "The request is not valid", "Correct what `detail` names; /openapi.json has the form."
    ),
    "query": Kind(
        422, "The query cannot be read", "Correct it at `column`; docs/SEARCH.md has the language."
    ),
    "bad-path": Kind(400, "The address is not valid", "See /openapi.json for the addresses."),
    "bad-request": Kind(400, "This is not HTTP", "Send HTTP/1.1, as RFC 9112 has it."),
    "forbidden-host": Kind(
        403,
        "This name is not served here",
        "Use the address of the ready line, or start with --http-hosts NAME.",
    ),
    "forbidden-origin": Kind(
        403, "Another site's page may not do this", "Call from the console's own page or from a program."
    ),
    "not-allowed": Kind(403, "This is not permitted", "Ask whoever runs the server."),
    "not-found": Kind(404, "There is nothing at this address", "See /openapi.json for the addresses."),
    "unknown-topic": Kind(404, "There is no such topic", "GET /api/v1/topics lists them."),
    "unknown-group": Kind(404, "There is no such consumer group", "GET /api/v1/groups lists them."),
    "method": Kind(405, "This address does not take that method", "Use a method of the Allow header."),
    "slow-body": Kind(408, "The body did not arrive", "Send it without long pauses."),
    "slow-request": Kind(408, "The request did not arrive", "Send its headers without pauses."),
    "topic-exists": Kind(409, "There is a topic of this name already", "Choose another name."),
    "group-in-use": Kind(409, "The consumer group has members", "Stop its members first."),
    "body-too-large": Kind(
        413,
        "The body is too large",
        "Send less at once; events: stream application/x-ndjson, or raise http_max_body_bytes.",
    ),
    "event-too-large": Kind(
        413, "The event is larger than the topic takes", "Raise the topic's max.message.bytes, or send less."
    ),
    "media-type": Kind(
        415, "The body's content type is not taken", "Set the Content-Type header as `detail` says."
    ),
    "out-of-range": Kind(
        416, "The offset is not in the partition", "Read from `begin` on; retention removes what is older."
    ),
    "unfit": Kind(422, "The request is well formed, but cannot be done", "Change what `detail` names."),
    "not-published": Kind(422, "Not all events were published", "Correct the events that `errors` names."),
    "head-too-large": Kind(431, "Address and headers are too large", "Send less than 64 KiB of them."),
    "failed": Kind(500, "The server failed", "Look at the server's log; trying again may help."),
    "busy": Kind(503, "Too much is being searched", "Try again when other searches have ended."),
    "crowded": Kind(503, "There are too many connections", "Keep connections and use them again."),
    "not-reachable": Kind(503, "The stream does not answer", "Try again; /readyz tells what is wrong."),
}

_OF_ERRORS: tuple[tuple[type[contract.StreamError], str], ...] = (
    (contract.UnknownTopic, "unknown-topic"),
    (contract.UnknownGroup, "unknown-group"),
    (contract.TopicExists, "topic-exists"),
    (contract.GroupInUse, "group-in-use"),
    (contract.OffsetOutOfRange, "out-of-range"),
    (contract.EventTooLarge, "event-too-large"),
    (contract.NotAllowed, "not-allowed"),
    (contract.NotReachable, "not-reachable"),
    (contract.Invalid, "unfit"),
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


def of(error: contract.StreamError, **more: Any) -> Problem:
    """The problem that says what an engine refused."""
    kind = next(kind for each, kind in _OF_ERRORS if isinstance(error, each))
    return Problem(kind, str(error), **more)
