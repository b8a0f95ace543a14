"""Passes requests of the HTTP door to other doors, by the prefix of their path.

Owns: which door answers a path: the one that declared its prefix (`Door.http_prefix`). Refuses: requests that
the guard has not checked; it is in front of this; and those that need a login and have none. The paths of a
door that is off get status 404.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from mainstem.doors.http.problem import Problem
from mainstem.doors.http.requesters import RequestAuthentication

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from mainstem.doors.contract import HttpApp

REQUESTER_KEY = "requester"
"""Where the state of a request to another door has who sends it."""
log = logging.getLogger("mainstem.http")


class MountedApps:
    """Passes a request to the application of the door that its path belongs to, else to `app`. `mounts`: by
    prefix, what opens the door and returns its application."""

    def __init__(
        self,
        app: ASGIApp,
        mounts: Mapping[str, Callable[[], Awaitable[HttpApp]]],
        authentication: RequestAuthentication,
    ) -> None:
        self._app = app
        self._mounts = mounts
        self._authentication = authentication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request to the application whose prefix its path begins with, else to `app`."""
        if self._mounts and scope["type"] == "http":
            for prefix, open_app in self._mounts.items():
                if scope["path"].startswith(prefix):
                    await self._pass_on(open_app, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _pass_on(
        self, open_app: Callable[[], Awaitable[HttpApp]], scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            scope["state"][REQUESTER_KEY] = (await self._authentication.known_caller_of(scope)).requester
            app = await open_app()
        except Problem as refusal:
            await refusal.response()(scope, receive, send)
        except Exception:
            log.exception(
                "%s: the door that answers this path cannot be opened; the client got status 500",
                scope["path"],
            )
            problem = Problem(
                "failed", "the door for this path cannot be opened; the server's log has the details"
            )
            await problem.response()(scope, receive, send)
        else:
            await app(scope, receive, send)
