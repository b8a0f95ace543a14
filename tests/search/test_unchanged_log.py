"""The blocks of a partition are planned again only if it has changed; new and deleted topics are noticed."""

from __future__ import annotations

from pathlib import Path

from mainstem.search.contract import SearchRequest
from tests.search.search_rig import NOW_MS, SearchRig, run, run_on_search_rig

ROW = (None, b'{"order": "4711"}', (), NOW_MS)
REQUEST = SearchRequest(query="4711", limit=None)


def test_a_topic_keeps_its_summary_until_it_changes(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        for name in ("orders", "returns"):
            await rig.engine.create_topic(name, partitions=2)
            await rig.append(name, 1, [ROW])
        orders, returns = await rig.engine.topics()
        await rig.append("orders", 0, [ROW, ROW])
        await rig.engine.create_topic("shipments")
        changed, unchanged, new = await rig.engine.topics()
        assert unchanged is returns
        assert (orders.written, changed.written, new.written) == (1, 3, 0)
        await rig.engine.delete_records("orders", 0, 1)
        await rig.engine.delete_topic("returns")
        assert [(topic.name, topic.events) for topic in await rig.engine.topics()] == [
            ("orders", 2),
            ("shipments", 0),
        ]

    run_on_search_rig(tmp_path, work)


def test_a_plan_is_not_used_after_appends_or_for_a_new_topic_of_the_same_name(tmp_path: Path) -> None:
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
