"""Which place a stream works on at the moment.

Owns: opening the place when the stream is entered, closing it when it is left for the last time, and another
place that a test puts in front of it. Refuses: to open anything when a stream is made, or by a call outside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mainstem.api.backend import Backend
from mainstem.api.requests import ReplyWaiter


class Attachment:
    """The backend of a stream. What enters and leaves it does so in one event loop."""

    def __init__(
        self, open_backend: Callable[[], Awaitable[Backend]], substitutes: list[Backend] | None = None
    ) -> None:
        self._open_backend = open_backend
        self._substitutes: list[Backend] = [] if substitutes is None else substitutes
        self._own: Backend | None = None
        self._entries = 0
        self._requesters: dict[int, ReplyWaiter] = {}

    def sibling(self) -> Attachment:
        """Another attachment to the same kind of place, for another event loop. Substitutes are shared."""
        return Attachment(self._open_backend, self._substitutes)

    @property
    def backend(self) -> Backend:
        """The open place. RuntimeError: the stream is not open."""
        if self._substitutes:
            return self._substitutes[-1]
        if self._own is None:
            raise RuntimeError("the stream is not open: use it inside `async with stream:`")
        return self._own

    @property
    def requester(self) -> ReplyWaiter:
        """What sends requests on the open place."""
        backend = self.backend
        requester = self._requesters.get(id(backend))
        if requester is None or requester.backend is not backend:
            requester = self._requesters[id(backend)] = ReplyWaiter(backend)
        return requester

    async def enter(self) -> None:
        """Open the place, unless it is open or there is a substitute. NotReachable, InvalidArgument."""
        if not self._substitutes and self._own is None:
            self._own = await self._open_backend()
        self._entries += 1

    async def leave(self) -> None:
        """Close the place, if this ends the first `enter`."""
        self._entries -= 1
        if self._entries:
            return
        requesters, self._requesters = self._requesters, {}
        own, self._own = self._own, None
        try:
            for requester in requesters.values():
                await requester.close()
        finally:
            if own is not None:
                await own.close()

    def put_in_front(self, backend: Backend) -> None:
        """Let the stream work on another place that is open."""
        self._substitutes.append(backend)

    def take_away(self, backend: Backend) -> None:
        """Take a substitute away again. It stays open."""
        self._substitutes.remove(backend)
