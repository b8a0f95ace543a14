"""The keys of tokens of pushed events are published for everybody, where the issuer says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from mainstem.doors.net.security import SecurityProtocol
from mainstem.push.tokens import PushTokens
from tests.doors.http.door_kit import RunningHttpDoor, problem, running_door
from tests.support.clock import SimClock

ISSUER = "https://events.example:8443"


@pytest.fixture
def tokens(tmp_path: Path) -> PushTokens:
    return PushTokens(tmp_path / "keys" / "keys.json", ISSUER, SimClock())


@pytest.fixture
def door(tmp_path: Path, tokens: PushTokens) -> Iterator[RunningHttpDoor]:
    """A door whose clients have to log in."""
    security = SecurityProtocol.SASL_PLAINTEXT
    with running_door(
        tmp_path / "data", security=security, token_keys=tokens, hosts=["events.example"]
    ) as running:
        yield running


def get(door: RunningHttpDoor, path: str) -> Any:
    reply = door.http.get(path, headers={"host": "events.example:8443"})
    assert reply.status_code == 200, reply.text
    assert reply.headers["cache-control"] == "public, max-age=300"
    return reply.json()


def test_a_receiver_finds_the_keys_and_verifies_a_token(door: RunningHttpDoor, tokens: PushTokens) -> None:
    described = get(door, "/.well-known/openid-configuration")
    assert described["issuer"] == ISSUER
    keys_path = described["jwks_uri"].removeprefix(ISSUER)
    assert get(door, keys_path) == {"keys": []}
    token = door.run(lambda _: tokens.token("orders", "billing"))
    published = get(door, keys_path)
    assert {"d", "private"}.isdisjoint(published["keys"][0])
    key = jwt.PyJWKSet.from_dict(published)[jwt.get_unverified_header(token)["kid"]]
    options: Any = {"verify_exp": False, "verify_iat": False}
    algorithms = described["id_token_signing_alg_values_supported"]
    claims = jwt.decode(token, key, algorithms, audience="billing", issuer=ISSUER, options=options)
    assert set(claims) == set(described["claims_supported"])


def test_a_server_that_signs_no_tokens_says_so(tmp_path: Path) -> None:
    with running_door(tmp_path / "data") as door:
        for path in ("/.well-known/jwks.json", "/.well-known/openid-configuration"):
            assert "set push_issuer" in problem(door.http.get(path), 404, "not-offered")["detail"]
