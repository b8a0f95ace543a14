"""What a virtual host consists of: declarations, exchanges, queues and bindings, as clients see them.

Owns: these types. Refuses: rules (`vhost.py`), and where anything is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from mainstem.amqp.field_tables import encode_table
from mainstem.amqp.field_values import FieldTable
from mainstem.amqp.streams import StreamPlace
from mainstem.clock import Timer

QueueKind: TypeAlias = Literal["classic", "quorum", "stream"]
Target: TypeAlias = tuple[bool, str]
"""Where a binding leads: whether to a queue, and its name, else the name of an exchange."""


@dataclass(frozen=True, slots=True)
class ExchangeDeclaration:
    """What a client says of an exchange."""

    name: str
    kind: str = "direct"
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    arguments: FieldTable = field(default_factory=dict)


@dataclass(slots=True)
class Exchange:
    """An exchange."""

    name: str
    kind: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: FieldTable = field(default_factory=dict)
    policy: str = ""
    """The name of the policy that applies; empty: none."""
    alternate: str = ""
    """The exchange that gets what no binding matches, by argument or policy; empty: none."""

    @property
    def routing_kind(self) -> str:
        """The type whose rules match: of an exchange that delays, the one that it names."""
        kind = self.arguments.get("x-delayed-type") if self.kind == "x-delayed-message" else self.kind
        return str(kind)


@dataclass(frozen=True, slots=True)
class AmqpBinding:
    """A binding from an exchange to a queue, or to an exchange."""

    source: str
    destination: str
    is_to_queue: bool = True
    routing_key: str = ""
    arguments: FieldTable = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """Where it leads."""
        return self.is_to_queue, self.destination

    @property
    def identity(self) -> tuple[str, bool, str, str, bytes]:
        """Two bindings with the same one are one."""
        arguments = encode_table(dict(sorted(self.arguments.items())))
        return self.source, self.is_to_queue, self.destination, self.routing_key, arguments


@dataclass(frozen=True, slots=True)
class QueueDeclaration:
    """What a client says of a queue."""

    name: str = ""
    """Empty: the server makes one."""
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    arguments: FieldTable = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class AmqpQueue:
    """A queue: a subscription of the engine, and what AMQP says of it."""

    name: str
    subscription: str
    """Its name at the engine."""
    durable: bool
    exclusive: bool
    auto_delete: bool
    arguments: FieldTable
    owner: object = None
    """The connection that an exclusive queue belongs to."""
    policy: str = ""
    operator_policy: str = ""
    effective: Mapping[str, Any] = field(default_factory=dict)
    """The arguments in effect, by the names of policies: `message-ttl`, `max-length` …"""
    consumers: int = 0
    used_s: float = 0.0
    """When it was last used, monotonic."""
    topic: str = ""
    """The topic whose events it has; empty: it has what is routed to it."""
    place: StreamPlace | None = None
    """Of a stream: where its messages are. None: the engine's routes say which it has."""
    expiry_timer: Timer | None = None
    on_removed: dict[object, Callable[[], None]] = field(default_factory=dict)
    """Of a stream: what its consumers do when it is deleted. The engine ends those of other queues."""

    @property
    def kind(self) -> QueueKind:
        """Its type."""
        kind = self.arguments.get("x-queue-type", "classic")
        return "quorum" if kind == "quorum" else "stream" if kind == "stream" else "classic"

    @property
    def priority_max(self) -> int:
        """Its highest priority; 0: it has none."""
        value = self.arguments.get("x-max-priority", 0)
        return int(value) if isinstance(value, int) and self.kind == "classic" else 0

    @property
    def is_single_active(self) -> bool:
        """Whether one consumer at a time gets messages."""
        return self.arguments.get("x-single-active-consumer") is True


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """The answer to a declaration."""

    name: str
    messages: int
    """Ready ones."""
    consumers: int
