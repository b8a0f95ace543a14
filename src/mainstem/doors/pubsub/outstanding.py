"""The messages that streams have sent and clients have not answered: the flow control of StreamingPull.

A client limits how many messages and bytes a stream may have outstanding. Its answers come by calls of their
own, on any connection, so the door knows which stream sent what. A stream without limits is in no table.

Owns: these tables, for all subscriptions of a door. Refuses: to know when a deadline is over: a window that
is full asks the engine (`AttachedConsumers.delivery_states`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

IN_FLIGHT_MAX = 100_000
"""Messages that a stream with a limit may have outstanding, whatever its limit."""


class StreamWindow:
    """What a stream may still send. Zero or less is no limit."""

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self.is_limited = messages_max > 0 or bytes_max > 0
        self._messages_max = min(messages_max, IN_FLIGHT_MAX) if messages_max > 0 else IN_FLIGHT_MAX
        self._bytes_max = bytes_max
        self._bytes = 0
        self.sizes: dict[str, int] = {}
        """Token -> bytes of the message."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when something was answered."""

    @property
    def messages_left(self) -> int:
        """How many messages may be sent."""
        if not self.is_limited:
            return IN_FLIGHT_MAX
        return max(0, self._messages_max - len(self.sizes)) if self.bytes_left else 0

    @property
    def bytes_left(self) -> int:
        """How many bytes may be sent, of which the last message may go beyond it."""
        return max(0, self._bytes_max - self._bytes) if self._bytes_max > 0 else 1 << 40

    def add(self, token: str, size: int) -> None:
        """A message is sent."""
        self._bytes += size - self.sizes.get(token, 0)
        self.sizes[token] = size

    def remove(self, token: str) -> None:
        """A message was answered, or its deadline is over."""
        self._bytes -= self.sizes.pop(token, 0)


class OutstandingMessages:
    """Which stream has sent what."""

    def __init__(self) -> None:
        self._windows: dict[str, StreamWindow] = {}
        """By token."""

    def __len__(self) -> int:
        return len(self._windows)

    def sent(self, window: StreamWindow, token: str, size: int) -> None:
        """A stream sends a message of this size."""
        if window.is_limited:
            window.add(token, size)
            self._windows[token] = window

    def answered(self, tokens: Iterable[str]) -> None:
        """These are not outstanding any more."""
        windows = self._windows
        changed: set[StreamWindow] = set()
        for token in tokens:
            window = windows.pop(token, None)
            if window is not None:
                window.remove(token)
                changed.add(window)
        for window in changed:
            window.on_room()

    def forget(self, window: StreamWindow) -> None:
        """The stream is over."""
        for token in window.sizes:
            self._windows.pop(token, None)
        window.sizes.clear()
