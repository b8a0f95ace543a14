"""Token filters never exclude a match, are built again when damaged, and are removed with their data."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstem.log.storage.record_batch import Record
from mainstem.search.blocks import token_filter
from mainstem.search.cluster.worker import stored_filters
from mainstem.search.contract import SearchRequest
from mainstem.search.local import search
from mainstem.search.text.tokens import filter_tokens
from tests.search.search_rig import (
    NOW_MS,
    Row,
    SearchRig,
    brute_force,
    open_search_rig,
    run,
    run_on_search_rig,
)
from tests.search.test_search import CODECS, fill, some_rows

BLOCK_BYTES = 2 << 10

TEXTS = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=20),
    st.sampled_from(
        [b'{"a":4711.0,"b":[1e3,"x\\u0041y"],"c":"N14228-4"}', b'{"n":4.711e3}', "Straße".encode(), b"a_b c"]
    ),
)
RECORDS = st.lists(
    st.builds(
        Record,
        offset=st.just(0),
        timestamp_ms=st.just(0),
        key=st.none() | TEXTS,
        value=st.none() | TEXTS,
        headers=st.lists(st.tuples(st.just("h"), st.none() | TEXTS), max_size=2).map(tuple),
    ),
    max_size=5,
)


@given(RECORDS)
def test_a_filter_has_all_tokens_of_its_events(records: list[Record]) -> None:
    wanted = {token.encode() for record in records for token in filter_tokens(record)}
    assert wanted <= token_filter.batch_tokens(records)


def filters(rig: SearchRig) -> list[Path]:
    return sorted((rig.folder / "search").rglob("*.tokens"))


def test_blocks_that_cannot_match_are_skipped(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        needle: list[Row] = [(None, b'{"id":"needle4711"}', (), NOW_MS)]
        await rig.append("orders", 0, needle)
        await fill_more(rig)
        assert await rig.local.build_missing_filters() == len(filters(rig)) > 10
        assert await rig.local.build_missing_filters() == 0
        result = await run(rig.local, SearchRequest(query="needle4711", limit=None))
        assert len(result.places) == 1
        totals = result.end.totals
        assert totals.total_bytes is not None
        assert totals.skipped_bytes > totals.total_bytes // 2
        assert totals.skipped_bytes + totals.scanned_bytes == totals.total_bytes
        early = await run(rig.local, SearchRequest(until_ms=NOW_MS - 100_000, limit=None))
        assert early.end.totals.skipped_bytes > totals.total_bytes // 2

    run_on_search_rig(tmp_path, work, block_bytes=BLOCK_BYTES)


async def fill_more(rig: SearchRig) -> None:
    rng = random.Random(3)
    for batch in range(20):
        rows = some_rows(rng, 100, NOW_MS + batch * 1000)
        await rig.append("orders", rng.randrange(3), rows, codec=rng.choice(CODECS))


@pytest.mark.slow
def test_filters_of_an_earlier_run_are_used(tmp_path: Path) -> None:
    async def first(rig: SearchRig) -> None:
        await fill(rig)
        assert await rig.local.build_missing_filters() > 10

    async def second(rig: SearchRig) -> None:
        result = await run(rig.local, SearchRequest(query="nothinghasthis", limit=None))
        assert result.end.totals.skipped_bytes > 0
        assert await rig.local.build_missing_filters() == 0

    run_on_search_rig(tmp_path, first, block_bytes=BLOCK_BYTES)
    run_on_search_rig(tmp_path, second, block_bytes=BLOCK_BYTES)


def test_a_damaged_filter_excludes_nothing_and_is_built_again(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=15, partitions=1)
        await rig.local.build_missing_filters()
        request = SearchRequest(query="n14228", limit=None)
        expected = (await run(rig.local, request)).places
        rng = random.Random(1)
        for path in filters(rig):
            data = bytearray(path.read_bytes())
            for position in [*rng.sample(range(token_filter.PAGE_BYTES, len(data)), 300), 9, 40, 60]:
                data[position] = 0
            path.write_bytes(rng.choice([bytes(data), b"", bytes(len(data)), bytes(data[:5000])]))
        result = await run(rig.local, request)
        assert result.places == expected
        rig.local._filtered_topics.clear()
        assert await rig.local.build_missing_filters() > 0
        assert (await run(rig.local, request)).places == expected

    run_on_search_rig(tmp_path, work, block_bytes=BLOCK_BYTES)


def test_a_filter_that_could_not_be_written_is_built_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BUILD_INTERVAL_S", 0.02)

    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=15, partitions=1)
        obstacle = tmp_path / "search"
        obstacle.write_bytes(b"a file where the folder should be")
        assert await rig.local.build_missing_filters() == 0
        obstacle.unlink()
        assert await rig.local.build_missing_filters() == 0, "the next attempt is after a delay"
        rig.local._filter_store._retry_at = 0.0
        rig.local.start_building_filters()
        while rig.local.metric_values()["mainstem_search_filters_made_total"] < 10:
            await asyncio.sleep(0.01)
        result = await run(rig.local, SearchRequest(query="nothinghasthis", limit=None))
        assert result.end.totals.skipped_bytes > 0

    run_on_search_rig(tmp_path, work, block_bytes=BLOCK_BYTES)


def test_a_filter_of_bytes_that_were_overwritten_is_not_used(tmp_path: Path) -> None:
    async def first(rig: SearchRig) -> None:
        await fill(rig, batches=10, partitions=1)
        await rig.local.build_missing_filters()

    run_on_search_rig(tmp_path, first, block_bytes=BLOCK_BYTES)
    files = sorted((tmp_path / "search").rglob("*.tokens"))
    infos = token_filter.find_filters(str(tmp_path / "search"), str(tmp_path / "partitions"))
    assert len(infos) == len(files) > 1
    with (tmp_path / infos[0].path).open("r+b") as file:
        # Another leader epoch in every batch, as if the log was truncated and written again.
        data = bytearray(file.read())
        for info in infos:
            if info.path == infos[0].path:
                data[info.start + 12 : info.end] = bytes(info.end - info.start - 12)
        file.seek(0)
        file.write(data)
    remaining = token_filter.find_filters(str(tmp_path / "search"), str(tmp_path / "partitions"))
    assert {info.path for info in remaining} == {info.path for info in infos} - {infos[0].path}


def test_only_filters_are_ever_removed(tmp_path: Path) -> None:
    """Even if it is given a wrong folder."""
    partition = f"{7:032x}-0"
    filters = [
        f"{partition}/{name}"
        for name in (f"{7:020}.tokens", f"{8:020}.tokens.partial", f"{9:020}-12-0.tokens")
    ]
    others = [
        ".git/HEAD",
        ".git/refs/main",
        "a/notes.txt",
        f"a/{7:020}.tokens",
        f"{partition}/{7:020}.log",
        "run",
    ]
    others += [f"{partition}/notes.tokens", f"{partition}/{7:020}.tokens.old"]
    for name in filters + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("precious")

    def remaining() -> set[str]:
        return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}

    token_filter.remove_filters(str(tmp_path / name) for name in (*others, filters[0]))
    assert remaining() == {*others, *filters[1:]}
    assert list(stored_filters(tmp_path, 0)) == []
    assert remaining() == {*others, filters[1]}, "another process may be writing it"
    assert token_filter.find_filters(str(tmp_path), str(tmp_path / "partitions")) == []
    assert remaining() == set(others)


def test_filters_are_removed_with_their_data(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        await rig.local.build_missing_filters()
        before = len(filters(rig))
        for partition in range(3):
            await rig.engine.delete_records("orders", partition, -1)
        await rig.engine.delete_topic("payments")
        await rig.local.build_missing_filters()
        assert len(filters(rig)) < before
        await rig.engine.delete_topic("orders")
        await rig.local.build_missing_filters()
        assert filters(rig) == []

    run_on_search_rig(tmp_path, work, block_bytes=BLOCK_BYTES)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 30))
def test_results_equal_brute_force_while_data_is_written_and_deleted(seed: int) -> None:
    rng = random.Random(seed)

    async def work(folder: Path) -> None:
        async with open_search_rig(folder, block_bytes=BLOCK_BYTES) as rig:
            await rig.engine.create_topic("orders", partitions=2)
            for _ in range(6):
                for _ in range(rng.randrange(1, 8)):
                    rows = some_rows(rng, rng.randrange(1, 150), NOW_MS)
                    await rig.append("orders", rng.randrange(2), rows, codec=rng.choice(CODECS))
                building = (
                    asyncio.create_task(rig.local.build_missing_filters()) if rng.random() < 0.7 else None
                )
                if rng.random() < 0.5:
                    index = rng.randrange(2)
                    bounds = await rig.engine.bounds("orders", index)
                    before = rng.randrange(bounds.begin, bounds.end + 1)
                    await rig.engine.delete_records("orders", index, before)
                if rng.random() < 0.5 and building is not None:
                    await building
                query = rng.choice(
                    ["alpha", "n:4711", "n14228 beta", "key:4711", "in.b:gamma", "straße", "x"]
                )
                request = SearchRequest(query=query, limit=None)
                result = await run(rig.local, request)
                expected = brute_force(await rig.events("orders"), request, NOW_MS)
                assert sorted(result.places) == sorted(expected)
                if building is not None:
                    await building

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(work(Path(folder)))
