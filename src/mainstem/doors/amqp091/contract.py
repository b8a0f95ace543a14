"""What a connection and the work of its channels know of each other.

Owns: `AmqpConnection`, what channels use of their connection; `ChannelHandler` and `VhostConnection`, what a
connection uses of the work behind it. Refuses: sockets, and anything of the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeAlias

from mainstem.access_contract import Requester
from mainstem.amqp.connections import ChannelConsumer, ChannelInfo
from mainstem.amqp.errors import AmqpError
from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.methods import BasicPublish
from mainstem.doors.net.throttle import ByteThrottle


class AmqpConnection(Protocol):
    """A client's connection, as its channels see it. What they send is gathered, and written once a turn of
    the loop. After the end of the connection, sending does nothing."""

    name: str
    """`127.0.0.1:40112 -> 127.0.0.1:5672`."""
    user: str
    """The name by which the client logged in."""
    requester: Requester
    frame_max: int
    """The largest frame in bytes; 0: any."""
    client_capabilities: frozenset[str]
    """The names of the capabilities that the client says it has."""
    swept_at: float
    """The time of the last sweep, monotonic seconds: at most a second ago or so."""
    throttle: ByteThrottle
    """Counts what is published and delivered for the client's quotas."""

    @property
    def is_sending_blocked(self) -> bool:
        """Whether no more should be delivered: the client reads too slowly, or is beyond its quota."""

    def send(self, data: bytes) -> None:
        """Send whole frames."""

    def send_method(self, channel: int, method: Method) -> None:
        """Send a method without content. FieldTableError: a value that its field cannot hold."""

    def send_message(self, channel: int, method: Method, properties_raw: bytes, body: bytes) -> None:
        """Send a method with its content. `properties_raw`: as `encode_properties` makes them."""

    def fail(self, channel: int, error: AmqpError, method: Method | None) -> None:
        """End the channel, or the connection, because of an error of work that did not finish at once.
        `method`: what was asked for."""

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine; the connection owns it, and cancels it after its own end."""

    def hold(self, count: int) -> None:
        """A channel keeps `count` more bytes of what the client has sent. Above a limit the connection is not
        read."""

    def release(self, count: int) -> None:
        """A channel keeps `count` bytes less."""


class ChannelHandler(Protocol):
    """The work of an open channel. The methods of class channel, but flow, are the connection's."""

    def on_method(self, method: Method) -> None:
        """A method without content. AmqpError ends the channel, or the connection."""

    def on_message(self, publish: BasicPublish, properties: Properties, body: bytes) -> None:
        """A message. AmqpError as for `on_method`."""

    async def close(self) -> None:
        """The channel is over: give back what is not acknowledged, end the consumers, finish publishing."""

    def check_oldest(self, now: float, timeout_ms: int) -> None:
        """AmqpError: the client has left a delivery unanswered for too long. `timeout_ms`: where its queue
        has no time of its own; 0: no limit."""

    def info(self) -> ChannelInfo:
        """How it is now."""

    def listed_consumers(self) -> Sequence[ChannelConsumer]:
        """Its consumers."""


class VhostConnection(Protocol):
    """A connection that is open to a virtual host."""

    def channel(self, number: int) -> ChannelHandler:
        """Open a channel."""

    def sending_blocked(self) -> None:
        """The client reads too slowly: deliver nothing."""

    def sending_resumed(self) -> None:
        """It reads again."""

    async def close(self) -> None:
        """End all channels, and what lives as long as the connection, such as its exclusive queues."""


OpenVhost: TypeAlias = Callable[[AmqpConnection, str], Awaitable[VhostConnection]]
"""Opens a connection to the virtual host of this name. AmqpError: the client may not, or there is none."""
