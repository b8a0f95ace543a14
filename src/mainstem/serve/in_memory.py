"""A node whose log is in memory: for tests, and for programs that need no log after them.

Owns: what differs from a node on a data folder: the disk, the clock, the settings and the search. Refuses: to
keep anything when the process ends, and worker processes, which could not read the log.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path
from typing import TYPE_CHECKING

from mainstem.clock import Clock, LoopClock
from mainstem.log.disk.memory_disk import MemoryDisk

if TYPE_CHECKING:
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.node import Node
    from mainstem.search.contract import Search
    from mainstem.settings import Settings


class InMemory:
    """The place of one node. Made in the loop that the node runs in."""

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock`: of the running loop; None: the real one."""
        self.clock = LoopClock(asyncio.get_running_loop()) if clock is None else clock
        self.folder = Path("memory:")
        """In place of the data folder in the paths that a search has."""
        self._disk = MemoryDisk()
        self._node: Node | None = None
        self._engine: EmbeddedEngine | None = None

    async def open_node(self, settings: Settings) -> Node:
        """The node, which the first call opens. It syncs nothing, whatever the settings say: nothing would
        survive."""
        if self._node is None:
            from mainstem.node import Node

            in_memory = dataclasses.replace(settings, durability="os")
            self._node = await Node.open(in_memory, self._disk, self.clock, random.SystemRandom())
        return self._node

    def engine(self, address: tuple[str, int] = ("", 0)) -> EmbeddedEngine:
        """The engine of the open node; there is one. `address`: of the Kafka door, from now on."""
        from mainstem.engines.embedded.engine import EmbeddedEngine

        assert self._node is not None, "the node is opened first"
        if self._engine is None:
            self._engine = EmbeddedEngine(self._node)
        self._engine.address = address
        return self._engine

    def search(self, engine: EmbeddedEngine) -> Search:
        """The search over the engine. It runs in this loop, by the code of the search of files."""
        from mainstem.search.local.search import LogSearch
        from mainstem.search.workers.loop_pool import LoopPool

        pool = LoopPool(self.clock, self._read)
        return LogSearch(engine, self.folder, self.clock, pool=pool)

    def _read(self, path: str) -> bytearray:
        return self._disk.contents(path.removeprefix(f"{self.folder}/"))
