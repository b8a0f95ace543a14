"""The cookie of the console's session, for the routes that begin and end sessions.

Owns: its attributes. Refuses: to read it (`requesters.py`).
"""

from __future__ import annotations

from starlette.responses import Response

from mainstem.doors.http.endpoint import Call
from mainstem.doors.http.requesters import HttpPeer, cookie_name

SESSION_PATH = "/api/v1/session"


def end_session(call: Call) -> bool:
    """End the session of the request, if it has one, with all its other requests. Returns whether it had."""
    session = call.caller.session
    if session is None:
        return False
    call.context.authentication.sessions.forget(session)
    call.context.running.abort_session(session, but=call.caller)
    return True


def set_cookie(response: Response, peer: HttpPeer, token: str, age_s: int) -> None:
    """Give the browser the token of its session."""
    response.set_cookie(
        cookie_name(peer.listener),
        token,
        max_age=age_s,
        path="/",
        secure=peer.listener.security.tls,
        httponly=True,
        samesite="strict",
    )
