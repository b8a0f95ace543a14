"""A replay that runs in this process, event by event: for clusters whose servers cannot run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

from mainstem.cli.replay_runner import ReplayRequest
from mainstem.clock import LoopClock
from mainstem.replay import SETTLE_S, Replay, ReplayJob, ReplayProgress, matching_events

if TYPE_CHECKING:
    from mainstem.cli.search_options import SearchTarget
    from mainstem.search.contract import Search


class LocalReplay:
    """Runs a replay in this process, over an engine; implements `ReplayRunner`."""

    def __init__(self, search: Search, request: ReplayRequest, replay: Replay) -> None:
        self._search = search
        self._request = request
        self._replay = replay

    @classmethod
    async def create(cls, target: SearchTarget, request: ReplayRequest) -> LocalReplay:
        """A runner for a job. If the job is resumed, find the events that it has published. Raises
        UnknownTopic if the topic to publish into does not exist."""
        assert target.engine is not None, "a target without an HTTP door has an engine"
        search = cast("Search", target.search)  # the search of a cluster has the whole contract
        await target.engine.partitions(request.to)
        clock = LoopClock(asyncio.get_running_loop())
        job = ReplayJob.of(request.job, request.matches)
        replay = Replay(target.engine, search, clock, request.to, job)
        if request.is_resumed:
            await asyncio.sleep(SETTLE_S)
            await replay.find_published()
        return cls(search, request, replay)

    async def count(self) -> tuple[int, ReplayProgress]:
        """See `ReplayRunner.count`: the number of events that the replay would publish."""
        events = await self._replay.count(self._request.matches)
        progress = self._replay.progress
        counted = ReplayProgress(already_published=progress.already_published, unreadable=progress.unreadable)
        progress.unreadable = 0  # `run` counts the same ranges again
        return events, counted

    async def run(self) -> AsyncGenerator[ReplayProgress, None]:
        """Publish the events; see `ReplayRunner.run`."""
        source = matching_events(self._search, self._request.matches)
        async for progress in self._replay.run(source, self._request.rate, asyncio.sleep):
            yield progress
