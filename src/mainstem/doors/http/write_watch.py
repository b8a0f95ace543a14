"""Whether the operating system has taken what was written to a connection.

What is written to a connection waits in this process while the client does not read. If the connection ends
before it is taken, the client has not received it, for certain; what was taken may have been read.

Owns: that knowledge. Refuses: to write. The connection reports what asyncio calls it with.
"""

from __future__ import annotations

from typing import Protocol

from mainstem.promise import Promise


class WatchedTransport(Protocol):
    """The calls of a transport of asyncio that are made here."""

    def is_closing(self) -> bool: ...
    def set_write_buffer_limits(self, high: int | None = None) -> None: ...


class WriteWatch:
    """What is known of one connection's writes."""

    def __init__(self) -> None:
        self._transport: WatchedTransport | None = None
        self._waits = self._is_lost = False
        self._asked: list[Promise[bool]] = []
        self._watchers = 0

    def begin(self, transport: WatchedTransport) -> None:
        """The connection was made."""
        self._transport = transport

    def on_pause(self) -> None:
        """Something waits in this process."""
        self._waits = True

    def on_resume(self) -> None:
        """The operating system has taken it."""
        self._waits = False
        self._answer()

    def on_lost(self) -> None:
        """The connection has ended. What waits is discarded."""
        self._is_lost = True
        self._answer()

    def _answer(self) -> None:
        asked, self._asked = self._asked, []
        for promise in asked:
            promise.resolve(not self._waits)

    @property
    def is_open(self) -> bool:
        """Whether what is written is sent: neither side has closed the connection."""
        return self._transport is not None and not self._transport.is_closing()

    def watch(self) -> None:
        """Let pauses be reported as soon as a byte waits. Call `unwatch` after it."""
        self._watchers += 1
        if self._transport is not None and not self._is_lost:
            self._transport.set_write_buffer_limits(high=0)

    def unwatch(self) -> None:
        """Watch no more."""
        self._watchers -= 1
        if not self._watchers and self._transport is not None and not self._is_lost:
            self._transport.set_write_buffer_limits()

    def when_taken(self) -> Promise[bool]:
        """Whether all was taken: when nothing waits any more, or the connection has ended. For a connection
        that was watched while it was written to."""
        if not self._waits or self._is_lost:
            return Promise.resolved(not self._waits)
        taken: Promise[bool] = Promise()
        self._asked.append(taken)
        return taken
