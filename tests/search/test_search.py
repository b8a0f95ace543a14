"""Both kinds of search over a real log on a real disk, with real workers: what they find, in which order, and
what they tell."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import aclosing
from pathlib import Path

import pytest

from mainstem.contract import InvalidArgument
from mainstem.log.storage.record_batch import build
from mainstem.search import execution as running
from mainstem.search.contract import Hit, SearchRequest
from mainstem.search.query.parser import QueryError
from tests.search.search_rig import NOW_MS, Row, SearchRig, brute_force, count_facets, run, run_on_search_rig

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WORDS = ("alpha", "beta", "GAMMA", "n14228", "4711", "4711.0", "straße", "\\u0041lpha", "\u212aelvin", "x")


def some_rows(rng: random.Random, count: int, at_ms: int) -> list[Row]:
    """Events of every kind of payload."""
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
    """Two topics of random events, in batches of all codecs."""
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


def test_what_is_found_is_what_brute_force_finds(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        events = await rig.events("orders") + await rig.events("payments")
        for query in QUERIES:
            for since, until in ((None, None), (NOW_MS + 50_000, NOW_MS + 250_000)):
                request = SearchRequest(query=query, limit=None, since_ms=since, until_ms=until)
                expected = brute_force(events, request, NOW_MS)
                for search in rig.searches():
                    found = await run(search, request)
                    assert sorted(found.places) == sorted(expected), (query, type(search).__name__)
                    assert found.end.reason == "complete"
                    assert found.end.resume is None
                    assert found.end.totals.share == 1.0
                    assert found.end.totals.matches == len(expected)

    run_on_search_rig(tmp_path, work)


def test_each_partitions_matches_come_newest_first_or_oldest_first(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for search in rig.searches():
            for newest_first in (True, False):
                found = await run(search, SearchRequest(query="beta", limit=None, newest_first=newest_first))
                for where in {place[:2] for place in found.places}:
                    offsets = [place[2] for place in found.places if place[:2] == where]
                    assert offsets == sorted(offsets, reverse=newest_first)

    run_on_search_rig(tmp_path, work)


def test_a_search_goes_on_where_its_limit_stopped_it(tmp_path: Path) -> None:
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


def test_a_search_that_was_broken_off_goes_on_from_the_last_token_that_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        whole = await run(rig.local, SearchRequest(query="alpha", limit=None))
        for pause_s, often in ((0.0, True), (1e9, False)):
            monkeypatch.setattr(running, "TOKEN_INTERVAL_S", pause_s)
            found = await run(rig.local, SearchRequest(query="alpha", limit=None))
            tokens = [each.resume for each in found.progress if each.resume is not None]
            assert (len(tokens) == len(found.progress) > 1) if often else len(tokens) == 1
            for token in tokens[:: 1 + len(tokens) // 3] + tokens[-1:]:
                rest = await run(rig.local, SearchRequest(query="alpha", limit=None, resume=token))
                assert set(whole.places[len(whole.places) - len(rest.places) :]) == set(rest.places)
            assert len(whole.places) > len(rest.places) or not often

    monkeypatch.setattr(running, "PROGRESS_INTERVAL_S", 0.0)
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


def test_a_query_that_is_wrong_points_at_its_column(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        for search in rig.searches():
            with pytest.raises(QueryError):
                await run(search, SearchRequest(query="a:("))

    run_on_search_rig(tmp_path, work)


def test_topics_and_partitions_are_chosen(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for search in rig.searches():
            found = await run(search, SearchRequest(topics=["pay*"], partitions=[1], limit=None))
            assert {place[:2] for place in found.places} == {("payments", 1)}
            nothing = await run(search, SearchRequest(topics=["none"], limit=None))
            assert nothing.places == []
            assert nothing.end.reason == "complete"

    run_on_search_rig(tmp_path, work)


def test_only_the_number_is_told_when_only_that_is_asked_for(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        expected = len((await run(rig.local, SearchRequest(query="alpha", limit=None))).events)
        for search in rig.searches():
            found = await run(search, SearchRequest(query="alpha", limit=None, only_count=True))
            assert found.events == []
            assert found.end.totals.matches == expected

    run_on_search_rig(tmp_path, work)


def test_all_bytes_are_accounted_for(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for query in ("alpha", "", "offset:[3 TO 9]"):
            totals = (await run(rig.local, SearchRequest(query=query, limit=None))).end.totals
            assert totals.total_bytes == totals.scanned_bytes + totals.skipped_bytes + totals.removed_bytes

    run_on_search_rig(tmp_path, work)


def test_a_time_budget_ends_a_search_that_can_go_on(tmp_path: Path) -> None:
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
        for at, lost in ((2 * size + 100, range(20, 30)), (3 * size + 8, range(20, 40))):
            # Once in the records, once in the next header's length: then it is one stretch of damage.
            with open(rig.folder / path, "r+b") as file:
                file.seek(at)
                file.write(b"\xff")
            for query in ("word", "batch", "a:word OR word"):
                found = await run(rig.local, SearchRequest(query=query, limit=None))
                assert [each.position.offset for each in found.unreadable] == [20]
                assert found.end.totals.undecodable == 1
                assert {place[2] for place in found.places} == set(range(50)) - set(lost)

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
        assert last.reason == "complete"  # type: ignore[union-attr]  # the last one is Done
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
        found = await run(rig.local, SearchRequest(query="alpha", limit=None))
        assert found.end.reason == "complete"
        assert len(rig.local.pool.pids) == 1

    run_on_search_rig(tmp_path, work, workers=1)


def test_a_worker_that_dies_is_an_error_of_its_range_only(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        await run(rig.local, SearchRequest(query="alpha"))
        async with aclosing(rig.local.search(SearchRequest(limit=None))) as updates:
            killed, reasons = False, []
            async for update in updates:
                if isinstance(update, Hit) and not killed:
                    for pid in rig.local.pool.pids:
                        os.kill(pid, signal.SIGKILL)
                    killed = True
                elif not isinstance(update, Hit):
                    reasons.append(update)
        assert reasons[-1].reason == "complete"  # type: ignore[union-attr]  # the last one is Done
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


def test_the_histogram_is_the_same_when_blocks_are_known(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=2)
        for second in range(60):
            rows: list[Row] = [(None, b"x" * 50, (), NOW_MS + second * 1000)] * (second % 7 + 20)
            await rig.append("orders", second % 2, rows)
        search = rig.local
        several = [(None, None, 60), (None, None, 7), (NOW_MS + 9_500, NOW_MS + 31_000, 5)]
        before = [await search.histogram(["orders"], *each) for each in several]
        again = [await search.histogram(["orders"], *each) for each in several]
        assert await search.build_missing_filters() > 10
        covered = [await search.histogram(["orders"], *each) for each in several]
        assert before == again == covered
        await rig.engine.delete_records("orders", 0, 100)
        left = sum(bucket.count for bucket in await search.histogram(["orders"], None, None, 60))
        assert left == sum(bucket.count for bucket in before[0]) - 100

    run_on_search_rig(tmp_path, work, block_bytes=2 << 10)


def test_what_is_acknowledged_is_found_by_a_search_that_begins_then(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for number in range(60):
            covering = asyncio.create_task(rig.local.build_missing_filters()) if number % 7 == 0 else None
            await rig.append("orders", 0, [(None, f"mark{number}x".encode() + b" y" * 300, (), NOW_MS)])
            found = await run(rig.local, SearchRequest(query=f"mark{number}x", limit=1))
            assert found.places == [("orders", 0, number)]
            if covering is not None:
                await covering

    run_on_search_rig(tmp_path, work, block_bytes=4 << 10)


def test_progress_is_told_within_a_block(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        known = rig.node.topics.get("orders")
        assert known is not None
        held = rig.node.partition(known, 0)
        rows: list[Row] = [(None, b"\\u0077" + b" word" * 200, (), NOW_MS)] * 64  # opened: it hides a w
        for _ in range(400):
            held.append(memoryview(build(rows)))
        await held.when_committed(held.log_end_offset)
        found = await run(rig.local, SearchRequest(query='"word nothing"', limit=None))
        shares = [each.totals.share for each in found.progress]
        assert shares == sorted(shares)
        assert any(0 < share < 1 for share in shares)
        assert any(0 < each.totals.scanned_bytes < (each.totals.total_bytes or 0) for each in found.progress)
        assert found.end.totals.scanned_bytes == found.end.totals.total_bytes

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
            every, _ = await count_facets(search, request, [], 3)
            some, done = await count_facets(search, SearchRequest(query="", limit=7), [], 3)
            assert (some.events, done.reason) == (7, "limit")
            assert {"topic", "partition", "key", "n"} <= set(every.values)
            different = await search.compare(
                SearchRequest(query="state:failed", limit=None), SearchRequest(query="state:ok", limit=None)
            )
            best = next(each for each in different if each.field == "origin" and each.value == "JFK")
            assert (best.selected, best.baseline, best.lift) == (20, 40, 2.0)

    run_on_search_rig(tmp_path, work)
