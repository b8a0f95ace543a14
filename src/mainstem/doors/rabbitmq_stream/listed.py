"""A stream client as the management API lists and closes it.

Owns: one entry in the registry of RabbitMQ's connections, from Open to the end of the connection. Refuses: to
keep a connection in the list that has ended while the registry was loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mainstem.amqp.connections import ChannelConsumer, ChannelInfo, ConnectionInfo
from mainstem.contract import StreamError

if TYPE_CHECKING:
    from mainstem.amqp.connections import ConnectionRegistry
    from mainstem.doors.contract import DoorContext


class ListedStreamClient:
    """Implements `ListedConnection`. `info`: how the connection is now; `close` ends it for a reason."""

    def __init__(self, info: Callable[[], ConnectionInfo], close: Callable[[str], None]) -> None:
        self._info = info
        self._close = close
        self._registry: ConnectionRegistry | None = None
        self._has_ended = False

    async def add_to(self, context: DoorContext) -> None:
        """Add the connection to the server's list. Nothing happens if the server has none, or cannot load it:
        streams need nothing of it."""
        if context.broker is None:
            return
        try:
            broker = await context.broker()
        except StreamError:
            return
        if not self._has_ended:
            self._registry = broker.connections
            self._registry.add(self)

    def remove(self) -> None:
        """The connection has ended. Idempotent."""
        self._has_ended = True
        if self._registry is not None:
            self._registry.remove(self)
            self._registry = None

    def info(self) -> ConnectionInfo:
        """See `ListedConnection`."""
        return self._info()

    def channels(self) -> tuple[ChannelInfo, ...]:
        """See `ListedConnection`: the protocol has no channels."""
        return ()

    def consumers(self) -> tuple[ChannelConsumer, ...]:
        """See `ListedConnection`: those of streams are not consumers of queues."""
        return ()

    def close(self, reason: str) -> None:
        """See `ListedConnection`."""
        self._close(reason)
