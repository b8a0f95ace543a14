"""The login of a connection: PLAIN, AMQPLAIN and EXTERNAL (AMQP 0-9-1, 1.4.2.2; RabbitMQ's mechanisms).

Owns: which mechanisms are offered, and how each names a user. Refuses: AMQPLAIN's table without a name and a
password, and EXTERNAL without a certificate. Whether a password is right is decided by
`mainstem.authentication`; on an address where clients need not log in, any name is accepted, and the client
is the default principal of the address, as `guest` is in RabbitMQ.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mainstem.access_contract import Principal
from mainstem.amqp.field_tables import FieldTableError, decode_table
from mainstem.authentication.identity import AuthenticationFailed, Identity
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.authentication.service import Authentication
    from mainstem.doors.contract import Listener

DOOR_NAME = "amqp091"
PLAIN, AMQPLAIN, EXTERNAL = "PLAIN", "AMQPLAIN", "EXTERNAL"
RESPONSE_MAX_BYTES = 4 << 10
USER_MAX_LENGTH = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """Who a client is, once it has logged in."""

    user: str
    """The name that it gave, or that its certificate has."""
    principal: Principal
    roles: frozenset[Principal] = frozenset()
    proves_password: bool = False
    """Whether it proved to know the password of the user."""


class LoginCheck:
    """The logins at a listener from one host. `principal`: who the client is before it logs in."""

    __slots__ = ("_authentication", "_host", "_listener", "principal")

    def __init__(
        self, authentication: Authentication, listener: Listener, host: str, principal: Principal
    ) -> None:
        self._authentication = authentication
        self._listener = listener
        self._host = host
        self.principal = principal

    @property
    def _has_certificate(self) -> bool:
        return self._listener.security.tls and self.principal != self._listener.default_principal

    @property
    def offered(self) -> tuple[str, ...]:
        """The mechanisms that a client may use here."""
        passwords = PLAIN in self._listener.mechanisms or not self._listener.security.authenticates
        names = (PLAIN, AMQPLAIN) if passwords else ()
        return (*names, EXTERNAL) if self._has_certificate else names

    def check(self, mechanism: str, response: bytes) -> Promise[LoggedIn]:
        """Check a response to connection.start, by a mechanism that is offered. The promise fails with
        AuthenticationFailed, whose reason is for the log alone."""
        if mechanism == EXTERNAL:
            return Promise.resolved(LoggedIn(user=self.principal.name, principal=self.principal))
        try:
            if len(response) > RESPONSE_MAX_BYTES:
                raise AuthenticationFailed(f"a response of {len(response)} bytes")
            user, password = _plain(response) if mechanism == PLAIN else _amqplain(response)
        except AuthenticationFailed as error:
            return Promise.failed(error)
        return self.check_password(user, password)

    def check_password(self, user: str, password: str) -> Promise[LoggedIn]:
        """Check a name and a password; as `check`."""
        if not self._listener.security.authenticates:
            name = user[:USER_MAX_LENGTH]
            return Promise.resolved(LoggedIn(user=name, principal=self.principal))
        checked = self._authentication.check_password(user, password, self._host, door=DOOR_NAME)
        return checked.map(_logged_in)


def _logged_in(identity: Identity) -> LoggedIn:
    return LoggedIn(
        user=identity.principal.name,
        principal=identity.principal,
        roles=identity.roles,
        proves_password=True,
    )


def _plain(response: bytes) -> tuple[str, str]:
    """Name and password of RFC 4616; an authorization id is ignored, as RabbitMQ does."""
    try:
        _, user, password = response.decode().split("\0")
    except ValueError as error:
        raise AuthenticationFailed("not a PLAIN message: authorization id, name and password") from error
    return user, password


def _amqplain(response: bytes) -> tuple[str, str]:
    """LOGIN and PASSWORD of a field table that is sent without its length."""
    try:
        table, _ = decode_table(struct.pack(">I", len(response)) + response)
    except FieldTableError as error:
        raise AuthenticationFailed(f"not an AMQPLAIN table: {error}") from error
    user, password = table.get("LOGIN"), table.get("PASSWORD")
    if not isinstance(user, str) or not isinstance(password, str):
        raise AuthenticationFailed("an AMQPLAIN table without LOGIN or PASSWORD")
    return user, password
