"""A search of a real Apache Kafka finds the events that brute force with Kafka's own client finds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from mainstem.clock import LoopClock
from mainstem.contract import Event
from mainstem.engines.kafka.engine import KafkaEngine
from mainstem.search.cluster.search import ClusterSearch
from mainstem.search.contract import SearchRequest
from tests.search.search_rig import SearchResult, brute_force, count_facets, run

pytestmark = pytest.mark.slow
NOW_MS = 1_700_000_000_000
SPAN_BYTES = 16 << 10
Work = Callable[[ClusterSearch], Awaitable[None]]


class KafkaCluster:
    """Prepares topics of a real cluster."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.admin = AdminClient({"bootstrap.servers": address})

    def create(self, name: str, *, partitions: int = 1, **config: str) -> None:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        settings["retention.ms"] = "-1"  # the events are of 2023
        self.admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result()
        while [partition.leader for partition in self.partitions(name)] != [1] * partitions:
            time.sleep(0.1)

    def alter(self, name: str, setting: str, value: str) -> None:
        entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result()

    def clean_often(self) -> None:
        """Let the broker look for segments to compact every 50 ms."""
        entry = ConfigEntry("log.cleaner.backoff.ms", "50", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result()

    def partitions(self, name: str) -> list[Any]:
        return list(self.admin.list_topics(name).topics[name].partitions.values())

    def delete(self, name: str) -> None:
        self.admin.delete_topics([name])[name].result()
        while name in self.admin.list_topics().topics:
            time.sleep(0.1)

    def producer(self, **settings: Any) -> Producer:
        return Producer({"bootstrap.servers": self.address, "log_level": 0, "linger.ms": 5, **settings})

    def fill(
        self, name: str, words: list[str], *, keys: str = "k", from_ms: int = NOW_MS, codec: str = "none"
    ) -> list[Event]:
        """Produce an event for each word, with fifty different keys. Returns the events."""
        producer, made = self.producer(**{"compression.type": codec}), list[Event]()
        for number, word in enumerate(words):
            value = json.dumps({"word": word, "n": number, "pad": "x" * 100})
            producer.produce(
                name,
                value,
                key=f"{keys}{number % 50}",
                timestamp=from_ms + number,
                on_delivery=lambda _, message: made.append(_event(message)),
            )
            if number % 500 == 499:
                producer.flush()
        assert producer.flush(60) == 0
        return made

    def events(self, name: str) -> list[Event]:
        """The events of partition 0 that librdkafka shows to a `read_committed` consumer."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": "brute-force",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        begin, _ = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=30)
        consumer.assign([TopicPartition(name, 0, begin)])
        events = []
        while True:
            message = consumer.poll(30)
            assert message is not None
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                break
            events.append(_event(message))
        consumer.close()
        return events

    def wait_for_events(self, name: str, count: int) -> None:
        """Wait until this many events can be read: the markers of a transaction are written shortly after its
        commit is acknowledged."""
        deadline = time.monotonic() + 30
        while (visible := len(self.events(name))) != count:
            assert time.monotonic() < deadline, visible
            time.sleep(0.1)


def _event(message: Any) -> Event:
    position = message.topic(), message.partition(), message.offset(), message.timestamp()[1]
    return Event(*position, message.key(), message.value(), tuple(message.headers() or ()))


@pytest.fixture(scope="module")
def kafka(real_kafka: str) -> KafkaCluster:
    return KafkaCluster(real_kafka)


@asynccontextmanager
async def open_search(address: str, cache: Path | None = None) -> Any:
    engine = await KafkaEngine.connect(address, timeout_s=10)
    clock = LoopClock(asyncio.get_running_loop())
    search = ClusterSearch(engine, clock, cache=cache, span_bytes=SPAN_BYTES)
    try:
        yield search
    finally:
        await search.close()
        await engine.close()


def run_with_search(address: str, work: Work, cache: Path | None = None) -> None:
    async def run_work() -> None:
        async with open_search(address, cache) as search:
            await work(search)

    asyncio.run(run_work())


def finds_all(kafka: KafkaCluster, name: str, *queries: str) -> Work:
    """Asserts that each query finds what brute force finds, in both orders, and that the search is
    complete."""
    events = kafka.events(name)

    async def work(search: ClusterSearch) -> None:
        for query in queries:
            for newest_first in (True, False):
                request = SearchRequest(query=query, topics=[name], limit=None, newest_first=newest_first)
                result = await run(search, request)
                assert set(result.places) == brute_force(events, request, NOW_MS), query
                assert len(set(result.places)) == len(result.places)
                assert (result.end.reason, result.end.totals.share) == ("complete", 1.0)
                assert result.unreadable == []

    return work


def test_all_events_of_a_topic_are_found(kafka: KafkaCluster) -> None:
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        name = f"plain-{codec}"
        kafka.create(name)
        kafka.fill(name, [f"w{number % 97}" for number in range(3_000)], codec=codec)
        run_with_search(kafka.address, finds_all(kafka, name, "w13", "n:<100", "", "key:k7 w7", "nothing"))


def test_events_of_aborted_transactions_are_not_found(kafka: KafkaCluster, tmp_path: Path) -> None:
    kafka.create("transactions", segment_bytes="1048576")
    producer = kafka.producer(**{"transactional.id": "tx"})
    producer.init_transactions()
    for number in range(30):
        producer.begin_transaction()
        for key in range(40):
            word = "kept" if number % 3 else "dropped"
            producer.produce("transactions", json.dumps({"word": word, "pad": "x" * 100}), key=f"{key}")
        producer.flush()
        if number % 3:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    kafka.wait_for_events("transactions", 20 * 40)
    run_with_search(kafka.address, finds_all(kafka, "transactions", "kept", "dropped", ""))

    async def counts(search: ClusterSearch) -> None:
        result = await run(search, SearchRequest(topics=["transactions"], limit=None))
        assert len(result.places) == 20 * 40
        while await search.build_missing_filters():
            pass
        for word, count in (("kept", 800), ("dropped", 0)):
            result = await run(search, SearchRequest(query=word, topics=["transactions"], limit=None))
            assert len(result.places) == count
        assert result.end.totals.skipped_bytes > result.end.totals.scanned_bytes

    async def search_open_transaction(search: ClusterSearch) -> None:
        producer.begin_transaction()
        producer.produce("transactions", b"undecided")
        producer.flush()
        result = await run(
            search, SearchRequest(query="undecided OR kept", topics=["transactions"], limit=None)
        )
        assert len(result.places) == 800
        assert result.end.reason == "complete"
        producer.commit_transaction()
        kafka.wait_for_events("transactions", 20 * 40 + 1)
        result = await run(search, SearchRequest(query="undecided", topics=["transactions"], limit=None))
        assert len(result.places) == 1

    run_with_search(kafka.address, counts, tmp_path)
    run_with_search(kafka.address, search_open_transaction)


def test_deleted_records_and_a_topic_that_was_created_again(kafka: KafkaCluster, tmp_path: Path) -> None:
    kafka.create("made-again")
    kafka.fill("made-again", ["old"] * 3_000)

    async def build_filters(search: ClusterSearch) -> None:
        while await search.build_missing_filters():
            pass
        result = await run(search, SearchRequest(query="new", topics=["made-again"], limit=None))
        assert result.end.totals.skipped_bytes > result.end.totals.scanned_bytes

    run_with_search(kafka.address, build_filters, tmp_path)
    kafka.admin.delete_records([TopicPartition("made-again", 0, 1_700)])[
        TopicPartition("made-again", 0)
    ].result()
    run_with_search(kafka.address, finds_all(kafka, "made-again", "old", "new", ""), tmp_path)
    kafka.delete("made-again")
    kafka.create("made-again")
    kafka.fill("made-again", ["new"] * 3_000)
    run_with_search(kafka.address, finds_all(kafka, "made-again", "old", "new"), tmp_path)


def test_the_newest_matches_of_several_partitions_come_first(kafka: KafkaCluster) -> None:
    kafka.create("spread", partitions=3)
    kafka.fill("spread", ["w"] * 6_000)

    async def work(search: ClusterSearch) -> None:
        result = await run(search, SearchRequest(topics=["spread"], limit=300))
        times = [event.timestamp_ms - NOW_MS for event in result.events]
        assert {event.partition for event in result.events} == {0, 1, 2}
        assert min(times) > 4_500
        buckets = await search.histogram(["spread"], None, None, 6)
        assert [bucket.count for bucket in buckets] == [1_000] * 6
        request = SearchRequest(topics=["spread"], limit=None)
        facets, _ = await count_facets(search, request, ["partition", "word"], 5)
        assert (facets.events, facets.values["word"]) == (6_000, [("w", 6_000)])

    run_with_search(kafka.address, work)


class CompactedTopic:
    """A topic that is written, searched and compacted at the same time."""

    QUERIES = ("w13", "n:<100", "key:2-k7 w7", "")

    def __init__(self, kafka: KafkaCluster, name: str) -> None:
        self.kafka, self.name = kafka, name
        self.written: dict[int, Event] = {}
        """Every event that was ever written, by offset."""
        kafka.clean_often()
        kafka.create(
            name,
            cleanup_policy="compact,delete",  # with `compact` alone, Kafka refuses DeleteRecords
            segment_ms="200",  # counted in the events' own timestamps: 200 events
            min_cleanable_dirty_ratio="0.01",
            max_compaction_lag_ms="1",
            delete_retention_ms="1",
        )

    def current_events(self) -> dict[int, Event]:
        """The events that a consumer reads now, by offset."""
        return {event.offset: event for event in self.kafka.events(self.name)}

    async def search_while_written(
        self, search: ClusterSearch, number: int, meanwhile: Callable[[], None]
    ) -> None:
        """Search while a round of events is written and others are compacted. `meanwhile` is called after
        each search."""
        before = self.current_events()
        words = [f"w{index % 97}" for index in range(2_000)]
        from_ms = NOW_MS + number * len(words)
        filling = asyncio.create_task(
            asyncio.to_thread(self.kafka.fill, self.name, words, keys=f"{number % 3}-k", from_ms=from_ms)
        )
        results = list[tuple[SearchRequest, SearchResult]]()
        while not filling.done() or len(results) < 12:  # the cleaner is busy for some time afterwards
            for query in self.QUERIES:
                newest_first = len(results) // len(self.QUERIES) % 2 == 0
                request = SearchRequest(
                    query=query, topics=[self.name], limit=None, newest_first=newest_first
                )
                results.append((request, await run(search, request)))
            meanwhile()
        self.written |= {event.offset: event for event in await filling}
        remaining = [event for offset, event in self.current_events().items() if offset in before]
        for request, result in results:
            offsets = [event.offset for event in result.events]
            assert offsets == sorted(set(offsets), reverse=request.newest_first)
            assert (result.end.reason, result.unreadable) == ("complete", [])
            assert result.events == [self.written[offset] for offset in offsets]
            assert brute_force(remaining, request, NOW_MS) <= set(result.places)
            assert set(result.places) <= brute_force(list(self.written.values()), request, NOW_MS)

    async def wait_for_compaction(self) -> None:
        """Wait until no more events are removed: of the old ones, the newest of each key remains."""
        current = self.current_events()
        while True:
            await asyncio.sleep(2)
            before, current = current, self.current_events()
            if current == before and len(current) < len(self.written) / 4:
                return


def test_all_remaining_events_are_found_while_the_topic_is_compacted(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    topic = CompactedTopic(kafka, "compacting")

    def delete_older_half() -> None:
        offsets = sorted(topic.current_events())
        target = TopicPartition("compacting", 0, offsets[len(offsets) // 2])
        kafka.admin.delete_records([target])[target].result()

    async def search_during_compaction(search: ClusterSearch) -> None:
        search.start_building_filters()
        for number in range(6):
            meanwhile = delete_older_half if number == 3 else lambda: None
            await topic.search_while_written(search, number, meanwhile)
        await topic.wait_for_compaction()
        while await search.build_missing_filters():
            pass
        await finds_all(kafka, "compacting", *topic.QUERIES, "nothing")(search)
        result = await run(search, SearchRequest(query="nothing", topics=["compacting"], limit=None))
        assert result.end.totals.skipped_bytes > result.end.totals.scanned_bytes

    run_with_search(kafka.address, search_during_compaction, tmp_path)
    run_with_search(kafka.address, finds_all(kafka, "compacting", *topic.QUERIES, "nothing"), tmp_path)
