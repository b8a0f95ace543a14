"""What has not moved is not planned again; what has moved, was deleted or made again, is found."""

from __future__ import annotations

from pathlib import Path

from mainstem.search.contract import SearchRequest
from tests.search.search_rig import NOW_MS, SearchRig, run, run_on_search_rig

ROW = (None, b'{"order": "4711"}', (), NOW_MS)
REQUEST = SearchRequest(query="4711", limit=None)


def test_a_topic_keeps_its_summary_until_it_moves(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        for name in ("orders", "returns"):
            await rig.engine.create_topic(name, partitions=2)
            await rig.append(name, 1, [ROW])
        orders, returns = await rig.engine.topics()
        await rig.append("orders", 0, [ROW, ROW])
        await rig.engine.create_topic("shipments")
        again, same, new = await rig.engine.topics()
        assert same is returns
        assert (orders.written, again.written, new.written) == (1, 3, 0)
        await rig.engine.delete_records("orders", 0, 1)
        await rig.engine.delete_topic("returns")
        assert [(each.name, each.events) for each in await rig.engine.topics()] == [
            ("orders", 2),
            ("shipments", 0),
        ]

    run_on_search_rig(tmp_path, work)


def test_a_plan_is_of_one_topic_and_one_time_only(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        await rig.append("orders", 0, [ROW])
        await rig.local.build_missing_filters()
        assert len((await run(rig.local, REQUEST)).places) == 1
        await rig.append("orders", 0, [ROW])
        assert len((await run(rig.local, REQUEST)).places) == 2
        await rig.engine.delete_topic("orders")
        await rig.engine.create_topic("orders", partitions=1)
        await rig.append("orders", 0, [ROW, (None, b"another", (), NOW_MS)])
        assert len((await run(rig.local, REQUEST)).places) == 1
        await rig.local.build_missing_filters()
        assert len((await run(rig.local, REQUEST)).places) == 1

    run_on_search_rig(tmp_path, work)
