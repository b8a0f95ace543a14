"""Logs people in by an OpenID Connect provider: authorization code with PKCE (OIDC Core 1.0, RFC 7636).

A login begins with an address at the provider, to which the browser goes, and ends with the code that the
browser brings back. State, nonce and code verifier are drawn for each login, used once, and known to the
server alone; the state is also in a cookie, so that a login ends in the browser where it began. Owns:
the logins that are under way, and the checks of the provider's answers. Refuses: providers whose description
names another issuer, addresses without TLS except on loopback, and tokens of another login (nonce), audience
or party.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from mainstem import base64url
from mainstem.authentication.identity import AuthenticationFailed, BearerUnavailable, Identity
from mainstem.authentication.jwks import KeySource
from mainstem.authentication.jwt import TokenChecks, TokenRules
from mainstem.authentication.passwords import WorkerThread
from mainstem.clock import Clock
from mainstem.promise import Promise

MECHANISM = "OIDC"
LOGIN_S = 600.0
"""How long a person may take at the provider."""
LOGINS_MAX = 1_000
"""Logins that are under way; beyond, the oldest is forgotten."""
DESCRIPTION_S = 3_600.0
"""How long the provider's description is used before it is read again."""
SECRET_BYTES = 32
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcRules:
    """What is agreed with the provider."""

    issuer: str
    """As in the provider's description and in its tokens, without a slash at the end unless it has one."""
    client_id: str
    client_secret: str = ""
    """Empty: a public client, which only PKCE protects."""
    scopes: str = "openid profile"
    user_claim: str = "preferred_username"
    roles_claim: str = "groups"
    clock_skew_s: int = 30

    def __repr__(self) -> str:
        return f"OidcRules(issuer={self.issuer!r}, client_id={self.client_id!r})"


class FetchDocument(Protocol):
    """Reads a document at an https: address, in a worker thread."""

    def __call__(self, url: str, form: bytes | None = None, authorization: str = "") -> bytes:
        """The body of the answer: of a GET, or of a POST of `form`. OSError if there is none."""


@dataclass(frozen=True, slots=True)
class _ProviderDescription:
    """The description of a provider (OIDC Discovery 1.0, 3)."""

    authorization: str
    token: str
    checks: TokenChecks


@dataclass(frozen=True, slots=True)
class _PendingLogin:
    """A login that is under way."""

    nonce: str
    code_verifier: str
    redirect: str
    began_s: float


@dataclass(frozen=True, slots=True)
class LoginStart:
    """Where the browser goes, and the state that its cookie keeps meanwhile."""

    url: str
    state: str


class OidcLogins:
    """The logins of a server by one provider. `random(n)` returns n bytes that cannot be guessed."""

    def __init__(
        self,
        rules: OidcRules,
        fetch: FetchDocument,
        worker: WorkerThread,
        clock: Clock,
        random: Callable[[int], bytes],
        warn: Callable[[str], None],
    ) -> None:
        self.issuer = rules.issuer
        self._rules = rules
        self._fetch = fetch
        self._worker = worker
        self._clock = clock
        self._random = random
        self._warn = warn
        self._provider: _ProviderDescription | None = None
        self._described_at = 0.0
        self._logins: dict[str, _PendingLogin] = {}
        """By state, the oldest first."""

    def begin(self, redirect: str) -> Promise[LoginStart]:
        """Begin a login, which ends at the address `redirect` of this server. The promise fails with
        BearerUnavailable if the provider cannot be asked."""
        return self._described().map(lambda provider: self._start(provider, redirect))

    def finish(self, state: str, cookie: str, code: str) -> Promise[Identity]:
        """Whom the provider names, given what it sent by the browser. `cookie`: the state in the browser's
        cookie. The promise fails with AuthenticationFailed, or BearerUnavailable."""
        login = self._logins.pop(state, None)
        if not hmac.compare_digest(state.encode(), cookie.encode()):
            return Promise.failed(AuthenticationFailed("the login was begun in another browser"))
        if login is None or self._clock.monotonic() - login.began_s > LOGIN_S:
            return Promise.failed(AuthenticationFailed("no such login is under way"))
        finished: Promise[Identity] = Promise()
        self._described().then(lambda provider: self._exchange(provider, login, code, finished))
        return finished

    # --- the provider -------------------------------------------------------------------------------------

    def _described(self) -> Promise[_ProviderDescription]:
        if self._provider is not None and self._clock.monotonic() - self._described_at < DESCRIPTION_S:
            return Promise.resolved(self._provider)
        described: Promise[_ProviderDescription] = Promise()
        address = self._rules.issuer.rstrip("/") + "/.well-known/openid-configuration"

        def done(read: Promise[bytes]) -> None:
            try:
                self._provider = self._parsed(read.result())
                self._described_at = self._clock.monotonic()
            except (OSError, ValueError) as error:
                self._warn(f"the login provider {self._rules.issuer} cannot be used: {error}")
                if self._provider is None:  # else the description of before is still right
                    described.fail(BearerUnavailable("the login provider cannot be reached"))
                    return
            described.resolve(self._provider)

        self._worker.run(lambda: self._fetch(address)).then(done)
        return described

    def _parsed(self, document: bytes) -> _ProviderDescription:
        """The provider that describes itself so. ValueError."""
        description = json.loads(document)
        if not isinstance(description, dict) or description.get("issuer") != self._rules.issuer:
            raise ValueError("its description names another issuer")
        endpoints = [
            description.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
        ]
        for endpoint in endpoints:
            check_address(endpoint)
        authorization, token, keys = map(str, endpoints)
        source = KeySource(
            lambda: self._fetch(keys),
            self._worker,
            self._clock,
            refresh_s=300.0,
            max_age_s=DESCRIPTION_S,
            warn=self._warn,
        )
        rules = self._rules
        token_rules = TokenRules(
            issuer=rules.issuer,
            audience=rules.client_id,
            clock_skew_s=rules.clock_skew_s,
            user_claim=rules.user_claim,
            roles_claim=rules.roles_claim,
        )
        return _ProviderDescription(authorization, token, TokenChecks(source, token_rules, self._clock))

    # --- a login ------------------------------------------------------------------------------------------

    def _start(self, provider: _ProviderDescription, redirect: str) -> LoginStart:
        state, nonce, verifier = (self._drawn() for _ in range(3))
        while len(self._logins) >= LOGINS_MAX:
            del self._logins[next(iter(self._logins))]
        self._logins[state] = _PendingLogin(nonce, verifier, redirect, self._clock.monotonic())
        challenge = base64url.encode(hashlib.sha256(verifier.encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self._rules.client_id,
            "redirect_uri": redirect,
            "scope": self._rules.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        separator = "&" if urlsplit(provider.authorization).query else "?"
        return LoginStart(provider.authorization + separator + urlencode(query), state)

    def _drawn(self) -> str:
        return base64url.encode(self._random(SECRET_BYTES))

    def _exchange(
        self,
        described: Promise[_ProviderDescription],
        login: _PendingLogin,
        code: str,
        finished: Promise[Identity],
    ) -> None:
        if described.error is not None:
            finished.fail(described.error)
            return
        provider, rules = described.result(), self._rules
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": login.redirect,
            "code_verifier": login.code_verifier,
        }
        authorization = ""
        if rules.client_secret:
            pair = urlencode({rules.client_id: rules.client_secret}).replace("=", ":", 1)
            authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form["client_id"] = rules.client_id
        body = urlencode(form).encode()

        def done(answered: Promise[bytes]) -> None:
            try:
                token = _id_token(answered.result())
            except (OSError, ValueError) as error:
                self._warn(f"the login provider {rules.issuer} gave no token: {error}")
                finished.fail(AuthenticationFailed("the login provider gave no token"))
                return
            checked = provider.checks.check(token, lambda claims: _check_claims(claims, login, rules))
            checked.then(finished.copy_result)

        self._worker.run(lambda: self._fetch(provider.token, body, authorization)).then(done)


def check_address(address: object) -> None:
    """ValueError unless this is an https: address, or an http: one on loopback."""
    parts = urlsplit(address) if isinstance(address, str) else None
    is_safe = parts is not None and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    )
    if parts is None or not is_safe or not parts.hostname or parts.username is not None:
        raise ValueError(f"{str(address)[:200]!r} is no https:// address")


def _id_token(document: bytes) -> str:
    """The ID token of a token response. ValueError if there is none."""
    answer = json.loads(document)
    token = answer.get("id_token") if isinstance(answer, dict) else None
    if not isinstance(token, str):
        raise ValueError("its answer has no id_token")
    return token


def _check_claims(claims: Mapping[str, Any], login: _PendingLogin, rules: OidcRules) -> None:
    """AuthenticationFailed unless the token was made for this login and this party (OIDC Core 1.0,
    3.1.3.7)."""
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), login.nonce.encode()):
        raise AuthenticationFailed("the token belongs to another login")
    audience = claims.get("aud")
    has_several = isinstance(audience, list) and len(audience) > 1
    if claims.get("azp", None if has_several else rules.client_id) != rules.client_id:
        raise AuthenticationFailed("the token was made for another party")
