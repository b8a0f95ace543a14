"""The contract of mainstem/contract.py, tested with every engine."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence

import pytest

from mainstem.contract import (
    Bounds,
    Engine,
    Event,
    EventTooLarge,
    GroupInUse,
    InvalidArgument,
    Member,
    NewEvent,
    Position,
    PositionOutOfRange,
    Reader,
    ReadResult,
    StreamError,
    TopicExists,
    UnknownGroup,
    UnknownTopic,
)
from tests.engines.conftest import Run

NOON = 1_370_088_000_000


def name(kind: str = "topic") -> str:
    """A unique name, because the tests of an engine share its server."""
    return f"{kind}-{uuid.uuid4().hex[:10]}"


async def made(engine: Engine, partitions: int = 1, **settings: str) -> str:
    topic = name()
    await engine.create_topic(
        topic, partitions=partitions, settings={k.replace("_", "."): v for k, v in settings.items()}
    )
    for _ in range(100):  # a cluster's other brokers may hear of it a moment later
        try:
            await engine.bounds(topic, partitions - 1)
            return topic
        except UnknownTopic:
            await asyncio.sleep(0.05)
    raise AssertionError(f"{topic} did not appear")


async def read(reader: Reader | Member, count: int) -> list[Event]:
    """Read `count` events, with as many reads as necessary."""
    events: list[Event] = []
    deadline = time.monotonic() + 30
    while len(events) < count and time.monotonic() < deadline:
        result: ReadResult = await reader.read(max_events=count - len(events), wait_ms=1_000)
        assert not result.unreadable
        events += result.events
    assert len(events) == count
    return events


def test_the_time_of_an_event_is_kept_or_refused_and_never_another(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine)
        times_ms = [0, -1, -2, -NOON, 1, NOON]
        with pytest.raises(InvalidArgument) as caught:
            await engine.publish(
                topic, [NewEvent(b"%d" % time_ms, timestamp_ms=time_ms) for time_ms in times_ms]
            )
        accepted_ms = [
            time_ms
            for time_ms, result in zip(times_ms, caught.value.results, strict=True)
            if isinstance(result, Position)
        ]
        assert accepted_ms in ([0, 1, NOON], [1, NOON]), "librdkafka cannot send 0"
        assert all(isinstance(result, (Position, InvalidArgument)) for result in caught.value.results)
        reader = await engine.reader([Position(topic, 0, 0)])
        events = await read(reader, len(accepted_ms))
        assert [(event.timestamp_ms, event.value) for event in events] == [
            (time_ms, b"%d" % time_ms) for time_ms in accepted_ms
        ]
        assert await engine.offset_for_time(topic, 0, -1) == 0, "before all, not Kafka's code for the end"

    run(work)


def values(events: Sequence[Event]) -> list[bytes | None]:
    return [event.value for event in events]


def test_events_are_read_as_they_were_published(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine)
        new_events = [
            NewEvent(b"one", b"key", (("trace", b"\x00\xff"), ("empty", b""), ("null", None)), NOON),
            NewEvent(None, b"tombstone", (), NOON + 1),
            NewEvent(b"", None, (), NOON + 2),
        ]
        assert await engine.publish(topic, new_events) == [Position(topic, 0, offset) for offset in range(3)]
        reader = await engine.reader([Position(topic, 0, 0)])
        assert await read(reader, 3) == [
            Event(topic, 0, offset, event.timestamp_ms or 0, event.key, event.value, event.headers)
            for offset, event in enumerate(new_events)
        ]
        assert reader.positions() == [Position(topic, 0, 3)]
        await reader.close()

    run(work)


def test_an_event_without_a_time_gets_the_time_of_publishing(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine)
        before = time.time_ns() // 1_000_000
        await engine.publish(topic, [NewEvent(b"now")])
        reader = await engine.reader([Position(topic, 0, 0)])
        (event,) = await read(reader, 1)
        assert before <= event.timestamp_ms <= time.time_ns() // 1_000_000
        await reader.close()

    run(work)


def test_publishing_no_events_does_nothing(run: Run) -> None:
    async def work(engine: Engine) -> None:
        assert await engine.publish(await made(engine), []) == []

    run(work)


def test_the_order_within_a_partition_holds_for_overlapping_calls(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine)
        calls = [
            [NewEvent(b"%d" % number) for number in range(low, low + 250)] for low in range(0, 2_000, 250)
        ]
        placed = await asyncio.gather(*(engine.publish(topic, call) for call in calls))
        assert [position.offset for call in placed for position in call] == list(range(2_000))
        reader = await engine.reader([Position(topic, 0, 0)])
        assert values(await read(reader, 2_000)) == [b"%d" % number for number in range(2_000)]
        await reader.close()

    run(work)


def test_a_key_chooses_the_same_partition_as_in_javas_client(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine, partitions=10)
        # The hashes are those of org.apache.kafka.common.utils.UtilsTest.testMurmur2.
        hashes = {
            b"21": -973932308,
            b"a-little-bit-long-string": -985981536,
            b"a-little-bit-longer-string": -1486304829,
            b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
            b"abc": 479470107,
        }
        placed = await engine.publish(topic, [NewEvent(b"", key) for key in hashes])
        assert [position.partition for position in placed] == [
            (hashed & 0x7FFFFFFF) % 10 for hashed in hashes.values()
        ]

    run(work)


def test_a_partition_can_be_chosen(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine, partitions=3)
        placed = await engine.publish(topic, [NewEvent(b"", b"k", partition=index) for index in (2, 0, 2)])
        assert placed == [Position(topic, 2, 0), Position(topic, 0, 0), Position(topic, 2, 1)]

    run(work)


def test_too_large_events_are_refused_and_the_others_written(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine, max_message_bytes="20000")
        new_events = [NewEvent(b"a"), NewEvent(b"b" * 50_000), NewEvent(b"c")]
        with pytest.raises(EventTooLarge) as refused:
            for event in new_events:
                await engine.publish(topic, [event])
        assert isinstance(refused.value.results[0], EventTooLarge)
        await engine.publish(topic, new_events[2:])
        assert await engine.bounds(topic, 0) == Bounds(0, 2)

    run(work)


def test_the_error_names_a_partition_that_does_not_exist(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine)
        with pytest.raises(UnknownTopic, match=topic) as refused:
            await engine.publish(topic, [NewEvent(b"a", partition=0), NewEvent(b"b", partition=7)])
        assert [type(result) for result in refused.value.results] == [Position, UnknownTopic]

    run(work)


def test_offset_for_time_is_the_first_event_at_or_after_it(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine)
        await engine.publish(
            topic, [NewEvent(b"", timestamp_ms=NOON + number * 1_000) for number in range(100)]
        )
        assert await engine.offset_for_time(topic, 0, NOON - 1) == 0
        assert await engine.offset_for_time(topic, 0, NOON + 41_001) == 42
        assert await engine.offset_for_time(topic, 0, NOON + 99_000) == 99
        assert await engine.offset_for_time(topic, 0, NOON + 99_001) is None

    run(work)


def test_a_reader_waits_for_new_events(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine)
        reader = await engine.reader([Position(topic, 0, 0)])
        assert not await reader.read(wait_ms=50)
        waiting = asyncio.create_task(read(reader, 1))
        await asyncio.sleep(0.05)
        await engine.publish(topic, [NewEvent(b"late")])
        assert values(await waiting) == [b"late"]
        await reader.close()

    run(work)


def test_a_reader_reads_each_partition_in_order_up_to_the_limit(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine, partitions=3)
        await engine.publish(topic, [NewEvent(b"%d" % number, partition=number % 3) for number in range(300)])
        reader = await engine.reader([Position(topic, index, 10) for index in range(3)])
        events: list[Event] = []
        while len(events) < 270:
            result = await reader.read(max_events=7, wait_ms=5_000)
            assert 0 < len(result.events) <= 7
            events += result.events
        for index in range(3):
            offsets = [event.offset for event in events if event.partition == index]
            assert offsets == list(range(10, 100))
        assert reader.positions() == [Position(topic, index, 100) for index in range(3)]
        await reader.close()

    run(work)


def test_a_reader_can_seek(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine)
        await engine.publish(topic, [NewEvent(b"%d" % number) for number in range(10)])
        reader = await engine.reader([Position(topic, 0, 8)])
        assert values(await read(reader, 2)) == [b"8", b"9"]
        reader.seek(Position(topic, 0, 3))
        assert values(await read(reader, 2)) == [b"3", b"4"]
        await reader.close()

    run(work)


def test_reading_at_a_position_that_retention_removed_is_an_error(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine)
        await engine.publish(topic, [NewEvent(b"%d" % number) for number in range(10)])
        assert await engine.delete_records(topic, 0, 6) == 6
        assert await engine.bounds(topic, 0) == Bounds(6, 10)
        reader = await engine.reader([Position(topic, 0, 2)])
        with pytest.raises(PositionOutOfRange):
            await read(reader, 1)
        reader.seek(Position(topic, 0, 6))
        assert values(await read(reader, 4)) == [b"6", b"7", b"8", b"9"]
        await reader.close()
        assert await engine.delete_records(topic, 0, -1) == 10

    run(work)


def test_topics_are_created_listed_altered_extended_and_deleted(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic = await made(engine, partitions=2, retention_ms="86400000")
        with pytest.raises(TopicExists, match=topic):
            await engine.create_topic(topic)
        await engine.publish(topic, [NewEvent(b"x", partition=1)])
        (listed,) = [summary for summary in await engine.topics() if summary.name == topic]
        assert (listed.partitions, listed.events, listed.internal) == (2, 1, False)
        await engine.alter_topic(topic, {"retention.bytes": "1000000", "retention.ms": None})
        await engine.add_partitions(topic, 4)
        info = await engine.topic(topic)
        assert listed.id == info.id == await engine.topic_id(topic) != ""
        for _ in range(100):
            if len(info.partitions) == 4:
                break
            await asyncio.sleep(0.05)
            info = await engine.topic(topic)
        assert [(partition.partition, partition.begin, partition.end) for partition in info.partitions] == [
            (0, 0, 0),
            (1, 0, 1),
            (2, 0, 0),
            (3, 0, 0),
        ]
        settings = {setting.name: setting for setting in info.settings}
        assert settings["retention.bytes"].value == "1000000"
        assert not settings["retention.bytes"].is_default
        assert settings["retention.ms"].is_default
        assert len(info.id) == 22
        await engine.delete_topic(topic)
        for _ in range(100):
            if topic not in [summary.name for summary in await engine.topics()]:
                break
            await asyncio.sleep(0.05)
        with pytest.raises(UnknownTopic, match=topic):
            await engine.topic(topic)
        with pytest.raises(UnknownTopic):
            await engine.topic_id(topic)
        with pytest.raises(UnknownTopic, match=topic):
            await engine.delete_topic(topic)

    run(work)


def test_an_impossible_topic_is_refused_with_a_reason(run: Run) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(InvalidArgument, match="a/b"):
            await engine.create_topic("a/b")
        with pytest.raises(InvalidArgument, match=r"retention\.msec"):
            await engine.create_topic(name(), settings={"retention.msec": "1"})
        topic = await made(engine, partitions=2)
        with pytest.raises(InvalidArgument, match=topic):
            await engine.add_partitions(topic, 1)
        with pytest.raises(InvalidArgument, match=topic):
            await engine.alter_topic(topic, {"retention.ms": "soon"})
        with pytest.raises(UnknownTopic):
            await engine.bounds(topic, 2)
        with pytest.raises(UnknownTopic):
            await engine.reader([Position(name(), 0, 0)])
        with pytest.raises(InvalidArgument):
            await engine.reader([])

    run(work)


def test_a_group_continues_at_its_committed_position(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic, group = await made(engine), name("group")
        await engine.publish(topic, [NewEvent(b"%d" % number) for number in range(10)])
        member = await engine.join(group, [topic], start="earliest")
        assert values(await read(member, 4)) == [b"0", b"1", b"2", b"3"]
        await member.commit()
        info = await engine.group(group)
        assert info.state == "Stable"
        assert [member.assigned for member in info.members] == [((topic, 0),)]
        (position,) = info.positions
        assert (position.offset, position.end, position.lag) == (4, 10, 6)
        assert position.lag_ms is not None
        await member.close()
        again = await engine.join(group, [topic], start="latest")
        assert values(await read(again, 6)) == [b"4", b"5", b"6", b"7", b"8", b"9"]
        await again.close()
        assert (await engine.group(group)).positions[0].offset == 4

    run(work)


def test_members_of_a_group_share_the_partitions(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic, group = await made(engine, partitions=4), name("group")
        first = await engine.join(group, [topic], start="earliest")
        await first.read(wait_ms=200)
        second = await engine.join(group, [topic], start="earliest")
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            await asyncio.gather(first.read(wait_ms=200), second.read(wait_ms=200))
            shares = [len(member.assigned) for member in (await engine.group(group)).members]
            if shares == [2, 2]:
                break
        assert shares == [2, 2]
        await engine.publish(topic, [NewEvent(b"%d" % number, partition=number) for number in range(4)])
        seen: list[bytes | None] = []
        while len(seen) < 4 and time.monotonic() < deadline:
            for result in await asyncio.gather(first.read(wait_ms=200), second.read(wait_ms=200)):
                seen += values(result.events)
        assert sorted(value or b"" for value in seen) == [b"0", b"1", b"2", b"3"]
        await first.close()
        await second.close()

    run(work)


def test_positions_can_be_set_only_for_a_group_without_members(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic, group = await made(engine, partitions=2), name("group")
        await engine.publish(topic, [NewEvent(b"%d" % number, partition=0) for number in range(5)])
        await engine.set_positions(group, [Position(topic, 0, 3)])
        info = await engine.group(group)
        assert info.state == "Empty"
        assert [
            (position.partition, position.offset, position.end, position.lag) for position in info.positions
        ] == [
            (0, 3, 5, 2),
            (1, None, 0, None),
        ]
        member = await engine.join(group, [topic], start="earliest")
        assert values(await read(member, 2)) == [b"3", b"4"]
        with pytest.raises(GroupInUse, match=group):
            await engine.set_positions(group, [Position(topic, 0, 0)])
        with pytest.raises(GroupInUse, match=group):
            await engine.delete_group(group)
        await member.close()
        assert group in [summary.name for summary in await engine.groups()]
        await engine.delete_group(group)
        with pytest.raises(UnknownGroup, match=group):
            await engine.group(group)
        with pytest.raises(UnknownGroup, match=group):
            await engine.delete_group(group)

    run(work)


def test_a_position_of_deleted_events_does_not_delay_the_group(run: Run) -> None:
    async def work(engine: Engine) -> None:
        topic, group = await made(engine, partitions=2), name("group")
        await engine.publish(topic, [NewEvent(b"x", partition=number % 2) for number in range(10)])
        await engine.set_positions(group, [Position(topic, 0, 1), Position(topic, 1, 1)])
        await engine.delete_records(topic, 0, 3)
        await engine.delete_records(topic, 1, -1)
        async with asyncio.timeout(8):  # less than the time that the Kafka engine waits for an event
            positions = (await engine.group(group)).positions
        assert [(position.offset, position.end) for position in positions] == [(1, 5), (1, 5)]
        assert positions[0].lag_ms is not None

    run(work)


def test_the_cluster_lists_its_brokers(run: Run) -> None:
    async def work(engine: Engine) -> None:
        cluster = await engine.cluster()
        assert cluster.id
        assert cluster.controller in [broker.id for broker in cluster.brokers]
        health = await engine.health()
        assert health.ok, health.problems

    run(work)


def test_every_error_is_of_the_contract() -> None:
    assert all(
        issubclass(error, StreamError) for error in (UnknownTopic, TopicExists, GroupInUse, InvalidArgument)
    )
