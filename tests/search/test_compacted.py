"""Search equals brute force over logs as compaction leaves them, with deletions, retention and more
compaction running in between and meanwhile."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import Record, assign_offsets, build, decode, read_header
from mainstem.search.blocks import histogram
from mainstem.search.contract import Hit, Search, SearchRequest
from mainstem.search.facets import FieldValueCounter
from mainstem.search.ipc import Unit
from mainstem.search.query.parser import parse
from tests.search import reference
from tests.search.compacted import RewrittenPartition, append, keeping, new_epoch, part, some_of
from tests.search.search_rig import NOW_MS, SEGMENT_BYTES, Row, SearchRig, count_facets, open_search_rig, run
from tests.search.test_search import CODECS, QUERIES, some_rows

PARTITIONS = 2
BLOCK_BYTES = 2 << 10
Place = tuple[str, int, int]
Events = dict[Place, Record]
"""What is there, kept beside the log."""


@settings(deadline=None)  # the first one imports the decoder
@given(st.sets(st.integers(0, 9)), st.sampled_from(CODECS))
def test_a_batch_that_lacks_records_keeps_offsets_and_times_of_the_others(kept: set[int], codec: str) -> None:
    rows = [(b"k", b"v%d" % at, [("h", b"x")], 1_000 + at) for at in range(10)]
    whole = build(rows, codec=codec)
    assign_offsets(memoryview(whole), 50, 3, None)
    left = keeping(bytes(whole), kept)
    assert read_header(left).is_plausible
    assert read_header(left).next_offset == 60
    assert decode(left) == [each for each in decode(whole) if each.offset - 50 in kept]


# ----------------------------------------------------------------------------------------------------------
# what is right


def matching(events: Events, request: SearchRequest) -> Events:
    """Of the second meaning of a query (`reference`), one event after the other."""
    node = parse(request.query)
    return {
        place: record
        for place, record in events.items()
        if (request.since_ms is None or record.timestamp_ms >= request.since_ms)
        and (request.until_ms is None or record.timestamp_ms < request.until_ms)
        and (not request.topics or place[0] in request.topics)
        and reference.matches(node, place[0], place[1], record, NOW_MS)
    }


async def there(rig: SearchRig, events: Events) -> Events:
    """Without what was deleted."""
    starts = {
        (topic, index): part(rig, topic, index).log_start_offset
        for topic, index in {place[:2] for place in events}
    }
    return {place: record for place, record in events.items() if place[2] >= starts[place[:2]]}


def some_request(rng: random.Random) -> SearchRequest:
    times = (None, None) if rng.random() < 0.7 else (NOW_MS + 20_000, NOW_MS + 150_000)
    return SearchRequest(
        query=rng.choice(QUERIES),
        topics=rng.choice([(), (), ("orders",)]),
        limit=None,
        newest_first=rng.random() < 0.5,
        since_ms=times[0],
        until_ms=times[1],
    )


async def holds(search: Search, request: SearchRequest, events: Events, rng: random.Random) -> None:
    """Hits, their order, their contents; in pieces; counted; by field."""
    wanted = matching(events, request)
    found = await run(search, request)
    assert found.unreadable == []
    assert (found.end.reason, found.end.totals.undecodable) == ("complete", 0)
    assert sorted(found.places) == sorted(wanted), request
    for event in found.events:
        record = wanted[event.topic, event.partition, event.offset]
        assert (event.timestamp_ms, event.key, event.value, event.headers) == (
            record.timestamp_ms, record.key, record.value, record.headers,
        )  # fmt: skip
    for where in {place[:2] for place in found.places}:
        offsets = [place[2] for place in found.places if place[:2] == where]
        assert offsets == sorted(offsets, reverse=request.newest_first)
    await in_pieces(search, request, sorted(wanted), 1 + len(wanted) // rng.randrange(2, 5))
    facets, done = await count_facets(search, request, ["a", "partition"], 1_000)
    assert (facets.events, done.reason) == (len(wanted), "complete")
    tally = FieldValueCounter(["a", "partition"])
    for place, record in wanted.items():
        tally.add(place[0], place[1], record)
    assert facets.values == tally.top(1_000)


async def in_pieces(search: Search, request: SearchRequest, wanted: list[Place], limit: int) -> None:
    """A search that goes on where its limit stopped it gives the same."""
    places: list[Place] = []
    token: str | None = None
    while token is not None or not places:
        some = SearchRequest(
            query=request.query,
            topics=request.topics,
            since_ms=request.since_ms,
            until_ms=request.until_ms,
            newest_first=request.newest_first,
            limit=limit,
            resume=token,
        )
        found = await run(search, some)
        places += found.places
        token = found.end.resume
        if found.end.reason == "complete":
            break
    assert sorted(places) == wanted


# ----------------------------------------------------------------------------------------------------------
# this machine's log


def next_batch(rig: SearchRig, rng: random.Random) -> tuple[str, int, Partition, list[Row]]:
    """Where something comes next, now and then in a new epoch, and what."""
    topic, index = rng.choice(["orders", "payments"]), rng.randrange(PARTITIONS)
    held = part(rig, topic, index)
    if rng.random() < 0.1:
        new_epoch(held)
    return topic, index, held, some_rows(rng, rng.randrange(1, 50), NOW_MS + rng.randrange(200_000))


def note(
    events: Events, topic: str, index: int, base: int, rows: Sequence[Row], kept: Collection[int]
) -> None:
    """These rows are there now."""
    for delta in kept:
        key, value, headers, time_ms = rows[delta]
        events[topic, index, base + delta] = Record(base + delta, time_ms, key, value, tuple(headers))


async def grow(rig: SearchRig, rng: random.Random, events: Events, batches: int) -> None:
    """More batches, of which some lack records, in now and then a new epoch."""
    for _ in range(batches):
        topic, index, held, rows = next_batch(rig, rng)
        kept = some_of(rng, len(rows))
        base = await append(rig, topic, index, rows, kept, rng.choice(CODECS))
        note(events, topic, index, base, rows, kept)
        if held.segments.active is not None and held.segments.active.size > SEGMENT_BYTES // 4:
            held.roll()


async def shrink(rig: SearchRig, rng: random.Random) -> None:
    """Deletions, retention, or what keeps filters and parts."""
    topic, index = rng.choice(["orders", "payments"]), rng.randrange(PARTITIONS)
    match rng.randrange(4):
        case 0:
            bounds = await rig.engine.bounds(topic, index)
            await rig.engine.delete_records(
                topic, index, bounds.begin + (bounds.end - bounds.begin) // rng.choice([3, 9, 50])
            )
        case 1:
            size = sum(part(rig, topic, each).size_bytes() for each in range(PARTITIONS))
            most = max(SEGMENT_BYTES, size * 3 // 4)
            await rig.engine.alter_topic(topic, {"retention.bytes": str(most)})
            rig.node.enforce_retention()
        case 2:
            while await rig.local.build_missing_filters():
                pass
        case _:
            for path in rig.folder.glob("search/*/*.tokens"):
                if rng.random() < 0.5:
                    path.unlink()


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 30))
def test_a_log_that_lacks_records_is_searched_as_by_brute_force(seed: int) -> None:
    rng = random.Random(seed)

    async def work(rig: SearchRig) -> None:
        events: Events = {}
        for topic in ("orders", "payments"):
            await rig.engine.create_topic(topic, partitions=PARTITIONS)
        if rng.random() < 0.5:
            await rig.engine.alter_topic("orders", {"mainstem.search": "indexed"})
        for _ in range(2):
            await grow(rig, rng, events, 15)
            for _ in range(rng.randrange(3)):
                await shrink(rig, rng)
            for search in rig.searches():
                await holds(search, some_request(rng), await there(rig, events), rng)
            await counted_by_time(rig, await there(rig, events))

    on_disk(work)


async def counted_by_time(rig: SearchRig, events: Events) -> None:
    """Headers tell how many there are, but for batches of which a part was deleted; and about when."""
    cut = 0
    for topic, index in {place[:2] for place in events}:
        bounds = await rig.engine.bounds(topic, index)
        first = min(place[2] for place in events if place[:2] == (topic, index))
        cut += 80 if bounds.begin and first < bounds.begin + 80 else 0
    buckets = await rig.local.histogram([], None, None, 10)
    assert abs(sum(each.count for each in buckets) - len(events)) <= cut
    if events:
        # The first record's time begins a batch: others may be older, by what `some_rows` gives.
        assert buckets[0].from_ms >= min(record.timestamp_ms for record in events.values()) - 10_000
        assert buckets[-1].to_ms > NOW_MS - 5_000


def on_disk(work: Callable[[SearchRig], Awaitable[None]]) -> None:
    async def inner(folder: Path) -> None:
        async with open_search_rig(folder, block_bytes=BLOCK_BYTES, part_blocks=2, workers=1) as rig:
            await work(rig)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(inner(Path(folder)))


# ----------------------------------------------------------------------------------------------------------
# a cluster's logs


async def fill(rig: SearchRig, rng: random.Random, events: Events, batches: int) -> None:
    for _ in range(batches):
        topic, index, held, rows = next_batch(rig, rng)
        base = held.log_end_offset
        await rig.append(topic, index, rows, codec=rng.choice(CODECS))
        note(events, topic, index, base, rows, range(len(rows)))


def forget(events: Events, where: tuple[str, int], gone: Iterable[int]) -> None:
    for offset in gone:
        events.pop((*where, offset), None)


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 30))
def test_a_cluster_that_compacts_is_searched_as_by_brute_force(seed: int) -> None:
    rng = random.Random(seed)

    async def work(rig: SearchRig) -> None:
        events: Events = {}
        logs: dict[tuple[str, int], RewrittenPartition] = {}
        for topic in ("orders", "payments"):
            await rig.engine.create_topic(topic, partitions=PARTITIONS)
            logs |= {(topic, at): RewrittenPartition(part(rig, topic, at)) for at in range(PARTITIONS)}
        for _ in range(2):
            await fill(rig, rng, events, 15)
            for where in logs:
                if rng.random() < 0.3:
                    bounds = await rig.engine.bounds(*where)
                    share = (bounds.end - bounds.begin) // rng.choice([3, 9, 50])
                    await rig.engine.delete_records(*where, bounds.begin + share)
            if rng.random() < 0.5:
                await rig.cluster.build_missing_filters()
            for where, log in logs.items():
                if rng.random() < 0.6:
                    forget(events, where, log.clean(rng))
            await holds(rig.cluster, some_request(rng), await there(rig, events), rng)
            await found_while_it_compacts(rig, some_request(rng), rng, events, logs)

    on_disk(work)


async def found_while_it_compacts(
    rig: SearchRig,
    request: SearchRequest,
    rng: random.Random,
    events: Events,
    logs: dict[tuple[str, int], RewrittenPartition],
) -> None:
    """Each event that stays is found, once; none that was gone before."""
    before = matching(await there(rig, events), request)
    found: Counter[Place] = Counter()
    async with aclosing(rig.cluster.search(request)) as updates:
        async for update in updates:
            if isinstance(update, Hit):
                found[update.event.topic, update.event.partition, update.event.offset] += 1
            if rng.random() < 0.02:
                where = rng.choice(list(logs))
                forget(events, where, logs[where].clean(rng))
    after = matching(await there(rig, events), request)
    assert max(found.values(), default=1) == 1
    assert set(found) <= set(before)
    assert set(after) <= set(found)


# ----------------------------------------------------------------------------------------------------------
# times from headers


def unit(path: Path, *batches: bytes, low: int = 0) -> Unit:
    path.write_bytes(b"".join(batches))
    return Unit("t", 0, str(path), 0, path.stat().st_size, low, 1 << 40)


def test_a_batch_without_records_is_at_no_time(tmp_path: Path) -> None:
    """Its header has no first time, and the largest is that of records that are gone."""
    rows = [(None, b"x", (), NOW_MS + at) for at in range(10)]
    whole = build(rows)
    emptied = bytearray(keeping(bytes(build(rows)), ()))
    assign_offsets(memoryview(emptied), 10, 0, None)
    both = unit(tmp_path / f"{0:020}.log", bytes(whole), bytes(emptied))
    assert histogram.unit_times([both]) == [(NOW_MS, NOW_MS + 9, 10)]
    assert histogram.count_by_time([both], [0, NOW_MS, NOW_MS + 100]) == [0.0, 10.0]


def test_a_batch_whose_first_time_is_of_a_record_that_is_gone_is_counted(tmp_path: Path) -> None:
    rows = [(None, b"x", (), NOW_MS + 500), (None, b"x", (), NOW_MS), (None, b"x", (), NOW_MS + 1)]
    each = unit(tmp_path / f"{0:020}.log", keeping(bytes(build(rows)), {1, 2}))
    assert histogram.unit_times([each]) == [(NOW_MS + 1, NOW_MS + 1, 2)]
    assert histogram.count_by_time([each], [0, NOW_MS, NOW_MS + 100]) == [0.0, 2.0]


def test_of_a_batch_that_lacks_records_a_part_counts_by_its_share(tmp_path: Path) -> None:
    rows = [(None, b"x", (), NOW_MS) for _ in range(100)]
    left = keeping(bytes(build(rows)), range(0, 100, 2))
    each = unit(tmp_path / f"{0:020}.log", left, low=40)
    assert histogram.count_by_time([each], [0, NOW_MS + 1]) == [30.0]
