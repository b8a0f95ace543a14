"""The server's search: made at its first use, or soon after the start where token filters are kept.

Owns: when it begins and ends. No start waits for it.
"""

from __future__ import annotations

import asyncio
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
"""Token filters begin to be made this long after the start."""
INDEX_SPARE_BYTES = 256 << 20
"""A part of an index is some 30 MB, and twice that while it is made."""


class LazySearch:
    """A search that is made when it is first asked for."""

    def __init__(self, make: Callable[[], Search]) -> None:
        self._make = make
        self._search: Search | None = None
        self._timer: asyncio.TimerHandle | None = None

    def get(self) -> Search:
        """The search."""
        if self._search is None:
            self._search = self._make()
        return self._search

    def prepare_later(self) -> None:
        """Make it a second after the start, so that its token filters are there when somebody searches."""
        self._timer = asyncio.get_running_loop().call_later(TOKEN_FILTERS_AFTER_S, self.get)

    async def close(self) -> None:
        """End it, if it was made."""
        if self._timer is not None:
            self._timer.cancel()
        if self._search is not None:
            await self._search.close()


def local_search(engine: EmbeddedEngine, folder: Path, node: Node) -> Search:
    """The search over this machine's log, which begins to make its token filters."""
    from mainstem.search.local.search import LogSearch

    search = LogSearch(
        engine, folder, node.clock, space_problem=partial(index_space_problem, node.space_guard)
    )
    search.start_building_filters()
    return search


def index_space_problem(guard: SpaceGuard) -> str | None:
    """Why an index gets no more of the disk: it stops growing well before topics do. None: there is space."""
    if guard.rejection_reason is not None:
        return guard.rejection_reason
    spare_bytes = guard.free_bytes - guard.reserve_bytes
    if guard.capacity_bytes and spare_bytes < max(INDEX_SPARE_BYTES, guard.reserve_bytes):
        return f"the disk is nearly full: {format_megabytes(max(0, spare_bytes))} are free above the reserve"
    return None
