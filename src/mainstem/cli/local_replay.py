"""A replay that goes through this process, event by event: for clusters whose server does none. Made by
`replay.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

from mainstem.clock import LoopClock
from mainstem.replay import SETTLE_S, Job, Replay, Told, matches

if TYPE_CHECKING:
    from mainstem.cli.commands.replay import Order
    from mainstem.cli.search_options import Reached
    from mainstem.search.contract import Search


class LocalReplay:
    """See `replay.Replaying`."""

    def __init__(self, search: Search, order: Order, run: Replay) -> None:
        self._search = search
        self._order = order
        self._run = run

    @classmethod
    async def make(cls, reached: Reached, order: Order) -> LocalReplay:
        """UnknownTopic: there is no such target. A job that goes on finds what it has published."""
        assert reached.engine is not None, "who is asked"
        search = cast("Search", reached.search)  # of a cluster: it has all of the contract
        await reached.engine.partitions(order.to)
        clock = LoopClock(asyncio.get_running_loop())
        run = Replay(reached.engine, search, clock, order.to, Job.of(order.job, order.request))
        if order.is_resumed:
            await asyncio.sleep(SETTLE_S)
            await run.recall()
        return cls(search, order, run)

    async def count(self) -> tuple[int, Told]:
        """See there."""
        events = await self._run.count(self._order.request)
        told = Told(before=self._run.told.before, unreadable=self._run.told.unreadable)
        self._run.told.unreadable = 0
        return events, told

    async def run(self) -> AsyncGenerator[Told, None]:
        """See there."""
        source = matches(self._search, self._order.request)
        async for told in self._run.run(source, self._order.rate, asyncio.sleep):
            yield told
