"""The contract between the door and the handlers of API keys.

Owns: `Request`, `HandlerContext`, `Handler`. Each file of `handlers/` ends in one `HANDLER`; the routing
table and the reply to ApiVersions are derived from them. Refuses: to show a socket to a handler.

A handler returns one of
- a `Message`: the reply;
- a list of buffers: the body of the reply, encoded in the request's version, in pieces;
- a `Promise` of one of these: the reply follows later. The next requests of the connection wait for it,
  except behind a pipelined handler: then they start at once, and the replies are still sent in order;
- None: there is no reply (Produce with acks=0).

It may raise `CloseConnection`, or an error of the coordinator or the log, which becomes the top-level error
code of the reply. Any other exception is logged as a fault of the server and answered with
UNKNOWN_SERVER_ERROR.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mainstem.access_contract import Requester, Resource
from mainstem.clock import Clock
from mainstem.coordinator.errors import UnknownTopicOrPartition
from mainstem.doors.kafka.access_changes import AccessChanges
from mainstem.doors.kafka.grants import Grants
from mainstem.doors.kafka.rights import CLUSTER, NoRights, Right
from mainstem.doors.net.address import HostPort
from mainstem.kafka_protocol.message import Buffer, Message
from mainstem.promise import Promise
from mainstem.settings import Settings

if TYPE_CHECKING:
    from mainstem.coordinator.groups.groups import Groups
    from mainstem.coordinator.topics.topics import Topics
    from mainstem.doors.contract import Access
    from mainstem.doors.kafka.share_sessions import ShareSessions
    from mainstem.log.log import Log
    from mainstem.log.partition.partition import Partition
    from mainstem.node import Node

log = logging.getLogger("mainstem.kafka")

Reply: TypeAlias = Message | list[Buffer] | None
HandlerResult: TypeAlias = Reply | Promise[Message] | Promise[list[Buffer]] | Promise[Reply]

NODE_ID = 1
"""The id of the only broker, which leads every partition and coordinates every group."""


class CloseConnection(Exception):
    """Raised by a handler to close the connection without a reply, as Kafka does for some requests. The
    message is logged."""


class SaslRequests(Protocol):
    """The authentication of a connection, as handlers use it."""

    def handshake(self, request: Request) -> HandlerResult:
        """Answer SaslHandshake."""

    def authenticate(self, request: Request) -> HandlerResult:
        """Answer SaslAuthenticate."""


class ClientConnection(Protocol):
    """The connection that a request arrived on."""

    @property
    def advertised(self) -> HostPort:
        """The advertised address of the listener that accepted the connection."""

    @property
    def sasl(self) -> SaslRequests | None:
        """The authentication of the client; None if the listener asks for none."""

    def on_close(self, call: Callable[[], None]) -> Callable[[], None]:
        """Run `call` when the connection is lost. Returns a function that cancels this."""

    def mute(self, seconds: float) -> None:
        """Start no further request of the client for this time, for it has used more than its quota."""

    def requester_for(self, client_id: str | None) -> Requester:
        """Who asks, in a request with this client id."""

    @property
    def grants(self) -> Grants:
        """What its client was allowed lately."""


@dataclass(slots=True)
class Request:
    """One decoded request."""

    key: int
    version: int
    correlation_id: int
    client_id: str | None
    body: Message
    peer: str
    """HOST:PORT of the client."""
    connection: ClientConnection
    size: int = 0
    """Bytes of the request."""
    busy_s: float = 0.0
    """Seconds that its handler ran, without what it waited; where client quotas count that."""

    @property
    def requester(self) -> Requester:
        """Who asks: the connection's principal, address and the request's client id. The same object for all
        requests of a connection with the same client id."""
        return self.connection.requester_for(self.client_id)


@dataclass(slots=True)
class HandlerContext:
    """The parts of the server that handlers use."""

    node: Node
    access: Access
    handlers: dict[int, Handler] = field(default_factory=dict)
    node_id: int = NODE_ID
    rack: str | None = None
    slow_clients: int = 0
    """Number of connections whose clients do not read their replies. The more there are, the smaller Fetch
    replies get, so that the unsent bytes of all connections together are bounded."""

    share_sessions: ShareSessions | None = None
    """Of share groups; None if the engine has no queues."""
    access_changes: AccessChanges = field(init=False)

    def __post_init__(self) -> None:
        self.access_changes = AccessChanges(self.access.authorizer, self.access.masks, self.clock)

    def allows(self, request: Request, right: Right, name: str, *, is_filter: bool = False) -> bool:
        """Whether the requester has the right to the resource of this name. `is_filter`: a denial only hides
        the resource from a list, and is no refusal of what the client asked for."""
        authorizer, requester = self.access.authorizer, request.requester
        if right.or_cluster is not None and authorizer.allows(
            requester, right.or_cluster, CLUSTER, is_filter=True
        ):
            return True
        if right.or_any is not None and authorizer.allows_any(requester, *right.or_any):
            return True
        resource = Resource(right.resource_type, name)
        return authorizer.allows(requester, right.operation, resource, is_filter=is_filter)

    def allows_often(self, request: Request, right: Right, name: str) -> bool:
        """As `allows`, for what is asked with every batch: what was allowed is not asked for again until
        rights change."""
        grants, version = request.connection.grants, self.access.authorizer.version
        if grants.version != version:
            grants.clear(version)
        if grants.has(right, name):
            return True
        is_allowed = self.allows(request, right, name)
        if is_allowed:
            grants.add(right, name)
        return is_allowed

    def allows_reading(self, request: Request, right: Right, topic: str) -> bool:
        """Whether the requester may get the events of this topic as they are. Somebody for whom fields are
        masked may not: stored batches cannot be masked."""
        return (
            self.allows_often(request, right, topic)
            and self.access.masks.mask_of(request.requester, topic) is None
        )

    def fault(self, operation: str, error: BaseException) -> None:
        """Log an unexpected error in `operation` with its traceback: a fault of the server, not of the
        client's request."""
        log.error("%s failed unexpectedly", operation, exc_info=error)

    @property
    def log(self) -> Log:
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

    def has_partition(self, topic_name: str, index: int) -> bool:
        """Whether there is such a topic, with a partition of that index."""
        topic = self.topics.get(topic_name)
        return topic is not None and 0 <= index < topic.partitions

    def partition(self, topic_name: str, index: int) -> Partition:
        """A partition by the name of its topic. UnknownTopicOrPartition if it does not exist."""
        topic = self.topics.get(topic_name)
        if topic is None:
            raise UnknownTopicOrPartition(f"there is no topic {topic_name}")
        return self.node.partition(topic, index)


@dataclass(frozen=True, slots=True)
class Handler:
    """The declaration of one API key: the accepted versions, inclusive, and the function that handles a
    request."""

    key: int
    versions: tuple[int, int]
    handle: Callable[[HandlerContext, Request], HandlerResult]
    rights: tuple[Right, ...] | NoRights
    """What a request needs the right to. Those to one resource are checked before the handler runs; the
    handler checks the others, for each name."""
    advertised_from: int | None = None
    """The lowest version in the reply to ApiVersions, if it is lower than the lowest that is accepted: some
    clients test for a version that no longer is."""
    pipelined: bool = False
    """Whether later requests of the connection start before this one is answered."""
    body_offset_quirk: Callable[[int, memoryview, int], int] | None = None
    """(version, frame, position where the body should begin) -> position where it really begins, for clients
    that put something before the body."""
    on_unsupported_version: Callable[[HandlerContext, Request, memoryview], HandlerResult] | None = None
    """The reply to a version outside of the range; its third argument is the bytes after the client id. None:
    the connection is closed."""
    on_error: Callable[[Request, int], Message] | None = None
    """The reply with an error code, for messages without a top-level `error_code`."""
    whole_rights: tuple[Right, ...] = field(init=False)
    """Those of `rights` that are needed for the whole request."""

    def __post_init__(self) -> None:
        rights = () if isinstance(self.rights, NoRights) else self.rights
        whole = tuple(right for right in rights if right.name_of is not None)
        object.__setattr__(self, "whole_rights", whole)
        low, high = self.versions
        assert 0 <= low <= high, "the lowest version is not above the highest"
        assert self.advertised_from is None or self.advertised_from < low, "fewer versions are accepted"
