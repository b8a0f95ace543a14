"""The accepted socket of a client, as every door with a protocol of its own uses it.

Owns: the transport of a connection: its options, its marks of unsent bytes, writing, pausing, closing, and
the tasks of the connection. Refuses: to know a protocol. asyncio's callbacks are the doors', as each passes
bytes on in its own way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mainstem.doors.net.accepted import AcceptedConnection

KEEPALIVE_S = 60


class ClientSocket:
    """Base of the asyncio protocols of the doors. `opened` comes first, `lost` last; before and after them
    all calls do nothing."""

    __slots__ = ("_accepted", "_tasks", "_transport")

    def __init__(self, accepted: AcceptedConnection) -> None:
        self._accepted = accepted
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] | None = None

    def opened(self, transport: asyncio.BaseTransport, unsent_high: int, unsent_low: int) -> None:
        """Take the transport. More than `unsent_high` bytes that the client has not read pause writing, until
        at most `unsent_low` are left."""
        self._transport = transport  # type: ignore[assignment] # uvloop's and ours are no asyncio.Transport
        transport.set_write_buffer_limits(unsent_high, unsent_low)  # type: ignore[attr-defined] # as above
        _tune(transport.get_extra_info("socket"))

    def lost(self) -> None:
        """Give up the transport and the connection's place in the limits. Tasks go on: `tasks`."""
        self._transport = None
        self._accepted.closed()

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """The tasks of this connection that have not ended."""
        return tuple(self._tasks or ())

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work of this connection. If it fails, `task_failed` is called."""
        task = asyncio.get_running_loop().create_task(work)
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        assert self._tasks is not None, "it is one of them"
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.task_failed(error)

    def task_failed(self, error: BaseException) -> None:
        """Called with the error of work that failed. The door says what that means to its client."""
        raise NotImplementedError

    @property
    def peer(self) -> str:
        """The client's address and port, for people; `unknown` if the system does not say."""
        name = None if self._transport is None else self._transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if name else "unknown"

    def unsent_bytes(self) -> int:
        """Bytes that were written and that the client has not read."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        if self._transport is not None:
            self._transport.writelines(pieces)

    def pause(self) -> None:
        """Receive nothing until `resume`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Close after what is unsent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()


def _tune(sock: socket.socket | None) -> None:
    """Send small frames at once, and notice when a client's machine has vanished."""
    if sock is None:
        return
    with contextlib.suppress(OSError):  # not a TCP socket, or closed already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 4)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
