"""What all connections of the door share, and the part of a socket that one of them uses.

Owns: the types. The server makes the context; connection.py uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from mainstem.doors.amqp091.contract import AmqpConnection

if TYPE_CHECKING:
    from mainstem.amqp.connections import ConnectionRegistry
    from mainstem.amqp.errors import AmqpError
    from mainstem.clock import Clock
    from mainstem.doors.amqp091.contract import OpenVhost
    from mainstem.doors.amqp091.method import Method
    from mainstem.doors.amqp091.methods import BasicPublish
    from mainstem.doors.amqp091.negotiation import Limits
    from mainstem.doors.net.limits import MemoryBudget
    from mainstem.quota_contract import ClientQuotas

PUBLISHES_MAX = 2_048
"""Most different basic.publish methods that are remembered by their bytes."""


class ConnectionState(Enum):
    """How far a connection is."""

    GREETING = "greeting"
    LOGIN = "login"
    TUNING = "tuning"
    OPENING = "opening"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"


class AmqpTransport(Protocol):
    """The part of a socket that a connection uses."""

    def write(self, pieces: list[bytes]) -> None:
        """Send these bytes."""

    def unsent_bytes(self) -> int:
        """How many bytes the client has not read yet."""

    def pause(self) -> None:
        """Stop reading. Idempotent."""

    def resume(self) -> None:
        """Go on reading. Idempotent."""

    def close(self) -> None:
        """Send what was written, then close."""

    def start_task(self, work: Coroutine[Any, Any, None]) -> object:
        """Run a coroutine, which is cancelled some time after the end of the socket."""


class ChannelOwner(AmqpConnection, Protocol):
    """A connection, as the table of its channels sees it."""

    channel_max: int
    """Most channels that are open together."""

    @property
    def message_max_bytes(self) -> int:
        """The largest body of a message."""

    @property
    def publishes(self) -> dict[bytes, BasicPublish]:
        """See `ConnectionContext.publishes`."""

    def decode(self, payload: bytes) -> Method | None:
        """The method of a frame; None: it is none, and the connection ends with an error."""

    def end_with_error(self, error: AmqpError, method: Method | None) -> None:
        """Close the connection. `method`: what caused the error."""

    def reserve(self, count: int) -> bool:
        """Reserve memory for a part of a message; False: there is none now, and the client is not read."""

    def release_memory(self, count: int, *, is_all: bool) -> None:
        """Free what was reserved. `is_all`: nothing is reserved now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpPeers:
    """The two ends of a connection."""

    client_host: str
    client_port: int
    host: str
    port: int
    is_encrypted: bool = False

    @property
    def name(self) -> str:
        """The name of the connection, as RabbitMQ makes it."""
        return f"{self.client_host}:{self.client_port} -> {self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionContext:
    """What the connections of a door share."""

    clock: Clock
    limits: Limits
    open_vhost: OpenVhost
    registry: ConnectionRegistry
    budget: MemoryBudget
    """Bytes of messages that are coming in."""
    publish_refusal: Callable[[], str | None]
    """Why no message can be stored now; None: it can."""
    quotas: ClientQuotas
    warn: Callable[[str, str], None]
    """Logs a warning about a client: kind, text."""
    version: str
    """The version of mainstem."""
    cluster_name: str
    handshake_s: float
    """How long a client may take until its connection is open."""
    failed_login_s: float
    """How long the answer to a failed login waits."""
    publishes: dict[bytes, BasicPublish] = field(default_factory=dict)
    """Publish methods by their bytes: publishers send the same again and again."""
