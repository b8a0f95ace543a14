"""ConsoleSessions of the console: who has logged in at a browser.

Owns: the sessions of this server, in memory: their number is bounded, and each ends after some time without a
sign of the person, after a longer time in any case, and with its user. Refuses: to keep a token: it knows the
hash. A restart ends all sessions.

A cookie is sent by the browser, whatever caused the request, so a request that has only a cookie proves
little. It is `SameSite=Strict` and HttpOnly; every request passes `http_guard.py`, which refuses pages of
other sites by Origin and Sec-Fetch-Site; and what changes something must have a header (CONSOLE_HEADER) that
a page of another site cannot send without asking first (CORS), which this server never allows. A token in
each form would prove the same, and there are no forms, only requests of scripts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from mainstem import base64url
from mainstem.access_contract import Principal
from mainstem.authentication.identity import Identity
from mainstem.clock import Clock, Timer

TOKEN_BYTES = 32
SESSIONS_MAX = 10_000
"""ConsoleSessions of all users; beyond, the one that was used longest ago ends."""
SESSIONS_OF_USER_MAX = 100
SWEEP_S = 30.0
"""How often sessions are looked at whose time may be over."""


@dataclass(slots=True, kw_only=True)
class ConsoleSession:
    """One session."""

    digest: bytes
    principal: Principal
    roles: frozenset[Principal]
    by_provider: bool
    """Whether the login provider says who it is."""
    ends_s: float
    """Monotonic time at which it ends in any case."""
    used_s: float
    """When the person last did something."""


class ConsoleSessions:
    """The sessions of a server. `random(n)` returns n bytes that cannot be guessed. `on_end` is called with a
    session that has ended by itself or with its user."""

    def __init__(
        self,
        clock: Clock,
        random: Callable[[int], bytes],
        *,
        idle_s: float,
        age_max_s: float,
        on_end: Callable[[ConsoleSession], None],
    ) -> None:
        self._clock = clock
        self._random = random
        self._idle_s = idle_s
        self.age_max_s = age_max_s
        self._on_end = on_end
        self._sessions: dict[bytes, ConsoleSession] = {}
        """By hash of the token; the one that was used longest ago first."""
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, identity: Identity, *, by_provider: bool = False) -> str:
        """Begin a session; returns its token, which is known to the browser alone."""
        of_user = [session for session in self._sessions.values() if session.principal == identity.principal]
        for session in of_user[: len(of_user) - SESSIONS_OF_USER_MAX + 1]:
            self.end(session)
        while len(self._sessions) >= SESSIONS_MAX:
            self.end(next(iter(self._sessions.values())))
        token = base64url.encode(self._random(TOKEN_BYTES))
        now_s = self._clock.monotonic()
        digest = _digest(token)
        self._sessions[digest] = ConsoleSession(
            digest=digest,
            principal=identity.principal,
            roles=identity.roles,
            by_provider=by_provider,
            ends_s=now_s + self.age_max_s,
            used_s=now_s,
        )
        if self._timer is None:
            self._timer = self._clock.call_later(SWEEP_S, self._sweep)
        return token

    def find(self, token: str, *, is_active: bool) -> ConsoleSession | None:
        """The session of this token; None: there is none, or its time is over. `is_active`: the person has
        just done something."""
        session = self._sessions.get(_digest(token))
        if session is None:
            return None
        if self._is_over(session):
            self.end(session)
            return None
        if is_active:
            session.used_s = self._clock.monotonic()
            self._sessions[session.digest] = self._sessions.pop(session.digest)
        return session

    def end(self, session: ConsoleSession) -> None:
        """End a session, if it has not ended."""
        if self._sessions.pop(session.digest, None) is not None:
            self._on_end(session)

    def forget(self, session: ConsoleSession) -> None:
        """End a session that its person has ended: `on_end` is not called."""
        self._sessions.pop(session.digest, None)

    def end_of(self, user: str) -> None:
        """End all sessions of a user."""
        for session in [session for session in self._sessions.values() if session.principal.name == user]:
            self.end(session)

    def close(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_over(self, session: ConsoleSession) -> bool:
        now_s = self._clock.monotonic()
        return now_s >= session.ends_s or now_s - session.used_s >= self._idle_s

    def _sweep(self) -> None:
        for session in [session for session in self._sessions.values() if self._is_over(session)]:
            self.end(session)
        self._timer = self._clock.call_later(SWEEP_S, self._sweep) if self._sessions else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
