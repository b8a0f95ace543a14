"""Both kinds of search over a real log, with real workers: their matches, order, totals and updates."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest

from mainstem.contract import InvalidArgument
from mainstem.log.storage.record_batch import build
from mainstem.search import execution
from mainstem.search.contract import Hit, SearchRequest
from mainstem.search.execution import UPDATES_A_TURN
from mainstem.search.query.parser import QueryError
from tests.search.search_rig import (
    NOW_MS,
    Row,
    SearchRig,
    brute_force,
    compared,
    count_facets,
    run,
    run_on_search_rig,
)

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WORDS = ("alpha", "beta", "GAMMA", "n14228", "4711", "4711.0", "straße", "\\u0041lpha", "\u212aelvin", "x")


def some_rows(rng: random.Random, count: int, at_ms: int) -> list[Row]:
    """Random rows with every kind of payload."""
    rows: list[Row] = []
    for _ in range(count):
        word, other = rng.choice(WORDS), rng.choice(WORDS)
        number = rng.randrange(10_000)
        value = rng.choice(
            [
                f'{{"a":"{word}","n":{number},"in":[{{"b":"{other}"}}]}}'.encode(),
                f"{word} {other}-{number}".encode(),
                bytes([0xFF, number % 256, 0x00]),
                None,
            ]
        )
        key = rng.choice([None, word.encode(), str(number).encode()])
        headers = [("kind", other.encode())] if rng.random() < 0.3 else []
        rows.append((key, value, headers, at_ms + rng.randrange(-5_000, 5_000)))
    return rows


async def fill(rig: SearchRig, seed: int = 1, *, batches: int = 40, partitions: int = 3) -> None:
    """Create two topics with random events, in batches of all codecs."""
    rng = random.Random(seed)
    for topic in ("orders", "payments"):
        await rig.engine.create_topic(topic, partitions=partitions)
        for batch in range(batches):
            rows = some_rows(rng, rng.randrange(1, 120), NOW_MS + batch * 10_000)
            await rig.append(topic, rng.randrange(partitions), rows, codec=rng.choice(CODECS))


QUERIES = (
    "", "alpha", "n14228", "a:beta", "in.b:gamma", "n:>5000", "4711", "straße", "kelvin", "key:alpha",
    "x AND NOT beta", "header.kind:4711", "ff*", "/al.ha/", "topic:orders alpha", "partition:1 beta",
    "offset:[3 TO 40]", "_exists_:n", "time:>2023-11-14T22:13:40Z gamma",
)  # fmt: skip


def test_a_search_finds_what_brute_force_finds(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        events = await rig.events("orders") + await rig.events("payments")
        for query in QUERIES:
            for since, until in ((None, None), (NOW_MS + 50_000, NOW_MS + 250_000)):
                request = SearchRequest(query=query, limit=None, since_ms=since, until_ms=until)
                expected = brute_force(events, request, NOW_MS)
                for search in rig.searches():
                    result = await run(search, request)
                    assert sorted(result.places) == sorted(expected), (query, type(search).__name__)
                    assert result.end.reason == "complete"
                    assert result.end.resume is None
                    assert result.end.totals.share == 1.0
                    assert result.end.totals.matches == len(expected)

    run_on_search_rig(tmp_path, work)


def test_the_matches_of_a_partition_are_in_the_requested_order(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for search in rig.searches():
            for newest_first in (True, False):
                result = await run(search, SearchRequest(query="beta", limit=None, newest_first=newest_first))
                for partition in {place[:2] for place in result.places}:
                    offsets = [place[2] for place in result.places if place[:2] == partition]
                    assert offsets == sorted(offsets, reverse=newest_first)

    run_on_search_rig(tmp_path, work)


def test_a_search_resumes_after_its_limit(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for search in rig.searches():
            for newest_first in (True, False):
                whole = await run(search, SearchRequest(query="alpha", limit=None, newest_first=newest_first))
                places, token, parts = [], None, 0
                while parts == 0 or token is not None:
                    part = await run(
                        search,
                        SearchRequest(query="alpha", limit=37, resume=token, newest_first=newest_first),
                    )
                    assert part.end.reason == ("limit" if part.end.resume else "complete")
                    assert len(part.places) <= 37
                    places += part.places
                    token = part.end.resume
                    parts += 1
                assert parts > 3
                assert sorted(places) == sorted(whole.places)

    run_on_search_rig(tmp_path, work)


@pytest.mark.slow
def test_a_cancelled_search_resumes_from_its_last_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        whole = await run(rig.local, SearchRequest(query="alpha", limit=None))
        for interval_s, is_frequent in ((0.0, True), (1e9, False)):
            monkeypatch.setattr(execution, "TOKEN_INTERVAL_S", interval_s)
            result = await run(rig.local, SearchRequest(query="alpha", limit=None))
            tokens = [update.resume for update in result.progress if update.resume is not None]
            assert (len(tokens) == len(result.progress) > 1) if is_frequent else len(tokens) == 1
            for token in tokens[:: 1 + len(tokens) // 3] + tokens[-1:]:
                rest = await run(rig.local, SearchRequest(query="alpha", limit=None, resume=token))
                assert set(whole.places[len(whole.places) - len(rest.places) :]) == set(rest.places)
            assert len(whole.places) > len(rest.places) or not is_frequent

    monkeypatch.setattr(execution, "PROGRESS_INTERVAL_S", 0.0)
    run_on_search_rig(tmp_path, work, workers=1, block_bytes=4096)


def test_a_token_of_another_search_is_refused(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=5)
        for search in rig.searches():
            token = (await run(search, SearchRequest(query="alpha", limit=1))).end.resume
            for request in (
                SearchRequest(query="beta", resume=token),
                SearchRequest(query="alpha", resume="no token"),
            ):
                with pytest.raises(InvalidArgument, match="resume"):
                    await run(search, request)

    run_on_search_rig(tmp_path, work)


def test_a_query_with_a_mistake_is_refused(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        for search in rig.searches():
            with pytest.raises(QueryError):
                await run(search, SearchRequest(query="a:("))

    run_on_search_rig(tmp_path, work)


def test_a_search_is_restricted_to_topics_and_partitions(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for search in rig.searches():
            result = await run(search, SearchRequest(topics=["pay*"], partitions=[1], limit=None))
            assert {place[:2] for place in result.places} == {("payments", 1)}
            nothing = await run(search, SearchRequest(topics=["none"], limit=None))
            assert nothing.places == []
            assert nothing.end.reason == "complete"

    run_on_search_rig(tmp_path, work)


def test_a_search_for_the_count_alone_has_no_hits(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        expected = len((await run(rig.local, SearchRequest(query="alpha", limit=None))).events)
        for search in rig.searches():
            result = await run(search, SearchRequest(query="alpha", limit=None, only_count=True))
            assert result.events == []
            assert result.end.totals.matches == expected

    run_on_search_rig(tmp_path, work)


def test_the_totals_cover_all_bytes(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for query in ("alpha", "", "offset:[3 TO 9]"):
            totals = (await run(rig.local, SearchRequest(query=query, limit=None))).end.totals
            assert totals.total_bytes == totals.scanned_bytes + totals.skipped_bytes + totals.removed_bytes

    run_on_search_rig(tmp_path, work)


def test_a_search_resumes_after_its_time_budget(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for search in rig.searches():
            part = await run(search, SearchRequest(query="alpha", limit=None, budget_s=0.0))
            assert part.end.reason == "budget"
            rest = await run(search, SearchRequest(query="alpha", limit=None, resume=part.end.resume))
            whole = await run(search, SearchRequest(query="alpha", limit=None))
            assert sorted(part.places + rest.places) == sorted(whole.places)

    run_on_search_rig(tmp_path, work)


def test_a_damaged_batch_is_reported_and_the_rest_is_searched(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for batch in range(5):
            rows: list[Row] = [(None, f"word in batch {batch}".encode(), (), NOW_MS)] * 10
            await rig.append("orders", 0, rows)
        ((path, start, end),) = await rig.engine.byte_ranges("orders", 0, 0, 50)
        size = (end - start) // 5
        for position, lost in ((2 * size + 100, range(20, 30)), (3 * size + 8, range(20, 40))):
            # First damage the records, then the length in the next header; both form one damaged range.
            with open(rig.folder / path, "r+b") as file:
                file.seek(position)
                file.write(b"\xff")
            for query in ("word", "batch", "a:word OR word"):
                result = await run(rig.local, SearchRequest(query=query, limit=None))
                assert [unreadable.position.offset for unreadable in result.unreadable] == [20]
                assert result.end.totals.undecodable == 1
                assert {place[2] for place in result.places} == set(range(50)) - set(lost)

    run_on_search_rig(tmp_path, work)


@pytest.mark.parametrize("log_start", [0, 5])
def test_damage_where_a_segment_or_the_log_begins_is_reported_at_its_first_offset(
    tmp_path: Path, log_start: int
) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1, settings={"segment.bytes": str(1 << 20)})
        for batch in range(6):
            value = f"word in batch {batch} ".encode() + bytes(40_000)
            await rig.append("orders", 0, [(None, value, (), NOW_MS)] * 10)
        await rig.engine.delete_records("orders", 0, log_start)
        (first, start, _), (second, *_), *_ = await rig.engine.byte_ranges("orders", 0, log_start, 60)
        base = int(Path(second).stem)
        for path, position, lost in ((second, 0, {base}), (first, start, {log_start, base})):
            with open(rig.folder / path, "r+b") as file:
                file.seek(position + 8)  # the length of the batch
                file.write(b"\xff")
            result = await run(rig.local, SearchRequest(query="word", limit=None))
            assert {unreadable.position.offset for unreadable in result.unreadable} == lost
            expected = set(range(log_start, 60)) - set(range(base, base + 10))
            assert {place[2] for place in result.places} == expected - (
                set(range(10)) if len(lost) > 1 else set()
            )

    run_on_search_rig(tmp_path, work)


def test_deletion_during_a_search_is_no_error(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=60)
        async with aclosing(rig.local.search(SearchRequest(limit=None))) as updates:
            hits = 0
            async for update in updates:
                hits += isinstance(update, Hit)
                if hits == 1:
                    await rig.engine.delete_topic("payments")
                    for partition in range(3):
                        await rig.engine.delete_records("orders", partition, -1)
                last = update
        assert last.reason == "complete"  # type: ignore[union-attr]  # the last update is Done
        after = await run(rig.local, SearchRequest(limit=None))
        assert after.places == []

    run_on_search_rig(tmp_path, work, workers=1, block_bytes=4096)


def test_a_cancelled_search_frees_its_worker(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for _ in range(3):
            async with aclosing(rig.local.search(SearchRequest(limit=None))) as updates:
                async for update in updates:
                    if isinstance(update, Hit):
                        break
        result = await run(rig.local, SearchRequest(query="alpha", limit=None))
        assert result.end.reason == "complete"
        assert len(rig.local.pool.pids) == 1

    run_on_search_rig(tmp_path, work, workers=1)


def test_a_search_with_many_matches_lets_other_tasks_run_between_them(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for _ in range(10):
            await rig.append("orders", 0, [(None, b"word", (), NOW_MS)] * 300)
        turns, matches = 0, Counter[int]()

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count_turns())
        async with aclosing(rig.local.search(SearchRequest(limit=None))) as updates:
            async for update in updates:
                matches[turns] += isinstance(update, Hit)
        counting.cancel()
        assert matches.total() == 3_000
        assert max(matches.values()) <= UPDATES_A_TURN

    run_on_search_rig(tmp_path, work, workers=1, block_bytes=1 << 20)


def test_a_worker_that_dies_does_not_end_the_search(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        await run(rig.local, SearchRequest(query="alpha"))
        async with aclosing(rig.local.search(SearchRequest(limit=None))) as updates:
            killed, other_updates = False, []
            async for update in updates:
                if isinstance(update, Hit) and not killed:
                    for pid in rig.local.pool.pids:
                        os.kill(pid, signal.SIGKILL)
                    killed = True
                elif not isinstance(update, Hit):
                    other_updates.append(update)
        assert other_updates[-1].reason == "complete"  # type: ignore[union-attr]  # the last update is Done
        again = await run(rig.local, SearchRequest(limit=None))
        assert again.unreadable == []

    run_on_search_rig(tmp_path, work, workers=1)


def test_idle_workers_end(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        rig.local.pool._idle_s = 0.05
        await fill(rig, batches=3)
        await run(rig.local, SearchRequest())
        while rig.local.pool.pids:
            await asyncio.sleep(0.01)
        assert (await run(rig.local, SearchRequest())).events

    run_on_search_rig(tmp_path, work)


def test_the_histogram_has_every_event(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=2)
        for second in range(40):
            rows: list[Row] = [(None, b"x", (), NOW_MS + second * 1000)] * (second + 1)
            await rig.append("orders", second % 2, rows)
        for search in rig.searches():
            buckets = await search.histogram(["orders"], NOW_MS, NOW_MS + 40_000, 40)
            assert [bucket.count for bucket in buckets] == list(range(1, 41))
            assert sum(bucket.count for bucket in await search.histogram(["orders"], None, None, 7)) == 820
            assert await search.histogram(["none"], None, None, 7) == []

    run_on_search_rig(tmp_path, work)


def test_the_histogram_is_the_same_with_token_filters(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=2)
        for second in range(60):
            rows: list[Row] = [(None, b"x" * 50, (), NOW_MS + second * 1000)] * (second % 7 + 20)
            await rig.append("orders", second % 2, rows)
        search = rig.local
        requests = [(None, None, 60), (None, None, 7), (NOW_MS + 9_500, NOW_MS + 31_000, 5)]
        before = [await search.histogram(["orders"], *request) for request in requests]
        again = [await search.histogram(["orders"], *request) for request in requests]
        assert await search.build_missing_filters() > 10
        with_filters = [await search.histogram(["orders"], *request) for request in requests]
        assert before == again == with_filters
        await rig.engine.delete_records("orders", 0, 100)
        remaining = sum(bucket.count for bucket in await search.histogram(["orders"], None, None, 60))
        assert remaining == sum(bucket.count for bucket in before[0]) - 100

    run_on_search_rig(tmp_path, work, block_bytes=2 << 10)


def test_an_acknowledged_event_is_found_by_the_next_search(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for number in range(60):
            building = asyncio.create_task(rig.local.build_missing_filters()) if number % 7 == 0 else None
            await rig.append("orders", 0, [(None, f"mark{number}x".encode() + b" y" * 300, (), NOW_MS)])
            result = await run(rig.local, SearchRequest(query=f"mark{number}x", limit=1))
            assert result.places == [("orders", 0, number)]
            if building is not None:
                await building

    run_on_search_rig(tmp_path, work, block_bytes=4 << 10)


def test_progress_is_reported_within_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "PROGRESS_INTERVAL_S", 0.001)

    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        log = rig.partition("orders", 0)
        value = b"[" + b",".join([b'"word"'] * 200) + b"]"
        rows: list[Row] = [(None, value, (), NOW_MS)] * 64
        for _ in range(20):
            log.append(memoryview(build(rows)))
        await log.when_committed(log.log_end_offset)
        result = await run(rig.local, SearchRequest(query="/9x$/", limit=None))
        all_totals = [update.totals for update in result.progress]
        shares = [totals.share for totals in all_totals]
        assert shares == sorted(shares)
        assert any(0 < share < 1 for share in shares)
        assert any(0 < totals.scanned_bytes < (totals.total_bytes or 0) for totals in all_totals)
        assert result.end.totals.scanned_bytes == result.end.totals.total_bytes

    run_on_search_rig(tmp_path, work, block_bytes=1 << 30)


def test_facets_and_compare_count_the_matches(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for number in range(100):
            state, origin = ("failed", "JFK") if number < 20 else ("ok", ("JFK", "LGA")[number % 2])
            value = f'{{"state":"{state}","origin":"{origin}","n":{number}}}'.encode()
            await rig.append("orders", 0, [(b"k", value, [("via", b"web")], NOW_MS)])
        for search in rig.searches():
            request = SearchRequest(query="", limit=None)
            facets, done = await count_facets(search, request, ["origin", "state", "header.via"], 5)
            assert facets.events == 100
            assert (done.reason, done.totals.share, done.totals.matches) == ("complete", 1.0, 100)
            assert facets.values["state"] == [("ok", 80), ("failed", 20)]
            assert facets.values["origin"] == [("JFK", 60), ("LGA", 40)]
            assert facets.values["header.via"] == [("web", 100)]
            all_fields, _ = await count_facets(search, request, [], 3)
            limited, done = await count_facets(search, SearchRequest(query="", limit=7), [], 3)
            assert (limited.events, done.reason) == (7, "limit")
            assert {"topic", "partition", "key", "n"} <= set(all_fields.values)
            failed, ok = (SearchRequest(query=f"state:{state}", limit=None) for state in ("failed", "ok"))
            comparison, done = await compared(search, failed, ok)
            assert (done.reason, done.totals.share, done.totals.matches) == ("complete", 1.0, 100)
            assert (comparison.selected, comparison.baseline) == (20, 80)
            differences = comparison.differences
            (jfk,) = [diff for diff in differences if (diff.field, diff.value) == ("origin", "JFK")]
            assert (jfk.selected, jfk.baseline, jfk.lift) == (20, 40, 2.0)

    run_on_search_rig(tmp_path, work)
