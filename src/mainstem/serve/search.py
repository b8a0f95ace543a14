"""The server's search, which is created at its first use, or soon after the start to build token filters.

Owns: when the search is created and closed. The start of a server does not wait for it.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mainstem.log.disk.space_guard import format_megabytes

if TYPE_CHECKING:
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.log.disk.space_guard import SpaceGuard
    from mainstem.node import Node
    from mainstem.search.contract import Search

TOKEN_FILTERS_AFTER_S = 1.0
"""Time from the start of the server to the first token filter that is built."""
INDEX_SPARE_BYTES = 256 << 20
"""Free space above the reserve that the index leaves. An index file has some 30 MB, and twice that while it
is built."""


class LazySearch:
    """Creates the search when it is first used."""

    def __init__(self, make: Callable[[], Search]) -> None:
        self._make = make
        self._search: Search | None = None
        self._timer: asyncio.TimerHandle | None = None

    def get(self) -> Search:
        """The search; it is created now if this is its first use."""
        if self._search is None:
            self._search = self._make()
        return self._search

    def prepare_later(self) -> None:
        """Create the search a second after the start, so that token filters exist when somebody searches."""
        self._timer = asyncio.get_running_loop().call_later(TOKEN_FILTERS_AFTER_S, self.get)

    async def close(self) -> None:
        """Close the search, if it was created."""
        if self._timer is not None:
            self._timer.cancel()
        if self._search is not None:
            await self._search.close()


def local_search(engine: EmbeddedEngine, folder: Path, node: Node) -> Search:
    """Create the search over this machine's log. It begins to build token filters in the background."""
    from mainstem.search.local.search import LogSearch

    search = LogSearch(
        engine, folder, node.clock, space_problem=partial(index_space_problem, node.space_guard)
    )
    search.start_building_filters()
    engine.skip_blocks_by(search)
    return search


def import_local_search() -> None:
    """Import what the first search and the first read of this machine's log need. Blocks for some 80 ms."""
    from mainstem.log.storage.record_batch import record_parser

    importlib.import_module("mainstem.search.local.search")
    record_parser()


def import_cluster_search() -> None:
    """Import what the first search of a cluster needs."""
    importlib.import_module("mainstem.search.cluster.search")


def index_space_problem(guard: SpaceGuard) -> str | None:
    """Why full-text indexes must not grow now; None if the disk has space. They stop well before the reserve
    at which topics reject writes."""
    if guard.rejection_reason is not None:
        return guard.rejection_reason
    spare_bytes = guard.free_bytes - guard.reserve_bytes
    if guard.capacity_bytes and spare_bytes < max(INDEX_SPARE_BYTES, guard.reserve_bytes):
        return f"the disk is nearly full: {format_megabytes(max(0, spare_bytes))} are free above the reserve"
    return None
