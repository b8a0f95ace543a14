"""The exception that refuses a request, and its response.

Owns: the form of a refusal: an RFC 9457 problem with a cause and advice. Its kinds are listed in
`mainstem.http_api.problems`. Refuses: tracebacks and other internals.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from mainstem import contract
from mainstem.doors.net.acceptor import is_exhausted
from mainstem.http_api.problems import KINDS, MEDIA_TYPE, URN, kind_of

if TYPE_CHECKING:
    from starlette.types import Scope

log = logging.getLogger("mainstem.http")


class Problem(Exception):
    """Refuses a request: raised by a route, and sent as an RFC 9457 problem. `kind` is a key of KINDS,
    `detail` one sentence on this case, `members` further JSON members."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        fix: str | None = None,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.fix = KINDS[kind].fix if fix is None else fix
        self.headers = headers
        self._members = members

    @property
    def status(self) -> int:
        """The HTTP status of the response."""
        return KINDS[self.kind].status

    def members(self) -> dict[str, Any]:
        """The members of the JSON object that the response sends."""
        return {
            "type": URN + self.kind,
            "title": KINDS[self.kind].title,
            "status": self.status,
            "detail": self.detail,
            "fix": self.fix,
            **self._members,
        }

    def response(self) -> Response:
        """The HTTP response that reports this problem."""
        return Response(msgspec.json.encode(self.members()), self.status, self.headers, MEDIA_TYPE)


def from_error(error: contract.StreamError, **members: Any) -> Problem:
    """The problem that reports an error of the engine."""
    return Problem(kind_of(error), str(error), **members)


def from_failure(error: Exception, scope: Scope) -> Problem:
    """The problem that reports any other error: `busy` if the process has no descriptors or memory left, else
    `failed`, and then the traceback is logged."""
    if is_exhausted(error):
        why = getattr(error, "strerror", None) or os.strerror(errno.EMFILE)
        return Problem("busy", f"the server has run out of resources: {why}", headers={"retry-after": "1"})
    log.error("%s %s failed; the client got status 500", scope["method"], scope["path"], exc_info=error)
    return Problem("failed", "an unexpected error; the server's log has the details")
