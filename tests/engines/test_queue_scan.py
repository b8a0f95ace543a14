"""One scan of a partition for all subscriptions that look into its events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from mainstem.contract import NewEvent
from mainstem.engines.embedded.queues import event_scan, event_slice, partition_scan, subscription_feed
from mainstem.engines.embedded.queues.event_slice import EventSlice, record_ends
from mainstem.engines.embedded.queues.events import read_batches
from mainstem.engines.embedded.queues.partition_scan import PartitionScan
from mainstem.log.errors import CorruptBatch
from mainstem.log.storage.record_batch import Record, build, decompressed, read_header
from mainstem.queue_contract import Delivery, SubscriptionSettings
from mainstem.search.match.matcher import Matcher
from mainstem.turns import next_turn
from tests.engines.queue_server import SimulatedServer, depth, simulated, values


@contextmanager
def counted(module: Any, name: str) -> Iterator[list[int]]:
    """Counts the calls of a function of a module, as the length of the list."""
    calls: list[int] = []
    function = getattr(module, name)

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return function(*args, **kwargs)

    with patch.object(module, name, counting):
        yield calls


async def subscribe(server: SimulatedServer, name: str, **settings: Any) -> None:
    created = server.engine.create_subscription(name, SubscriptionSettings(topics=("t",), **settings))
    await server.drive(created)


async def drain(server: SimulatedServer, name: str) -> list[bytes | None]:
    """Everything that is ready."""
    deliveries: list[Delivery] = []
    while part := await server.pull(name, count=500):
        deliveries += part
    return values(deliveries)


def the_scan(server: SimulatedServer) -> PartitionScan:
    (scan,) = server.engine._queue_service._partitions._scans.values()
    return scan


def test_a_commit_is_read_and_decoded_once_whatever_the_number_of_subscriptions() -> None:
    async def test(server: SimulatedServer) -> None:
        for number in range(40):
            await subscribe(server, f"f{number}", filter=f"n{number}")
        await server.pass_time(0.1)
        with counted(partition_scan, "read_batches") as reads, counted(event_slice, "records_in") as decoded:
            await server.publish("t", *[b"n%d" % number for number in range(80)])
            await server.pass_time(0.1)
        assert (len(reads), len(decoded)) == (1, 1)
        for number in range(40):
            assert await drain(server, f"f{number}") == [b"n%d" % number]

    simulated(test)


def test_batches_that_no_filter_can_match_stay_closed() -> None:
    async def test(server: SimulatedServer) -> None:
        await subscribe(server, "f", filter="absent")
        with counted(event_slice, "records_in") as decoded:
            for number in range(20):
                await server.publish("t", b"event %d" % number)
            await server.pass_time(0.1)
        assert len(decoded) == 0
        assert (await depth(server, "f")).outstanding == 0

    simulated(test)


def test_equal_filters_are_asked_once_and_those_with_times_for_each() -> None:
    async def test(server: SimulatedServer) -> None:
        for number in range(5):
            await subscribe(server, f"same{number}", filter="x")
            await server.pass_time(1)
        await subscribe(server, "time0", filter="x time:>-1d")
        await server.pass_time(1)
        await subscribe(server, "time1", filter="x time:>-1d")
        with counted(EventSlice, "find_matches") as asked:
            await server.publish("t", b"x", b"y")
            await server.pass_time(0.1)
        assert len(asked) == 3

    simulated(test)


def test_a_partition_is_watched_once_and_a_commit_wakes_only_those_who_wait() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        for number in range(30):
            await subscribe(server, f"s{number}")
            assert len(await server.pull(f"s{number}")) == 1
            assert await server.pull(f"s{number}") == []
        partition = the_scan(server).partition
        assert list(partition._waiters._callbacks) == [the_scan(server)._on_moved]
        await server.publish("t", b"1")
        assert the_scan(server)._listening == {}
        waiting = asyncio.ensure_future(server.engine.pull("s3", "c", wait_ms=5_000))
        await server.pass_time(0.1)
        assert values(waiting.result()) == [b"1"]
        waiting = asyncio.ensure_future(server.engine.pull("s3", "c", wait_ms=5_000))
        await server.pass_time(0.1)
        assert len(the_scan(server)._listening) == 1
        await server.publish("t", b"2")
        assert values(await server.drive(waiting)) == [b"2"]
        for number in range(30):
            await server.drive(server.engine.delete_subscription(f"s{number}"))
        await server.drive(server.engine.delete_subscription("s"))
        assert partition._waiters._callbacks == {}
        assert server.engine._queue_service._partitions._scans == {}

    simulated(test)


def test_a_scan_goes_on_although_nobody_pulls_and_is_not_repeated_after_a_kill() -> None:
    async def test(server: SimulatedServer) -> None:
        for number in range(60):
            await server.publish("t", *[b"%s%d" % (b"x" * 300, number * 10 + digit) for digit in range(10)])
        with (
            patch.object(subscription_feed, "RECORD_BYTES", 20_000),
            patch.object(partition_scan, "SLICE_BYTES", 8_000),
        ):
            await subscribe(server, "f", filter="*7")
            await server.pass_time(1)
            assert (await depth(server, "f")).ready == 60
            assert (await depth(server, "f")).ahead == 0
            read: list[int] = []
            for power in (False, True):
                with patch.object(PartitionScan, "_read", noting(read, PartitionScan._read)):
                    await server.crash(power=power)
                    await server.pass_time(1)
                assert min(read, default=600) > 500
                assert (await depth(server, "f")).ready == 60
        assert await drain(server, "f") == [b"%s%d" % (b"x" * 300, number) for number in range(7, 600, 10)]

    simulated(test)


def noting(places: list[int], read: Callable[..., Any]) -> Callable[..., Any]:
    """`PartitionScan._read` that notes where it reads."""

    async def noted(scan: PartitionScan, first: int) -> Any:
        places.append(first)
        return await read(scan, first)

    return noted


def test_views_at_different_places_are_scanned_to_the_end_and_find_what_a_naive_filter_finds() -> None:
    filters = ["key:k1", "value:<3", "key:k2 or key:k3", "NOT key:k1", "nothing", "word5"]

    async def test(server: SimulatedServer) -> None:
        rng = random.Random(5)
        events: list[bytes] = []

        async def publish() -> None:
            batch = []
            for _ in range(rng.randrange(1, 40)):
                value = b'{"value":%d,"text":"word%d"}' % (rng.randrange(6), rng.randrange(9))
                batch.append(NewEvent(value, b"k%d" % rng.randrange(4)))
            events.extend(b"%s %s" % (event.key, event.value) for event in batch)
            await server.drive(server.engine.publish("t", batch))

        with patch.object(partition_scan, "SLICE_BYTES", 3_000):
            for number, query in enumerate(filters):
                for _ in range(6):
                    await publish()
                await subscribe(server, f"f{number}", filter=query, in_key_order=number == 2)
                await subscribe(server, f"l{number}", filter=query, from_latest=True)
            await subscribe(server, "again", filter=filters[0])
            await server.pass_time(0.05)
            await server.drive(server.engine.seek("again", "earliest"))
            await publish()
            await server.pass_time(2)
            everything = await drain(server, "s")
            assert len(everything) == len(events)
            for number, query in enumerate([*filters, filters[0]]):
                name = f"f{number}" if number < len(filters) else "again"
                matcher = Matcher.of(query, now_ms=0)
                expected = []
                for offset, event in enumerate(events):
                    key, value = event.split(b" ", 1)
                    if matcher.matches("t", 0, Record(offset, 0, key, value, ())):
                        expected.append(value)
                assert await drain(server, name) == expected, query
                assert (await depth(server, name)).ahead == 0
        assert len(the_scan(server)._scanned) == 2 * len(filters) + 1

    simulated(test)


def test_a_view_that_is_far_behind_loses_nothing_to_one_at_the_newest_events() -> None:
    """Or to a seek backwards in the middle of a look at a slice."""

    async def test(server: SimulatedServer) -> None:
        with patch.object(PartitionScan, "scan_soon", lambda _: None):
            await server.publish("t", *[b"x%d" % number for number in range(100)])
            await subscribe(server, "new", filter="x*", from_latest=True)
            await subscribe(server, "old", filter="x*")
            await server.publish("t", b"x100")
        scan = the_scan(server)
        feeds = list(scan._scanned)
        assert [view.scanned for view in feeds] == [100, 0]
        scan._turns = 2  # so that the newest events are next
        await server.drive(scan._scan_some(feeds))
        assert [view.scanned for view in feeds] == [101, 0]
        scan.scan_soon()
        await server.pass_time(1)
        assert len(await drain(server, "old")) == 101
        slice_, size = await server.drive(scan._read(100))
        await server.drive(scan._look(slice_, feeds))
        await server.drive(server.engine.seek("new", "earliest"))
        await server.drive(scan._pass(slice_, size, feeds, 100))
        await server.pass_time(1)
        assert len(await drain(server, "new")) == 101

    simulated(test)


def test_a_turn_of_the_loop_tests_a_bounded_number_of_events() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b'{"value":%d}' % (number % 10) for number in range(3_000)])
        tested = 0
        of_turn: list[int] = []
        matches = Matcher.matches

        def counting(matcher: Matcher, *args: Any) -> bool:
            nonlocal tested
            tested += 1
            return matches(matcher, *args)

        async def noted_turn(clock: Any) -> None:
            nonlocal tested
            of_turn.append(tested)
            tested = 0
            await next_turn(clock)

        with (
            patch.object(Matcher, "matches", counting),
            patch.object(event_scan, "next_turn", noted_turn),
        ):
            for number in range(4):
                await subscribe(server, f"f{number}", filter=f"value>{number}")
            await server.pass_time(1)
        assert sum(of_turn) == 12_000
        most = event_scan.TURN_US // event_slice.TEST_US + event_slice.STEP_EVENTS
        assert max(of_turn) <= most
        assert (await depth(server, "f2")).ready == 2_100

    simulated(test)


def test_events_that_damage_has_made_unreadable_are_passed_and_counted() -> None:
    async def test(server: SimulatedServer) -> None:
        for number in range(4):
            await server.publish("t", b"x%d" % number, b"y%d" % number)

        async def damaged(partition: Any, offset: int, max_bytes: int) -> Any:
            if 2 <= offset < 4:
                raise CorruptBatch("damaged", next_offset=4)
            return await read_batches(partition, offset, 1 if offset < 2 else max_bytes)

        with patch.object(partition_scan, "read_batches", damaged):
            await subscribe(server, "f", filter="x*")
            await server.pass_time(0.5)
        info = await server.drive(server.engine.subscription("f"))
        assert (info.unreadable, info.depth.ready, info.depth.ahead) == (2, 3, 0)

    simulated(test)


# ----------------------------------------------------------------------------------------------------------
# slices


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_the_ends_of_records_are_those_of_the_batch(codec: str) -> None:
    records: list[Any] = [(b"key", b"v" * size, (), 5) for size in (0, 1, 57, 63, 64, 8_000, 70_000)]
    batch = memoryview(build(records, codec=codec))
    raw = decompressed(batch, read_header(batch), 1 << 20)
    ends = record_ends(raw, len(records))
    assert ends[-1] == len(raw)
    assert [bytes(raw[end - 1 - size : end - 1]) for end, size in zip(ends, (0, 1, 57), strict=False)] == [
        b"v" * size for size in (0, 1, 57)
    ]
    events = EventSlice("t", 0, batch)
    for _ in events.open():
        pass
    assert events.readable(3) == [(3, 7)]
    assert events.end == 7


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "ends before"),
        (b"\x80", "ends before"),
        (b"\x04ab\x04", "have 6 bytes"),
        (b"\x04ab\x06ab", "have 7 bytes"),
        (b"\x04ab\x02aX", "have 5 bytes"),
        (b"\x03ab", "negative"),
        (b"\xff\xff\xff\xff\xff\xff\x01", "no end"),
    ],
)
def test_records_that_do_not_fill_their_bytes_are_damaged(raw: bytes, problem: str) -> None:
    with pytest.raises(CorruptBatch, match=problem):
        record_ends(raw, 2 if len(raw) > 3 else 1)
