"""The scan of a filter passes blocks in which nothing can match, and delivers what reading all would."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from unittest.mock import patch

from mainstem.contract import StreamError
from mainstem.engines.embedded.queues import block_exclusions, partition_scan
from mainstem.engines.embedded.queues.block_exclusions import BlockExclusions, BlockTesterSlot, ExcludedEvents
from mainstem.engines.embedded.queues.events import read_batches
from mainstem.log.partition.partition import BatchSlice, Partition
from mainstem.log.storage.record_batch import Record
from mainstem.queue_contract import Ack, SubscriptionSettings
from mainstem.search.contract import BlockExclusion
from mainstem.search.match.matcher import Matcher
from tests.search.search_rig import NOW_MS, Row, SearchRig, run_on_search_rig
from tests.search.test_search import QUERIES, fill, some_rows
from tests.support.clock import SimClock

BLOCK_BYTES = 2 << 10


class CountedReads:
    """The blocks that are tested and the bytes that scans read, which wait for the tests under way."""

    def __init__(self, rig: SearchRig) -> None:
        self.bytes = 0
        self._tester = rig.local
        self._answered = asyncio.Event()
        self._answered.set()

    async def excluded_blocks(
        self, topic: str, partition: int, first: int, matchers: Sequence[Matcher]
    ) -> list[BlockExclusion]:
        """See `BlockTester`."""
        self._answered.clear()
        try:
            return await self._tester.excluded_blocks(topic, partition, first, matchers)
        finally:
            self._answered.set()

    async def read_batches(self, partition: Partition, first: int, size: int) -> BatchSlice:
        """See `events.read_batches`."""
        await asyncio.sleep(0)
        await self._answered.wait()
        batches = await read_batches(partition, first, size)
        self.bytes += len(batches.data)
        return batches


@contextmanager
def counted_reads(rig: SearchRig) -> Iterator[CountedReads]:
    """Counts what scans read. They ask of small logs, too."""
    counted = CountedReads(rig)
    with (
        patch.object(block_exclusions, "ASK_BYTES", 1),
        patch.object(partition_scan, "SLICE_BYTES", BLOCK_BYTES),
        patch.object(partition_scan, "read_batches", counted.read_batches),
    ):
        yield counted


async def subscribe(rig: SearchRig, name: str, query: str, *, in_key_order: bool = False) -> None:
    """Create a subscription of `orders`, and wait for its scan."""
    wanted = SubscriptionSettings(topics=("orders",), filter=query, in_key_order=in_key_order)
    await rig.engine.create_subscription(name, wanted)
    while (await rig.engine.subscription(name)).depth.ahead:
        await asyncio.sleep(0.005)


async def delivered(rig: SearchRig, name: str) -> AsyncIterator[tuple[int, int]]:
    """The places of all events of a subscription, which are acknowledged."""
    while deliveries := await rig.engine.pull(name, "c", max_events=500, wait_ms=0):
        for delivery in deliveries:
            yield delivery.event.partition, delivery.event.offset
        await rig.engine.settle(name, [Ack(delivery.token) for delivery in deliveries])


def test_a_filter_that_matches_nothing_reads_hardly_anything(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await rig.engine.create_topic("orders", partitions=1)
        rng = random.Random(5)
        for batch in range(200):
            await rig.append("orders", 0, some_rows(rng, 20, NOW_MS + batch * 1_000))
        assert await rig.local.build_missing_filters() > 20
        size = rig.partition("orders", 0).available_bytes(0)
        with counted_reads(rig) as read:
            await subscribe(rig, "without", "absentword")
            assert read.bytes > size * 0.9
            rig.engine.skip_blocks_by(read)
            read.bytes = 0
            await subscribe(rig, "with", "otherabsentword")
            await subscribe(rig, "late", "time:>2033-01-01")
            await subscribe(rig, "keyed", "thirdabsentword", in_key_order=True)
            assert read.bytes < size / 4  # of three scans, which read until the first answer
            await rig.append("orders", 0, [(None, b"otherabsentword", (), NOW_MS)])
            assert len([place async for place in delivered(rig, "without")]) == 0
            last = await rig.engine.pull("with", "c", wait_ms=5_000)
        assert [delivery.event.value for delivery in last] == [b"otherabsentword"]

    run_on_search_rig(tmp_path, work, block_bytes=BLOCK_BYTES)


def test_what_is_delivered_is_what_the_filter_matches(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig, 3, batches=30, partitions=2)
        rows: list[Row] = [(None, b'{"id":"N14228"}', (), NOW_MS)]
        await rig.append("orders", 1, rows)
        await rig.append("orders", 0, some_rows(random.Random(1), 200, NOW_MS))
        await rig.local.build_missing_filters()
        events = await rig.events("orders")
        with counted_reads(rig) as read:
            rig.engine.skip_blocks_by(read)
            names = [f"q{number}" for number in range(len(QUERIES))]
            await asyncio.gather(*map(subscribe, repeat(rig), names, QUERIES))
            for name, query in zip(names, QUERIES, strict=True):
                matcher = Matcher.of(query, now_ms=rig.node.clock.wall_ms())
                expected = {
                    (event.partition, event.offset) for event in events if matcher.matches_event(event)
                }
                assert {place async for place in delivered(rig, name)} == expected, query

    run_on_search_rig(tmp_path, work, block_bytes=BLOCK_BYTES)


class ScriptedTester:
    """Answers with what a test has prepared."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, list[Matcher]]] = []
        self.answer: list[BlockExclusion] = []
        self.fails = False

    async def excluded_blocks(
        self, topic: str, partition: int, first: int, matchers: Sequence[Matcher]
    ) -> list[BlockExclusion]:
        """See `BlockTester`."""
        self.asked.append((first, list(matchers)))
        if self.fails:
            raise StreamError("the search is closed")
        return self.answer


class FilledPartition:
    """A partition with `ahead` bytes after any place."""

    index = 0
    deleted = False
    ahead = 1 << 30

    def available_bytes(self, offset: int) -> int:
        """See `Partition`."""
        return self.ahead


A, B, C = (Matcher.of(word, now_ms=0) for word in ("airborne", "boarding", "cancelled"))


def seen(events: ExcludedEvents | None) -> tuple[int, set[Matcher]] | None:
    """The end, and the filters that match nothing before it."""
    return None if events is None else (events.end, set(events.matchers))


def test_blocks_are_passed_together_as_far_as_they_exclude_the_same_filters() -> None:
    async def test() -> None:
        tester, slot = ScriptedTester(), BlockTesterSlot()
        partition, clock = FilledPartition(), SimClock()
        known = BlockExclusions(clock, slot, "flights", partition)  # type: ignore[arg-type]
        assert known.find(0, [A]) is None  # there is no search yet
        slot.tester = tester
        assert known.find(0, [Matcher.of("NOT x", now_ms=0)]) is None
        assert tester.asked == []
        tester.answer = [
            BlockExclusion(0, 10, frozenset({A, B})),
            BlockExclusion(10, 20, frozenset({A, B})),
            BlockExclusion(20, 30, frozenset({A})),
            BlockExclusion(40, 50, frozenset({A})),
        ]
        assert known.find(3, [A, B]) is None
        await asyncio.sleep(0)
        assert seen(known.find(3, [A, B])) == (20, {A, B})
        assert seen(known.find(3, [A])) == (30, {A})
        assert seen(known.find(20, [A, B])) == (30, {A})
        assert known.find(30, [A]) is None  # a gap is read
        assert known.find(20, [B]) is None
        assert seen(known.find(45, [A])) == (50, {A})
        assert [first for first, _ in tester.asked] == [3]
        assert seen(known.find(3, [A, C])) == (30, {A})  # C is asked meanwhile
        await asyncio.sleep(0)
        assert tester.asked[1:] == [(3, [C])]
        assert known.find(50, [A]) is None
        await asyncio.sleep(0)
        assert tester.asked[2:] == [(50, [A])]

    asyncio.run(test())


def test_questions_without_an_answer_are_asked_now_and_then() -> None:
    async def test() -> None:
        tester, slot = ScriptedTester(), BlockTesterSlot()
        partition, clock = FilledPartition(), SimClock()
        slot.tester = tester
        known = BlockExclusions(clock, slot, "flights", partition)  # type: ignore[arg-type]
        tester.fails = True
        for _ in range(3):
            assert known.find(0, [A]) is None
            await asyncio.sleep(0)
        assert len(tester.asked) == 1
        clock.advance(2.5)
        tester.fails, tester.answer = False, [BlockExclusion(0, 10, frozenset({A}))]
        partition.ahead = 1 << 20  # at the end of the log there is nothing to gain
        assert known.find(0, [A]) is None
        await asyncio.sleep(0)
        assert len(tester.asked) == 1
        partition.ahead = 1 << 30
        assert known.find(0, [A]) is None
        await asyncio.sleep(0)
        assert seen(known.find(0, [A])) == (10, {A})
        known.stop()
        assert known.find(0, [A]) is None
        known.stop()
        await asyncio.sleep(0)

    asyncio.run(test())


def test_a_matcher_of_one_word_is_testable() -> None:
    record = Record(0, 0, None, b"airborne", ())
    assert A.matches("flights", 0, record)
    assert block_exclusions.is_testable(A)
    assert block_exclusions.is_testable(Matcher.of("time:>2023-01-01", now_ms=0))
    assert not block_exclusions.is_testable(Matcher.of("NOT airborne", now_ms=0))
