"""A search while the log changes finds each event once that exists from its start to its end.

Events that were deleted before, or appended later, are not found."""

from __future__ import annotations

import asyncio
import random
import tempfile
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstem.search.contract import Done, Hit, SearchRequest
from tests.search.search_rig import NOW_MS, SEGMENT_BYTES, SearchRig, brute_force, open_search_rig
from tests.search.test_search import CODECS, some_rows

PARTITIONS = 2
QUERIES = ("", "alpha", "n:4711", "n14228 OR beta", "key:4711", "in.b:gamma", "*elvi*", "NOT x", "/be.a/")


async def append(rig: SearchRig, rng: random.Random, batches: int) -> None:
    for _ in range(batches):
        rows = some_rows(rng, rng.randrange(1, 150), NOW_MS)
        await rig.append("orders", rng.randrange(PARTITIONS), rows, codec=rng.choice(CODECS))


async def change_log(rig: SearchRig, rng: random.Random) -> None:
    """Append, delete, roll, enforce retention, build and remove filters at random, until cancelled."""
    building: asyncio.Task[int] | None = None
    try:
        while True:
            match rng.randrange(5):
                case 0:
                    await append(rig, rng, 2)
                case 1:
                    index = rng.randrange(PARTITIONS)
                    bounds = await rig.engine.bounds("orders", index)
                    step = (bounds.end - bounds.begin) // 6
                    await rig.engine.delete_records("orders", index, bounds.begin + step)
                case 2:
                    rig.partition("orders", rng.randrange(PARTITIONS)).roll()
                case 3:
                    size_max = rng.choice([SEGMENT_BYTES, 4 * SEGMENT_BYTES])
                    await rig.engine.alter_topic("orders", {"retention.bytes": str(size_max)})
                    rig.node.enforce_retention()
                case 4 if building is None or building.done():
                    building = asyncio.create_task(rig.local.build_missing_filters())
                case _:
                    for path in rig.folder.glob("search/*/*.tokens"):
                        path.unlink(missing_ok=True)
            await asyncio.sleep(rng.choice([0, 0, 0.002]))
    finally:
        if building is not None:
            await building


async def check_search_during_changes(rig: SearchRig, rng: random.Random, request: SearchRequest) -> None:
    before = brute_force(await rig.events("orders"), request, NOW_MS)
    changing: asyncio.Task[None] | None = None
    hits: list[tuple[str, int, int]] = []
    last: Done | None = None
    async with aclosing(rig.local.search(request)) as updates:
        async for update in updates:
            if changing is None:
                changing = asyncio.create_task(change_log(rig, random.Random(rng.random())))
            if isinstance(update, Hit):
                event = update.event
                hits.append((event.topic, event.partition, event.offset))
                await asyncio.sleep(rng.choice([0, 0, 0, 0.002]))
            elif isinstance(update, Done):
                last = update
    if changing is not None:
        changing.cancel()
        await asyncio.wait([changing])
        assert changing.cancelled(), changing
    after = brute_force(await rig.events("orders"), request, NOW_MS)
    assert last is not None
    assert last.totals.undecodable == 0
    assert len(set(hits)) == len(hits)
    assert set(hits) <= before
    assert before & after <= set(hits)


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 30))
def test_a_search_during_changes_finds_the_events_that_remain(seed: int) -> None:
    rng = random.Random(seed)

    async def work(folder: Path) -> None:
        async with open_search_rig(folder, block_bytes=4 << 10) as rig:
            await rig.engine.create_topic("orders", partitions=PARTITIONS)
            for _ in range(2):
                await append(rig, rng, 20)
                request = SearchRequest(
                    query=rng.choice(QUERIES), limit=None, newest_first=rng.random() < 0.5
                )
                await check_search_during_changes(rig, rng, request)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(work(Path(folder)))
