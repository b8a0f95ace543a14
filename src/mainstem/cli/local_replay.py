"""A replay that goes through this process, event by event: for clusters whose server does none. Made by
`replay.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

from mainstem.clock import LoopClock
from mainstem.replay import SETTLE_S, Replay, ReplayJob, ReplayProgress, matching_events

if TYPE_CHECKING:
    from mainstem.cli.commands.replay import ReplayRequest
    from mainstem.cli.search_options import SearchTarget
    from mainstem.search.contract import Search


class LocalReplay:
    """See `replay.Replaying`."""

    def __init__(self, search: Search, order: ReplayRequest, run: Replay) -> None:
        self._search = search
        self._order = order
        self._run = run

    @classmethod
    async def make(cls, reached: SearchTarget, order: ReplayRequest) -> LocalReplay:
        """UnknownTopic: there is no such target. A job that goes on finds what it has published."""
        assert reached.engine is not None, "who is asked"
        search = cast("Search", reached.search)  # of a cluster: it has all of the contract
        await reached.engine.partitions(order.to)
        clock = LoopClock(asyncio.get_running_loop())
        run = Replay(reached.engine, search, clock, order.to, ReplayJob.of(order.job, order.request))
        if order.is_resumed:
            await asyncio.sleep(SETTLE_S)
            await run.find_published()
        return cls(search, order, run)

    async def count(self) -> tuple[int, ReplayProgress]:
        """See there."""
        events = await self._run.count(self._order.request)
        told = ReplayProgress(
            already_published=self._run.progress.already_published, unreadable=self._run.progress.unreadable
        )
        self._run.progress.unreadable = 0
        return events, told

    async def run(self) -> AsyncGenerator[ReplayProgress, None]:
        """See there."""
        source = matching_events(self._search, self._order.request)
        async for told in self._run.run(source, self._order.rate, asyncio.sleep):
            yield told
