"""A call of a method of Pub/Sub, as the function that answers it sees it, and the declaration of a method.

Owns: the types between the protocol and the services: status codes, errors, calls, the messages of a stream.
Refuses: to know the protocol: the same functions answer gRPC and REST. A service has a function
`handlers(context)` that returns its methods by path: `/google.pubsub.v1.Publisher/Publish`.

Messages are bytes: each is a whole encoded protobuf message without gRPC's prefix of five bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mainstem.access_contract import Operation, Requester, ResourceType
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.contract import Engine
    from mainstem.doors.contract import DoorContext


MESSAGE_BYTES_MAX = 16 << 20
"""Of a message, also when it is not compressed any more."""


class Code(IntEnum):
    """Status of a call: google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """The error that a call ends with. `details`: an encoded google.rpc.Status of the same code and message,
    sent as `grpc-status-details-bin`; empty: none."""

    def __init__(self, code: Code, message: str, details: bytes = b"") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


@dataclass(slots=True, kw_only=True)
class RpcCall:
    """One call."""

    method: str
    """Its path: `/google.pubsub.v1.Publisher/Publish`."""
    metadata: Mapping[str, str]
    """The headers that the client sent, by their names in lower case. Those that end in `-bin` are in base64
    as they came; of several of the same name the values are joined with commas."""
    requester: Requester
    peer: str
    """HOST:PORT of the client."""
    deadline: float | None = None
    """When the client gives up, in seconds of the door's monotonic clock; None: never. The call is ended with
    DEADLINE_EXCEEDED then."""
    response_headers: dict[str, str] | None = None
    """Headers of the response beside those of the protocol, set before the first message is sent."""
    response_trailers: dict[str, str] | None = None
    """Headers that follow the status, set before the call ends."""

    @property
    def principal(self) -> str:
        """Who calls: `User:alice`."""
        return self.requester.principal.text


class RpcRequests(Protocol):
    """The messages that the client sends in a stream; ends when it has sent its last. A message that is not
    taken keeps the client from sending more than a window's bytes."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...


class RpcResponses(Protocol):
    """The messages that are sent to the client in a stream."""

    def send(self, message: bytes) -> None:
        """Send a message. Never waits: what the client does not take is kept, so a sender of what is not
        small awaits `ready` before it."""

    async def ready(self) -> None:
        """Wait until the client has taken what was sent, but for what its window and the socket's buffer
        hold. Several tasks may wait."""

    @property
    def is_ready(self) -> bool:
        """Whether `ready` would return at once."""


UnaryHandler: TypeAlias = Callable[[RpcCall, bytes], "bytes | Promise[bytes] | Awaitable[bytes]"]
"""Returns the response, or what becomes it. Raises RpcError, or a StreamError, whose code is known from its
kind; anything else is a fault of the server and ends the call with INTERNAL."""
StreamHandler: TypeAlias = Callable[[RpcCall, RpcRequests, RpcResponses], Awaitable[None]]
"""Its return ends the stream with OK, an error as above. It is cancelled when the client is gone, the
deadline is over, or the door closes: then the stream ends with UNAVAILABLE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcMethod:
    """The declaration of a method: either `unary` or `stream`."""

    rights: tuple[tuple[Operation, ResourceType], ...]
    """Rights to some resource without which no call can succeed: who has none to any resource is refused
    before the function runs. Those to the resources that a call names are checked by the function, mostly by
    the engine of `engine_of`. Empty: it shows only what the requester may see."""
    unary: UnaryHandler | None = None
    stream: StreamHandler | None = None
    changes: bool = False
    """Whether it changes something: a server that refuses changes does not have it."""
    bytes_max: int = MESSAGE_BYTES_MAX
    """Of a message that the client sends. Decoded, one that is made for it is some 50 times as large."""


def engine_of(context: DoorContext, call: RpcCall) -> Engine:
    """The engine as who calls may use it: what is not allowed raises NotAuthorized."""
    views, requester = context.views, call.requester
    return views.engine(requester) if views.limit(requester) else context.engine
