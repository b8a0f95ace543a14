"""Searching a real Apache Kafka finds what brute force over its own client finds, whatever its logs hold."""

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
    """A cluster, to prepare."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.admin = AdminClient({"bootstrap.servers": at})

    def create(self, name: str, *, partitions: int = 1, **config: str) -> None:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        settings["retention.ms"] = "-1"  # the events are of 2023
        self.admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result()
        while [each.leader for each in self.partitions(name)] != [1] * partitions:
            time.sleep(0.1)

    def alter(self, name: str, setting: str, value: str) -> None:
        entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result()

    def clean_often(self) -> None:
        """Have the broker look every 50 ms whether something can be compacted."""
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
        return Producer({"bootstrap.servers": self.at, "log_level": 0, "linger.ms": 5, **settings})

    def fill(
        self, name: str, words: list[str], *, keys: str = "k", from_ms: int = NOW_MS, codec: str = "none"
    ) -> list[Event]:
        """One event for each word, with one of fifty keys. The events."""
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
        """All that Kafka's own rules show of a topic (partition 0), by librdkafka."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.at,
                "group.id": "brute-force",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        begin, _ = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=30)
        consumer.assign([TopicPartition(name, 0, begin)])
        found = []
        while True:
            message = consumer.poll(30)
            assert message is not None
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                break
            found.append(_event(message))
        consumer.close()
        return found

    def shows(self, name: str, count: int) -> None:
        """Wait until so many can be read: a transaction's markers are written a moment after its commit is
        acknowledged."""
        deadline = time.monotonic() + 30
        while (found := len(self.events(name))) != count:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


def _event(message: Any) -> Event:
    where = message.topic(), message.partition(), message.offset(), message.timestamp()[1]
    return Event(*where, message.key(), message.value(), tuple(message.headers() or ()))


@pytest.fixture(scope="module")
def kafka(real_kafka: str) -> KafkaCluster:
    return KafkaCluster(real_kafka)


@asynccontextmanager
async def searching(at: str, cache: Path | None = None) -> Any:
    engine = await KafkaEngine.connect(at, timeout_s=10)
    clock = LoopClock(asyncio.get_running_loop())
    search = ClusterSearch(engine, clock, cache=cache, span_bytes=SPAN_BYTES)
    try:
        yield search
    finally:
        await search.close()
        await engine.close()


def with_search(at: str, work: Work, cache: Path | None = None) -> None:
    async def inner() -> None:
        async with searching(at, cache) as search:
            await work(search)

    asyncio.run(inner())


def holds(kafka: KafkaCluster, name: str, *queries: str) -> Work:
    """Each query finds what brute force finds, in both orders, and all has been searched."""
    events = kafka.events(name)

    async def work(search: ClusterSearch) -> None:
        for query in queries:
            for newest_first in (True, False):
                request = SearchRequest(query=query, topics=[name], limit=None, newest_first=newest_first)
                found = await run(search, request)
                assert set(found.places) == brute_force(events, request, NOW_MS), query
                assert len(set(found.places)) == len(found.places)
                assert (found.end.reason, found.end.totals.share) == ("complete", 1.0)
                assert found.unreadable == []

    return work


def test_all_that_a_topic_holds_is_found(kafka: KafkaCluster) -> None:
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        name = f"plain-{codec}"
        kafka.create(name)
        kafka.fill(name, [f"w{number % 97}" for number in range(3_000)], codec=codec)
        with_search(kafka.at, holds(kafka, name, "w13", "n:<100", "", "key:k7 w7", "nothing"))


def test_transactions_that_were_given_up_are_not_found(kafka: KafkaCluster, tmp_path: Path) -> None:
    kafka.create("transactions", segment_bytes="1048576")
    producer = kafka.producer(**{"transactional.id": "tx"})
    producer.init_transactions()
    for number in range(30):
        producer.begin_transaction()
        for at in range(40):
            word = "kept" if number % 3 else "dropped"
            producer.produce("transactions", json.dumps({"word": word, "pad": "x" * 100}), key=f"{at}")
        producer.flush()
        if number % 3:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    kafka.shows("transactions", 20 * 40)
    with_search(kafka.at, holds(kafka, "transactions", "kept", "dropped", ""))

    async def counts(search: ClusterSearch) -> None:
        found = await run(search, SearchRequest(topics=["transactions"], limit=None))
        assert len(found.places) == 20 * 40
        while await search.build_missing_filters():
            pass
        for word, count in (("kept", 800), ("dropped", 0)):
            found = await run(search, SearchRequest(query=word, topics=["transactions"], limit=None))
            assert len(found.places) == count
        assert found.end.totals.skipped_bytes > found.end.totals.scanned_bytes

    async def open_one(search: ClusterSearch) -> None:
        producer.begin_transaction()
        producer.produce("transactions", b"undecided")
        producer.flush()
        found = await run(
            search, SearchRequest(query="undecided OR kept", topics=["transactions"], limit=None)
        )
        assert len(found.places) == 800
        assert found.end.reason == "complete"
        producer.commit_transaction()
        kafka.shows("transactions", 20 * 40 + 1)
        found = await run(search, SearchRequest(query="undecided", topics=["transactions"], limit=None))
        assert len(found.places) == 1

    with_search(kafka.at, counts, tmp_path)
    with_search(kafka.at, open_one)


def test_deleted_records_and_a_topic_that_was_made_again(kafka: KafkaCluster, tmp_path: Path) -> None:
    kafka.create("made-again")
    kafka.fill("made-again", ["old"] * 3_000)

    async def cover(search: ClusterSearch) -> None:
        while await search.build_missing_filters():
            pass
        found = await run(search, SearchRequest(query="new", topics=["made-again"], limit=None))
        assert found.end.totals.skipped_bytes > found.end.totals.scanned_bytes

    with_search(kafka.at, cover, tmp_path)
    kafka.admin.delete_records([TopicPartition("made-again", 0, 1_700)])[
        TopicPartition("made-again", 0)
    ].result()
    with_search(kafka.at, holds(kafka, "made-again", "old", "new", ""), tmp_path)
    kafka.delete("made-again")
    kafka.create("made-again")
    kafka.fill("made-again", ["new"] * 3_000)
    with_search(kafka.at, holds(kafka, "made-again", "old", "new"), tmp_path)


def test_the_newest_matches_of_several_partitions_come_first(kafka: KafkaCluster) -> None:
    kafka.create("spread", partitions=3)
    kafka.fill("spread", ["w"] * 6_000)

    async def work(search: ClusterSearch) -> None:
        found = await run(search, SearchRequest(topics=["spread"], limit=300))
        times = [event.timestamp_ms - NOW_MS for event in found.events]
        assert {event.partition for event in found.events} == {0, 1, 2}
        assert min(times) > 4_500
        buckets = await search.histogram(["spread"], None, None, 6)
        assert [bucket.count for bucket in buckets] == [1_000] * 6
        request = SearchRequest(topics=["spread"], limit=None)
        facets, _ = await count_facets(search, request, ["partition", "word"], 5)
        assert (facets.events, facets.values["word"]) == (6_000, [("w", 6_000)])

    with_search(kafka.at, work)


class CompactedTopic:
    """A topic that is written, searched and compacted at the same time, and what was ever in it."""

    QUERIES = ("w13", "n:<100", "key:2-k7 w7", "")

    def __init__(self, kafka: KafkaCluster, name: str) -> None:
        self.kafka, self.name = kafka, name
        self.ever: dict[int, Event] = {}
        kafka.clean_often()
        kafka.create(
            name,
            cleanup_policy="compact,delete",  # Kafka takes no DeleteRecords with the first alone
            segment_ms="200",  # of the events' own times: as many events
            min_cleanable_dirty_ratio="0.01",
            max_compaction_lag_ms="1",
            delete_retention_ms="1",
        )

    def now(self) -> dict[int, Event]:
        """What a fetch of all gives."""
        return {event.offset: event for event in self.kafka.events(self.name)}

    async def searched(self, search: ClusterSearch, number: int, beside: Callable[[], None]) -> None:
        """One round of events, searched while they come and others go. `beside` is done meanwhile."""
        before = self.now()
        words = [f"w{at % 97}" for at in range(2_000)]
        from_ms = NOW_MS + number * len(words)
        filling = asyncio.create_task(
            asyncio.to_thread(self.kafka.fill, self.name, words, keys=f"{number % 3}-k", from_ms=from_ms)
        )
        answers = list[tuple[SearchRequest, SearchResult]]()
        while not filling.done() or len(answers) < 12:  # the cleaner is busy for a while after
            for query in self.QUERIES:
                newest_first = len(answers) // len(self.QUERIES) % 2 == 0
                request = SearchRequest(
                    query=query, topics=[self.name], limit=None, newest_first=newest_first
                )
                answers.append((request, await run(search, request)))
            beside()
        self.ever |= {event.offset: event for event in await filling}
        stayed = [event for offset, event in self.now().items() if offset in before]
        for request, found in answers:
            offsets = [event.offset for event in found.events]
            assert offsets == sorted(set(offsets), reverse=request.newest_first)
            assert (found.end.reason, found.unreadable) == ("complete", [])
            assert found.events == [self.ever[offset] for offset in offsets]
            assert brute_force(stayed, request, NOW_MS) <= set(found.places)
            assert set(found.places) <= brute_force(list(self.ever.values()), request, NOW_MS)

    async def settled(self) -> None:
        """Wait until nothing more goes: of old events the newest of each key is left."""
        kept = self.now()
        while True:
            await asyncio.sleep(2)
            before, kept = kept, self.now()
            if kept == before and len(kept) < len(self.ever) / 4:
                return


def test_all_that_is_there_is_found_while_the_topic_is_compacted(kafka: KafkaCluster, tmp_path: Path) -> None:
    topic = CompactedTopic(kafka, "compacting")

    def shorten() -> None:
        there = sorted(topic.now())
        place = TopicPartition("compacting", 0, there[len(there) // 2])
        kafka.admin.delete_records([place])[place].result()

    async def while_it_runs(search: ClusterSearch) -> None:
        search.start_building_filters()
        for number in range(6):
            await topic.searched(search, number, shorten if number == 3 else lambda: None)
        await topic.settled()
        while await search.build_missing_filters():
            pass
        await holds(kafka, "compacting", *topic.QUERIES, "nothing")(search)
        found = await run(search, SearchRequest(query="nothing", topics=["compacting"], limit=None))
        assert found.end.totals.skipped_bytes > found.end.totals.scanned_bytes

    with_search(kafka.at, while_it_runs, tmp_path)
    with_search(kafka.at, holds(kafka, "compacting", *topic.QUERIES, "nothing"), tmp_path)
