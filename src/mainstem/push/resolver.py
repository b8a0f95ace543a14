"""Looks host names up without letting a name that gets no answer delay another.

Owns: a thread for each name that is being looked up, at most `LOOKUPS_MAX`, so that servers of names that do
not answer keep none of the process's other threads. Refuses: to remember addresses; the machine's resolver
does.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

LOOKUPS_MAX = 32

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a host name, in the order in which to try them. Raises OSError."""


def is_address(host: str) -> bool:
    """Whether a host is an IP address, which needs no look-up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class SystemResolver:
    """The resolver of the machine, for one event loop."""

    def __init__(self) -> None:
        self._pending: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str) -> Sequence[str]:
        """See `Resolve`."""
        if is_address(host):
            return [host]
        lookup = self._pending.get(host)
        if lookup is None:
            if len(self._pending) >= LOOKUPS_MAX:
                raise OSError(f"{LOOKUPS_MAX} names are being looked up already")
            lookup = self._pending[host] = asyncio.get_running_loop().create_future()
            lookup.add_done_callback(lambda done: self._forget(host, done))
            # A daemon, for a look-up cannot be stopped, and must not keep the process from ending.
            threading.Thread(
                target=_look_up, args=(host, asyncio.get_running_loop(), lookup), daemon=True
            ).start()
        return await asyncio.shield(lookup)

    def _forget(self, host: str, lookup: asyncio.Future[list[str]]) -> None:
        del self._pending[host]
        if not lookup.cancelled():
            lookup.exception()  # those that asked may have left


def _look_up(host: str, loop: asyncio.AbstractEventLoop, lookup: asyncio.Future[list[str]]) -> None:
    addresses: list[str] = []
    error: OSError | None = None
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    except UnicodeError:
        error = OSError(f"{host} is no host name")
    except OSError as failure:
        error = failure

    def report() -> None:
        if lookup.done():
            return
        if error is not None:
            lookup.set_exception(error)
        else:
            lookup.set_result(addresses)

    try:
        loop.call_soon_threadsafe(report)
    except RuntimeError:
        pass  # the loop was closed meanwhile
