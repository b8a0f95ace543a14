"""One SASL exchange: messages of the client in, answers out, an identity at the end (RFC 4422).

Owns: the order of messages of each mechanism, and the count of attempts around them. Refuses: a message after
the end, and one while another is checked. Doors carry the messages in their own frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mainstem.access_contract import ScramMechanism, ScramVerifier
from mainstem.authentication import oauthbearer, plain
from mainstem.authentication.attempts import Attempts
from mainstem.authentication.identity import AuthenticationFailed, Identity, TooManyAttempts
from mainstem.authentication.scram import ScramExchange, mechanism_name
from mainstem.promise import Promise


class SaslExchange(Protocol):
    """The server's side of an exchange."""

    @property
    def identity(self) -> Identity | None:
        """Who the client is; None until the exchange is complete."""

    @property
    def user(self) -> str:
        """The name that the client claims; empty before it says one."""

    def step(self, message: bytes) -> Promise[bytes]:
        """Answer a message. The promise fails with AuthenticationFailed; then the exchange is over."""


class ScramSasl:
    """SCRAM, whose password never reaches the server. Two messages, checked without waiting."""

    def __init__(
        self,
        exchange: ScramExchange,
        attempts: Attempts,
        host: str,
        is_current: Callable[[str, ScramVerifier], bool],
    ) -> None:
        self._exchange = exchange
        self._attempts = attempts
        self._host = host
        self._is_current = is_current
        self._messages = 0
        self.identity: Identity | None = None

    @property
    def user(self) -> str:
        """See `SaslExchange`."""
        return self._exchange.user

    def step(self, message: bytes) -> Promise[bytes]:
        """See `SaslExchange`."""
        self._messages += 1
        try:
            if self._messages == 1:
                return Promise.resolved(self._exchange.first(message))
            if self._messages == 2:
                return Promise.resolved(self._final(message))
            raise AuthenticationFailed("a message after the end of the exchange")
        except AuthenticationFailed as error:
            self._messages = 3
            if self._exchange.user and not isinstance(error, TooManyAttempts):
                self._attempts.failed(self._exchange.user, self._host)
            return Promise.failed(error)

    def _final(self, message: bytes) -> bytes:
        user = self._exchange.user
        delay_s = self._attempts.delay_s(user, self._host)
        if delay_s:
            raise TooManyAttempts(delay_s, user=user)
        answer, verifier = self._exchange.final(message)
        if not self._is_current(user, verifier):  # changed, or deleted, since the first message
            raise AuthenticationFailed("the password was changed meanwhile", user=user)
        self._attempts.succeeded(user, self._host)
        self.identity = Identity.of_user(user, mechanism_name(self._exchange.mechanism))
        return answer


class PlainSasl:
    """PLAIN: one message, whose password `check` checks (name, password, host)."""

    def __init__(self, check: Callable[[str, str, str], Promise[Identity]], host: str) -> None:
        self._check = check
        self._host = host
        self._is_over = False
        self.user = ""
        self.identity: Identity | None = None

    def step(self, message: bytes) -> Promise[bytes]:
        """See `SaslExchange`."""
        if self._is_over:
            return Promise.failed(AuthenticationFailed("a message after the end of the exchange"))
        self._is_over = True
        try:
            self.user, password = plain.parse(message)
        except AuthenticationFailed as error:
            return Promise.failed(error)
        return self._check(self.user, password, self._host).map(self._complete)

    def _complete(self, identity: Identity) -> bytes:
        self.identity = identity
        return b""


class BearerSasl:
    """OAUTHBEARER: one message with a token, which `check` checks. A token that is refused is
    answered, and the exchange fails with the next message (RFC 7628, 3.2.3)."""

    def __init__(self, check: Callable[[str], Promise[Identity]]) -> None:
        self._check = check
        self._messages = 0
        self._error: AuthenticationFailed | None = None
        self.user = ""
        self.identity: Identity | None = None

    def step(self, message: bytes) -> Promise[bytes]:
        """See `SaslExchange`."""
        self._messages += 1
        if self._messages > 1:
            return Promise.failed(
                self._error or AuthenticationFailed("a message after the end of the exchange")
            )
        try:
            bearer = oauthbearer.parse(message)
        except AuthenticationFailed as error:
            return Promise.failed(error)
        answer: Promise[bytes] = Promise()

        def checked(result: Promise[Identity]) -> None:
            if result.error is None:
                identity = result.result()
                if bearer.authzid in ("", identity.principal.name):
                    self.identity, self.user = identity, identity.principal.name
                    answer.resolve(b"")
                    return
                error: BaseException = AuthenticationFailed("the client wants to act as another user")
            else:
                error = result.error
            failed = error if isinstance(error, AuthenticationFailed) else AuthenticationFailed(str(error))
            self._error, self.user = failed, failed.user
            answer.resolve(oauthbearer.REFUSED)

        self._check(bearer.token).then(checked)
        return answer


SCRAM_MECHANISMS = {mechanism_name(mechanism): mechanism for mechanism in ScramMechanism}
