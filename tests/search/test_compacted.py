"""Search equals brute force over compacted logs, also while deletions, retention and compaction go on."""

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
from mainstem.search.facets import FacetCounts
from mainstem.search.ipc import Unit
from mainstem.search.match.field_counter import FieldValueCounter
from mainstem.search.query.parser import parse
from tests.search import reference
from tests.search.compacted import RewrittenPartition, append, begin_epoch, keeping, random_deltas
from tests.search.search_rig import NOW_MS, SEGMENT_BYTES, Row, SearchRig, count_facets, open_search_rig, run
from tests.search.test_search import CODECS, QUERIES, some_rows

PARTITIONS = 2
BLOCK_BYTES = 2 << 10
TopicOffset = tuple[str, int, int]
ExpectedEvents = dict[TopicOffset, Record]
"""The events that the log has, by topic, partition and offset."""


@settings(deadline=None)  # the first example imports the decoder
@given(st.sets(st.integers(0, 9)), st.sampled_from(CODECS))
def test_a_batch_that_lacks_records_keeps_offsets_and_times_of_the_others(
    kept_deltas: set[int], codec: str
) -> None:
    rows = [(b"k", b"v%d" % i, [("h", b"x")], 1_000 + i) for i in range(10)]
    whole = build(rows, codec=codec)
    assign_offsets(memoryview(whole), 50, 3, None)
    thinned = keeping(bytes(whole), kept_deltas)
    assert read_header(thinned).is_plausible
    assert read_header(thinned).next_offset == 60
    assert decode(thinned) == [record for record in decode(whole) if record.offset - 50 in kept_deltas]


# ----------------------------------------------------------------------------------------------------------
# the expected results


def matching(events: ExpectedEvents, request: SearchRequest) -> ExpectedEvents:
    """The events that match by the reference implementation."""
    node = parse(request.query)
    return {
        place: record
        for place, record in events.items()
        if (request.since_ms is None or record.timestamp_ms >= request.since_ms)
        and (request.until_ms is None or record.timestamp_ms < request.until_ms)
        and (not request.topics or place[0] in request.topics)
        and reference.matches(node, place[0], place[1], record, NOW_MS)
    }


async def without_deleted(rig: SearchRig, events: ExpectedEvents) -> ExpectedEvents:
    """The events at or after the log start offset of their partition."""
    starts = {
        (topic, index): rig.partition(topic, index).log_start_offset
        for topic, index in {place[:2] for place in events}
    }
    return {place: record for place, record in events.items() if place[2] >= starts[place[:2]]}


def random_request(rng: random.Random) -> SearchRequest:
    times = (None, None) if rng.random() < 0.7 else (NOW_MS + 20_000, NOW_MS + 150_000)
    return SearchRequest(
        query=rng.choice(QUERIES),
        topics=rng.choice([(), (), ("orders",)]),
        limit=None,
        newest_first=rng.random() < 0.5,
        since_ms=times[0],
        until_ms=times[1],
    )


async def check_search(
    search: Search, request: SearchRequest, events: ExpectedEvents, rng: random.Random
) -> None:
    """The hits, their order and contents are right; also when resumed after limits; and so are the facets."""
    wanted = matching(events, request)
    result = await run(search, request)
    assert result.unreadable == []
    assert (result.end.reason, result.end.totals.undecodable) == ("complete", 0)
    assert sorted(result.places) == sorted(wanted), request
    for event in result.events:
        record = wanted[event.topic, event.partition, event.offset]
        assert (event.timestamp_ms, event.key, event.value, event.headers) == (
            record.timestamp_ms, record.key, record.value, record.headers,
        )  # fmt: skip
    for partition in {place[:2] for place in result.places}:
        offsets = [place[2] for place in result.places if place[:2] == partition]
        assert offsets == sorted(offsets, reverse=request.newest_first)
    await check_resumed(search, request, sorted(wanted), 1 + len(wanted) // rng.randrange(2, 5))
    facets, done = await count_facets(search, request, ["a", "partition"], 1_000)
    assert (facets.events, done.reason) == (len(wanted), "complete")
    counter = FieldValueCounter(["a", "partition"])
    for (topic, index, _), record in wanted.items():
        counter.add(topic, index, [record])
    counts = FacetCounts(["a", "partition"])
    counts.merge(counter.counts())
    assert facets.values == {name: counts.top(name, 1_000) for name in counts.fields}


async def check_resumed(
    search: Search, request: SearchRequest, wanted: list[TopicOffset], limit: int
) -> None:
    """A search that is resumed after each limit finds the same events."""
    places: list[TopicOffset] = []
    token: str | None = None
    while token is not None or not places:
        limited = SearchRequest(
            query=request.query,
            topics=request.topics,
            since_ms=request.since_ms,
            until_ms=request.until_ms,
            newest_first=request.newest_first,
            limit=limit,
            resume=token,
        )
        result = await run(search, limited)
        places += result.places
        token = result.end.resume
        if result.end.reason == "complete":
            break
    assert sorted(places) == wanted


# ----------------------------------------------------------------------------------------------------------
# this machine's log


def next_batch(rig: SearchRig, rng: random.Random) -> tuple[str, int, Partition, list[Row]]:
    """A random partition, sometimes with a new leader epoch, and the rows of its next batch."""
    topic, index = rng.choice(["orders", "payments"]), rng.randrange(PARTITIONS)
    log = rig.partition(topic, index)
    if rng.random() < 0.1:
        begin_epoch(log)
    return topic, index, log, some_rows(rng, rng.randrange(1, 50), NOW_MS + rng.randrange(200_000))


def add_expected(
    events: ExpectedEvents,
    topic: str,
    index: int,
    base: int,
    rows: Sequence[Row],
    kept_deltas: Collection[int],
) -> None:
    """Add the kept rows of a batch to the expected events."""
    for delta in kept_deltas:
        key, value, headers, time_ms = rows[delta]
        events[topic, index, base + delta] = Record(base + delta, time_ms, key, value, tuple(headers))


async def append_thinned(rig: SearchRig, rng: random.Random, events: ExpectedEvents, batches: int) -> None:
    """Append batches, some of which lack records."""
    for _ in range(batches):
        topic, index, log, rows = next_batch(rig, rng)
        kept_deltas = random_deltas(rng, len(rows))
        base = await append(rig, topic, index, rows, kept_deltas, rng.choice(CODECS))
        add_expected(events, topic, index, base, rows, kept_deltas)
        if log.segments.active is not None and log.segments.active.size > SEGMENT_BYTES // 4:
            log.roll()


async def delete_or_maintain(rig: SearchRig, rng: random.Random) -> None:
    """Delete records, enforce retention, build token filters, or remove some of them."""
    topic, index = rng.choice(["orders", "payments"]), rng.randrange(PARTITIONS)
    match rng.randrange(4):
        case 0:
            bounds = await rig.engine.bounds(topic, index)
            await rig.engine.delete_records(
                topic, index, bounds.begin + (bounds.end - bounds.begin) // rng.choice([3, 9, 50])
            )
        case 1:
            size = sum(rig.partition(topic, i).size_bytes() for i in range(PARTITIONS))
            size_max = max(SEGMENT_BYTES, size * 3 // 4)
            await rig.engine.alter_topic(topic, {"retention.bytes": str(size_max)})
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
def test_a_search_of_a_compacted_log_finds_what_brute_force_finds(seed: int) -> None:
    rng = random.Random(seed)

    async def work(rig: SearchRig) -> None:
        events: ExpectedEvents = {}
        for topic in ("orders", "payments"):
            await rig.engine.create_topic(topic, partitions=PARTITIONS)
        if rng.random() < 0.5:
            await rig.engine.alter_topic("orders", {"mainstem.search": "indexed"})
        for _ in range(2):
            await append_thinned(rig, rng, events, 15)
            for _ in range(rng.randrange(3)):
                await delete_or_maintain(rig, rng)
            for search in rig.searches():
                await check_search(search, random_request(rng), await without_deleted(rig, events), rng)
            await check_histogram(rig, await without_deleted(rig, events))

    run_in_temporary_folder(work)


async def check_histogram(rig: SearchRig, events: ExpectedEvents) -> None:
    """The histogram has all events, except in batches of which a part was deleted, at about their times."""
    tolerance = 0
    for topic, index in {place[:2] for place in events}:
        bounds = await rig.engine.bounds(topic, index)
        first = min(place[2] for place in events if place[:2] == (topic, index))
        tolerance += 80 if bounds.begin and first < bounds.begin + 80 else 0
    buckets = await rig.local.histogram([], None, None, 10)
    assert abs(sum(bucket.count for bucket in buckets) - len(events)) <= tolerance
    if events:
        # A batch counts from its first record's time. `some_rows` may give later records an earlier time.
        assert buckets[0].from_ms >= min(record.timestamp_ms for record in events.values()) - 10_000
        assert buckets[-1].to_ms > NOW_MS - 5_000


def run_in_temporary_folder(work: Callable[[SearchRig], Awaitable[None]]) -> None:
    async def inner(folder: Path) -> None:
        async with open_search_rig(folder, block_bytes=BLOCK_BYTES, part_blocks=2, workers=1) as rig:
            await work(rig)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(inner(Path(folder)))


# ----------------------------------------------------------------------------------------------------------
# the logs of a cluster


async def append_whole(rig: SearchRig, rng: random.Random, events: ExpectedEvents, batches: int) -> None:
    for _ in range(batches):
        topic, index, log, rows = next_batch(rig, rng)
        base = log.log_end_offset
        await rig.append(topic, index, rows, codec=rng.choice(CODECS))
        add_expected(events, topic, index, base, rows, range(len(rows)))


def remove_expected(events: ExpectedEvents, partition: tuple[str, int], removed: Iterable[int]) -> None:
    for offset in removed:
        events.pop((*partition, offset), None)


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 30))
def test_a_search_of_a_compacting_cluster_finds_what_brute_force_finds(seed: int) -> None:
    rng = random.Random(seed)

    async def work(rig: SearchRig) -> None:
        events: ExpectedEvents = {}
        logs: dict[tuple[str, int], RewrittenPartition] = {}
        for topic in ("orders", "payments"):
            await rig.engine.create_topic(topic, partitions=PARTITIONS)
            logs |= {(topic, i): RewrittenPartition(rig.partition(topic, i)) for i in range(PARTITIONS)}
        for _ in range(2):
            await append_whole(rig, rng, events, 15)
            for partition in logs:
                if rng.random() < 0.3:
                    bounds = await rig.engine.bounds(*partition)
                    share = (bounds.end - bounds.begin) // rng.choice([3, 9, 50])
                    await rig.engine.delete_records(*partition, bounds.begin + share)
            if rng.random() < 0.5:
                await rig.cluster.build_missing_filters()
            for partition, log in logs.items():
                if rng.random() < 0.6:
                    remove_expected(events, partition, log.clean(rng))
            await check_search(rig.cluster, random_request(rng), await without_deleted(rig, events), rng)
            await check_search_during_compaction(rig, random_request(rng), rng, events, logs)

    run_in_temporary_folder(work)


async def check_search_during_compaction(
    rig: SearchRig,
    request: SearchRequest,
    rng: random.Random,
    events: ExpectedEvents,
    logs: dict[tuple[str, int], RewrittenPartition],
) -> None:
    """Every event that remains is found once; none that was removed before is found."""
    before = matching(await without_deleted(rig, events), request)
    hit_counts: Counter[TopicOffset] = Counter()
    async with aclosing(rig.cluster.search(request)) as updates:
        async for update in updates:
            if isinstance(update, Hit):
                hit_counts[update.event.topic, update.event.partition, update.event.offset] += 1
            if rng.random() < 0.02:
                partition = rng.choice(list(logs))
                remove_expected(events, partition, logs[partition].clean(rng))
    after = matching(await without_deleted(rig, events), request)
    assert max(hit_counts.values(), default=1) == 1
    assert set(hit_counts) <= set(before)
    assert set(after) <= set(hit_counts)


# ----------------------------------------------------------------------------------------------------------
# times in batch headers


def unit(path: Path, *batches: bytes, low: int = 0) -> Unit:
    path.write_bytes(b"".join(batches))
    return Unit("t", 0, str(path), 0, path.stat().st_size, low, 1 << 40)


def test_a_batch_without_records_is_at_no_time(tmp_path: Path) -> None:
    """Its header has no first time, and its largest time is that of removed records."""
    rows = [(None, b"x", (), NOW_MS + i) for i in range(10)]
    whole = build(rows)
    emptied = bytearray(keeping(bytes(build(rows)), ()))
    assign_offsets(memoryview(emptied), 10, 0, None)
    both = unit(tmp_path / f"{0:020}.log", bytes(whole), bytes(emptied))
    assert histogram.unit_times([both]) == [(NOW_MS, NOW_MS + 9, 10)]
    assert histogram.count_by_time([both], [0, NOW_MS, NOW_MS + 100]) == [0.0, 10.0]


def test_a_batch_whose_first_record_was_removed_is_counted(tmp_path: Path) -> None:
    rows = [(None, b"x", (), NOW_MS + 500), (None, b"x", (), NOW_MS), (None, b"x", (), NOW_MS + 1)]
    thinned = unit(tmp_path / f"{0:020}.log", keeping(bytes(build(rows)), {1, 2}))
    assert histogram.unit_times([thinned]) == [(NOW_MS + 1, NOW_MS + 1, 2)]
    assert histogram.count_by_time([thinned], [0, NOW_MS, NOW_MS + 100]) == [0.0, 2.0]


def test_a_part_of_a_thinned_batch_counts_by_its_share_of_offsets(tmp_path: Path) -> None:
    rows = [(None, b"x", (), NOW_MS) for _ in range(100)]
    batch = keeping(bytes(build(rows)), range(0, 100, 2))
    thinned = unit(tmp_path / f"{0:020}.log", batch, low=40)
    assert histogram.count_by_time([thinned], [0, NOW_MS + 1]) == [30.0]
