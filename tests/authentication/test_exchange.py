"""SASL exchanges: the order of messages, lockout, and what PLAIN and OAUTHBEARER refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.access_contract import ScramMechanism
from mainstem.authentication import oauthbearer, plain
from mainstem.authentication.attempts import PAIR_FREE
from mainstem.authentication.identity import LOCKED_OUT, AuthenticationFailed, Login, TooManyAttempts
from mainstem.authentication.service import Authentication
from tests.authentication.kit import (
    MemoryAdmin,
    ScramClient,
    authentication,
    jwks,
    token,
    token_checks,
    wall_clock,
)

HOST = "10.0.0.1"
ADMIN = MemoryAdmin(alice="pw")


def scram_login(service: Authentication, password: str, user: str = "alice") -> BaseException | None:
    """One exchange; its error, or None."""
    exchange, client = service.exchange("SCRAM-SHA-512", HOST), ScramClient(user, password)
    first = exchange.step(client.first())
    return first.error or exchange.step(client.final(first.result())).error


def test_scram_ends_with_the_identity() -> None:
    service = authentication(MemoryAdmin(alice="pw"))
    exchange, client = service.exchange("SCRAM-SHA-512", HOST), ScramClient("alice", "pw")
    first = exchange.step(client.first()).result()
    assert exchange.identity is None
    assert exchange.step(client.final(first)).result() == client.server_final()
    assert exchange.identity is not None
    assert exchange.identity.principal.text == "User:alice"
    assert exchange.identity.mechanism == "SCRAM-SHA-512"
    assert exchange.step(b"").error, "a message after the end"


def test_an_exchange_is_over_with_its_first_error() -> None:
    exchange = authentication(MemoryAdmin(alice="pw")).exchange("SCRAM-SHA-256", HOST)
    assert exchange.step(b"garbage").error
    assert exchange.step(ScramClient("alice", "pw", "sha256").first()).error


def test_a_user_that_is_deleted_during_the_exchange_does_not_get_in() -> None:
    admin = MemoryAdmin(alice="pw")
    exchange, client = authentication(admin).exchange("SCRAM-SHA-512", HOST), ScramClient("alice", "pw")
    first = exchange.step(client.first()).result()
    admin.delete_verifiers("alice", list(ScramMechanism))
    assert exchange.step(client.final(first)).error
    assert exchange.identity is None


@pytest.mark.parametrize("user", ["alice", "mallory"])
def test_a_thousand_wrong_passwords_are_looked_at_five_times(user: str) -> None:
    service = authentication(MemoryAdmin(alice="pw"))
    exchange = service.exchange("SCRAM-SHA-512", HOST)
    exchange.step(ScramClient(user, "x").first()).result()
    exchanges = [service.exchange("SCRAM-SHA-512", HOST) for _ in range(1_000)]
    outcomes = []
    for guess in exchanges:
        guess.step(f"n,,n={user},r=x".encode()).result()
        outcomes.append(type(guess.step(b"c=biws,r=x,p=AAAA").error))
    assert outcomes.count(AuthenticationFailed) == PAIR_FREE
    assert outcomes.count(TooManyAttempts) == 1_000 - PAIR_FREE
    assert service.attempts.counters <= 4


def test_the_right_password_is_refused_while_locked_and_good_afterwards() -> None:
    clock = wall_clock()
    service = authentication(MemoryAdmin(alice="pw"), clock=clock)
    assert [type(scram_login(service, "no")) for _ in range(PAIR_FREE)] == [AuthenticationFailed] * PAIR_FREE
    assert isinstance(scram_login(service, "pw"), TooManyAttempts)
    clock.advance(1.0)
    assert scram_login(service, "pw") is None


def test_plain_takes_a_name_and_a_password() -> None:
    service = authentication(MemoryAdmin(alice="pw"))
    for message in (b"\0alice\0pw", b"alice\0alice\0pw"):
        exchange = service.exchange("PLAIN", HOST)
        assert exchange.step(message).result() == b""
        assert exchange.identity is not None
        assert exchange.step(message).error, "one message is all"


@pytest.mark.parametrize(
    "message",
    [b"", b"alice", b"\0alice", b"\0alice\0", b"\0\0pw", b"bob\0alice\0pw", b"\0alice\0pw\0", b"\0a\xff\0pw",
     b"\0alice\0" + b"x" * 5_000],
)  # fmt: skip
def test_plain_messages_that_are_refused(message: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        plain.parse(message)
    exchange = authentication(MemoryAdmin(alice="pw")).exchange("PLAIN", HOST)
    assert exchange.step(message).error
    assert exchange.identity is None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Basic abc\x01\x01",
        b"n,,\x01auth=Bearer a.b.c\x01auth=Bearer a.b.c\x01\x01",
        b"n,,\x01auth=Bearer a.b.c\x01",
        b"y,,\x01auth=Bearer a.b.c\x01\x01",
        b"n,,\x01auth=Bearer a.b.c\xff\x01\x01",
        b"n,," + b"x" * 70_000,
    ],
)
def test_bearer_messages_that_are_refused(message: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        oauthbearer.parse(message)


def test_a_token_names_the_user_its_roles_and_its_end() -> None:
    clock = wall_clock()
    service = authentication(MemoryAdmin(), tokens=token_checks(lambda: jwks("ec"), clock), clock=clock)
    exchange = service.exchange("OAUTHBEARER", HOST)
    message = f"n,a=alice,\x01auth=Bearer {token(groups=['ops'])}\x01traceId=1\x01\x01"
    assert exchange.step(message.encode()).result() == b""
    identity = exchange.identity
    assert identity is not None
    assert [role.text for role in identity.roles] == ["Role:ops"]
    assert identity.expires_at_ms == clock.wall_ms() + 90_000


@pytest.mark.parametrize("authzid", ["", "a=bob"])
def test_a_token_that_is_refused_is_answered_and_fails_with_the_next_message(authzid: str) -> None:
    clock = wall_clock()
    service = authentication(MemoryAdmin(), tokens=token_checks(lambda: jwks("ec"), clock), clock=clock)
    logins: list[Login] = []
    service.on_login = logins.append
    exchange = service.exchange("OAUTHBEARER", HOST)
    claims: dict[str, Any] = {} if authzid else {"exp": 1}
    message = f"n,{authzid},\x01auth=Bearer {token(**claims)}\x01\x01"
    assert exchange.step(message.encode()).result() == b'{"status":"invalid_token"}'
    assert isinstance(exchange.step(b"\x01").error, AuthenticationFailed)
    assert exchange.identity is None
    service.finished(exchange, HOST, mechanism="OAUTHBEARER", door="kafka", reason="refused")
    service.finished(exchange, HOST, mechanism="x" * 100, door="kafka", reason=LOCKED_OUT)
    assert list(service.counts.values()) == [
        (("kafka", "OAUTHBEARER", "failed"), 1),
        (("kafka", "other", "locked"), 1),
    ]
    del logins[1:]
    assert [(login.allowed, login.reason) for login in logins] == [(False, "refused")]


@given(
    mechanism=st.sampled_from(["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"]),
    messages=st.lists(
        st.binary(max_size=80)
        | st.sampled_from(
            [b"n,,n=alice,r=x", b"\0alice\0no", b"n,,\x01auth=Bearer e30.e30.x\x01\x01", b"\x01"]
        )
        | st.text(alphabet="n,=rcp\x00\x01aliceBearuth. ", max_size=60).map(str.encode),
        max_size=4,
    ),
)
@settings(max_examples=60, deadline=None)
def test_arbitrary_messages_authenticate_no_client_and_break_nothing(
    mechanism: str, messages: list[bytes]
) -> None:
    clock = wall_clock()
    service = authentication(ADMIN, tokens=token_checks(lambda: jwks("ec"), clock), clock=clock)
    exchange = service.exchange(mechanism, HOST)
    for message in messages:
        error = exchange.step(message).error
        assert error is None or isinstance(error, AuthenticationFailed)
    assert exchange.identity is None


def test_a_mechanism_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AuthenticationFailed):
        authentication(MemoryAdmin()).exchange("GSSAPI", HOST)


def test_tokens_are_refused_without_keys() -> None:
    service = authentication(MemoryAdmin())
    assert not service.accepts_tokens
    assert service.check_bearer(token(), HOST, door="http").error
