"""Search of a cluster beyond what it has in common with the local one: filters of spans, the wire, brokers
that go away. Over mainstem's own Kafka door; test_cluster_kafka.py does it over Apache Kafka."""

from __future__ import annotations

import asyncio
import random
import socket
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
from mainstem.search.cluster.plan import TimeEstimate, closed_spans, cut_spans, span_events
from mainstem.search.cluster.search import ClusterSearch
from mainstem.search.cluster.span_reader import SpanReader, TopicIdPartition, visible_batches
from mainstem.search.contract import Done, Hit, SearchRequest, Unreadable
from mainstem.search.ipc import ClusterPartition, Unit
from tests.search.search_rig import NOW_MS, Row, SearchRig, brute_force, run, run_on_search_rig
from tests.search.test_search import QUERIES, fill

SPAN = 2 << 10


async def cover(search: ClusterSearch) -> int:
    made = 0
    while some := await search.build_missing_filters():
        made += some
    return made


def filters(rig: SearchRig) -> list[Path]:
    return sorted((rig.folder / "cache").rglob("*.tokens"))


@asynccontextmanager
async def another(rig: SearchRig) -> AsyncIterator[ClusterSearch]:
    """As if the program had been started again."""
    first = rig.cluster
    search = ClusterSearch(
        first._engine, first._clock, cache=rig.folder / "cache", workers=1, span_bytes=SPAN
    )
    try:
        yield search
    finally:
        await search.close()


# --- filters ----------------------------------------------------------------------------------------------


def test_spans_are_skipped_that_cannot_match(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=20)
        needle: list[Row] = [(None, b'{"id":"needle4711"}', (), NOW_MS)]
        await rig.append("orders", 0, needle)
        await fill_more(rig)
        assert await cover(rig.cluster) == len(filters(rig)) > 10
        found = await run(rig.cluster, SearchRequest(query="needle4711", limit=None))
        assert len(found.places) == 1
        totals = found.end.totals
        assert totals.skipped_bytes > totals.scanned_bytes
        assert totals.total_bytes == totals.skipped_bytes + totals.scanned_bytes
        events = await rig.events("orders") + await rig.events("payments")
        async with another(rig) as later:
            for query in QUERIES:
                request = SearchRequest(query=query, limit=None)
                found = await run(later, request)
                assert set(found.places) == brute_force(events, request, NOW_MS), query

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


async def fill_more(rig: SearchRig) -> None:
    rng = random.Random(3)
    for batch in range(20):
        rows: list[Row] = [(None, b"more %d" % rng.randrange(10_000), (), NOW_MS + batch)] * 100
        await rig.append("orders", rng.randrange(3), rows)


def test_a_topic_made_again_is_not_answered_from_old_filters(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        for word in (b"old", b"new"):
            await rig.engine.create_topic("orders", partitions=1)
            for _ in range(20):
                await rig.append("orders", 0, [(None, word, (), NOW_MS)] * 50)
            found = await run(rig.cluster, SearchRequest(query=word.decode(), limit=None))
            assert len(found.places) == 1_000
            await cover(rig.cluster)
            assert filters(rig)
            if word == b"old":
                old = filters(rig)
                await rig.engine.delete_topic("orders")
        assert not set(old) & set(filters(rig))

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


def test_filters_go_with_what_was_deleted(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, partitions=1)
        await cover(rig.cluster)
        count = len(filters(rig))
        await rig.engine.delete_topic("payments")
        end = (await rig.engine.bounds("orders", 0)).end
        await rig.engine.delete_records("orders", 0, end // 2)
        await cover(rig.cluster)
        assert 0 < len(filters(rig)) < count
        events = await rig.events("orders")
        request = SearchRequest(query="alpha", limit=None)
        assert set((await run(rig.cluster, request)).places) == brute_force(events, request, NOW_MS)

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


def test_damaged_filters_are_ignored_and_made_again(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, batches=10)
        await cover(rig.cluster)
        whole = {path: path.read_bytes() for path in filters(rig)}
        request = SearchRequest(query="n14228 AND 4711", limit=None)
        expected = sorted((await run(rig.local, request)).places)
        for number, (path, data) in enumerate(whole.items()):
            at = random.Random(number).randrange(len(data))
            path.write_bytes(data[:at] if number % 3 == 0 else data[:at] + b"\xff\x00" + data[at + 2 :])
        assert sorted((await run(rig.cluster, request)).places) == expected
        async with another(rig) as later:
            assert sorted((await run(later, request)).places) == expected
            await cover(later)
            assert sorted((await run(later, request)).places) == expected

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


def test_filters_of_a_history_that_the_cluster_lost_are_not_believed(tmp_path: Path) -> None:
    """As after an election of a broker that lacked events: the same offsets, a later leader epoch."""

    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for _ in range(20):
            await rig.append("orders", 0, [(None, b"word", (), NOW_MS)] * 50)
        await cover(rig.cluster)
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
        async with another(rig) as later:
            assert (await run(later, request)).end.totals.skipped_bytes == 0
            assert len(filters(rig)) == len(made)
            await cover(later)
        assert {path.name.rpartition("-")[2] for path in filters(rig)} == {"0.tokens"}

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


def test_the_oldest_events_lose_their_filters_when_the_room_is_full(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        for number in range(20):
            rows: list[Row] = [(None, b"word %d" % number, (), NOW_MS + number)] * 100
            await rig.append("orders", 0, rows)
        await run(rig.cluster, SearchRequest(limit=1))
        assert rig.cluster._filters is not None
        rig.cluster._filters._max_bytes = 40_000
        await cover(rig.cluster)
        assert 0 < sum(path.stat().st_size for path in filters(rig)) <= 40_000
        assert max(int(path.stem.split("-")[1]) for path in filters(rig)) > 1_800
        await cover(rig.cluster)
        assert sum(path.stat().st_size for path in filters(rig)) <= 40_000

    run_on_search_rig(tmp_path, work, block_bytes=SPAN)


# --- brokers that go away ---------------------------------------------------------------------------------


class FakeClusterEngine:
    """An engine that knows where brokers are, and nothing else."""

    def __init__(self, *ports: int) -> None:
        self._brokers = tuple(Broker(number, "127.0.0.1", port) for number, port in enumerate(ports))

    async def cluster(self) -> ClusterInfo:
        return ClusterInfo("c", 0, self._brokers)


def test_a_cluster_that_does_not_answer_is_an_error(unused_port: int) -> None:
    async def work() -> None:
        engine: Any = FakeClusterEngine(unused_port)
        search = ClusterSearch(engine, LoopClock(asyncio.get_running_loop()))
        try:
            with pytest.raises(NotReachable, match="connection refused"):
                await run(search, SearchRequest())
        finally:
            await search.close()

    asyncio.run(work())


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.slow  # it is asked again for ten seconds
def test_a_broker_that_goes_away_is_told_of_and_the_totals_stay_true(
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


# --- what comes over the wire -----------------------------------------------------------------------------


def batch(offset: int, *texts: bytes) -> bytes:
    data = build([(None, text, (), 1_000) for text in texts])
    assign_offsets(memoryview(data), offset, 3, None)
    return bytes(data)


def test_what_is_cut_off_or_behind_the_span_is_left_out() -> None:
    one, two, three = batch(10, b"a", b"b"), batch(20, b"c"), batch(30, b"d")
    chunk = visible_batches(memoryview(one + two + three), [], 10, 25)
    assert (bytes(chunk.data), chunk.high, chunk.size) == (one + two, 25, len(one + two))
    chunk = visible_batches(memoryview(one + two[:-1]), [], 10, 25)
    assert (bytes(chunk.data), chunk.high) == (one, 12)


def test_batches_that_compaction_has_emptied_are_passed_over() -> None:
    emptied = bytearray(batch(20, b"c"))
    emptied[57:61] = bytes(4)
    chunk = visible_batches(memoryview(batch(10, b"a") + bytes(emptied) + batch(30, b"d")), [], 10, 40)
    assert (bytes(chunk.data), chunk.high, chunk.unreadable) == (batch(10, b"a") + batch(30, b"d"), 31, [])


def test_gaps_between_batches_are_no_damage() -> None:
    data = batch(10, b"word") + batch(500, b"word") + batch(501, b"word")
    chunk = visible_batches(memoryview(data), [], 10, 600)
    assert [each.offset for each in locate_batches(chunk.data, offset_gaps=True)] == [10, 500, 501]
    assert all(each.header is not None for each in locate_batches(chunk.data, offset_gaps=True))


def test_records_of_an_older_format_are_told_of() -> None:
    old = bytearray(batch(20, b"c"))
    old[16] = 1
    chunk = visible_batches(memoryview(batch(10, b"a") + bytes(old) + batch(30, b"d")), [], 10, 40)
    assert [offset for offset, _ in chunk.unreadable] == [20]
    assert bytes(chunk.data) == batch(10, b"a") + batch(30, b"d")


def test_bytes_that_are_no_batches_are_no_progress() -> None:
    chunk = visible_batches(memoryview(b"\x00" * 200), [], 10, 40)
    assert (chunk.high, len(chunk.data)) == (10, 0)


def test_requests_are_those_that_kafkas_own_schemas_describe() -> None:
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
def test_replies_that_do_not_fit_are_refused_and_cost_nothing(
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


def test_a_span_larger_than_memory_should_hold_is_still_searched_backwards(
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
            topic_id = next(each.id for each in cluster.fetch_metadata(["orders"]).topics)
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


def held(begin: int, end: int, size: int = 0) -> ClusterPartition:
    return ClusterPartition("t", uuid4().hex, False, 0, begin, end, size, "")


def test_spans_nest_whatever_the_size_of_events_becomes() -> None:
    for size in (1_000, 100_000, 10_000_000, 1 << 40):
        spans = list(cut_spans(held(700, 1_000_000, size), 700, 1_000_000))
        step = span_events(held(700, 1_000_000, size))
        assert step & (step - 1) == 0
        assert spans[0][0] == 700
        assert spans[-1][1] == 1_000_000
        assert all(one[1] == other[0] and one[1] % step == 0 for one, other in pairwise(spans))


def test_the_span_that_still_grows_is_not_closed() -> None:
    each = held(0, 1_000, 1_000 * 100)
    closed = list(closed_spans(each, [], 64 * 100))
    assert closed == [(at, at + 64) for at in range(0, 960, 64)]


def test_times_are_about_those_of_the_events() -> None:
    def time_of(offset: int) -> int:
        return 1_000_000 + offset * 10 + (5_000_000 if offset >= 700 else 0)

    times = TimeEstimate(held(0, 1_000), 90_000_000)
    for _ in range(12):
        asked = times.next_lookup_ms()
        if asked is None:
            break
        offset = next((each for each in range(1_000) if time_of(each) >= asked), -1)
        times.add_lookup(asked, time_of(offset) if offset >= 0 else -1, offset)
    for offset in range(25, 1_000, 50):
        assert abs(times.time_at(offset) - time_of(offset)) < 3_000_000
