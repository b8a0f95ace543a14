"""SASL on a connection: the order of requests, what a failure answers, sessions and their renewal."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from mainstem.access_contract import USER, Principal
from mainstem.authentication.attempts import PAIR_FREE
from mainstem.authentication.identity import Login
from mainstem.doors.contract import Access
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.sasl import REQUESTS_MAX, SaslSession, State
from mainstem.engines.kafka.access import NoMasks
from mainstem.kafka_protocol.message import Message
from mainstem.settings import Settings
from tests.authentication.kit import (
    NOW_S,
    InlineWorker,
    MemoryAdmin,
    ScramClient,
    authentication,
    jwks,
    token,
    token_checks,
    wall_clock,
)
from tests.doors.kafka.access_kit import MemoryAuthorizer
from tests.doors.kafka.kit import DoorClient, MemoryNode

ALL = ("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER")
GENERIC = "Authentication failed during authentication due to invalid credentials with SASL mechanism "
HANDSHAKE, VERSIONS, AUTHENTICATE, METADATA, HEARTBEAT = 17, 18, 36, 3, 12
BEAT = Message(group_id="g", generation_id=1, member_id="m")


class SaslClient(DoorClient):
    """A client of a listener with SASL, whose only users are alice and bob, with the password `pw`."""

    def __init__(self, *, mechanisms: tuple[str, ...] = ALL, dispatcher: Any = None, **settings: Any) -> None:
        if dispatcher is None:
            node = MemoryNode(dataclasses.replace(Settings(), **settings), clock=wall_clock())
            admin, self.worker = MemoryAdmin(alice="pw", bob="pw"), InlineWorker()
            tokens = token_checks(lambda: jwks("ec"), node.clock)
            service = authentication(admin, self.worker, node.clock, tokens)
            rules = MemoryAuthorizer()
            access = Access(authorizer=rules, admin=admin, masks=NoMasks(), authentication=service)
            super().__init__(node, access=access)
        else:
            super().__init__(dispatcher.context.node, dispatcher=dispatcher)
        context = self.dispatcher.context
        self.service = context.access.authentication
        self.logins: list[Login] = []
        self.service.on_login = self.logins.append
        self.connection.sasl = self.session = SaslSession(
            self.service, context.settings, context.clock, mechanisms, "198.51.100.1", self.connection
        )

    def again(self) -> SaslClient:
        """Another connection to the same door."""
        return SaslClient(dispatcher=self.dispatcher)

    def handshake(self, mechanism: str, version: int = 1) -> Message:
        return self.call(HANDSHAKE, version, Message(mechanism=mechanism))

    def token(self, data: bytes, version: int = 2) -> Message:
        """Send a token; the reply, after the delay of failures."""
        self.send(AUTHENTICATE, version, Message(auth_bytes=data))
        if not self.pending():
            self.clock.advance(0.2)
        return self.replies()[0]

    def pending(self) -> bool:
        """Whether a reply was sent that the test has not read."""
        return len(self.transport.sent) > self._read

    def log_in(self, user: str = "alice", password: str = "pw") -> Message:
        """The whole exchange by SCRAM; the last reply."""
        scram = ScramClient(user, password)
        assert self.handshake("SCRAM-SHA-512").error_code == 0
        first = self.token(scram.first())
        return self.token(scram.final(first.auth_bytes))

    def refuses(self, key: int = HEARTBEAT, message: Message = BEAT) -> bool:
        """Whether a request ends the connection without an answer."""
        self.send(key, 0 if key == HEARTBEAT else 1, message)
        return self.transport.closed and not self.pending()


def test_scram_authenticates_the_requests_that_follow() -> None:
    client = SaslClient()
    assert client.call(VERSIONS, 0, Message()).error_code == 0
    reply = client.log_in()
    assert (reply.error_code, reply.session_lifetime) == (0, 0)
    assert reply.auth_bytes.startswith(b"v=")
    assert client.connection.requester_for("x").principal == Principal(USER, "alice")
    assert client.call(VERSIONS, 0, Message()).error_code == 0
    assert [(login.user, login.allowed, login.mechanism) for login in client.logins] == [
        ("alice", True, "SCRAM-SHA-512")
    ]


@pytest.mark.parametrize("version", [0, 1, 2])
def test_plain_authenticates_in_one_message_of_each_version(version: int) -> None:
    client = SaslClient()
    client.handshake("PLAIN")
    assert client.token(b"\0bob\0pw", version).error_code == 0
    assert client.connection.principal.name == "bob"


def test_raw_tokens_of_old_clients_follow_a_handshake_of_version_0() -> None:
    client = SaslClient()
    scram = ScramClient("alice", "pw", "sha256")
    assert client.handshake("SCRAM-SHA-256", 0).mechanisms == list(ALL)
    start = client._read
    client.feed(_framed(scram.first()))
    answer = bytes(client.transport.sent[start + 4 :])
    client.feed(_framed(scram.final(answer)))
    assert bytes(client.transport.sent[start + 4 + len(answer) + 4 :]) == scram.server_final()
    client._read = len(client.transport.sent)
    assert client.connection.principal.name == "alice"
    assert client.call(VERSIONS, 0, Message()).error_code == 0


def test_a_raw_token_may_be_shorter_than_a_request() -> None:
    client = SaslClient()
    client.handshake("PLAIN", 0)
    client.feed(_framed(b"\0a\0b"))
    client.clock.advance(1)
    assert client.transport.closed
    assert not client.pending()


def test_requests_are_as_before_after_raw_tokens() -> None:
    client = SaslClient()
    client.handshake("PLAIN", 0)
    client.feed(_framed(b"\0alice\0pw"))
    assert client.connection.principal.name == "alice"
    client.feed(_framed(b"short"))
    assert client.transport.closed, "shorter than a request"


def test_a_token_of_the_provider_authenticates_until_it_expires() -> None:
    client = SaslClient()
    client.handshake("OAUTHBEARER")
    reply = client.token(f"n,,\x01auth=Bearer {token(groups=['ops'])}\x01\x01".encode())
    assert (reply.error_code, reply.session_lifetime) == (0, 90_000)
    assert [role.text for role in client.connection.requester_for("x").roles] == ["Role:ops"]
    client.clock.advance(91)
    assert client.refuses()


def test_a_token_that_is_refused_is_answered_and_then_fails() -> None:
    client = SaslClient()
    client.handshake("OAUTHBEARER")
    reply = client.token(f"n,,\x01auth=Bearer {token(exp=NOW_S - 99)}\x01\x01".encode())
    assert (reply.error_code, reply.auth_bytes) == (0, b'{"status":"invalid_token"}')
    assert client.session.identity is None
    assert client.token(b"\x01").error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert client.transport.closed


# --- before the client has authenticated


@pytest.mark.parametrize("key", [0, 1, METADATA, HEARTBEAT, 19, 51, 99])
def test_other_requests_end_the_connection_unanswered(key: int) -> None:
    client = SaslClient()
    client.feed(_framed(key.to_bytes(2, "big") + bytes(60)))
    assert client.transport.closed
    assert not client.pending()


def test_other_requests_between_the_messages_of_an_exchange_end_the_connection() -> None:
    for key in (METADATA, VERSIONS):
        client = SaslClient()
        client.handshake("SCRAM-SHA-512")
        client.token(ScramClient("alice", "pw").first())
        client.feed(_framed(key.to_bytes(2, "big") + bytes(60)))
        assert client.transport.closed
        assert not client.pending()


def test_an_unknown_mechanism_is_answered_with_those_of_the_listener() -> None:
    client = SaslClient(mechanisms=("SCRAM-SHA-512",))
    client.send(HANDSHAKE, 1, Message(mechanism="PLAIN"))
    client.clock.advance(0.2)
    [reply] = client.replies()
    assert reply.error_code == ErrorCode.UNSUPPORTED_SASL_MECHANISM
    assert list(reply.mechanisms) == ["SCRAM-SHA-512"]
    assert client.transport.closed


def test_tokens_without_a_handshake_and_a_second_handshake_are_at_the_wrong_place() -> None:
    client = SaslClient()
    assert client.token(b"\0alice\0pw").error_code == ErrorCode.ILLEGAL_SASL_STATE
    assert client.transport.closed
    client = SaslClient()
    client.handshake("SCRAM-SHA-512")
    client.token(ScramClient("alice", "pw").first())
    client.send(HANDSHAKE, 1, Message(mechanism="PLAIN"))
    client.clock.advance(0.2)
    assert client.replies()[0].error_code == ErrorCode.ILLEGAL_SASL_STATE
    assert client.transport.closed, "the mechanism does not change during an exchange"


def test_frames_are_small_before_and_as_large_as_the_setting_after_authentication() -> None:
    for mechanism in (None, "PLAIN"):
        client = SaslClient()
        if mechanism is not None:
            client.handshake(mechanism, 0)
        client.feed((524_289).to_bytes(4, "big"))
        assert client.transport.closed
    client = SaslClient()
    client.log_in()
    client.feed((524_289).to_bytes(4, "big"))
    assert not client.transport.closed


def test_a_client_that_only_asks_for_versions_is_disconnected() -> None:
    client = SaslClient()
    for _ in range(REQUESTS_MAX):
        client.call(VERSIONS, 0, Message())
    assert client.refuses(VERSIONS, Message())


@pytest.mark.parametrize(
    "data", [b"\0\0\0", bytes(200), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01"]
)
def test_garbage_never_authenticates(data: bytes) -> None:
    for state in State:
        client = SaslClient()
        if state in (State.TOKENS, State.RAW_TOKENS):
            client.handshake("SCRAM-SHA-512", 0 if state is State.RAW_TOKENS else 1)
        elif state is State.READY:
            client.log_in()
        client.feed(data)
        client.clock.advance(1)
        assert client.session.identity is None or state is State.READY


# --- failures


@pytest.mark.parametrize(("user", "password"), [("alice", "no"), ("mallory", "pw"), ("mallory", "no")])
def test_wrong_passwords_and_unknown_users_are_answered_alike_after_a_delay(user: str, password: str) -> None:
    client = SaslClient(connection_failed_authentication_delay_ms=1_000)
    scram = ScramClient(user, password)
    client.handshake("SCRAM-SHA-512")
    final = scram.final(client.token(scram.first()).auth_bytes)
    client.send(AUTHENTICATE, 2, Message(auth_bytes=final))
    client.clock.advance(0.9)
    assert not client.pending()
    client.clock.advance(0.2)
    [reply] = client.replies()
    assert reply.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert reply.error_message == GENERIC + "SCRAM-SHA-512"
    assert reply.auth_bytes == b""
    assert client.transport.closed
    assert [(login.user, login.allowed) for login in client.logins] == [(user, False)]


def test_the_log_says_why_and_the_client_does_not_learn_it(caplog: pytest.LogCaptureFixture) -> None:
    client = SaslClient()
    with caplog.at_level(logging.WARNING):
        client.log_in("alice", "no")
    assert "authentication failed: wrong user or password" in caplog.text
    assert client.dispatcher.refusals == {"authentication": 1}


def test_a_lockout_looks_like_a_wrong_password_even_for_the_right_one() -> None:
    client = SaslClient()
    for _ in range(PAIR_FREE):
        wrong = client.again().log_in("alice", "no")
    locked = client.again().log_in("alice", "pw")
    assert (locked.error_code, locked.error_message) == (wrong.error_code, wrong.error_message)
    client.clock.advance(60)
    assert client.again().log_in("alice", "pw").error_code == 0


def test_messages_of_another_exchange_are_refused() -> None:
    client = SaslClient()
    scram = ScramClient("alice", "pw")
    client.handshake("SCRAM-SHA-512")
    final = scram.final(client.token(scram.first()).auth_bytes)
    assert client.token(final).error_code == 0
    other = client.again()
    other.handshake("SCRAM-SHA-512")
    other.token(scram.first())
    assert other.token(final).error_code == ErrorCode.SASL_AUTHENTICATION_FAILED


def test_requests_behind_a_token_that_is_checked_wait_for_its_result() -> None:
    client = SaslClient()
    client.worker.waits = True
    client.handshake("PLAIN")
    tokens = client.frame(AUTHENTICATE, 2, Message(auth_bytes=b"\0alice\0no"))
    client.feed(tokens + client.frame(VERSIONS, 0, Message()))
    assert not client.pending()
    client.worker.work()
    client.clock.advance(0.2)
    assert client.transport.closed
    size = int.from_bytes(client.transport.sent[client._read : client._read + 4], "big")
    assert len(client.transport.sent) == client._read + 4 + size, "one reply, and none to ApiVersions"


def test_a_connection_that_is_lost_during_a_check_is_forgotten() -> None:
    client = SaslClient()
    client.worker.waits = True
    client.handshake("PLAIN")
    client.send(AUTHENTICATE, 2, Message(auth_bytes=b"\0alice\0pw"))
    client.connection.lost()
    client.worker.work()
    client.clock.advance(1)
    assert client.dispatcher.in_flight.used_bytes == client.dispatcher.parked.used_bytes == 0


# --- sessions


def renew(client: SaslClient, mechanism: str = "PLAIN", message: bytes = b"\0alice\0pw") -> Message:
    """Authenticate again; the reply."""
    client.clock.advance(2)
    assert client.handshake(mechanism).error_code == 0
    return client.token(message)


def session(**settings: Any) -> SaslClient:
    """A client that has authenticated for 10 s."""
    client = SaslClient(connections_max_reauth_ms=10_000, **settings)
    client.handshake("PLAIN")
    assert client.token(b"\0alice\0pw").session_lifetime == 10_000
    return client


def test_a_session_that_is_renewed_lasts_longer() -> None:
    client = session()
    client.clock.advance(7)
    assert renew(client).session_lifetime == 10_000
    client.clock.advance(9)
    assert client.call(VERSIONS, 0, Message()).error_code == 0


def test_a_session_that_is_not_renewed_ends_with_the_next_request() -> None:
    client = session()
    client.clock.advance(10)
    assert client.session.is_expired
    assert client.refuses()


def test_an_expired_session_can_still_be_renewed() -> None:
    client = session()
    client.clock.advance(20)
    assert renew(client).error_code == 0
    assert not client.session.is_expired


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        ("PLAIN", b"\0bob\0pw"),
        ("PLAIN", b"\0alice\0no"),
        ("SCRAM-SHA-512", ScramClient("alice", "pw").first()),
    ],
)
def test_a_renewal_needs_the_same_user_mechanism_and_a_right_password(mechanism: str, message: bytes) -> None:
    client = session()
    reply = renew(client, mechanism, message)
    assert reply.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert "re-authentication" in reply.error_message
    assert client.transport.closed
    assert not client.logins[-1].allowed or mechanism != "PLAIN"


def test_other_requests_during_a_renewal_end_the_connection() -> None:
    for key in (VERSIONS, HEARTBEAT):
        client = session()
        client.clock.advance(2)
        client.handshake("PLAIN")
        assert client.refuses(key, BEAT if key == HEARTBEAT else Message())


def test_sessions_are_renewed_at_most_once_a_second_and_not_if_they_do_not_expire() -> None:
    client = session()
    renew(client)
    assert client.handshake("PLAIN").error_code == ErrorCode.ILLEGAL_SASL_STATE
    client.clock.advance(2)
    assert client.handshake("PLAIN", 0).error_code == ErrorCode.ILLEGAL_SASL_STATE
    client = SaslClient()
    client.log_in()
    assert client.handshake("PLAIN").error_code == ErrorCode.ILLEGAL_SASL_STATE
    assert client.token(b"").error_code == ErrorCode.ILLEGAL_SASL_STATE
    assert not client.transport.closed


def test_without_sasl_both_requests_are_at_the_wrong_place() -> None:
    client = DoorClient()
    assert client.call(HANDSHAKE, 1, Message(mechanism="PLAIN")).error_code == ErrorCode.ILLEGAL_SASL_STATE
    reply = client.call(AUTHENTICATE, 2, Message(auth_bytes=b""))
    assert reply.error_code == ErrorCode.ILLEGAL_SASL_STATE


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
