"""Logins by a provider: what the browser is sent to, what its answer must be, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mainstem.access_contract import Principal
from mainstem.authentication import oidc as module
from mainstem.authentication.identity import AuthenticationFailed, BearerUnavailable, Identity
from mainstem.authentication.oidc import LOGIN_S, OidcLogins, OidcRules
from mainstem.promise import Promise
from tests.authentication.kit import NOW_S, Counted, InlineWorker, jwks, token, wall_clock

ISSUER = "https://idp.test"
REDIRECT = "https://stream.test/api/v1/session/oidc/callback"


class FakeProvider:
    """A provider whose description, keys and answers a test changes."""

    def __init__(self) -> None:
        self.is_down = False
        self.description: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
        }
        self.keys, self.kind = jwks("ec"), "ec"
        self.claims: dict[str, Any] = {}
        self.nonce = ""
        self.answer: bytes | None = None
        self.forms: list[tuple[dict[str, list[str]], str]] = []
        """What the token endpoint got, and its Authorization header."""

    def __call__(self, url: str, form: bytes | None = None, authorization: str = "") -> bytes:
        if self.is_down:
            raise OSError("connection refused")
        if url.endswith("/.well-known/openid-configuration"):
            return json.dumps(self.description).encode()
        if url == f"{ISSUER}/keys":
            return self.keys
        assert url == f"{ISSUER}/token"
        assert form is not None
        self.forms.append((parse_qs(form.decode()), authorization))
        if self.answer is not None:
            return self.answer
        claims = {
            "iss": ISSUER,
            "aud": "console",
            "sub": "4711",
            "preferred_username": "alice",
            "groups": ["ops", "support"],
            "nonce": self.nonce,
            "exp": NOW_S + 3600,
            **self.claims,
        }
        return json.dumps({"id_token": token(self.kind, **claims)}).encode()


class LoginRig:
    def __init__(self, **rules: Any) -> None:
        self.provider = FakeProvider()
        self.clock = wall_clock()
        self.worker = InlineWorker()
        self.warnings: list[str] = []
        fields = {"issuer": ISSUER, "client_id": "console", **rules}
        self.logins = OidcLogins(
            OidcRules(**fields), self.provider, self.worker, self.clock, Counted(), self.warnings.append
        )

    def begin(self) -> tuple[str, dict[str, str]]:
        """The state, and the query of the address that the browser goes to."""
        start = self.logins.begin(REDIRECT).result()
        assert start.url.startswith(f"{ISSUER}/authorize?")
        query = {name: values[0] for name, values in parse_qs(urlsplit(start.url).query).items()}
        self.provider.nonce = query["nonce"]
        return start.state, query

    def finish(self, state: str, cookie: str | None = None) -> Promise[Identity]:
        return self.logins.finish(state, state if cookie is None else cookie, "the-code")

    def reason(self) -> str:
        """Why a whole login is refused; empty if it is not."""
        state, _ = self.begin()
        error = self.finish(state).error
        assert error is None or isinstance(error, AuthenticationFailed)
        return error.reason if error is not None else ""


def test_a_login_names_the_user_and_their_roles() -> None:
    rig = LoginRig()
    state, query = rig.begin()
    identity = rig.finish(state).result()
    assert identity.principal == Principal("User", "alice")
    assert identity.roles == {Principal("Role", "ops"), Principal("Role", "support")}
    form, authorization = rig.provider.forms[0]
    assert (form["code"], form["redirect_uri"], authorization) == (["the-code"], [REDIRECT], "")
    assert form["client_id"] == ["console"]
    digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
    assert query["code_challenge"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert (query["code_challenge_method"], query["response_type"]) == ("S256", "code")
    assert (query["state"], query["redirect_uri"]) == (state, REDIRECT)


def test_a_confidential_client_proves_its_secret_in_the_header_alone() -> None:
    rig = LoginRig(client_secret="s:e cret")
    state, _ = rig.begin()
    rig.finish(state).result()
    form, authorization = rig.provider.forms[0]
    assert base64.b64decode(authorization.removeprefix("Basic ")) == b"console:s%3Ae+cret"
    assert "client_id" not in form
    assert "s:e cret" not in repr(rig.logins) + repr(
        OidcRules(issuer="i", client_id="c", client_secret="s:e cret")
    )


def test_a_login_is_used_once_and_only_by_the_browser_that_began_it() -> None:
    rig = LoginRig()
    state, _ = rig.begin()
    assert isinstance(rig.finish(state, "another").error, AuthenticationFailed)
    assert isinstance(rig.finish(state).error, AuthenticationFailed), "and it is over then"
    state, _ = rig.begin()
    assert rig.finish(state).error is None
    assert isinstance(rig.finish(state).error, AuthenticationFailed)
    assert isinstance(rig.finish("made-up").error, AuthenticationFailed)
    assert rig.provider.forms[1:] == [], "the provider is asked for real logins alone"


def test_a_login_does_not_take_for_ever_and_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGINS_MAX", 2)
    rig = LoginRig()
    old, _ = rig.begin()
    rig.clock.advance(LOGIN_S + 1)
    assert isinstance(rig.finish(old).error, AuthenticationFailed)
    first, _ = rig.begin()
    for _ in range(2):
        last, _ = rig.begin()
    assert isinstance(rig.finish(first).error, AuthenticationFailed)
    assert rig.finish(last).error is None


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"nonce": "other"}, "belongs to another login"),
        ({"nonce": None}, "belongs to another login"),
        ({"aud": "other"}, "Audience doesn't match"),
        ({"aud": ["console", "other"]}, "another party"),
        ({"azp": "other"}, "another party"),
        ({"iss": "https://evil.test"}, "Invalid issuer"),
        ({"exp": NOW_S - 3600}, "expired"),
        ({"preferred_username": None}, "no claim preferred_username"),
        ({"preferred_username": 5}, "no claim preferred_username"),
    ],
)
def test_a_token_of_something_else_is_refused(claims: dict[str, Any], why: str) -> None:
    rig = LoginRig()
    rig.provider.claims = claims
    assert why.lower() in rig.reason().lower()


def test_several_audiences_need_the_party() -> None:
    rig = LoginRig()
    rig.provider.claims = {"aud": ["console", "other"], "azp": "console"}
    assert rig.reason() == ""


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"id_token": 5}', b'{"error": "invalid_grant"}'])
def test_an_answer_without_a_token_is_refused(answer: bytes) -> None:
    rig = LoginRig()
    rig.provider.answer = answer
    assert "gave no token" in rig.reason()


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.test"},
        {"issuer": None},
        {"token_endpoint": "http://idp.test/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"token_endpoint": "https://user@idp.test/token"},
    ],
)
def test_a_description_that_is_not_safe_is_refused(change: dict[str, Any]) -> None:
    rig = LoginRig()
    rig.provider.description |= change
    assert isinstance(rig.logins.begin(REDIRECT).error, BearerUnavailable)
    assert len(rig.warnings) == 1


def test_while_the_provider_is_down_nobody_logs_in_and_then_they_do() -> None:
    rig = LoginRig()
    rig.provider.is_down = True
    assert isinstance(rig.logins.begin(REDIRECT).error, BearerUnavailable)
    rig.provider.is_down = False
    state, _ = rig.begin()
    rig.provider.is_down = True
    assert isinstance(rig.finish(state).error, AuthenticationFailed)
    rig.provider.is_down = False
    assert rig.reason() == ""


def test_keys_that_the_provider_has_exchanged_are_read_again() -> None:
    rig = LoginRig()
    assert rig.reason() == ""
    rig.clock.advance(60)
    rig.provider.keys, rig.provider.kind = jwks("rsa"), "rsa"
    assert rig.reason() == ""
    rig.provider.kind = "ec"
    assert "no key" in rig.reason()
