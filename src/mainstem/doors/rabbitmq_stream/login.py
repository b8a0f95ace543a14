"""The login of one stream client: SASL around the exchanges of `mainstem.authentication`.

Owns: which mechanisms a client may use, who it is, and until when. Refuses: another user in a renewal, and an
answer to a failed login before the delay that who guesses has to wait. At a listener without login every
mechanism of NO_LOGIN is accepted, and the client is who the listener or its certificate says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.access_contract import Principal
from mainstem.authentication.identity import AuthenticationFailed, Identity
from mainstem.doors.rabbitmq_stream.response_code import ResponseCode
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.authentication.exchange import SaslExchange
    from mainstem.doors.contract import Listener
    from mainstem.doors.rabbitmq_stream.shared import StreamDoorState

NO_LOGIN = ("PLAIN", "EXTERNAL", "ANONYMOUS")


class StreamLogin:
    """The login of one connection."""

    def __init__(self, state: StreamDoorState, listener: Listener, host: str, principal: Principal) -> None:
        self._state = state
        self._needs_login = listener.security.authenticates
        self._host = host
        self._exchange: SaslExchange | None = None
        self.mechanism = ""
        """That of the last exchange."""
        self.mechanisms = listener.mechanisms if self._needs_login else NO_LOGIN
        self.principal = principal
        self.roles: frozenset[Principal] = frozenset()
        self.identity: Identity | None = None
        self.failure = ""
        """Why the login failed, for the server's log."""

    async def step(self, mechanism: str, data: bytes, is_renewal: bool) -> tuple[ResponseCode, bytes]:
        """Answer a message of the client: OK, SASL_CHALLENGE with its data, or an error, after which the
        connection ends."""
        if mechanism not in self.mechanisms:
            self.failure = f"the mechanism {mechanism[:32]!r} is not offered"
            return ResponseCode.SASL_MECHANISM_NOT_SUPPORTED, b""
        if not self._needs_login:
            self.mechanism = mechanism
            return ResponseCode.OK, b""
        authentication = self._state.context.access.authentication
        if self._exchange is None or self.mechanism != mechanism:
            self._exchange, self.mechanism = authentication.exchange(mechanism, self._host), mechanism
        exchange = self._exchange
        try:
            answer = await exchange.step(data)
        except AuthenticationFailed as error:
            return await self._failed(exchange, error.reason)
        identity = exchange.identity
        if identity is None:
            return ResponseCode.SASL_CHALLENGE, answer
        if is_renewal and identity.principal != self.principal:
            return await self._failed(exchange, "another user than before, in a renewal")
        if identity.expires_at_ms is not None and identity.expires_at_ms <= self._state.clock.wall_ms():
            return await self._failed(exchange, "the token expired")
        self.identity, self.principal, self.roles = identity, identity.principal, identity.roles
        self._exchange = None
        authentication.finished(exchange, self._host, mechanism=mechanism, door="rabbitmq_stream")
        return ResponseCode.OK, answer

    async def _failed(self, exchange: SaslExchange, reason: str) -> tuple[ResponseCode, bytes]:
        context = self._state.context
        self.failure = reason or "wrong credentials"
        self._exchange = None
        context.access.authentication.finished(
            exchange, self._host, mechanism=self.mechanism, door="rabbitmq_stream", reason=self.failure
        )
        waited: Promise[None] = Promise()
        delay_ms = context.settings.connection_failed_authentication_delay_ms
        context.clock.call_later(delay_ms / 1000, lambda: waited.resolve(None))
        await waited
        return ResponseCode.AUTHENTICATION_FAILURE, b""

    @property
    def is_expired(self) -> bool:
        """Whether the token by which the client logged in has expired."""
        expires_at_ms = None if self.identity is None else self.identity.expires_at_ms
        return expires_at_ms is not None and expires_at_ms <= self._state.clock.wall_ms()
