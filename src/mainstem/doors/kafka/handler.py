"""What a handler of an API key is given, and what it gives back.

Owns: `Request`, `HandlerContext`, `Handler`. Each file of `handlers/` ends in one `HANDLER`; the routing
table and the reply to ApiVersions are derived from them. Handlers never see a socket.

A handler returns
- a `Message`: the reply;
- a list of buffers: the reply's body, already encoded in the request's version, in pieces;
- a `Promise` of one of these: the reply comes later; the next requests of the connection wait behind it (a
  Produce's do not: they are started at once and their replies kept in order);
- None: there is no reply (Produce with acks=0).
It may raise: CloseConnection; a coordinator or log error, which becomes the reply's top-level error code
where the message has one; anything else is logged as a fault of the server and answered with
UNKNOWN_SERVER_ERROR.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mainstem.clock import Clock
from mainstem.kafka_protocol.message import Buffer, Message
from mainstem.promise import Promise
from mainstem.settings import Settings

if TYPE_CHECKING:
    from mainstem.coordinator.groups.groups import Groups
    from mainstem.coordinator.topics.topics import Topics
    from mainstem.log.log import Log
    from mainstem.node import Node

log = logging.getLogger("mainstem.kafka")

Reply: TypeAlias = Message | list[Buffer] | None
HandlerResult: TypeAlias = Reply | Promise[Message] | Promise[list[Buffer]] | Promise[Reply]

NODE_ID = 1
"""There is one broker: it leads every partition and coordinates every group."""


class CloseConnection(Exception):
    """Kafka's answer to some requests is to hang up. The message goes to the log at debug level."""


@dataclass(frozen=True, slots=True)
class AdvertisedListener:
    """One listening address. `host` and `port` are what clients are told to connect to."""

    name: str
    host: str
    port: int


class ClientConnection(Protocol):
    """The connection that a request came by."""

    @property
    def listener(self) -> AdvertisedListener:
        """Where it was accepted; has the advertised host and port."""

    def on_close(self, call: Callable[[], None]) -> Callable[[], None]:
        """Run `call` when the connection is lost before it was taken back. Returns what takes it back."""


@dataclass(slots=True)
class Request:
    """One request, decoded."""

    key: int
    version: int
    correlation_id: int
    client_id: str | None
    body: Message
    peer: str
    """HOST:PORT of the client."""
    connection: ClientConnection


@dataclass(slots=True)
class HandlerContext:
    """What handlers may use."""

    node: Node
    handlers: dict[int, Handler] = field(default_factory=dict)
    node_id: int = NODE_ID
    rack: str | None = None
    slow_clients: int = 0
    """Connections whose clients do not take what is sent to them: replies get smaller, so that all their
    unsent bytes together are bounded."""

    def fault(self, what: str, error: BaseException) -> None:
        """Log a fault of ours, with its traceback."""
        log.error("%s failed", what, exc_info=error)

    @property
    def log(self) -> Log:
        """The log."""
        return self.node.log

    @property
    def topics(self) -> Topics:
        return self.node.topics

    @property
    def groups(self) -> Groups:
        return self.node.groups

    @property
    def settings(self) -> Settings:
        return self.node.settings

    @property
    def clock(self) -> Clock:
        return self.node.clock

    @property
    def cluster_id(self) -> str:
        return self.node.log.cluster_id


@dataclass(frozen=True, slots=True)
class Handler:
    """One API key: the versions it takes, inclusive, and the function. `advertised_from` is told to clients
    instead of the lowest version where some clients test for one that is no longer taken."""

    key: int
    versions: tuple[int, int]
    handle: Callable[[HandlerContext, Request], HandlerResult]
    advertised_from: int | None = None
    pipelined: bool = False
    """Later requests of the connection may start before this one is answered."""
    body_offset_quirk: Callable[[int, memoryview, int], int] | None = None
    """Where the body really begins, for clients that put something before it: version, frame, where it should
    begin."""
    on_unsupported_version: Callable[[HandlerContext, Request, memoryview], HandlerResult] | None = None
    """The answer to a version outside of the range, given the bytes behind the client id. None: hang up."""
    on_error: Callable[[Request, int], Message] | None = None
    """The reply that carries an error code, for messages without a top-level `error_code`."""
