"""The authentication of one connection: Kafka's SASL handshake around an exchange (KIP-43, KIP-152, KIP-368).

Owns: which requests a client may send before it has authenticated, what a failure answers and when (KIP-306),
how long a session lasts, and its renewal. Refuses: every other request before the end of the exchange, and
after the session expired; a renewal as somebody else or by another mechanism. What is proven is decided by
`mainstem.authentication`; a check that breaks is a failed one.

    HANDSHAKE --SaslHandshake v1--> TOKENS --SaslAuthenticate … --> READY
        |                                                            | SaslHandshake, if sessions expire
        '------SaslHandshake v0---> RAW_TOKENS --frames … -----------'
    any of them --a failure--> CLOSED
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from mainstem.access_contract import Principal
from mainstem.authentication.identity import AuthenticationFailed, Identity
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.frame import HEADER_BYTES, MAX_BYTES_NAME
from mainstem.doors.kafka.handler import CloseConnection, HandlerResult, Request
from mainstem.kafka_protocol.message import Buffer, Message
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.authentication.exchange import SaslExchange
    from mainstem.authentication.service import Authentication
    from mainstem.clock import Clock
    from mainstem.settings import Settings

SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 17, 18, 36
RAW_TOKEN = -1
"""The key of a "request" that is a frame with nothing but a token, as clients before KIP-152 send it."""
REQUESTS_MAX = 20
"""Most requests before a client has authenticated. A SCRAM exchange has four, with ApiVersions."""
RENEWAL_SECONDS_MIN = 1.0
"""Least time between two renewals of a session, as in Kafka."""


class SaslConnection(Protocol):
    """What a session uses of its connection."""

    def identify(self, principal: Principal, roles: frozenset[Principal]) -> None:
        """The client has proven who it is."""

    def limit_frames(self, min_bytes: int, max_bytes: int, name: str) -> None:
        """Accept only frames of these lengths from now on. `name`: of the setting that limits them."""

    def authentication_failed(self, reason: str) -> None:
        """Log why; the client does not learn it."""

    def close(self) -> None:
        """Send what was written, then close."""


class State(Enum):
    """Where the exchange is."""

    HANDSHAKE = "handshake"
    TOKENS = "tokens"
    RAW_TOKENS = "raw tokens"
    READY = "ready"
    CLOSED = "closed"


class SaslSession:
    """The authentication of one connection of a listener that has `mechanisms`. Before the client has
    authenticated its frames are limited by `sasl.server.max.receive.size`."""

    __slots__ = (
        "_authentication",
        "_clock",
        "_connection",
        "_exchange",
        "_host",
        "_mechanism",
        "_mechanisms",
        "_renewal_mechanism",
        "_renewed_at",
        "_requests",
        "_settings",
        "expires_at",
        "identity",
        "state",
    )

    def __init__(
        self,
        authentication: Authentication,
        settings: Settings,
        clock: Clock,
        mechanisms: tuple[str, ...],
        host: str,
        connection: SaslConnection,
    ) -> None:
        self._authentication = authentication
        self._settings = settings
        self._clock = clock
        self._mechanisms = mechanisms
        self._host = host
        self._connection = connection
        self._exchange: SaslExchange | None = None
        self._mechanism = ""
        """That of the exchange that runs, or was the last."""
        self._renewal_mechanism = ""
        """The mechanism that a renewal has to have; empty at the first authentication."""
        self._requests = 0
        self._renewed_at: float | None = None
        self.state = State.HANDSHAKE
        self.identity: Identity | None = None
        """Who the client is; None before it has authenticated."""
        self.expires_at: float | None = None
        """Monotonic seconds at which the session expires; None: it does not."""
        self._limit_frames()

    @property
    def is_expired(self) -> bool:
        """Whether the session expired, so that nothing but its renewal is accepted."""
        return self.expires_at is not None and self._clock.monotonic() >= self.expires_at

    def check(self, frame: memoryview) -> bool:
        """Look at a frame before it becomes a request. True: it is a token, to be passed to `raw_token`.
        CloseConnection if the client may not send it now."""
        if self.state is State.READY:
            if self.expires_at is not None and self.is_expired and _key(frame) != SASL_HANDSHAKE:
                raise CloseConnection("the session expired, and the client did not renew it")
            return False
        self._requests += 1
        if self.state is State.CLOSED or self._requests > REQUESTS_MAX:
            raise CloseConnection("too many requests without authentication")
        if self.state is State.RAW_TOKENS:
            return True
        if _key(frame) not in (SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE):
            raise CloseConnection(f"API key {_key(frame)} before the client has authenticated")
        if _key(frame) == API_VERSIONS and (self.state is not State.HANDSHAKE or self.identity is not None):
            raise CloseConnection("ApiVersions during an authentication")
        return False

    def handshake(self, request: Request) -> HandlerResult:
        """Answer SaslHandshake."""
        if self.state is State.READY and not self._begin_renewal(request.version):
            return Message(error_code=ErrorCode.ILLEGAL_SASL_STATE, mechanisms=[])
        if self.state is not State.HANDSHAKE:
            illegal = Message(error_code=ErrorCode.ILLEGAL_SASL_STATE, mechanisms=[])
            return self._fail(illegal, "SaslHandshake at the wrong place")
        mechanism = request.body.mechanism
        offered = list(self._mechanisms)
        if mechanism not in self._mechanisms:
            unsupported = Message(error_code=ErrorCode.UNSUPPORTED_SASL_MECHANISM, mechanisms=offered)
            return self._fail(unsupported, f"the mechanism {mechanism[:32]!r} is not enabled")
        self._mechanism = mechanism
        if request.version == 0:
            self.state = State.RAW_TOKENS
            self._limit_frames()
        else:
            self.state = State.TOKENS
        if self._renewal_mechanism in ("", mechanism):
            self._exchange = self._authentication.exchange(mechanism, self._host)
        return Message(error_code=0, mechanisms=offered)

    def authenticate(self, request: Request) -> HandlerResult:
        """Answer SaslAuthenticate."""
        if self.state is not State.TOKENS:
            illegal = Message(
                error_code=ErrorCode.ILLEGAL_SASL_STATE,
                error_message="SaslAuthenticate request received after successful authentication"
                if self.state is State.READY
                else "SaslAuthenticate request received before SaslHandshake",
                auth_bytes=b"",
            )
            if self.state is State.READY:
                return illegal
            return self._fail(illegal, "SaslAuthenticate at the wrong place")
        version = request.version

        def failed() -> Message:
            return Message(
                error_code=ErrorCode.SASL_AUTHENTICATION_FAILED,
                error_message=self._failure_text(),
                auth_bytes=b"",
            )

        def answer(token: bytes, lifetime_ms: int) -> Message:
            lifetime = {"session_lifetime": lifetime_ms} if version >= 1 else {}
            return Message(error_code=0, error_message=None, auth_bytes=token, **lifetime)

        return self._step(bytes(request.body.auth_bytes), answer, failed)

    def raw_token(self, frame: memoryview) -> HandlerResult:
        """Answer a frame that is a token: a frame with the server's token, or none and the end."""

        def answer(token: bytes, lifetime_ms: int) -> list[Buffer]:
            return [len(token).to_bytes(4, "big") + token]

        return self._step(bytes(frame), answer, None)

    # --- the exchange

    def _step(
        self,
        token: bytes,
        answer: Callable[[bytes, int], Message] | Callable[[bytes, int], list[Buffer]],
        failed: Callable[[], Message] | None,
    ) -> HandlerResult:
        """Pass a token on; the reply follows when it is checked."""
        exchange = self._exchange
        if exchange is None:
            return self._fail(failed() if failed else None, "another mechanism than before, in a renewal")
        reply: Promise[Message | list[Buffer] | None] = Promise()

        def checked(result: Promise[bytes]) -> None:
            if self.state is State.CLOSED:
                return
            reason = _reason(result)
            identity = exchange.identity
            if not reason and identity is not None:
                reason = self._refusal_of(identity)
            if reason:
                self._fail(failed() if failed else None, reason).then(reply.copy_result)
                return
            lifetime_ms = 0 if identity is None else self._complete(exchange, identity)
            reply.resolve(answer(result.result(), lifetime_ms))

        exchange.step(token).then(checked)
        return reply

    def _refusal_of(self, identity: Identity) -> str:
        """Why the session does not begin although the credentials are right; empty if it does."""
        if self.identity is not None and self.identity.principal != identity.principal:
            return "another principal than before, in a renewal"
        if identity.expires_at_ms is not None and identity.expires_at_ms <= self._clock.wall_ms():
            return "the token expired"
        return ""

    def _complete(self, exchange: SaslExchange, identity: Identity) -> int:
        """Begin the session, or go on with it; its lifetime in ms, 0 if it does not expire."""
        lifetimes = [self._settings.connections_max_reauth_ms]
        if identity.expires_at_ms is not None:
            lifetimes.append(max(identity.expires_at_ms - self._clock.wall_ms(), 1))
        lifetime_ms = min((lifetime for lifetime in lifetimes if lifetime), default=0)
        self.expires_at = self._clock.monotonic() + lifetime_ms / 1000 if lifetime_ms else None
        self.identity = identity
        self.state = State.READY
        self._exchange = None
        self._connection.identify(identity.principal, identity.roles)
        self._connection.limit_frames(HEADER_BYTES, self._settings.socket_request_max_bytes, MAX_BYTES_NAME)
        self._record(exchange, "")
        return lifetime_ms

    def _begin_renewal(self, version: int) -> bool:
        """Whether the client may authenticate again now; if so, it has to."""
        now = self._clock.monotonic()
        if self.expires_at is None or version == 0:
            return False
        if self._renewed_at is not None and now - self._renewed_at < RENEWAL_SECONDS_MIN:
            return False
        self._renewed_at = now
        self._requests = 1
        self._renewal_mechanism = self._mechanism
        self.state = State.HANDSHAKE
        return True

    def _fail(self, reply: Message | None, reason: str) -> Promise[Message | list[Buffer] | None]:
        """Answer after a while, then close: who guesses has to wait."""
        exchange, self._exchange = self._exchange, None
        self.state = State.CLOSED
        self._record(exchange, reason)
        self._connection.authentication_failed(reason)
        answered: Promise[Message | list[Buffer] | None] = Promise()

        def end() -> None:
            answered.resolve(reply) if reply is not None else answered.fail(CloseConnection(reason))
            self._connection.close()

        self._clock.call_later(self._settings.connection_failed_authentication_delay_ms / 1000, end)
        return answered

    def _failure_text(self) -> str:
        """Kafka's text, which is the same whatever was wrong."""
        kind = "re-authentication" if self.identity is not None else "authentication"
        return (
            f"Authentication failed during {kind} due to invalid credentials with SASL mechanism"
            f" {self._mechanism}"
        )

    def _record(self, exchange: SaslExchange | None, reason: str) -> None:
        if exchange is not None:
            self._authentication.finished(
                exchange, self._host, mechanism=self._mechanism, door="kafka", reason=reason
            )

    def _limit_frames(self) -> None:
        settings = self._settings
        largest = min(settings.sasl_server_max_receive_size, settings.socket_request_max_bytes)
        smallest = 0 if self.state is State.RAW_TOKENS else HEADER_BYTES
        self._connection.limit_frames(smallest, largest, "sasl.server.max.receive.size")


def _reason(result: Promise[bytes]) -> str:
    """Why a step failed, for the audit; empty if it did not."""
    error = result.error
    if error is None:
        return ""
    return (error.reason if isinstance(error, AuthenticationFailed) else "") or f"the check failed: {error}"


def _key(frame: memoryview) -> int:
    return int.from_bytes(frame[:2], "big", signed=True)
