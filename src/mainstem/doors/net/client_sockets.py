"""All sockets of a door.

Owns: the set of a door's open connections, looking at them from time to time, ending them when the door
closes, the limit on what all clients together leave unread. Refuses: to decide when a connection has to end:
the door does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

from mainstem.doors.net.client_socket import ClientSocket

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.doors.net.accepted import AcceptedConnection

UNSENT_ALL_BYTES = 256 << 20
"""Most bytes that all clients of a door together may leave unread; the client that exceeds it is
disconnected."""
SWEEP_TURN = 500
"""Number of connections that are looked at together; then other tasks may run."""

Client = TypeVar("Client", bound=ClientSocket)


class ClientSockets(Generic[Client]):
    """The open connections of one door.

    Every `sweep_s` seconds `end_reason` is called for each connection with the monotonic time: None: it may
    stay; else it is ended, and the reason logged unless it is empty. `on_swept` is called after the last of
    them. `warn` is called with the kind and the text of a warning.
    """

    def __init__(
        self,
        clock: Clock,
        sweep_s: float,
        end_reason: Callable[[Client, float], str | None],
        warn: Callable[[str, str], None],
        on_swept: Callable[[], None] | None = None,
    ) -> None:
        self.is_closing = False
        """Whether the door is closing: connections that come now are not served."""
        self._clock = clock
        self._sweep_s = sweep_s
        self._end_reason = end_reason
        self._warn = warn
        self._on_swept = on_swept
        self._clients: set[Client] = set()
        self._unsent: dict[Client, int] = {}
        self._unsent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self._sweeper = clock.call_later(sweep_s, self._sweep)

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        """Those open now: the set may change meanwhile."""
        return iter(list(self._clients))

    def accept(self, connection: AcceptedConnection, client: Client) -> None:
        """Let `client`, which is an asyncio protocol, serve an accepted connection."""
        self._clients.add(client)
        connection.attach(self._loop, client)  # type: ignore[arg-type] # each door's socket is a protocol as well

    def remove(self, client: Client) -> None:
        """Forget a connection that has ended. Idempotent."""
        self._clients.discard(client)
        self.note_unsent(client, 0)
        if not self._clients:
            self._empty.set()

    def note_unsent(self, client: Client, count: int) -> None:
        """Record that a client that stopped reading leaves `count` bytes unread; 0: it reads again.
        Disconnects it if all clients together leave too much unread."""
        self._unsent_bytes += count - self._unsent.pop(client, 0)
        if count:
            self._unsent[client] = count
            if self._unsent_bytes > UNSENT_ALL_BYTES:
                self._warn("unsent", "all clients together leave too many bytes unread: connection closed")
                self._loop.call_soon(client.abort)

    async def until_empty(self, limit_s: float) -> None:
        """Wait for the end of all connections, but no longer than this."""
        self._empty.clear()
        if self._clients:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._empty.wait()

    def stop_sweeping(self) -> None:
        """End no connection any more for being idle or stuck."""
        self._sweeper.cancel()

    def abort_all(self) -> None:
        """End all connections, whatever is unsent."""
        self._sweeper.cancel()
        for client in self:
            client.abort()

    def in_turns(self, visit: Callable[[Client], None], left: Iterator[Client] | None = None) -> None:
        """Call `visit` with each connection; other tasks run between every SWEEP_TURN of them."""
        if left is None:
            left = iter(self)
        checked = 0
        for client in islice(left, SWEEP_TURN):
            checked += 1
            visit(client)
        if checked == SWEEP_TURN:
            self._loop.call_soon(self.in_turns, visit, left)

    def _sweep(self, left: Iterator[Client] | None = None) -> None:
        """End the connections that have to end."""
        if left is None:
            left = iter(self)
        now = self._clock.monotonic()
        checked = 0
        for client in islice(left, SWEEP_TURN):
            checked += 1
            reason = self._end_reason(client, now)
            if reason:
                self._warn("stuck", f"a client {reason}: connection closed")
            if reason is not None:
                client.abort()
        if checked == SWEEP_TURN:
            self._sweeper = self._clock.call_later(0, lambda: self._sweep(left))
        else:
            if self._on_swept is not None:
                self._on_swept()
            self._sweeper = self._clock.call_later(self._sweep_s, self._sweep)
