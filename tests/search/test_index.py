"""The full-text index excludes no match, is built again when damaged, and is removed with its data."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstem.log.storage.record_batch import Record, assign_offsets, build
from mainstem.search import ipc
from mainstem.search.contract import SearchRequest
from mainstem.search.index import builder, layout
from mainstem.search.index.reader import IndexReader
from mainstem.search.ipc import BuildPartRequest, IndexPart, QueryPartsRequest, Unit
from mainstem.search.text.tokens import filter_tokens
from tests.search.search_rig import (
    NOW_MS,
    Row,
    SearchResult,
    SearchRig,
    brute_force,
    open_search_rig,
    run,
    run_on_search_rig,
)
from tests.search.test_search import CODECS, QUERIES, fill, some_rows
from tests.search.test_token_filter import RECORDS

BLOCK_BYTES = 2 << 10
SMALL = {"block_bytes": BLOCK_BYTES, "part_blocks": 2, "workers": 1}


async def set_indexed(rig: SearchRig, *topics: str, value: str | None = "indexed") -> None:
    for topic in topics:
        await rig.engine.alter_topic(topic, {"mainstem.search": value})


def parts_of(folder: Path) -> list[Path]:
    return sorted((folder / layout.ROOT).glob("*/*"))


async def check(rig: SearchRig, query: str, **more: object) -> SearchResult:
    """Run a search, and check that it finds what brute force finds and that its totals cover all bytes."""
    request = SearchRequest(query=query, limit=None, **more)  # type: ignore[arg-type]  # times
    result = await run(rig.local, request)
    events = [event for topic in await rig.engine.topics() for event in await rig.events(topic.name)]
    assert sorted(result.places) == sorted(brute_force(events, request, NOW_MS)), query
    totals = result.end.totals
    assert totals.total_bytes == totals.scanned_bytes + totals.skipped_bytes + totals.removed_bytes
    assert totals.indexed_bytes <= totals.skipped_bytes
    assert result.unreadable == []
    return result


# ----------------------------------------------------------------------------------------------------------
# single parts


def segment(folder: Path, batches: list[list[Record]]) -> list[Unit]:
    """Write a segment with these batches; each batch is a block."""
    path = folder / "partitions" / f"{'0' * 31}7-0" / f"{0:020}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    units, data, offset = [], b"", 0
    for number, records in enumerate(batches):
        rows = [(record.key, record.value, record.headers, record.timestamp_ms) for record in records]
        batch = build(rows, codec=CODECS[number % len(CODECS)])
        assign_offsets(memoryview(batch), offset, 0, None)
        units.append(
            Unit("t", 0, str(path), len(data), len(data) + len(batch), offset, offset + len(records))
        )
        offset += len(records)
        data += batch
    path.write_bytes(data)
    return units


@settings(max_examples=25, deadline=None)
@given(st.lists(RECORDS.filter(bool), min_size=1, max_size=4), st.text(min_size=33, max_size=200))
def test_a_part_names_every_batch_of_a_token(batches: list[list[Record]], long: str) -> None:
    batches[0][0] = Record(0, 0, long.encode(), ("word " + "x" * 70_000).encode(), ())
    with tempfile.TemporaryDirectory() as folder:
        units = segment(Path(folder), batches)
        part = builder.build_part(Path(folder) / layout.ROOT, units, lambda: False)
        assert part.unindexed == []
        reader = IndexReader()
        for unit, records in zip(units, batches, strict=True):
            for token in {token for record in records for token in filter_tokens(record)}:
                reply = reader.query(
                    QueryPartsRequest(1, [(part.folder, part.fingerprint)], [[token, "nothinghasthis"]])
                )
                assert reply.candidates[0] is not None
                expected = ipc.CandidateBatch(unit.start, unit.end, unit.low, unit.high)
                assert expected in reply.candidates[0]
        nothing = reader.query(
            QueryPartsRequest(1, [(part.folder, part.fingerprint)], [["word"], ["nothinghasthis"]])
        )
        assert nothing.candidates == [[]]
        reader.close()
        # Moved away first: tantivy still looks at the folder, and may make a lock file in it at any time.
        layout.remove_parts([part.folder])


def build_numbered_part(folder: Path) -> tuple[list[Unit], IndexPart]:
    """Build a part of 40 batches; batch i has the token `number{i}`."""
    records = [[Record(0, 0, None, f"word number{i}".encode(), ())] * 3 for i in range(40)]
    units = segment(folder, records)
    return units, builder.build_part(folder / layout.ROOT, units, lambda: False)


def test_a_block_with_a_batch_that_cannot_be_decoded_is_not_indexed(tmp_path: Path) -> None:
    units, _ = build_numbered_part(tmp_path)
    path = Path(units[0].path)
    data = bytearray(path.read_bytes())
    data[units[7].end - 1] ^= 1
    path.write_bytes(data)
    part = builder.build_part(tmp_path / layout.ROOT, units, lambda: False)
    assert part.unindexed == [(units[7].start, units[7].end)]


def test_a_part_of_bytes_that_were_overwritten_is_not_used(tmp_path: Path) -> None:
    units, part = build_numbered_part(tmp_path)
    (on_disk,) = layout.find_parts(tmp_path / layout.ROOT, tmp_path / "partitions")
    assert on_disk.folder == part.folder
    path = Path(units[0].path)
    data = bytearray(path.read_bytes())
    data[units[-1].start + 15] ^= 1  # another leader epoch, as if the log was truncated and written again
    path.write_bytes(data)
    assert layout.find_parts(tmp_path / layout.ROOT, tmp_path / "partitions") == []
    assert parts_of(tmp_path) == []


DAMAGE: list[Callable[[bytes], bytes | None]] = [
    lambda data: None,
    lambda data: b"",
    lambda data: data[:-1],
    lambda data: bytes(len(data)),
    lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x40]) + data[len(data) // 2 + 1 :],
    lambda data: data + b"\0",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_file_is_noticed_and_the_part_is_not_used(
    damage: Callable[[bytes], bytes | None], tmp_path: Path
) -> None:
    _, part = build_numbered_part(tmp_path)
    folder = Path(part.folder)
    version = layout.read_manifest(folder).tantivy_version
    reader = IndexReader()
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".tantivy-")]
    assert {layout.MANIFEST, layout.TABLE, "meta.json"} < set(names)
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        damaged = damage(before[name])
        if damaged == before[name]:
            continue  # An empty file cannot be cut short.
        fingerprint = layout.check_part(folder, Path(part.path).parent, version).fingerprint
        assert reader.query(QueryPartsRequest(1, [(part.folder, fingerprint)], [["number3"]])).changed == []
        (folder / name).unlink()  # The file is replaced, because a mapped file must not become shorter.
        if damaged is not None:
            (folder / name).write_bytes(damaged)
        reply = reader.query(QueryPartsRequest(1, [(part.folder, fingerprint)], [["number3"]]))
        assert (reply.candidates, reply.changed) == ([None], [0]), name
        with pytest.raises(layout.DamagedPart):
            layout.check_part(folder, Path(part.path).parent, version)
        (folder / name).write_bytes(before[name])
    reader.close()


def test_a_part_of_another_version_is_not_used(tmp_path: Path) -> None:
    _, part = build_numbered_part(tmp_path)
    with pytest.raises(layout.DamagedPart, match="tantivy"):
        layout.check_part(Path(part.folder), Path(part.path).parent, "0.0.1")


def test_a_killed_builder_leaves_no_incomplete_part(tmp_path: Path) -> None:
    words = [f"{i}x{j}".encode() for i in range(200) for j in range(10)]
    units = segment(tmp_path, [[Record(0, 0, None, b" ".join(words), ())]] * 300)
    root = tmp_path / layout.ROOT
    seen = set()
    for number in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "mainstem.search.index.builder"], stdin=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(ipc.frame(BuildPartRequest(1, str(root), units)))
        process.stdin.flush()
        while not parts_of(tmp_path):
            time.sleep(0.001)
        time.sleep(0.02 * number)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        for part in layout.find_parts(root, tmp_path / "partitions"):
            assert layout.check_part(
                Path(part.folder),
                Path(part.path).parent,
                layout.read_manifest(Path(part.folder)).tantivy_version,
            )
            seen.add("whole")
            layout.remove_parts([part.folder])
        assert parts_of(tmp_path) == []


def test_an_interrupted_removal_is_finished(tmp_path: Path) -> None:
    _, part = build_numbered_part(tmp_path)
    os.rename(part.folder, part.folder + layout.REMOVING)
    assert layout.find_parts(tmp_path / layout.ROOT, tmp_path / "partitions") == []
    assert parts_of(tmp_path) == []


def test_only_parts_are_ever_removed(tmp_path: Path) -> None:
    """Even if it is given a wrong folder."""
    partition, part = f"{7:032x}-0", layout.part_name(7, 0)
    parts = [
        f"{partition}/{part}{end}/manifest" for end in ("", layout.PARTIAL, layout.PARTIAL + layout.REMOVING)
    ]
    others = [
        ".git/HEAD",
        ".git/refs/main",
        f"a/{part}/manifest",
        f"{partition}/notes/1",
        f"{partition}/7.log",
        "run",
    ]
    for name in parts + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("precious")

    def remaining() -> set[str]:
        return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}

    layout.remove_parts(str((tmp_path / name).parent) for name in (*others, parts[0]))
    layout.remove_parts([str(tmp_path), str(tmp_path / partition), "", "."])
    assert remaining() == {*others, *parts[1:]}
    assert layout.find_parts(tmp_path, tmp_path / "partitions") == []
    assert remaining() == set(others)


# ----------------------------------------------------------------------------------------------------------
# searches with an index


def test_a_search_with_an_index_finds_what_brute_force_finds(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        await set_indexed(rig, "orders")
        await rig.local.build_missing_parts()
        assert len(parts_of(rig.folder)) > 3
        for query in QUERIES:
            await check(rig, query)
            await check(rig, query, newest_first=False, since_ms=NOW_MS + 50_000, until_ms=NOW_MS + 250_000)

    run_on_search_rig(tmp_path, work, **SMALL)


@pytest.mark.parametrize("newest_first", [True, False])
def test_batches_that_the_index_excluded_are_not_reported_as_lost(tmp_path: Path, newest_first: bool) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for number in range(2000):
            await rig.append("orders", 0, [(None, f"word number{number % 500}".encode(), (), NOW_MS)] * 3)
        await set_indexed(rig, "orders")
        await rig.local.build_missing_parts()
        result = await check(rig, "number7", newest_first=newest_first)
        assert len(result.places) == 12
        assert result.end.totals.indexed_bytes > 0

    run_on_search_rig(tmp_path, work, block_bytes=32 << 10, part_blocks=2, workers=1)


async def fill_with_needle(rig: SearchRig) -> None:
    await fill(rig, batches=60, partitions=1)
    rng = random.Random(3)
    for batch in range(60):
        rows: list[Row] = some_rows(rng, 60, NOW_MS + batch * 1000)
        if batch == 20:
            rows[30] = (None, b'{"id":"needle4711"}', (), NOW_MS)
        await rig.append("orders", 0, rows, codec=rng.choice(CODECS))
    await set_indexed(rig, "orders")


@pytest.mark.slow
def test_a_needle_is_found_without_reading_most_batches(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill_with_needle(rig)
        before = await check(rig, "needle4711 topic:orders")
        assert before.end.totals.indexed_bytes == 0
        assert "being built" not in (before.end.totals.index_note or "")
        await rig.local.build_missing_parts()
        result = await check(rig, "needle4711 topic:orders")
        totals = result.end.totals
        assert totals.total_bytes is not None
        assert len(result.places) == 1
        assert totals.indexed_bytes > totals.total_bytes / 2
        assert totals.events < before.end.totals.events
        assert totals.index_note is None

    run_on_search_rig(tmp_path, work, **SMALL)


@pytest.mark.slow
def test_a_search_with_an_index_resumes_after_its_limit(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        await set_indexed(rig, "orders", "payments")
        await rig.local.build_missing_parts()
        for newest_first in (True, False):
            whole = await check(rig, "key:4711 n14228", newest_first=newest_first)
            places: list[tuple[str, int, int]] = []
            token = None
            while not places or token is not None:
                part = await run(
                    rig.local,
                    SearchRequest(query="key:4711 n14228", limit=3, resume=token, newest_first=newest_first),
                )
                places += part.places
                token = part.end.resume
            assert len(places) > 10
            assert sorted(places) == sorted(whole.places)

    run_on_search_rig(tmp_path, work, **SMALL)


@pytest.mark.slow
def test_parts_of_an_earlier_run_are_checked_and_used_again(tmp_path: Path) -> None:
    built: list[tuple[str, int]] = []

    async def first(rig: SearchRig) -> None:
        await fill_with_needle(rig)
        await rig.local.build_missing_parts()
        built.extend((path.name, path.stat().st_ino) for path in parts_of(rig.folder))

    async def second(rig: SearchRig) -> None:
        await check(rig, "needle4711")
        await rig.local.build_missing_parts()
        assert built == [(path.name, path.stat().st_ino) for path in parts_of(rig.folder)]
        assert (await check(rig, "needle4711")).end.totals.indexed_bytes > 0

    run_on_search_rig(tmp_path, first, **SMALL)
    run_on_search_rig(tmp_path, second, **SMALL)


@pytest.mark.slow
def test_a_damaged_part_is_not_used_and_is_built_again(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill_with_needle(rig)
        await rig.local.build_missing_parts()
        rng = random.Random(5)
        for part in parts_of(rig.folder):
            victim = rng.choice([path for path in part.iterdir() if path.stat().st_size])
            data = bytearray(victim.read_bytes())
            data[rng.randrange(len(data))] ^= 0x10
            victim.unlink()
            victim.write_bytes(data)
        damaged = await check(rig, "needle4711 topic:orders")
        assert damaged.end.totals.indexed_bytes == 0
        await rig.local.build_missing_parts()
        assert (await check(rig, "needle4711 topic:orders")).end.totals.indexed_bytes > 0
        for part in parts_of(rig.folder):
            layout.remove_parts([str(part)])
        assert (await check(rig, "needle4711 topic:orders")).end.totals.indexed_bytes == 0
        await rig.local.build_missing_parts()
        assert (await check(rig, "needle4711 topic:orders")).end.totals.indexed_bytes > 0

    run_on_search_rig(tmp_path, work, **SMALL)


@pytest.mark.slow
def test_the_part_of_a_killed_builder_is_built_again(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill_with_needle(rig)
        building = asyncio.create_task(rig.local.build_missing_parts())
        pool = rig.local._index_manager._builder
        while not pool.pids:
            await asyncio.sleep(0.01)
        os.kill(pool.pids[0], signal.SIGKILL)
        await building
        assert not any(partition.missing for partition in rig.local._index_manager._partitions.values())
        assert (await check(rig, "needle4711 topic:orders")).end.totals.indexed_bytes > 0

    run_on_search_rig(tmp_path, work, **SMALL)


def test_an_index_is_removed_with_its_data_and_with_its_setting(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        await set_indexed(rig, "orders", "payments")
        await rig.local.build_missing_parts()
        before = len(parts_of(rig.folder))
        for partition in range(2):
            await rig.engine.delete_records("orders", partition, -1)
        await rig.local.build_missing_parts()
        after = len(parts_of(rig.folder))
        assert 0 < after < before
        await check(rig, "alpha")
        await rig.engine.delete_topic("payments")
        await rig.local.build_missing_parts()
        assert 0 < len(parts_of(rig.folder)) < after
        await set_indexed(rig, "orders", value=None)
        await rig.local.build_missing_parts()
        assert not list((rig.folder / layout.ROOT).glob("*"))
        assert (await check(rig, "n14228")).end.totals.indexed_bytes == 0

    run_on_search_rig(tmp_path, work, **SMALL)


def test_without_tantivy_no_index_is_used_and_the_totals_say_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tantivy", None)

    async def work(rig: SearchRig) -> None:
        await fill_with_needle(rig)
        await rig.local.build_missing_parts()
        await rig.local.build_missing_parts()
        result = await check(rig, "needle4711 topic:orders")
        assert "pip install 'mainstem[index]'" in (result.end.totals.index_note or "")
        assert (await check(rig, "alpha topic:payments")).end.totals.index_note is None
        assert parts_of(rig.folder) == []

    run_on_search_rig(tmp_path, work, **SMALL)
    assert caplog.text.count("tantivy is not installed") == 1


@pytest.mark.slow
def test_no_index_is_built_while_the_disk_has_no_space(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problems: list[str] = ["the disk is nearly full"]

    async def work(rig: SearchRig) -> None:
        rig.local._index_manager._space_problem = lambda: problems[0] if problems else None
        await fill_with_needle(rig)
        await rig.local.build_missing_parts()
        assert parts_of(rig.folder) == []
        result = await check(rig, "needle4711 topic:orders")
        assert result.end.totals.index_note == "not covered by the index: the disk is nearly full"
        problems.clear()
        await rig.local.build_missing_parts()
        assert parts_of(rig.folder) != []
        assert (await check(rig, "needle4711 topic:orders")).end.totals.index_note is None

    run_on_search_rig(tmp_path, work, **SMALL)
    assert caplog.text.count("is not built: the disk is nearly full") == 1


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 30))
def test_results_equal_brute_force_while_data_and_parts_are_written_and_deleted(seed: int) -> None:
    rng = random.Random(seed)

    async def work(folder: Path) -> None:
        async with open_search_rig(folder, **SMALL) as rig:
            await rig.engine.create_topic("orders", partitions=2)
            await set_indexed(rig, "orders")
            tasks: list[Awaitable[object]] = []
            for _ in range(6):
                for _ in range(rng.randrange(1, 8)):
                    rows = some_rows(rng, rng.randrange(1, 150), NOW_MS)
                    await rig.append("orders", rng.randrange(2), rows, codec=rng.choice(CODECS))
                building_parts = asyncio.create_task(rig.local.build_missing_parts())
                building_filters = asyncio.create_task(rig.local.build_missing_filters())
                if rng.random() < 0.5:
                    index = rng.randrange(2)
                    bounds = await rig.engine.bounds("orders", index)
                    await rig.engine.delete_records(
                        "orders", index, rng.randrange(bounds.begin, bounds.end + 1)
                    )
                if rng.random() < 0.6:
                    await building_parts
                query = rng.choice(["n14228 beta", "key:4711", "in.b:gamma", "n:4711", "straße x", "4711 -0"])
                query = "key:4711" if query.endswith("-0") else query
                await check(rig, query, newest_first=rng.random() < 0.5)
                tasks = [building_parts, building_filters]
                if rng.random() < 0.3:
                    await set_indexed(rig, "orders", value=rng.choice(["scan", "indexed"]))
                await asyncio.gather(*tasks)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(work(Path(folder)))
