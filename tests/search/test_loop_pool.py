"""The search of a log in memory: in slices in the event loop, with the results of the search of files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from mainstem.contract import StreamError
from mainstem.search.contract import SearchRequest
from mainstem.search.local.search import LogSearch
from mainstem.search.workers import loop_pool
from mainstem.search.workers.loop_pool import LoopPool
from mainstem.serve.in_memory import InMemory
from mainstem.settings import Settings
from tests.search.search_rig import (
    NOW_MS,
    SearchRig,
    brute_force,
    compared,
    count_facets,
    run,
    run_on_search_rig,
)
from tests.search.test_search import QUERIES, fill


def in_memory(work: Callable[[SearchRig], Awaitable[None]]) -> None:
    """Run `work` on a node in memory with its search."""

    async def inner() -> None:
        place = InMemory()
        node = await place.open_node(Settings())
        engine = place.engine()
        search = place.search(engine)
        assert isinstance(search, LogSearch)
        try:
            await work(SearchRig(node, engine, search, cast(Any, None), place.folder, cast(Any, None)))
        finally:
            await search.close()
            await engine.close()
            await node.close()

    asyncio.run(inner())


def test_a_search_in_memory_finds_what_brute_force_finds() -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=10)
        events = await rig.events("orders") + await rig.events("payments")
        for query in QUERIES:
            request = SearchRequest(query=query, limit=None)
            result = await run(rig.local, request)
            assert sorted(result.places) == sorted(brute_force(events, request, NOW_MS)), query
            assert result.end.totals.share == 1.0
        first = await run(rig.local, SearchRequest(query="beta", limit=5))
        rest = await run(rig.local, SearchRequest(query="beta", limit=None, resume=first.end.resume))
        whole = await run(rig.local, SearchRequest(query="beta", limit=None))
        assert first.places + rest.places == whole.places
        assert rig.local.metric_values()["mainstem_search_workers"] == 0

    in_memory(work)


@pytest.mark.slow
def test_every_kind_of_search_has_the_same_results_as_with_processes(tmp_path: Path) -> None:
    """Over the same files, in the same order and with the same totals."""

    async def work(rig: SearchRig) -> None:
        await fill(rig)
        pool = LoopPool(rig.node.clock, lambda path: Path(path).read_bytes())
        in_loop = LogSearch(rig.engine, rig.folder, rig.node.clock, pool=pool, block_bytes=16 << 10)
        for query in QUERIES:
            for newest_first in (True, False):
                request = SearchRequest(query=query, limit=None, newest_first=newest_first)
                ours, theirs = await run(in_loop, request), await run(rig.local, request)
                assert ours.events == theirs.events, query
                for totals in (ours.end.totals, theirs.end.totals):
                    totals.elapsed_s = 0.0
                assert ours.end == theirs.end
        everything = SearchRequest(query="", limit=None)
        alpha = SearchRequest(query="a:alpha", limit=None)
        assert (await count_facets(in_loop, everything, [], 5))[0] == (
            await count_facets(rig.local, everything, [], 5)
        )[0]
        assert (await compared(in_loop, alpha, everything))[0] == (
            await compared(rig.local, alpha, everything)
        )[0]
        assert await in_loop.histogram([], None, None, 20) == await rig.local.histogram([], None, None, 20)
        await in_loop.close()

    run_on_search_rig(tmp_path, work)


def test_a_long_search_lets_other_tasks_run_and_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_pool, "LOOP_SLICE_S", 0.0)  # a slice ends at the first place where it can

    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=20, partitions=1)
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count_turns())
        sliced = await run(rig.local, SearchRequest(query="beta", limit=None))
        counting.cancel()
        assert turns > 20
        async with aclosing(rig.local.search(SearchRequest(query="beta", limit=None))) as updates:
            await anext(updates)
        monkeypatch.setattr(loop_pool, "LOOP_SLICE_S", 60.0)
        whole = await run(rig.local, SearchRequest(query="beta", limit=None))
        assert whole.places == sliced.places

    in_memory(work)


def test_what_is_deleted_or_closed_in_the_meantime_is_no_hang() -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=5, partitions=1)
        async with aclosing(rig.local.search(SearchRequest(limit=None, topics=["orders"]))) as updates:
            await anext(updates)
            await rig.engine.delete_topic("orders")
            assert [update async for update in updates]
        searching = asyncio.create_task(run(rig.local, SearchRequest(limit=None, topics=["payments"])))
        await asyncio.sleep(0)
        await rig.local.close()
        try:
            await searching
        except StreamError as error:
            assert "closed" in str(error)  # noqa: PT017  (either is right: it may have ended before)

    in_memory(work)
