"""The HTTP door, composed: the engine it may use, the search, and when each begins and ends.

Owns: nothing but that order. The search is made at its first use, or, where token filters are kept, soon
after the start: no server waits for it. Called by `mainstem.serve.server` and `mainstem.serve.console`.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mainstem import __version__
from mainstem.doors.http.endpoint import DiskUsage, MetricSample
from mainstem.doors.http.server import HttpDoor
from mainstem.engines.read_only import read_only as without_changes
from mainstem.log.disk.space_guard import format_megabytes

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.contract import Engine
    from mainstem.log.disk.space_guard import SpaceGuard
    from mainstem.node import Node
    from mainstem.search.contract import Search
    from mainstem.settings import Settings

COVER_AFTER_S = 1.0
"""Token filters begin to be made so long after the start."""
INDEX_SPARE_BYTES = 256 << 20
"""A part of an index is some 30 MB, and twice that while it is made."""


class Served:
    """A door and its search."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        make_search: Callable[[], Search],
        *,
        at: str,
        hosts: Sequence[str],
        others: bool,
        read_only: bool,
        max_body_bytes: int = 16 << 20,
        disk_use: Callable[[], DiskUsage] | None = None,
        kafka: Callable[[], Iterable[MetricSample]] = tuple,
    ) -> None:
        self._make_search = make_search
        self._search: Search | None = None
        self._door = HttpDoor(
            without_changes(engine) if read_only else engine,
            clock,
            version=__version__,
            kafka_address=at,
            hosts=hosts,
            any_address=others,
            max_body_bytes=max_body_bytes,
            read_only=read_only,
            search=self.search,
            disk_usage=disk_use,
            kafka_metrics=kafka,
        )

    def search(self) -> Search:
        """The search."""
        if self._search is None:
            self._search = self._make_search()
        return self._search

    async def start(self, listener: socket.socket) -> None:
        """Accept on a bound socket."""
        await self._door.start(listener)

    async def close(self) -> None:
        """End the door, then the search. The engine is its owner's to close."""
        await self._door.close()
        if self._search is not None:
            await self._search.close()


def index_space_problem(reserve: SpaceGuard) -> str | None:
    """Why an index takes no more of the disk: it stops well before topics do. None: there is room."""
    if reserve.rejection_reason is not None:
        return reserve.rejection_reason
    spare = reserve.free_bytes - reserve.reserve_bytes
    if reserve.capacity_bytes and spare < max(INDEX_SPARE_BYTES, reserve.reserve_bytes):
        return f"the disk is nearly full: {format_megabytes(max(0, spare))} are free above the reserve"
    return None


def of_node(
    settings: Settings,
    node: Node,
    folder: Path,
    at: tuple[str, int],
    bound: str,
    kafka: Callable[[], Iterable[MetricSample]],
) -> Served:
    """The door of this machine's log. `at`: where Kafka clients connect; `bound`: the door's own host;
    `kafka`: what the door of those clients tells of itself."""
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.serve.server import HostPort, is_loopback

    engine = EmbeddedEngine(node, address=at)

    def disk_use() -> DiskUsage:
        there = shutil.disk_usage(folder)
        return DiskUsage(used_bytes=node.log.total_bytes(), free_bytes=there.free, total_bytes=there.total)

    def make_search() -> Search:
        from mainstem.search.local.search import LogSearch

        made = LogSearch(
            engine, folder, node.clock, space_problem=partial(index_space_problem, node.space_guard)
        )
        made.start_building_filters()
        return made

    served = Served(
        engine,
        node.clock,
        make_search,
        at=str(HostPort(*at)),
        hosts=(bound, at[0], *settings.http_hosts.replace(",", " ").split()),
        others=not is_loopback(bound),
        read_only=settings.http_read_only,
        max_body_bytes=settings.http_max_body_bytes,
        disk_use=disk_use,
        kafka=kafka,
    )
    asyncio.get_running_loop().call_later(COVER_AFTER_S, served.search)
    return served
