"""Checks signed tokens (JWT, RFC 7519; RFC 8725 for what to refuse).

Owns: which tokens are accepted, and the principal and roles that their claims name. Refuses: tokens without a
signature, with an algorithm outside `jwks.ALGORITHMS` or another than their key's, with critical headers, of
another issuer or audience, without expiry, expired, or not valid yet.
"""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mainstem import base64url
from mainstem.access_contract import ROLE, USER, Principal
from mainstem.authentication.identity import AuthenticationFailed, Identity
from mainstem.authentication.jwks import ALGORITHMS, KeySet, KeySource
from mainstem.authentication.names import user_name
from mainstem.clock import Clock
from mainstem.promise import Promise

TOKEN_MAX_BYTES: Final = 32 << 10
ROLES_MAX: Final = 200
CANDIDATES_MAX: Final = 4
"""Most keys that are tried for one token, if it does not name one."""
OAUTHBEARER: Final = "OAUTHBEARER"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token has to say."""

    issuer: str
    audience: str
    clock_skew_s: int
    user_claim: str = "sub"
    roles_claim: str = ""
    """The claim with the names of roles; empty: tokens give no roles."""


class TokenChecks:
    """Checks the tokens of one server."""

    def __init__(self, source: KeySource, rules: TokenRules, clock: Clock) -> None:
        self._source = source
        self._rules = rules
        self._clock = clock

    def check(
        self, token: str, check_claims: Callable[[Mapping[str, Any]], None] = lambda claims: None
    ) -> Promise[Identity]:
        """Whom the token names. `check_claims` may refuse claims that are signed, by AuthenticationFailed.
        The promise fails with AuthenticationFailed if the token is not accepted, and with BearerUnavailable
        if there are no keys to check it with."""
        try:
            algorithm, key_id = _header(token)
        except AuthenticationFailed as error:
            return Promise.failed(error)
        return self._source.keys(key_id).map(
            lambda keys: self._identity(self._verify(token, algorithm, key_id, keys), check_claims)
        )

    def _verify(self, token: str, algorithm: str, key_id: str | None, keys: KeySet) -> dict[str, Any]:
        """The claims of a token whose signature, issuer and audience are right. AuthenticationFailed."""
        import jwt

        candidates = keys.candidates(key_id, algorithm)
        if not candidates:
            raise AuthenticationFailed(f"no key for a token with the algorithm {algorithm} and its key id")
        options: Any = {
            "require": ["exp", "iss", "aud"],
            "verify_exp": False,  # with the injected clock, below
            "verify_nbf": False,
            "verify_iat": False,
            "verify_sub": False,
        }
        for candidate in candidates[:CANDIDATES_MAX]:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    candidate.key,
                    algorithms=[algorithm],
                    audience=self._rules.audience,
                    issuer=self._rules.issuer,
                    options=options,
                )
            except jwt.InvalidSignatureError:
                continue
            except Exception as error:  # whatever the library raises, the token is not accepted
                raise AuthenticationFailed(f"token refused: {error}") from None
            return claims
        raise AuthenticationFailed("the signature of the token is wrong")

    def _identity(
        self, claims: dict[str, Any], check_claims: Callable[[Mapping[str, Any]], None]
    ) -> Identity:
        check_claims(claims)
        now_s, skew_s = self._clock.wall_ms() / 1000, self._rules.clock_skew_s
        user = claims.get(self._rules.user_claim)
        if not isinstance(user, str):
            raise AuthenticationFailed(f"the token has no claim {self._rules.user_claim} with a name")
        expires_s = _seconds(claims, "exp")
        if expires_s is None or now_s >= expires_s + skew_s:
            raise AuthenticationFailed("the token has expired", user=user)
        for claim in ("nbf", "iat"):
            begins_s = _seconds(claims, claim)
            if begins_s is not None and begins_s > now_s + skew_s:
                raise AuthenticationFailed("the token is not valid yet", user=user)
        try:
            name = user_name(user)
        except ValueError as error:
            raise AuthenticationFailed(str(error), user=user) from None
        return Identity(
            principal=Principal(USER, name),
            roles=self._roles(claims),
            expires_at_ms=int((expires_s + skew_s) * 1000),
            mechanism=OAUTHBEARER,
        )

    def _roles(self, claims: dict[str, Any]) -> frozenset[Principal]:
        if not self._rules.roles_claim:
            return frozenset()
        names: Any = claims
        for part in self._rules.roles_claim.split("."):
            names = names.get(part) if isinstance(names, dict) else None
        if isinstance(names, str):
            names = names.split()
        if not isinstance(names, list):
            return frozenset()
        if len(names) > ROLES_MAX:
            raise AuthenticationFailed(f"the token names more than {ROLES_MAX} roles")
        return frozenset(Principal(ROLE, name) for name in names if isinstance(name, str) and name)


def _header(token: str) -> tuple[str, str | None]:
    """The algorithm and the key id of the token's header, before anything is verified. AuthenticationFailed
    if the token cannot be accepted whatever its signature is."""
    if len(token) > TOKEN_MAX_BYTES or token.count(".") != 2:
        raise AuthenticationFailed("not a signed token")
    part = token.partition(".")[0]
    try:
        header = json.loads(base64url.decode(part))
    except (ValueError, binascii.Error, RecursionError):
        raise AuthenticationFailed("the header of the token is not readable") from None
    algorithm, key_id = (header.get("alg"), header.get("kid")) if isinstance(header, dict) else (None, None)
    if algorithm not in ALGORITHMS:
        raise AuthenticationFailed(
            f"a token with the algorithm {str(algorithm)[:32]!r}, which is not accepted"
        )
    if "crit" in header:
        raise AuthenticationFailed("a token with critical headers, of which none is known")
    if key_id is not None and not isinstance(key_id, str):
        raise AuthenticationFailed("a token whose key id is no text")
    return str(algorithm), key_id


def _seconds(claims: dict[str, Any], name: str) -> float | None:
    """A claim of a time, seconds since 1970; None: there is none."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AuthenticationFailed(f"the claim {name} is no time")
    if not 0 <= value < 1e11:
        raise AuthenticationFailed(f"the claim {name} is out of range")
    return float(value)
