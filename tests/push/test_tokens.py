"""Tokens of push requests: verified by another library with the published keys; what becomes of the keys."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

import mainstem.log
from mainstem.cli import run
from mainstem.contract import InvalidArgument, NewEvent
from mainstem.push import tokens as module
from mainstem.push.errors import PushFailed
from mainstem.push.token_keys import (
    AHEAD_MS,
    ROTATE_MS,
    KeysDamaged,
    TokenKey,
    decode_keys,
    encode_keys,
    kept_keys,
    needs_new_key,
    signing_key,
)
from mainstem.push.tokens import PushTokens, parse_issuer
from mainstem.queues.push_settings import PushSettings, push_problem
from tests.push.receiver import pushing, receiving
from tests.support.clock import SimClock

ISSUER = "https://events.example"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def verified(
    token: str, keys: list[Any], *, audience: str = "billing", options: Any = None
) -> dict[str, Any]:
    """The claims of a token, as a receiver verifies them."""
    key_set = jwt.PyJWKSet.from_dict({"keys": [dict(key) for key in keys]})
    key = key_set[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token, key, ["ES256"], audience=audience, issuer=ISSUER, options=options
    )
    return claims


class TokenRig:
    """Tokens on a simulated clock, in a folder that stays over `restart`."""

    def __init__(self, folder: Path) -> None:
        self.clock = SimClock()
        self.file = folder / "push" / "keys.json"
        self.restart()

    def restart(self) -> None:
        self.tokens = PushTokens(self.file, ISSUER, self.clock)

    def token(self, subscription: str = "hooks", audience: str = "billing") -> str:
        return asyncio.run(self.tokens.token(subscription, audience))

    def published(self) -> list[Any]:
        return asyncio.run(self.tokens.public_keys())

    def key_id(self) -> str:
        """The id of the key that signs."""
        return str(jwt.get_unverified_header(self.token())["kid"])

    def verify(self, token: str) -> dict[str, Any]:
        times = {"verify_exp": False, "verify_iat": False}
        return verified(token, self.published(), options=times)


@pytest.fixture
def rig(tmp_path: Path) -> TokenRig:
    return TokenRig(tmp_path)


# ----------------------------------------------------------------------------------------------------------
# what a receiver gets


def test_an_event_arrives_with_a_token_that_the_published_keys_verify(tmp_path: Path) -> None:
    async def test() -> None:
        async with receiving() as receiver, pushing(tmp_path, issuer=ISSUER) as rig:
            assert await rig.tokens.public_keys() == []
            assert not (tmp_path / "push").exists(), "a key is made when it is needed"
            await rig.create("orders", [NewEvent(b"1")], endpoint=receiver.url, token_audience="billing")
            await rig.until("orders", lambda info: info.acked == 1)
            (request,) = receiver.requests
            scheme, _, token = request.headers["authorization"].partition(" ")
            assert scheme == "Bearer"
            claims = verified(token, list(await rig.tokens.public_keys()))
            assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, "billing", "orders")
            assert claims["exp"] - claims["iat"] == 3_600
            with pytest.raises(jwt.InvalidAudienceError):
                verified(token, list(await rig.tokens.public_keys()), audience="another")

    asyncio.run(test())


def test_without_a_key_that_can_be_stored_nothing_is_sent(tmp_path: Path) -> None:
    async def test() -> None:
        async with receiving() as receiver, pushing(tmp_path, issuer=ISSUER) as rig:
            (tmp_path / "push").write_bytes(b"in the way")
            await rig.create("orders", [NewEvent(b"1")], endpoint=receiver.url, token_audience="billing")
            info = await rig.until("orders", lambda info: bool(info.push and info.push.last_error))
            assert "the keys of tokens: " in str(info.push and info.push.last_error)
            assert receiver.requests == []
            (tmp_path / "push").unlink()
            await rig.until("orders", lambda info: info.acked == 1)
            assert [request.headers["mainstem-attempt"] for request in receiver.requests] == ["1"]

    asyncio.run(test())


def test_a_server_without_an_issuer_refuses_subscriptions_that_need_tokens(tmp_path: Path) -> None:
    async def test() -> None:
        async with pushing(tmp_path) as rig:
            with pytest.raises(InvalidArgument, match="push_issuer is empty"):
                await rig.create("orders", endpoint="https://a.example", token_audience="billing")
            with pytest.raises(PushFailed, match="set push_issuer"):
                await rig.tokens.token("orders", "billing")

    asyncio.run(test())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"endpoint": "http://a.example/"}, "begins with https://, or is on this machine"),
        ({"endpoint": "http://127.0.0.1.nip.io/"}, "begins with https://, or is on this machine"),
        ({"token_audience": "a\nb"}, "printable ASCII"),
        ({"token_audience": "x" * 1_001}, "at most 1,000 characters"),
        ({"headers": (("Authorization", "Bearer x"),)}, "authorization is made by the server"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], problem: str) -> None:
    good: dict[str, Any] = {"endpoint": "https://a.example/", "token_audience": "billing"}
    assert push_problem(PushSettings(**good)) is None
    assert push_problem(PushSettings(**good | {"endpoint": "http://[::1]:9/"})) is None
    assert problem in str(push_problem(PushSettings(**(good | settings))))


@pytest.mark.parametrize(
    "text",
    [
        "events.example",
        "http://events.example",
        "https://",
        "https://a/?q",
        "https://u@a",
        "ftp://a",
        "https://ä",
    ],
)
def test_issuers_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        parse_issuer(text)
    assert parse_issuer("https://events.example:8443/mainstem/") == "https://events.example:8443/mainstem"
    assert parse_issuer("http://127.0.0.1:8080") == "http://127.0.0.1:8080"


# ----------------------------------------------------------------------------------------------------------
# tokens and keys over time


def test_a_token_serves_for_half_of_its_life_and_is_of_one_subscription_and_audience(rig: TokenRig) -> None:
    first = rig.token()
    rig.clock.advance(1_799)
    assert rig.token() == first
    assert len({first, rig.token("others"), rig.token(audience="other")}) == 3
    rig.clock.advance(2)
    second = rig.token()
    assert second != first
    assert rig.verify(second)["iat"] - rig.verify(first)["iat"] == 1_801


def test_the_tokens_that_are_remembered_are_bounded(rig: TokenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS_MAX", 3)
    for number in range(10):
        rig.token(f"s{number}")
    assert len(rig.tokens._tokens) <= 3


def test_the_key_stays_over_a_restart_and_only_its_owner_may_read_it(rig: TokenRig) -> None:
    before, token = rig.key_id(), rig.token()
    rig.restart()
    assert rig.verify(token)["sub"] == "hooks", "also before the first new token"
    assert rig.key_id() == before
    assert stat.S_IMODE(rig.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(rig.file.parent.stat().st_mode) == 0o700
    rig.restart()
    rig.file.chmod(0o640)
    with pytest.raises(PushFailed, match="other users of this machine can read it"):
        rig.token()
    assert rig.published() == []


def test_a_further_key_is_published_for_a_day_before_it_signs_and_the_old_one_after(rig: TokenRig) -> None:
    old = rig.key_id()
    rig.clock.advance(ROTATE_MS / 1000)
    assert rig.key_id() == old
    new = next(key["kid"] for key in rig.published() if key["kid"] != old)
    token = rig.token()
    rig.clock.advance(AHEAD_MS / 1000)
    assert rig.key_id() == new
    assert rig.verify(token)["sub"] == "hooks"
    rig.clock.advance(AHEAD_MS / 1000)
    assert [key["kid"] for key in rig.published()] == [new]
    rig.restart()
    assert [key["kid"] for key in rig.published()] == [new]
    rig.clock.advance(10 * ROTATE_MS / 1000)
    assert rig.key_id() == new
    assert len(rig.published()) == 2


def test_a_server_in_memory_keeps_its_keys_there(tmp_path: Path) -> None:
    rig = TokenRig(tmp_path)
    rig.tokens = PushTokens(None, ISSUER, rig.clock)
    assert rig.verify(rig.token())["sub"] == "hooks"
    rig.clock.advance(3_600)
    assert rig.key_id() == rig.published()[0]["kid"]
    assert list(tmp_path.iterdir()) == []


def test_which_of_several_keys_signs_whatever_the_clock_says() -> None:
    keys = [TokenKey.make(day * DAY_MS) for day in (10, 40)]
    assert signing_key(keys, 40 * DAY_MS) is keys[0]
    assert signing_key(keys, 41 * DAY_MS) is keys[1]
    assert signing_key(keys, 0) is keys[0], "the clock was set back"
    assert not needs_new_key(keys, 0)
    assert kept_keys(keys, 0) == keys
    assert kept_keys(keys, 42 * DAY_MS) == keys[1:]


# ----------------------------------------------------------------------------------------------------------
# the file


def test_the_keys_of_a_file() -> None:
    keys = [TokenKey.make(5), TokenKey.make(7)]
    content = encode_keys(keys)
    assert decode_keys(content) == keys
    assert "d" not in keys[0].jwk
    assert str(keys[0].private) not in repr(keys[0])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[:-20],
    "empty": lambda content: b"",
    "no JSON": lambda content: b"x" + content,
    "another version": lambda content: content.replace(b'"version": 1', b'"version": 2'),
    "another time": lambda content: content.replace(b'"made_ms": 5', b'"made_ms": 6'),
    "no keys": lambda content: encode_keys([]),
    "a flipped bit": lambda content: content.replace(b"MIG", b"MIH", 1),
    "another kind of key": lambda content: encode_keys([TokenKey(5, b"no key", None, {})]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_not_believed(damage: str) -> None:
    with pytest.raises(KeysDamaged):
        decode_keys(DAMAGES[damage](encode_keys([TokenKey.make(5)])))


def test_a_damaged_file_is_replaced_when_the_next_token_is_needed(
    rig: TokenRig, caplog: pytest.LogCaptureFixture
) -> None:
    old = rig.key_id()
    rig.file.write_bytes(rig.file.read_bytes()[:-9])
    rig.restart()
    with caplog.at_level(logging.WARNING):
        assert rig.published() == []
    assert "a new key is made when the next token is needed" in caplog.text
    assert rig.key_id() != old
    json.loads(rig.file.read_bytes())


def test_the_example_of_the_page() -> None:
    page = (Path(mainstem.log.__path__[0]) / "FORMAT.md").read_text()
    example = page.partition("```json push-keys\n")[2].partition("```")[0]
    (key,) = decode_keys(example.encode())
    assert encode_keys([key]).decode() == example
    assert (key.made_ms, key.jwk["kid"]) == (1_356_998_400_000, "xx0BcA-wMohw8atYDJOe6peGMod")
    assert f"`{key.jwk['kid']}`" in page


def test_the_keys_are_in_no_backup_and_doctor_knows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"

    async def make() -> None:
        async with pushing(data, issuer=ISSUER) as rig:
            await rig.tokens.token("orders", "billing")

    asyncio.run(make())
    assert (data / "push" / "keys.json").exists()
    assert run(["doctor", "--data", str(data)]) == 0
    assert "push" not in capsys.readouterr().out
    assert run(["backup", str(data), str(copy)]) == 0
    assert not (copy / "push").exists()
