"""Finds the HTTP door of the server whose Kafka door is at `--at`, if that is not the HTTP door itself.

Owns: running a command's work with it. Refuses: to look for it, which `engines/remote/door.py` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from mainstem.cli.common import refuse_broken_text
from mainstem.cli.credentials import current_security
from mainstem.stream_errors import InvalidArgument, StreamError

T = TypeVar("T")


def with_door(address: str, work: Callable[[str], Awaitable[T]]) -> T:
    """Run `work` with the HOST:PORT of the HTTP door of the server at `address`. Raises NotReachable if no
    server responds there, StreamError if it has no such door."""
    refuse_broken_text()
    import asyncio

    async def find_and_work() -> T:
        return await work(await require_door(address))

    return asyncio.run(find_and_work())


def named_door(address: str) -> str | None:
    """The HTTP door if `address` is that of one, such as the console's in front of a Kafka cluster:
    https://HOST:PORT, or HOST:PORT of http://HOST:PORT; None if it is that of a cluster. InvalidArgument: the
    login would be sent where others can read it."""
    scheme, separator, door = address.partition("://")
    if not separator:
        return None
    if scheme == "https":
        return address
    from mainstem.engines.remote.http_client import is_loopback

    if current_security().authorization() is not None and not is_loopback(door.rpartition(":")[0]):
        raise InvalidArgument(f"{address}: others could read the login; use https://{door}")
    return door


async def require_door(address: str) -> str:
    """HOST:PORT of the HTTP door of the server at `address`. Raises as `with_door`."""
    if (named := named_door(address)) is not None:
        return named
    from mainstem.engines.kafka.server_info import fetch_server_info
    from mainstem.engines.remote.door import find_door

    security = current_security()
    server = await fetch_server_info(address, security=security)
    door, reason = await find_door(address, server, security)
    if door is None:
        if server.http_listener is None:
            reason += " (name the door itself then: --at https://HOST:PORT)"
        raise StreamError(f"{reason}; this command needs the HTTP door of a mainstem server")
    return door
