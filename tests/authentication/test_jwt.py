"""Tokens: which are accepted, and the keys' refresh, age and absence."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest

from mainstem.authentication.identity import AuthenticationFailed, BearerUnavailable
from mainstem.authentication.jwks import RETRY_S, KeysUnreadable, parse_keys
from tests.authentication.kit import (
    NOW_S,
    RULES,
    InlineWorker,
    jwk,
    jwks,
    signing_key,
    token,
    token_checks,
    wall_clock,
)


def reason(text: str, document: bytes | None = None, **rules: Any) -> str:
    """Why a token is refused; empty if it is accepted."""
    checks = token_checks(
        lambda: document or jwks("ec", "rsa", "ed25519"),
        wall_clock(),
        rules=dataclasses.replace(RULES, **rules),
    )
    error = checks.check(text).error
    assert error is None or isinstance(error, AuthenticationFailed)
    return error.reason if error is not None else ""


def unsigned(header: dict[str, Any], **claims: Any) -> str:
    """A token with this header and no signature."""
    payload = {"iss": RULES.issuer, "aud": RULES.audience, "sub": "alice", "exp": NOW_S + 60, **claims}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, payload)]
    return b".".join([*parts, b""]).decode()


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_tokens_of_each_kind_of_key_are_accepted(kind: str) -> None:
    assert reason(token(kind)) == ""


def test_a_pinned_key_in_pem_accepts_tokens_with_and_without_key_id() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    for kind in ("ec", "rsa", "ed25519"):
        pem = signing_key(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert reason(token(kind), pem) == ""
        assert reason(token(kind, headers={}), pem) == ""
    with pytest.raises(KeysUnreadable):
        parse_keys(b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n")


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW_S - 31},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e12},
        {"nbf": NOW_S + 31},
        {"iat": NOW_S + 31},
        {"nbf": "now"},
        {"iss": "https://other.test"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"aud": []},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"sub": "a\0b"},
        {"groups": ["x"] * 201},
    ],
)
def test_claims_that_are_refused(claims: dict[str, Any]) -> None:
    if claims.get("sub") == 7:
        assert reason(token(**claims), None, user_claim="sub")
    assert reason(token(**claims))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW_S - 29},
        {"nbf": NOW_S + 29},
        {"aud": ["other", RULES.audience]},
        {"groups": ["x", 7, ""]},
        {"groups": "a b"},
        {"groups": {"no": "list"}},
    ],
)
def test_claims_that_are_accepted(claims: dict[str, Any]) -> None:
    assert reason(token(**claims)) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a signed token"),
        ("a.b", "not a signed token"),
        ("a.b.c.d", "not a signed token"),
        ("x" * 40_000, "not a signed token"),
        ("!.b.c", "header"),
        ("W10.b.c", "algorithm"),
        (unsigned({"alg": "none", "kid": "ec"}), "'none'"),
        (unsigned({"alg": "None", "kid": "ec"}), "'None'"),
        (unsigned({"kid": "ec"}), "algorithm"),
        (unsigned({"alg": "HS256", "kid": "ec"}), "HS256"),
        (unsigned({"alg": "ES256", "kid": "ec"}), "signature"),
        (unsigned({"alg": "ES256", "kid": "ec", "crit": ["exp"]}), "critical"),
        (unsigned({"alg": "ES256", "kid": 7}), "key id"),
        (unsigned({"alg": "RS256", "kid": "ec"}), "no key"),
    ],
)
def test_tokens_that_are_refused_for_what_they_are(text: str, why: str) -> None:
    assert why in reason(text)


def test_a_token_of_another_key_and_a_changed_one_are_refused() -> None:
    assert "signature" in reason(token("other", headers={"kid": "ec"}))
    head, body, signature = token().split(".")
    forged = base64.urlsafe_b64encode(
        json.dumps({"iss": RULES.issuer, "aud": RULES.audience, "sub": "root", "exp": NOW_S + 60}).encode()
    ).decode()
    assert "signature" in reason(f"{head}.{forged.rstrip('=')}.{signature}")
    assert reason(f"{head}.{body}.")


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "ec", "alg": "HS256"},
        jwk("ec", use="enc"),
        jwk("ec", key_ops=["sign"]),
        jwk("ec", key_ops="verify"),
        jwk("ec", alg="RS256"),
        jwk("ec", d="private"),
        jwk("ec", kid=7),
        jwk("ec", crv="secp256k1"),
        jwk("ec", x="AA"),
        "text",
    ],
)
def test_keys_that_are_not_used(entry: Any) -> None:
    with pytest.raises(KeysUnreadable):
        parse_keys(json.dumps({"keys": [entry]}).encode())


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"[]", b'{"keys": 1}', b'{"keys": []}', b"x" * (1 << 20) + b"y"]
)
def test_documents_without_keys(document: bytes) -> None:
    with pytest.raises(KeysUnreadable):
        parse_keys(document)


class Provider:
    """An identity provider whose keys can change and that can be down."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds
        self.is_down = False
        self.asked = 0

    def __call__(self) -> bytes:
        self.asked += 1
        if self.is_down:
            raise OSError("connection refused")
        return jwks(*self.kinds)


def test_a_new_key_is_fetched_when_a_token_names_it_and_not_more_often_than_that() -> None:
    clock, provider = wall_clock(), Provider("ec")
    checks = token_checks(provider, clock)
    assert checks.check(token()).error is None
    assert checks.check(token("rsa")).error, "fetched a moment ago"
    provider.kinds = ("ec", "rsa")
    clock.advance(RETRY_S)
    assert checks.check(token("rsa")).error is None
    for _ in range(100):
        assert checks.check(token("ed25519")).error
    assert provider.asked == 2


def test_a_key_that_the_provider_removes_is_no_longer_good_after_the_next_refresh() -> None:
    clock, provider = wall_clock(), Provider("ec", "rsa")
    checks = token_checks(provider, clock)
    assert checks.check(token("rsa")).error is None
    provider.kinds = ("ec",)
    clock.advance(601)
    checks.check(token())
    assert checks.check(token("rsa", exp=NOW_S + 9_999)).error


def test_the_last_good_keys_are_used_for_a_stated_time_while_the_provider_is_down() -> None:
    clock, provider = wall_clock(), Provider("ec")
    warnings: list[str] = []
    checks = token_checks(provider, clock, warn=warnings.append)
    text = token(exp=NOW_S + 99_999)
    assert checks.check(text).error is None
    provider.is_down = True
    clock.advance(3_600)
    assert checks.check(text).error is None
    clock.advance(1)
    assert isinstance(checks.check(text).error, BearerUnavailable)
    assert "connection refused" in warnings[0]
    provider.is_down = False
    clock.advance(RETRY_S)
    checks.check(text)
    assert checks.check(text).error is None


def test_a_provider_that_is_down_at_the_start_accepts_nobody() -> None:
    clock, provider = wall_clock(), Provider("ec")
    provider.is_down = True
    checks = token_checks(provider, clock)
    assert isinstance(checks.check(token()).error, BearerUnavailable)


def test_tokens_wait_for_the_keys_that_are_being_fetched() -> None:
    clock, provider, worker = wall_clock(), Provider("ec"), InlineWorker()
    worker.waits = True
    checks = token_checks(provider, clock, worker)
    results = [checks.check(token()) for _ in range(10)]
    assert not any(result.done for result in results)
    worker.work()
    assert [result.error for result in results] == [None] * 10
    assert provider.asked == 1


def test_nested_claims_of_roles() -> None:
    checks = token_checks(
        lambda: jwks("ec"),
        wall_clock(),
        rules=dataclasses.replace(RULES, roles_claim="realm_access.roles"),
    )
    identity = checks.check(token(realm_access={"roles": ["admin"]})).result()
    assert [role.text for role in identity.roles] == ["Role:admin"]
    assert not checks.check(token(realm_access=7)).result().roles
