"""Finds the HTTP door of the server whose Kafka door is at `--at`.

Owns: whether there is such a door, and whether it can be used. Refuses: a door that belongs to another
cluster than the server at `--at`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from mainstem.cli.common import refuse_broken_text
from mainstem.contract import StreamError

if TYPE_CHECKING:
    from mainstem.engines.kafka.server_info import ServerInfo

T = TypeVar("T")


def with_door(address: str, work: Callable[[str], Awaitable[T]]) -> T:
    """Run `work` with the HOST:PORT of the HTTP door of the server at `address`. Raises NotReachable if no
    server responds there, StreamError if it has no such door."""
    refuse_broken_text()
    import asyncio

    async def find_and_work() -> T:
        return await work(await require_door(address))

    return asyncio.run(find_and_work())


async def require_door(address: str) -> str:
    """HOST:PORT of the HTTP door of the server at `address`. Raises as `with_door`."""
    from mainstem.engines.kafka.server_info import fetch_server_info

    door, reason = await find_door(address, await fetch_server_info(address))
    if door is None:
        raise StreamError(f"{reason}; subscriptions need the HTTP door of a mainstem server")
    return door


async def find_door(address: str, server: ServerInfo) -> tuple[str | None, str]:
    """HOST:PORT of the cluster's HTTP door; or None, and the reason why there is none that can be used."""
    if server.http_listener is None:
        return None, f"{address} is not a mainstem server"
    if not server.http_listener:
        return None, f"the server at {address} serves no HTTP"
    from mainstem.cli.remote_search import cluster_id

    host, _, port = server.http_listener.rpartition(":")
    if host in ("0.0.0.0", "[::]", ""):  # it listens on all addresses, so also on the one in --at
        host = address.split(",")[0].rpartition(":")[0]
    door = f"{host}:{port}"
    try:
        id_at_door = await cluster_id(door)
    except StreamError as error:
        return None, f"the server's HTTP door is not reachable from here: {error}"
    if id_at_door != server.cluster_id:
        return None, f"the server's HTTP door is not reachable from here: {door} is another server's"
    return door, ""
