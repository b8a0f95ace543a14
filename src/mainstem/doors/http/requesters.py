"""Who sends a request: its listener, its certificate or its credentials say it.

Owns: the `Requester` of each request; Basic, Bearer (RFC 7617, 6750) and the console's cookie; and the
refusals of a request that proves nothing. Refuses: what a client says of itself elsewhere; credentials that
the listener does not accept; and any difference between an unknown user and a wrong password. On listeners
that do not authenticate, credentials are not looked at.
"""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from mainstem.access_contract import ANONYMOUS, USER, ApiTokenStore, Principal, Requester
from mainstem.authentication.identity import (
    AuthenticationFailed,
    BearerUnavailable,
    Identity,
    TooManyAttempts,
)
from mainstem.authentication.login_counts import API_TOKEN, LoginOutcome
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.sessions import ConsoleSession, ConsoleSessions
from mainstem.doors.http.token_uses import TokenUses
from mainstem.doors.http.write_watch import WriteWatch
from mainstem.http_api.sessions import ACTIVE, CONSOLE_HEADER
from mainstem.http_api.tokens import TOKEN_PREFIX, token_digest

if TYPE_CHECKING:
    from starlette.types import Scope

    from mainstem.authentication.oidc import OidcLogins
    from mainstem.authentication.service import Authentication
    from mainstem.clock import Clock, Timer
    from mainstem.doors.contract import Listener

PEER_KEY = "peer"
"""Where the state of each request has the peer of its connection."""
BASIC, BEARER = "PLAIN", "OAUTHBEARER"
"""The SASL mechanisms that Basic and Bearer are, in the settings of a listener."""
REALM = "mainstem"
READING_METHODS = ("GET", "HEAD")
DOOR = "http"


@dataclass(slots=True, kw_only=True)
class HttpPeer:
    """The client of a connection."""

    host: str
    """Its address, without its port."""
    listener: Listener
    principal: Principal = ANONYMOUS
    """Who it is without a login: whom its certificate names, or the default principal of the listener."""
    abort: Callable[[], None]
    """Closes the connection at once."""
    writes: WriteWatch = field(default_factory=WriteWatch)
    """Whether the client may have received what was written."""

    @property
    def has_certificate(self) -> bool:
        """Whether a certificate has named it."""
        return self.principal != self.listener.default_principal


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCaller:
    """Who sends one request."""

    requester: Requester
    peer: HttpPeer
    is_known: bool = True
    """Whether it may use routes that need a login. False: it has not logged in, and the listener asks for
    it."""
    expires_at_ms: int | None = None
    """Wall ms after which the credentials are void; None: they do not end by themselves."""
    session: ConsoleSession | None = None
    """The session whose cookie the request has, if that says who sends it."""
    token: str | None = None
    """The id of the API token that the request has, if that says who sends it."""
    has_logged_in: bool = False
    """Whether credentials, a session or a certificate say who it is, and not the listener alone."""


class RunningRequests:
    """The requests that run now, by the user that sent them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._callers: dict[str, dict[int, HttpCaller]] = {}

    def begin(self, caller: HttpCaller) -> Callable[[], None]:
        """A request begins. Its connection is closed when its credentials expire. The function that is
        returned must be called at its end."""
        name, key = caller.requester.principal.name, id(caller)
        self._callers.setdefault(name, {})[key] = caller
        timer: Timer | None = None
        if caller.expires_at_ms is not None:
            left_s = max(0, caller.expires_at_ms - self._clock.wall_ms()) / 1000
            timer = self._clock.call_later(left_s, caller.peer.abort)

        def end() -> None:
            if timer is not None:
                timer.cancel()
            callers = self._callers[name]
            del callers[key]
            if not callers:
                del self._callers[name]

        return end

    def abort_of(self, user: str) -> None:
        """End the connections of the requests that this user has sent."""
        for caller in list(self._callers.get(user, {}).values()):
            caller.peer.abort()

    def abort_token(self, token: str) -> None:
        """End the connections of the requests that came with an API token, by its id."""
        for callers in list(self._callers.values()):
            for caller in list(callers.values()):
                if caller.token == token:
                    caller.peer.abort()

    def abort_session(self, session: ConsoleSession, *, but: HttpCaller | None = None) -> None:
        """End the connections of the requests that came with a session, but that of one."""
        for caller in list(self._callers.get(session.principal.name, {}).values()):
            if caller.session is session and caller is not but:
                caller.peer.abort()


class RequestAuthentication:
    """Finds out who sends a request."""

    def __init__(
        self,
        authentication: Authentication,
        sessions: ConsoleSessions,
        tokens: ApiTokenStore | None,
        clock: Clock,
    ) -> None:
        self._authentication = authentication
        self.sessions = sessions
        self._tokens = tokens
        self._clock = clock
        self.random_bytes = authentication.random_bytes
        self.counts = authentication.counts
        self.attempts = authentication.attempts
        self.token_uses = TokenUses()

    async def caller_of(self, scope: Scope) -> HttpCaller:
        """Who sends the request with this scope. Raises the problem `unauthorized` if its credentials are
        wrong, `too-many-attempts` if they were not looked at, `no-keys` if they cannot be, and
        `forbidden-origin` if only a cookie comes with what changes something."""
        peer: HttpPeer = scope["state"][PEER_KEY]
        if not peer.listener.security.authenticates:
            return _without_credentials(peer, has_logged_in=peer.has_certificate)
        headers = Headers(scope=scope)
        credentials = headers.get("authorization")
        if credentials is not None:
            if (caller := self._caller_of_token(credentials, peer)) is not None:
                return caller
            identity = await self._identity(credentials, peer, headers)
            requester = Requester(principal=identity.principal, roles=identity.roles, host=peer.host)
            return HttpCaller(
                requester=requester, peer=peer, expires_at_ms=identity.expires_at_ms, has_logged_in=True
            )
        session = self._session(scope, peer, headers)
        if session is not None:
            return _with_session(session, peer)
        if peer.has_certificate:
            return _without_credentials(peer, has_logged_in=True)
        return HttpCaller(requester=Requester(principal=ANONYMOUS, host=peer.host), peer=peer, is_known=False)

    def _caller_of_token(self, credentials: str, peer: HttpPeer) -> HttpCaller | None:
        """Who sends the request, if its credentials are an API token that is good. As passwords these are
        accepted only where others cannot read them."""
        scheme, _, given = credentials.partition(" ")
        given = given.strip()
        is_token = scheme.lower() == "bearer" and given.startswith(TOKEN_PREFIX)
        if not is_token or self._tokens is None or not peer.listener.mechanisms:
            return None
        token = self._tokens.find(token_digest(given))
        now_ms = self._clock.wall_ms()
        if token is None or token.expires_ms <= now_ms:
            self.counts.add(DOOR, API_TOKEN, LoginOutcome.FAILED)
            return None
        self.counts.add(DOOR, API_TOKEN, LoginOutcome.SUCCESS)
        self.token_uses.note(token.id, now_ms)
        requester = Requester(
            principal=Principal(USER, token.user), roles=token.roles, host=peer.host, scopes=token.scopes
        )
        return HttpCaller(
            requester=requester,
            peer=peer,
            expires_at_ms=token.expires_ms,
            token=token.id,
            has_logged_in=True,
        )

    async def known_caller_of(self, scope: Scope) -> HttpCaller:
        """Who sends the request with this scope, which needs a login: see `caller_of`."""
        caller = await self.caller_of(scope)
        if not caller.is_known:
            raise self.refusal(caller.peer, Headers(scope=scope))
        return caller

    async def _identity(self, credentials: str, peer: HttpPeer, headers: Mapping[str, str]) -> Identity:
        scheme, _, given = credentials.partition(" ")
        mechanism = {"basic": BASIC, "bearer": BEARER}.get(scheme.lower())
        if mechanism not in peer.listener.mechanisms or given.strip().startswith(TOKEN_PREFIX):
            raise self.refusal(peer, headers)
        given = given.strip()
        if mechanism == BEARER:
            checking = self._authentication.check_bearer(given, peer.host, door=DOOR)
            return await self._checked(checking, peer, headers)
        try:
            user, password = _basic(given)
        except ValueError:
            raise self.refusal(peer, headers) from None
        return await self.check_password(user, password, peer, headers)

    async def check_password(
        self, user: str, password: str, peer: HttpPeer, headers: Mapping[str, str]
    ) -> Identity:
        """Who this is, if the password is right; see `caller_of`."""
        checking = self._authentication.check_password(user, password, peer.host, door=DOOR)
        return await self._checked(checking, peer, headers)

    @property
    def provider(self) -> OidcLogins | None:
        """The logins by a login provider; None: there is none."""
        return self._authentication.provider

    async def check_provider(
        self, state: str, cookie: str, code: str, peer: HttpPeer, headers: Mapping[str, str]
    ) -> Identity:
        """Whom the login provider names; see `caller_of`."""
        checking = self._authentication.check_provider(state, cookie, code, peer.host, door=DOOR)
        return await self._checked(checking, peer, headers)

    def begin_session(
        self, identity: Identity, peer: HttpPeer, *, by_provider: bool = False
    ) -> tuple[str, HttpCaller]:
        """Begin a session of the console: its token, and who sends a request with it."""
        token = self.sessions.begin(identity, by_provider=by_provider)
        session = self.sessions.find(token, is_active=True)
        assert session is not None, "it has just begun"
        return token, _with_session(session, peer)

    def _session(self, scope: Scope, peer: HttpPeer, headers: Mapping[str, str]) -> ConsoleSession | None:
        """The session of the request's cookie, if it has one."""
        token = cookie_parser(headers.get("cookie", "")).get(cookie_name(peer.listener))
        if not token:
            return None
        sign = headers.get(CONSOLE_HEADER)
        session = self.sessions.find(token, is_active=sign == ACTIVE)
        if session is not None and sign is None and scope["method"] not in READING_METHODS:
            detail = f"a request with the console's cookie that changes something needs {CONSOLE_HEADER}"
            raise Problem("forbidden-origin", detail)
        return session

    async def _checked(
        self, checking: Awaitable[Identity], peer: HttpPeer, headers: Mapping[str, str]
    ) -> Identity:
        try:
            return await checking
        except TooManyAttempts as error:
            wait_s = max(1, math.ceil(error.retry_after_s))
            raise Problem(
                "too-many-attempts",
                f"too many attempts to log in have failed; try again in {wait_s} s",
                headers={"retry-after": str(wait_s)},
            ) from None
        except BearerUnavailable:
            if not self._authentication.accepts_tokens:
                raise self.refusal(peer, headers) from None
            raise Problem("no-keys", "the keys that tokens are checked with cannot be read now") from None
        except AuthenticationFailed:
            raise self.refusal(peer, headers) from None

    def refusal(self, peer: HttpPeer, headers: Mapping[str, str]) -> Problem:
        """The problem of a request that proves nothing, or the wrong thing. It is the same for every reason.
        A browser would ask for a password itself if it were offered Basic, so it is offered what it does not
        know."""
        offered = []
        if "sec-fetch-site" in headers:
            offered.append(f'Session realm="{REALM}"')
        else:
            if BASIC in peer.listener.mechanisms:
                offered.append(f'Basic realm="{REALM}", charset="UTF-8"')
            if BEARER in peer.listener.mechanisms:
                offered.append(f'Bearer realm="{REALM}"')
        challenge = ", ".join(offered) or f'Session realm="{REALM}"'
        return Problem(
            "unauthorized",
            "a login is needed, and the request has no credentials that are right",
            headers={"www-authenticate": challenge},
        )


def cookie_name(listener: Listener) -> str:
    """The name of the console's cookie. It has the port, because a browser sends the cookies of a host to all
    of its ports; with TLS a prefix (RFC 6265bis, 4.1.3.2) that only this host can set."""
    prefix = "__Host-" if listener.security.tls else ""
    return f"{prefix}mainstem-session-{listener.address.port}"


def _with_session(session: ConsoleSession, peer: HttpPeer) -> HttpCaller:
    requester = Requester(principal=session.principal, roles=session.roles, host=peer.host)
    return HttpCaller(requester=requester, peer=peer, session=session, has_logged_in=True)


def _without_credentials(peer: HttpPeer, *, has_logged_in: bool) -> HttpCaller:
    requester = Requester(principal=peer.principal, host=peer.host)
    return HttpCaller(requester=requester, peer=peer, has_logged_in=has_logged_in)


def _basic(encoded: str) -> tuple[str, str]:
    """User and password of Basic credentials. ValueError: they are malformed."""
    text = b64decode(encoded, validate=True).decode()  # the errors of both are ValueErrors
    user, colon, password = text.partition(":")
    if not colon:
        raise ValueError("no colon")
    return user, password
