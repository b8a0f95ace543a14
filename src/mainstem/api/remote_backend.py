"""A mainstem server, or any Kafka cluster, as the place that a stream is connected to.

Owns: the clients of one server: Kafka's protocol for events, HTTP for queues and search. Refuses: queues of a
cluster that has none, and a server whose HTTP door cannot be reached although it has one: it would be used
like a cluster, where a subscriber's state is kept elsewhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mainstem import contract
from mainstem.api.scheduler.cluster_redrive import redrive_on_cluster
from mainstem.client_credentials.given import place_of_variables
from mainstem.client_security import PLAINTEXT, ClientSecurity, ClientSecurityError
from mainstem.clock import LoopClock
from mainstem.contract import InvalidArgument, NotReachable
from mainstem.engines.kafka.engine import KafkaEngine
from mainstem.engines.kafka.server_info import fetch_server_info
from mainstem.engines.remote.door import find_door
from mainstem.engines.remote.http_client import HttpDoorClient
from mainstem.engines.remote.queues import RemoteQueues
from mainstem.engines.remote.search import RemoteSearch
from mainstem.search.contract import Hit, Search, SearchRequest
from mainstem.search.query.errors import QueryError

DEFAULT_ADDRESS = "127.0.0.1:9092"
SCHEME = "kafka://"


def brokers_of(address: str) -> str:
    """HOST:PORT, several with commas, of an address that may begin with kafka://. InvalidArgument: it begins
    with something else."""
    brokers = ",".join(part.strip().removeprefix(SCHEME) for part in address.split(","))
    if "://" in brokers:
        raise InvalidArgument(f"{address}: write HOST:PORT or kafka://HOST:PORT, several with commas")
    return brokers


async def open_configured(address: str, security: ClientSecurity | None) -> RemoteBackend:
    """Connect to `address`; empty: where the program's variables say. Without `security`, as they say, too.
    NotReachable, InvalidArgument."""
    if security is None:
        try:
            address, security = place_of_variables(os.environ, address)
        except ClientSecurityError as error:
            raise InvalidArgument(str(error)) from None
    return await open_remote(address or os.environ.get("MAINSTEM_AT") or DEFAULT_ADDRESS, security)


async def open_remote(address: str, security: ClientSecurity | None = None) -> RemoteBackend:
    """Connect to a mainstem server or a Kafka cluster. NotReachable after about 5 s, also if the server has
    an HTTP door that cannot be reached; InvalidArgument."""
    brokers = brokers_of(address)
    security = security or PLAINTEXT
    engine = await KafkaEngine.connect(brokers, security=security)
    try:
        server = await fetch_server_info(brokers, security=security)
        door = None
        if server.http_listener:
            door, reason = await find_door(brokers, server, security)
            if door is None:
                raise NotReachable(reason)
    except BaseException:
        await engine.close()
        raise
    return RemoteBackend(engine, security, door)


class RemoteBackend:
    """Implements `Backend` for a server, or for a cluster if it has no door."""

    def __init__(self, engine: KafkaEngine, security: ClientSecurity, door: str | None) -> None:
        self.engine = engine
        self.clock = LoopClock(asyncio.get_running_loop())
        self._security = security
        self._door = None if door is None else HttpDoorClient(door, security, keeps_connections=True)
        self.queues = None if self._door is None else RemoteQueues(self._door)
        self._search: Search | None = None

    async def search(
        self,
        query: str,
        *,
        topics: Sequence[str] = (),
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[contract.Event, None]:
        """See `Backend`."""
        request = SearchRequest(query=query, topics=topics, since_ms=since_ms, until_ms=until_ms, limit=limit)
        searching = RemoteSearch(self._door) if self._door is not None else self._cluster_search()
        try:
            async with aclosing(searching.search(request)) as updates:
                async for update in updates:
                    if isinstance(update, Hit):
                        yield update.event
        except QueryError as error:
            raise InvalidArgument(f"query: {error}") from None

    def _cluster_search(self) -> Search:
        """The search that reads a cluster through Kafka's protocol, in workers; started when first used."""
        if self._search is None:
            from mainstem.search.cluster.filters import user_cache_folder
            from mainstem.search.cluster.search import ClusterSearch

            self._search = ClusterSearch(
                self.engine, self.clock, cache=user_cache_folder(), security=self._security
            )
        return self._search

    async def redrive(self, subscription: str, *, where: str, since_ms: int | None, dry_run: bool) -> int:
        """See `Backend`."""
        if self.queues is None:
            return await redrive_on_cluster(
                self.engine,
                subscription,
                where=where,
                since_ms=since_ms,
                now_ms=self.clock.wall_ms(),
                dry_run=dry_run,
            )
        return await self.queues.redrive_letters(
            subscription, where=where, since_ms=since_ms, dry_run=dry_run
        )

    async def close(self) -> None:
        """See `Backend`."""
        if self._door is not None:
            self._door.close()
        if self._search is not None:
            await self._search.close()
        await self.engine.close()
