"""The parts of a cluster search that the local search does not have: token filters of spans, Kafka's
protocol, and brokers that do not answer. Over mainstem's own Kafka door; test_cluster_kafka.py uses Apache
Kafka."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mainstem.clock import BlockingClock, LoopClock
from mainstem.contract import Broker, ClusterInfo, NotReachable
from mainstem.kafka_protocol.message import Message, ProtocolError, decode_reply
from mainstem.kafka_protocol.writer import write_reply, write_request
from mainstem.log.storage.record_batch import assign_offsets, build
from mainstem.search.blocks import token_filter
from mainstem.search.blocks.batches import locate_batches
from mainstem.search.cluster import client_protocol as wire
from mainstem.search.cluster.broker_client import BrokerClient
from mainstem.search.cluster.client_protocol import BrokerRequest
from mainstem.search.cluster.messages import ClusterPartition
from mainstem.search.cluster.plan import TimeEstimate, closed_spans, cut_spans, span_events
from mainstem.search.cluster.search import ClusterSearch
from mainstem.search.cluster.span_reader import SpanReader, TopicIdPartition, visible_batches
from mainstem.search.contract import Done, Hit, SearchRequest, Unreadable
from mainstem.search.ipc import Unit
from tests.search.search_rig import NOW_MS, Row, SearchRig, brute_force, run, run_on_search_rig
from tests.search.test_search import QUERIES, fill
from tests.support.ports import free_port

SPAN = 2 << 10


async def build_all_filters(search: ClusterSearch) -> int:
    """Build all missing filters. Returns how many."""
    made = 0
    while made_now := await search.build_missing_filters():
        made += made_now
    return made


def filters(rig: SearchRig) -> list[Path]:
    return sorted((rig.folder / "cache").rglob("*.tokens"))


@asynccontextmanager
async def restarted_search(rig: SearchRig) -> AsyncIterator[ClusterSearch]:
    """A new search over the same cluster and the same filters, as after a restart of the program."""
    first = rig.cluster
    search = ClusterSearch(
        first._engine, first._clock, cache=rig.folder / "cache", workers=1, span_bytes=SPAN
    )
    try:
        yield search
    finally:
        await search.close()


# --- filters ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_spans_that_cannot_match_are_skipped(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=20)
        needle: list[Row] = [(None, b'{"id":"needle4711"}', (), NOW_MS)]
        await rig.append("orders", 0, needle)
        await fill_more(rig)
        assert await build_all_filters(rig.cluster) == len(filters(rig)) > 10
        result = await run(rig.cluster, SearchRequest(query="needle4711", limit=None))
        assert len(result.places) == 1
        totals = result.end.totals
        assert totals.skipped_bytes > totals.scanned_bytes
        assert totals.total_bytes == totals.skipped_bytes + totals.scanned_bytes
        events = await rig.events("orders") + await rig.events("payments")
        async with restarted_search(rig) as restarted:
            for query in QUERIES:
                request = SearchRequest(query=query, limit=None)
                result = await run(restarted, request)
                assert set(result.places) == brute_force(events, request, NOW_MS), query

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


async def fill_more(rig: SearchRig) -> None:
    rng = random.Random(3)
    for batch in range(20):
        rows: list[Row] = [(None, b"more %d" % rng.randrange(10_000), (), NOW_MS + batch)] * 100
        await rig.append("orders", rng.randrange(3), rows)


@pytest.mark.slow
def test_the_filters_of_a_deleted_topic_are_not_used_for_a_new_topic_of_the_same_name(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        for word in (b"old", b"new"):
            await rig.engine.create_topic("orders", partitions=1)
            for _ in range(20):
                await rig.append("orders", 0, [(None, word, (), NOW_MS)] * 50)
            result = await run(rig.cluster, SearchRequest(query=word.decode(), limit=None))
            assert len(result.places) == 1_000
            await build_all_filters(rig.cluster)
            assert filters(rig)
            if word == b"old":
                old = filters(rig)
                await rig.engine.delete_topic("orders")
        assert not set(old) & set(filters(rig))

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


@pytest.mark.slow
def test_filters_are_removed_with_their_data(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, partitions=1)
        await build_all_filters(rig.cluster)
        count = len(filters(rig))
        await rig.engine.delete_topic("payments")
        end = (await rig.engine.bounds("orders", 0)).end
        await rig.engine.delete_records("orders", 0, end // 2)
        await build_all_filters(rig.cluster)
        assert 0 < len(filters(rig)) < count
        events = await rig.events("orders")
        request = SearchRequest(query="alpha", limit=None)
        assert set((await run(rig.cluster, request)).places) == brute_force(events, request, NOW_MS)

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


def test_damaged_filters_are_ignored_and_built_again(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=10)
        await build_all_filters(rig.cluster)
        whole = {path: path.read_bytes() for path in filters(rig)}
        request = SearchRequest(query="n14228 AND 4711", limit=None)
        expected = sorted((await run(rig.local, request)).places)
        for number, (path, data) in enumerate(whole.items()):
            position = random.Random(number).randrange(len(data))
            cut, overwritten = data[:position], data[:position] + b"\xff\x00" + data[position + 2 :]
            path.write_bytes(cut if number % 3 == 0 else overwritten)
        assert sorted((await run(rig.cluster, request)).places) == expected
        async with restarted_search(rig) as restarted:
            assert sorted((await run(restarted, request)).places) == expected
            await build_all_filters(restarted)
            assert sorted((await run(restarted, request)).places) == expected

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


@pytest.mark.slow
def test_filters_of_events_that_the_cluster_lost_are_not_used(tmp_path: Path) -> None:
    """As after the election of a broker that lacked events: other events at the same offsets, in a later
    leader epoch."""

    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for _ in range(20):
            await rig.append("orders", 0, [(None, b"word", (), NOW_MS)] * 50)
        await build_all_filters(rig.cluster)
        made = filters(rig)
        request = SearchRequest(query="other", limit=None)
        totals = (await run(rig.cluster, request)).end.totals
        assert totals.skipped_bytes > totals.scanned_bytes
        for path in made:
            head, last = token_filter.read_filter_info(path) or pytest.fail("it is whole")
            newer = bytearray(last)
            newer[12:16] = (7).to_bytes(4, "big")
            unit = Unit("orders", 0, "", head.start, head.end, head.first_offset, head.next_offset)
            name = path.name.replace("-0.tokens", "-7.tokens")
            token_filter.write_filter(
                unit, str(path.with_name(name)), token_filter.FilterBuilder(), 0, 0, bytes(newer)
            )
            path.unlink()
        async with restarted_search(rig) as restarted:
            assert (await run(restarted, request)).end.totals.skipped_bytes == 0
            assert len(filters(rig)) == len(made)
            await build_all_filters(restarted)
        assert {path.name.rpartition("-")[2] for path in filters(rig)} == {"0.tokens"}

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


def test_the_filters_of_the_oldest_events_are_removed_when_the_cache_is_full(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for number in range(20):
            rows: list[Row] = [(None, b"word %d" % number, (), NOW_MS + number)] * 100
            await rig.append("orders", 0, rows)
        await run(rig.cluster, SearchRequest(limit=1))
        assert rig.cluster._filters is not None
        rig.cluster._filters._max_bytes = 40_000
        await build_all_filters(rig.cluster)
        assert 0 < sum(path.stat().st_size for path in filters(rig)) <= 40_000
        assert max(int(path.stem.split("-")[1]) for path in filters(rig)) > 1_800
        await build_all_filters(rig.cluster)
        assert sum(path.stat().st_size for path in filters(rig)) <= 40_000

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


# --- brokers that do not answer ---------------------------------------------------------------------------


class FakeClusterEngine:
    """An engine that only returns the addresses of brokers."""

    def __init__(self, *ports: int) -> None:
        self._brokers = tuple(Broker(number, "127.0.0.1", port) for number, port in enumerate(ports))

    async def cluster(self) -> ClusterInfo:
        return ClusterInfo("c", 0, self._brokers)


def test_a_cluster_that_does_not_answer_is_an_error() -> None:
    async def work() -> None:
        engine: Any = FakeClusterEngine(free_port())
        search = ClusterSearch(engine, LoopClock(asyncio.get_running_loop()))
        try:
            with pytest.raises(NotReachable, match="connection refused"):
                await run(search, SearchRequest())
        finally:
            await search.close()

    asyncio.run(work())


@pytest.mark.slow  # the search retries for ten seconds
def test_a_broker_that_stops_is_reported_and_the_totals_stay_correct(
    tmp_path: Path,
) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        hits, problems = 0, []
        async for update in rig.cluster.search(SearchRequest(limit=None)):
            if isinstance(update, Hit):
                hits += 1
                if hits == 1:
                    await rig.listening.close()
            elif isinstance(update, Unreadable):
                problems.append(update.reason)
            totals = update.totals if isinstance(update, Done) else None
        assert totals is not None
        assert "connection refused" in problems[0]
        assert "retried for" in problems[0]
        assert totals.undecodable == len(problems)
        assert totals.share < 1
        assert totals.matches == hits

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


# --- replies and requests ---------------------------------------------------------------------------------


def batch(offset: int, *texts: bytes) -> bytes:
    data = build([(None, text, (), 1_000) for text in texts])
    assign_offsets(memoryview(data), offset, 3, None)
    return bytes(data)


def test_incomplete_batches_and_those_behind_the_span_are_left_out() -> None:
    first, second, third = batch(10, b"a", b"b"), batch(20, b"c"), batch(30, b"d")
    chunk = visible_batches(memoryview(first + second + third), [], 10, 25)
    assert (bytes(chunk.data), chunk.high, chunk.size) == (first + second, 25, len(first + second))
    chunk = visible_batches(memoryview(first + second[:-1]), [], 10, 25)
    assert (bytes(chunk.data), chunk.high) == (first, 12)


def test_batches_that_compaction_has_emptied_are_skipped() -> None:
    emptied = bytearray(batch(20, b"c"))
    emptied[57:61] = bytes(4)
    chunk = visible_batches(memoryview(batch(10, b"a") + bytes(emptied) + batch(30, b"d")), [], 10, 40)
    assert (bytes(chunk.data), chunk.high, chunk.unreadable) == (batch(10, b"a") + batch(30, b"d"), 31, [])


def test_gaps_between_batches_of_a_cluster_are_not_damage() -> None:
    data = batch(10, b"word") + batch(500, b"word") + batch(501, b"word")
    chunk = visible_batches(memoryview(data), [], 10, 600)
    batches = list(locate_batches(chunk.data, offset_gaps=True))
    assert [located.offset for located in batches] == [10, 500, 501]
    assert all(located.header is not None for located in batches)


def test_records_of_an_older_format_are_reported() -> None:
    old = bytearray(batch(20, b"c"))
    old[16] = 1
    chunk = visible_batches(memoryview(batch(10, b"a") + bytes(old) + batch(30, b"d")), [], 10, 40)
    assert [offset for offset, _ in chunk.unreadable] == [20]
    assert bytes(chunk.data) == batch(10, b"a") + batch(30, b"d")


def test_bytes_that_are_not_a_batch_do_not_advance_the_chunk() -> None:
    chunk = visible_batches(memoryview(b"\x00" * 200), [], 10, 40)
    assert (chunk.high, len(chunk.data)) == (10, 0)


def test_requests_follow_kafkas_schemas() -> None:
    from kio.schema.fetch.v4.request import FetchRequest as ByName
    from kio.schema.fetch.v13.request import FetchRequest as ById
    from kio.schema.list_offsets.v2.request import ListOffsetsRequest
    from kio.schema.metadata.v4.request import MetadataRequest as OldMetadata
    from kio.schema.metadata.v12.request import MetadataRequest
    from kio.schema.offset_for_leader_epoch.v2.request import OffsetForLeaderEpochRequest
    from kio.serial import entity_reader

    topic_id = uuid4()

    def read(kind: Any, request: BrokerRequest) -> Any:
        body = bytes(write_request(*request))
        message, size = entity_reader(kind)(body, 0)
        assert size == len(body)
        return message

    for kind, expected_id in ((ById, topic_id), (ByName, None)):
        fetch = read(
            kind, wire.fetch_request("orders", expected_id, 3, 1 << 40, wait_ms=500, max_bytes=4 << 20)
        )
        assert (fetch.max_bytes, fetch.isolation_level, fetch.min_bytes) == (4 << 20, 1, 1)
        (topic,) = fetch.topics
        assert (topic.topic_id if expected_id else topic.topic) == (expected_id or "orders")
        (partition,) = topic.partitions
        assert (partition.partition, partition.fetch_offset) == (3, 1 << 40)
    for kind, ids in ((MetadataRequest, True), (OldMetadata, False)):
        assert read(kind, wire.metadata_request(None, ids=ids)).topics is None
        named = read(kind, wire.metadata_request(["a", "b" * 200], ids=ids))
        assert [topic.name for topic in named.topics] == ["a", "b" * 200]
        assert not named.allow_auto_topic_creation
    times = read(ListOffsetsRequest, wire.list_offsets_request({("a", 0): -2, ("b", 1): 5, ("a", 7): 9}))
    rows = {(t.name, p.partition_index): p.timestamp for t in times.topics for p in t.partitions}
    assert rows == {("a", 0): -2, ("b", 1): 5, ("a", 7): 9}
    epochs = read(OffsetForLeaderEpochRequest, wire.leader_epoch_request({("a", 4): 9}))
    assert [p.leader_epoch for t in epochs.topics for p in t.partitions] == [9]


REPLIES: list[tuple[BrokerRequest, Callable[[Message], object]]] = [
    (wire.fetch_request("a", None, 0, 0, wait_ms=0, max_bytes=1), wire.fetch_reply),
    (wire.fetch_request("a", uuid4(), 0, 0, wait_ms=0, max_bytes=1), wire.fetch_reply),
    (wire.metadata_request(None, ids=False), wire.metadata_reply),
    (wire.metadata_request(None, ids=True), wire.metadata_reply),
    (wire.list_offsets_request({}), wire.list_offsets_reply),
    (wire.leader_epoch_request({}), wire.leader_epoch_reply),
    (wire.log_dirs_request([]), wire.log_dirs_reply),
    (wire.api_versions_request(), wire.api_versions_reply),
]


@pytest.mark.parametrize(("request_", "read"), REPLIES)
def test_random_bytes_are_a_reply_or_a_protocol_error(
    request_: BrokerRequest, read: Callable[[Message], object]
) -> None:
    rng = random.Random(4)
    for size in range(300):
        try:
            read(decode_reply(request_.key, request_.version, memoryview(bytes(4) + rng.randbytes(size))))
        except ProtocolError:
            continue


def test_the_records_of_a_reply_are_not_copied() -> None:
    request = wire.fetch_request("a", uuid4(), 0, 0, wait_ms=0, max_bytes=1)
    row = Message(partition_index=0, error_code=0, high_watermark=1, last_stable_offset=1, records=b"batches")
    reply = Message(throttle_time=0, responses=[Message(topic_id=uuid4(), partitions=[row])])
    frame = bytearray(bytes(5) + write_reply(request.key, request.version, reply))
    records = wire.fetch_reply(decode_reply(request.key, request.version, memoryview(frame))).records
    assert records.obj is frame


def test_a_span_larger_than_the_retained_bytes_is_searched_backwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainstem.search.cluster.span_reader.RETAINED_BYTES", 3_000)
    monkeypatch.setattr("mainstem.search.cluster.span_reader.FETCH_BYTES_MIN", 1_000)

    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for number in range(60):
            await rig.append("orders", 0, [(None, b"word %d" % number, (), NOW_MS)] * 20)
        port = (await rig.cluster._engine.cluster()).brokers[0].port

        def read() -> list[int]:
            cluster = BrokerClient([("127.0.0.1", port)], BlockingClock())
            topic_id = next(topic.id for topic in cluster.fetch_metadata(["orders"]).topics)
            span = SpanReader(
                cluster, TopicIdPartition("orders", topic_id, 0), 30, 1_170, 1_000, lambda: False
            )
            lows = [chunk.low for chunk in span.backwards()]
            cluster.close()
            return lows

        lows = await asyncio.to_thread(read)
        assert len(lows) > 5
        assert lows == sorted(lows, reverse=True)
        assert lows[-1] == 30

    run_on_search_rig(tmp_path, work)


# --- spans ------------------------------------------------------------------------------------------------


def cluster_partition(begin: int, end: int, size: int = 0) -> ClusterPartition:
    return ClusterPartition("t", uuid4().hex, False, 0, begin, end, size, "")


def test_spans_nest_whatever_the_size_of_events_becomes() -> None:
    for size in (1_000, 100_000, 10_000_000, 1 << 40):
        partition = cluster_partition(700, 1_000_000, size)
        spans = list(cut_spans(partition, 700, 1_000_000))
        step = span_events(partition)
        assert step & (step - 1) == 0
        assert spans[0][0] == 700
        assert spans[-1][1] == 1_000_000
        assert all(span[1] == after[0] and span[1] % step == 0 for span, after in pairwise(spans))


def test_a_span_that_may_grow_is_not_closed() -> None:
    closed = list(closed_spans(cluster_partition(0, 1_000, 1_000 * 100), [], 64 * 100))
    assert closed == [(low, low + 64) for low in range(0, 960, 64)]


def test_estimated_times_are_close_to_the_times_of_the_events() -> None:
    def time_of(offset: int) -> int:
        return 1_000_000 + offset * 10 + (5_000_000 if offset >= 700 else 0)

    estimate = TimeEstimate(cluster_partition(0, 1_000), 90_000_000)
    for _ in range(12):
        lookup_ms = estimate.next_lookup_ms()
        if lookup_ms is None:
            break
        first = next((offset for offset in range(1_000) if time_of(offset) >= lookup_ms), -1)
        estimate.add_lookup(lookup_ms, time_of(first) if first >= 0 else -1, first)
    for offset in range(25, 1_000, 50):
        assert abs(estimate.time_at(offset) - time_of(offset)) < 3_000_000
