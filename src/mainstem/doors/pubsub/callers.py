"""Who makes a call: the header `authorization` of the call says it, or the connection.

Owns: Basic and Bearer credentials, API tokens, and what was checked lately on the same connection. Refuses:
any difference between an unknown user and a wrong password. On listeners that do not authenticate,
credentials are not looked at: clients of an emulator send none, or any.
"""

from __future__ import annotations

import math
from base64 import b64decode
from typing import TYPE_CHECKING

from mainstem.access_contract import USER, Principal, Requester
from mainstem.authentication.identity import (
    AuthenticationFailed,
    BearerUnavailable,
    Identity,
    TooManyAttempts,
)
from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.http_api.tokens import TOKEN_PREFIX, token_digest
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.doors.contract import Access, Listener

DOOR = "pubsub"
KEPT_MS = 60_000
"""How long credentials that were right are not checked again on the same connection."""


class Callers:
    """Checks the credentials of all connections of a door."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self.access = access
        self.clock = clock
        self.changes = 0
        """Rises when a user was deleted: what connections know is not used any more."""


class ConnectionCaller:
    """Who makes the calls of one connection from `host`. `principal`: who it is without credentials."""

    __slots__ = ("_callers", "_changes", "_credentials", "_known", "_listener", "_until_ms", "anonymous")

    def __init__(self, callers: Callers, listener: Listener, host: str, principal: Principal) -> None:
        self._callers = callers
        self._listener = listener
        self.anonymous = Requester(principal=principal, host=host)
        self._credentials = ""
        self._known: Requester | None = None
        self._until_ms = 0
        self._changes = 0

    def requester(self, credentials: str | None) -> Requester | Promise[Requester]:
        """Who makes a call with these credentials. RpcError, or a promise that fails with it."""
        listener = self._listener
        if not listener.security.authenticates:
            return self.anonymous
        if credentials is None:
            if self.anonymous.principal != listener.default_principal:  # a certificate names it
                return self.anonymous
            raise _refused("credentials are needed")
        callers = self._callers
        now_ms = callers.clock.wall_ms()
        if (
            self._known is not None
            and credentials == self._credentials
            and now_ms < self._until_ms
            and self._changes == callers.changes
        ):
            return self._known
        scheme, _, given = credentials.partition(" ")
        given = given.strip()
        if scheme.lower() == "bearer" and given.startswith(TOKEN_PREFIX) and listener.mechanisms:
            return self._of_api_token(given, now_ms)
        return _checked(self._check(scheme.lower(), given)).map(
            lambda identity: self._keep(credentials, identity, now_ms)
        )

    def _of_api_token(self, given: str, now_ms: int) -> Requester:
        tokens = self._callers.access.api_tokens
        token = None if tokens is None else tokens.find(token_digest(given))
        if token is None or token.expires_ms <= now_ms:
            raise _refused("the token is not valid")
        principal = Principal(USER, token.user)
        return Requester(
            principal=principal, roles=token.roles, host=self.anonymous.host, scopes=token.scopes
        )

    def _check(self, scheme: str, given: str) -> Promise[Identity]:
        authentication, mechanisms = self._callers.access.authentication, self._listener.mechanisms
        host = self.anonymous.host
        if scheme == "bearer" and "OAUTHBEARER" in mechanisms:
            return authentication.check_bearer(given, host, door=DOOR)
        if scheme == "basic" and "PLAIN" in mechanisms:
            try:
                user, colon, password = b64decode(given, validate=True).decode().partition(":")
            except ValueError:
                colon = ""
            if colon:
                return authentication.check_password(user, password, host, door=DOOR)
        return Promise.failed(_refused("the credentials are not valid"))

    def _keep(self, credentials: str, identity: Identity, now_ms: int) -> Requester:
        requester = Requester(principal=identity.principal, roles=identity.roles, host=self.anonymous.host)
        self._credentials, self._known = credentials, requester
        self._changes = self._callers.changes
        self._until_ms = now_ms + KEPT_MS
        if identity.expires_at_ms is not None:
            self._until_ms = min(self._until_ms, identity.expires_at_ms)
        return requester


def _checked(checking: Promise[Identity]) -> Promise[Identity]:
    """The same, with the error that the call ends with."""
    checked: Promise[Identity] = Promise()

    def done(promise: Promise[Identity]) -> None:
        error = promise.error
        if error is None:
            checked.resolve(promise.result())
        elif isinstance(error, TooManyAttempts):
            wait_s = max(1, math.ceil(error.retry_after_s))
            text = f"too many attempts to log in have failed; try again in {wait_s} s"
            checked.fail(RpcError(Code.UNAUTHENTICATED, text))
        elif isinstance(error, BearerUnavailable):
            text = "the keys that tokens are checked with cannot be read now"
            checked.fail(RpcError(Code.UNAVAILABLE, text))
        elif isinstance(error, AuthenticationFailed):
            checked.fail(_refused("the credentials are not valid"))
        else:
            checked.fail(error)

    checking.then(done)
    return checked


def _refused(text: str) -> RpcError:
    return RpcError(Code.UNAUTHENTICATED, f"a login is needed: {text}")
