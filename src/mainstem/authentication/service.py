"""The authentication of one server, for all of its doors.

Owns: the mechanisms that can be used, the checks, the attempts and the record of logins. Refuses: tokens
unless keys, issuer and audience are set. The one object is `Access.authentication`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from mainstem.access_contract import AccessAdmin, ScramMechanism, ScramVerifier
from mainstem.authentication.attempts import Attempts
from mainstem.authentication.decoys import Decoys
from mainstem.authentication.exchange import (
    SCRAM_MECHANISMS,
    BearerSasl,
    PlainSasl,
    SaslExchange,
    ScramSasl,
)
from mainstem.authentication.identity import (
    AuthenticationFailed,
    BearerUnavailable,
    Identity,
    Login,
)
from mainstem.authentication.jwt import OAUTHBEARER, TokenChecks
from mainstem.authentication.login_counts import LoginCounts
from mainstem.authentication.oidc import MECHANISM as OIDC
from mainstem.authentication.oidc import OidcLogins
from mainstem.authentication.passwords import PLAIN, PasswordChecks, WorkerThread
from mainstem.authentication.rabbitmq_hashes import is_of_hash
from mainstem.authentication.scram import (
    DEFAULT_ITERATIONS,
    SALT_BYTES,
    ScramExchange,
    make_verifier,
)
from mainstem.clock import Clock
from mainstem.promise import Promise

NONCE_BYTES = 24


class Authentication:
    """Who is it? `random(n)` returns n bytes that cannot be guessed; `secret` does not change between starts
    and is known to this server alone. `tokens`: None if no token can be accepted; `provider`: None if there
    is none to log in by."""

    def __init__(
        self,
        *,
        admin: AccessAdmin,
        clock: Clock,
        worker: WorkerThread,
        random: Callable[[int], bytes],
        secret: bytes,
        tokens: TokenChecks | None = None,
        provider: OidcLogins | None = None,
    ) -> None:
        self._admin = admin
        self._clock = clock
        self._worker = worker
        self._random = random
        self._tokens = tokens
        self.provider = provider
        """The logins by an OpenID Connect provider; None: there is none."""
        self.attempts = Attempts(clock)
        self._decoys = Decoys(admin, secret)
        self._passwords = PasswordChecks(admin, clock, worker, self.attempts, self._decoys, random(32))
        self.on_login: Callable[[Login], None] | None = None
        """Called after each attempt at any door; None: no audit. It must be quick and raise nothing."""
        self.counts = LoginCounts()
        """How many attempts there were at each door."""

    @property
    def accepts_tokens(self) -> bool:
        """Whether keys for tokens are configured."""
        return self._tokens is not None

    def check_password(self, user: str, password: str, host: str, *, door: str) -> Promise[Identity]:
        """Whether this is the user's password. `host`: the client's IP address. The promise fails with
        AuthenticationFailed, or TooManyAttempts, which says for how long; both have the same text for known
        and unknown users. The key is derived in a worker thread."""
        return self._record(self._passwords.check(user, password, host), user, host, PLAIN, door)

    def check_bearer(self, token: str, host: str, *, door: str) -> Promise[Identity]:
        """Whom the token names. The promise fails with AuthenticationFailed, and with BearerUnavailable if
        there are no keys to check it with."""
        return self._record(self._bearer(token), "", host, OAUTHBEARER, door)

    def check_provider(
        self, state: str, cookie: str, code: str, host: str, *, door: str
    ) -> Promise[Identity]:
        """Whom the login provider names; see `OidcLogins.finish`."""
        if self.provider is None:
            return Promise.failed(BearerUnavailable("no login provider is configured"))
        return self._record(self.provider.finish(state, cookie, code), "", host, OIDC, door)

    def exchange(self, mechanism: str, host: str) -> SaslExchange:
        """A new exchange. The door calls `finished` at its end. AuthenticationFailed if the mechanism is none
        that this server has."""
        scram = SCRAM_MECHANISMS.get(mechanism)
        if scram is not None:
            machine = ScramExchange(scram, lambda user: self._verifier(user, scram), self._nonce)
            return ScramSasl(machine, self.attempts, host, self._is_current)
        if mechanism == PLAIN:
            return PlainSasl(self._passwords.check, host)
        if mechanism == OAUTHBEARER:
            return BearerSasl(self._bearer)
        raise AuthenticationFailed(f"the mechanism {mechanism[:32]!r} is not supported")

    def finished(
        self, exchange: SaslExchange, host: str, *, mechanism: str, door: str, reason: str = ""
    ) -> None:
        """Record the end of an exchange: a login, or why there was none."""
        identity = exchange.identity
        self._report(
            Login(
                user=exchange.user[:256] if identity is None else identity.principal.name,
                host=host,
                mechanism=mechanism,
                door=door,
                allowed=identity is not None and not reason,
                reason=reason,
            )
        )

    def make_verifiers(
        self,
        password: str,
        mechanisms: Sequence[ScramMechanism] = tuple(ScramMechanism),
        iterations: int = DEFAULT_ITERATIONS,
    ) -> Promise[list[ScramVerifier]]:
        """Verifiers of a new password with fresh salts, made in a worker thread. The promise fails with
        ValueError if the iterations are out of range."""
        salts = [self._random(SALT_BYTES) for _ in mechanisms]
        return self._worker.run(
            lambda: [
                make_verifier(mechanism, password, salt, iterations)
                for mechanism, salt in zip(mechanisms, salts, strict=True)
            ]
        )

    def random_bytes(self, count: int) -> bytes:
        """Bytes that cannot be guessed, for the tokens of doors."""
        return self._random(count)

    def _bearer(self, token: str) -> Promise[Identity]:
        if self._tokens is None:
            return Promise.failed(BearerUnavailable("tokens are not configured"))
        return self._tokens.check(token)

    def _record(
        self, result: Promise[Identity], user: str, host: str, mechanism: str, door: str
    ) -> Promise[Identity]:
        def record(done: Promise[Identity]) -> None:
            error = done.error
            is_failed = isinstance(error, AuthenticationFailed)
            self._report(
                Login(
                    user=user[:256] if error is not None else done.result().principal.name,
                    host=host,
                    mechanism=mechanism,
                    door=door,
                    allowed=error is None,
                    reason=error.reason if is_failed else str(error or ""),  # type: ignore[union-attr]
                )
            )

        result.then(record)
        return result

    def _report(self, login: Login) -> None:
        self.counts.count(login)
        if self.on_login is not None:
            self.on_login(login)

    def _verifier(self, user: str, mechanism: ScramMechanism) -> ScramVerifier:
        """The user's verifier or a decoy; both are looked up, so that it takes the same time. A verifier that
        was made of a hash is for PLAIN only."""
        decoy = self._decoys.verifier(user, mechanism)
        verifier = self._admin.verifier(user, mechanism)
        return decoy if verifier is None or is_of_hash(verifier.salt) else verifier

    def _is_current(self, user: str, verifier: ScramVerifier) -> bool:
        """Whether the verifier is still the user's."""
        is_current = self._admin.verifier(user, verifier.mechanism) == verifier
        if is_current:
            self._decoys.learn(verifier)
        return is_current

    def _nonce(self) -> str:
        return base64.b64encode(self._random(NONCE_BYTES)).decode()
