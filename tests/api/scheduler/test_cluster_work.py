"""Subscribers over members of a group, without queues: on an engine in memory, whose groups are Kafka's."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count

import pytest
from bench import lanes

from mainstem.api.event import Event
from mainstem.api.scheduler import cluster_work
from mainstem.api.scheduler.cluster_lists import ClusterListWork
from mainstem.api.scheduler.cluster_redrive import redrive_on_cluster
from mainstem.api.scheduler.notes import CommitNotes, decode_notes, encode_notes
from mainstem.api.signals import DeadLetter, Retry, RetryIn
from mainstem.contract import Position, UnknownTopic
from tests.api.subscriber_rig import MemoryBackend, memory_backend, running, settled, subscriber

GROUP, TOPIC = "billing", "orders"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_work, "COMMIT_S", 0.02)
    monkeypatch.setattr(cluster_work, "READ_MS", 5)


def on_cluster(test: Callable[[MemoryBackend], Awaitable[None]], partitions: int = 1) -> None:
    async def run() -> None:
        async with memory_backend(partitions) as backend:
            backend.queues = None
            await backend.engine.create_topic(TOPIC)
            await test(backend)

    asyncio.run(run())


async def notes_of(backend: MemoryBackend, partition: int = 0) -> tuple[int, CommitNotes | None]:
    """What the group has committed."""
    (topic,) = [
        topic for topic in await backend.engine._node.groups.fetch_offsets(GROUP) if topic.topic.name == TOPIC
    ]
    committed = topic.partitions[partition].offset
    assert committed is not None
    return committed.offset, decode_notes(committed.metadata, committed.offset)


def headers_of(event: object) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in event.headers}  # type: ignore[attr-defined]


def test_events_are_handled_once_in_order_and_a_stop_leaves_a_clean_commit() -> None:
    seen: list[str] = []

    async def test(backend: MemoryBackend) -> None:
        await backend.publish(TOPIC, *map(str, range(500)))
        for _ in range(2):
            async with running(backend, [subscriber(seen.append)]) as runner:
                assert runner.is_joined
                await settled(runner)
            assert not runner.is_joined
        position, notes = await notes_of(backend)
        assert position == 500
        assert notes is not None
        assert not notes.is_running

    on_cluster(test)
    assert seen == list(map(str, range(500)))


def test_lanes_neither_overlap_nor_reorder_a_key_although_handlers_fail_at_random() -> None:
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    seen: defaultdict[str, list[int]] = defaultdict(list)
    inside: set[str] = set()
    most = 0

    async def bill(event: Event[str]) -> None:
        nonlocal most
        key, _, number = event.value.partition(":")
        assert key not in inside, f"two of a key at once (seed {seed})"
        inside.add(key)
        most = max(most, len(inside))
        try:
            await asyncio.sleep(rng.random() / 1_000)
            if rng.random() < 0.1:
                raise ValueError("by chance")
        finally:
            inside.discard(key)
        seen[key].append(int(number))

    async def test(backend: MemoryBackend) -> None:
        await backend.publish(TOPIC, *(f"k{number % 40}:{number}" for number in range(800)))
        retry = Retry(max_attempts=50, initial_delay=0.001, max_delay=0.005)
        async with running(backend, [subscriber(bill, concurrency=32, retry=retry)]) as runner:
            await settled(runner, 800)

    on_cluster(test, partitions=3)
    assert most > 8, "keys run beside each other"
    assert all(numbers == sorted(numbers) for numbers in seen.values()), f"seed {seed}"
    assert sum(map(len, seen.values())) == 800


def test_what_cannot_be_handled_goes_to_the_dead_letters_with_the_headers_of_the_queue_engine() -> None:
    attempts: list[tuple[str, int]] = []

    async def bill(event: Event[str]) -> None:
        attempts.append((event.value, event.attempt))
        if event.value == "bad":
            raise DeadLetter("unknown customer")
        if event.value == "failing":
            raise ValueError("no")

    async def test(backend: MemoryBackend) -> None:
        await backend.publish(TOPIC, "bad", "failing", "good", trace="t1")
        async with running(
            backend, [subscriber(bill, retry=Retry(max_attempts=2, initial_delay=0))]
        ) as runner:
            await settled(runner, 3)
            (state,) = await runner.state()
            assert (state.done, state.dead, state.failed) == (1, 2, 3)
        letters = await backend.letters("orders.billing.dead")
        by_reason = {headers_of(letter)["mainstem-dead-letter-reason"]: letter for letter in letters}
        assert by_reason["rejected"].value == b"bad"
        headers = headers_of(by_reason["failed"])
        assert headers.pop("mainstem-dead-letter-topic-id") == await backend.engine.topic_id(TOPIC)
        assert int(headers.pop("mainstem-dead-letter-time")) > 0
        assert int(headers.pop("mainstem-dead-letter-event-time")) > 0
        assert headers == {
            "trace": "t1",
            "mainstem-dead-letter-reason": "failed",
            "mainstem-dead-letter-detail": "ValueError: no",
            "mainstem-dead-letter-attempts": "2",
            "mainstem-dead-letter-subscription": "orders.billing",
            "mainstem-dead-letter-from": "orders/0/1",
        }

    on_cluster(test)
    assert sorted(attempts) == [("bad", 1), ("failing", 1), ("failing", 2), ("good", 1)]


def test_dead_letters_are_redriven_once_to_their_group() -> None:
    seen: list[tuple[str, int, str]] = []
    is_mended = False

    async def bill(event: Event[str]) -> None:
        seen.append((event.value, event.attempt, event.id))
        if event.value != "good" and not is_mended:
            raise DeadLetter(f"no {event.value}")

    async def test(backend: MemoryBackend) -> None:
        nonlocal is_mended

        async def redrive(where: str = "", *, dry_run: bool = False) -> int:
            return await redrive_on_cluster(
                backend.engine,
                "orders.billing",
                where=where,
                since_ms=0,
                now_ms=backend.clock.wall_ms(),
                dry_run=dry_run,
            )

        await backend.publish(TOPIC, "bad", "good", "worse")
        async with running(backend, [subscriber(bill)]) as runner:
            await settled(runner, 3)
            del seen[:]
            is_mended = True
            assert await redrive(dry_run=True) == 2
            assert await redrive('header.mainstem-dead-letter-detail:"no worse"') == 1
            assert await redrive() == 1
            assert await redrive() == 0
            await settled(runner, 5)

    on_cluster(test)
    assert sorted(seen) == [("bad", 1, "orders/0/0"), ("worse", 1, "orders/0/2")]


def test_a_retry_that_takes_too_long_to_hold_its_key_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_work, "IN_PLACE_MS_MAX", 60)
    seen: list[tuple[str, int, str]] = []

    async def bill(event: Event[str]) -> None:
        seen.append((event.value, event.attempt, event.id))
        if event.value == "k:first" and event.attempt < 3:
            raise RetryIn(0.1)

    async def test(backend: MemoryBackend) -> None:
        await backend.publish(TOPIC, "k:first", "k:second")
        async with running(backend, [subscriber(bill)]) as runner:
            await settled(runner, 2)
            assert not await backend.letters("orders.billing.dead")
            copies = await backend.letters("orders.billing.retry")
        assert [headers_of(copy)["mainstem-retry-attempts"] for copy in copies] == ["1", "1", "2", "2"]
        assert {headers_of(copy)["mainstem-dead-letter-from"] for copy in copies} == {"orders/0/0"}

    on_cluster(test)
    assert seen[1][0] == "k:second", "its order is given up"
    assert [(attempt, id_) for value, attempt, id_ in seen if value == "k:first"] == [
        (1, "orders/0/0"),
        (2, "orders/0/0"),
        (3, "orders/0/0"),
    ]


def test_an_event_with_a_time_waits_for_it_and_holds_only_its_key() -> None:
    seen: list[str] = []

    async def test(backend: MemoryBackend) -> None:
        later_ms = backend.clock.wall_ms() + 150
        await backend.publish(TOPIC, "k:later", mainstem_not_before=str(later_ms))
        await backend.publish(TOPIC, "k:behind", "other:1")
        async with running(backend, [subscriber(seen.append)]) as runner:
            await settled(runner, 3)
        assert backend.clock.wall_ms() >= later_ms

    on_cluster(test)
    assert seen == ["other:1", "k:later", "k:behind"]


def test_a_stop_cancels_after_its_grace_and_the_next_start_repeats_only_what_was_open() -> None:
    seen: list[str] = []

    async def bill(order: str) -> None:
        if order == "slow:1" and "slow:1" not in seen:
            seen.append(order)
            await asyncio.sleep(60)
        seen.append(order)

    async def test(backend: MemoryBackend) -> None:
        await backend.publish(TOPIC, "slow:1", "slow:2", *(f"k{number}:x" for number in range(50)))
        async with running(backend, [subscriber(bill, concurrency=4)], grace_s=0.01):
            async with asyncio.timeout(20):
                while len(seen) < 51:
                    await asyncio.sleep(0.001)
        position, notes = await notes_of(backend)
        assert position == 0
        assert notes is not None
        assert (list(notes.done), notes.is_running, notes.suspects) == ([(2, 52)], False, {})
        del seen[1:]
        async with running(backend, [subscriber(bill)]) as runner:
            await settled(runner)

    on_cluster(test)
    assert seen == ["slow:1", "slow:1", "slow:2"]


def test_a_partition_moves_to_another_process_without_a_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.engines.embedded.member.HEARTBEAT_INTERVAL_S", 0.02)
    seen: list[str] = []
    by: list[set[str]] = [set(), set()]

    async def test(backend: MemoryBackend) -> None:
        async def first(order: str) -> None:
            await asyncio.sleep(0.001)
            seen.append(order)
            by[0].add(order)

        async def second(order: str) -> None:
            await asyncio.sleep(0.001)
            seen.append(order)
            by[1].add(order)

        await backend.publish(TOPIC, *(f"k{number % 20}:{number}" for number in range(300)))
        async with running(backend, [subscriber(first, concurrency=2)]) as staying:
            async with running(backend, [subscriber(second, concurrency=2)]) as leaving:
                async with asyncio.timeout(20):
                    for turn in count():
                        if by[0] and by[1]:
                            break
                        await backend.publish(TOPIC, *(f"k{number}:{turn} more" for number in range(20)))
                        await asyncio.sleep(0.01)
                await settled(leaving)
            await settled(staying)

    on_cluster(test, partitions=4)
    assert len(seen) == len(set(seen))


def test_an_event_that_was_in_flight_at_three_deaths_is_given_up() -> None:
    seen: list[str] = []

    async def test(backend: MemoryBackend) -> None:
        await backend.publish(TOPIC, "a", "killer", "b", "c")
        notes = CommitNotes(position=1, is_running=True, suspects={1: 3, 2: 1}, done=((3, 4),))
        member = await backend.engine.join(GROUP, [TOPIC], start="earliest")
        await member.read()
        await member.commit([Position(TOPIC, 0, 1)], {(TOPIC, 0): encode_notes(notes)})
        await member.close()
        async with running(backend, [subscriber(seen.append, concurrency=2)]) as runner:
            await settled(runner, 2)
        (letter,) = await backend.letters("orders.billing.dead")
        assert letter.value == b"killer"
        assert headers_of(letter)["mainstem-dead-letter-detail"] == "killed the process 3 times"

    on_cluster(test)
    assert seen == ["b"]


def test_a_group_begins_where_its_subscriber_says() -> None:
    seen: list[str] = []

    async def test(backend: MemoryBackend) -> None:
        with pytest.raises(UnknownTopic):
            async with running(backend, [subscriber(seen.append, topic="no-such-topic")]):
                pass
        await backend.publish(TOPIC, "old")
        start = datetime.fromtimestamp(backend.clock.wall_ms() / 1000 + 0.005, UTC)
        await asyncio.sleep(0.01)
        await backend.publish(TOPIC, "new")
        async with running(backend, [subscriber(seen.append, start=start)]) as runner:
            await settled(runner, 1)

    on_cluster(test)
    assert seen == ["new"]


def test_lists_are_filled_in_order_and_one_bad_event_does_not_keep_the_others() -> None:
    lists: list[list[str]] = []
    done: list[str] = []

    async def store(batch: list[str]) -> None:
        lists.append(batch)
        if "k3:bad" in batch:
            raise ValueError("bad")
        done.extend(batch)

    async def test(backend: MemoryBackend) -> None:
        values = [f"k{number % 7}:{number}" for number in range(100)]
        values[52] = "k3:bad"
        await backend.publish(TOPIC, *values)
        retry = Retry(max_attempts=3, initial_delay=0.01)
        async with running(backend, [subscriber(store, batch=30, max_wait=0.05, retry=retry)]) as runner:
            await settled(runner, 100)
            (state,) = await runner.state()
            assert (state.done, state.dead) == (99, 1)
        (letter,) = await backend.letters("orders.billing.dead")
        assert letter.value == b"k3:bad"

    on_cluster(test)
    assert len(lists[0]) == 30
    bad = [batch for batch in lists if "k3:bad" in batch]
    assert [len(batch) for batch in bad] == [30, 30, 1, 1, 1], "twice with the others, and then alone"
    assert len(done) == 99
    for key in range(7):
        numbers = [int(value[3:]) for value in done if value.startswith(f"k{key}:")]
        assert numbers == sorted(numbers)


def test_a_stop_ends_the_wait_for_a_full_list_and_gives_a_cancelled_one_back() -> None:
    lists: list[list[str]] = []

    async def store(batch: list[str]) -> None:
        lists.append(batch)
        if len(lists) == 1:
            await asyncio.sleep(60)

    async def test(backend: MemoryBackend) -> None:
        await backend.publish(TOPIC, "k:1", "k:2", "other:1")
        async with running(backend, [subscriber(store, batch=3)], grace_s=0.01):
            async with asyncio.timeout(20):
                while not lists:
                    await asyncio.sleep(0.001)
        async with running(backend, [subscriber(store, batch=10, max_wait=300)]) as runner:
            async with asyncio.timeout(20):
                while (await runner.state())[0].in_flight < 3:
                    await asyncio.sleep(0.001)
        async with running(backend, [subscriber(store, batch=10)]) as runner:
            await settled(runner)

    on_cluster(test)
    assert [sorted(batch) for batch in lists] == [["k:1", "k:2", "other:1"]] * 2
    assert [value for value in lists[1] if value != "other:1"] == ["k:1", "k:2"]


def test_an_event_that_waits_for_its_own_list_does_not_start_once_its_partition_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_work, "REVOKE_GRACE_S", 0.01)
    lists: list[list[str]] = []

    async def store(batch: list[str]) -> None:
        lists.append(batch)
        await asyncio.sleep(60)

    async def test(backend: MemoryBackend) -> None:
        await backend.publish(TOPIC, "k:1")
        async with running(backend, [subscriber(store, batch=10, max_wait=300)], grace_s=0.01) as runner:
            (work,) = runner._works
            assert isinstance(work, ClusterListWork)
            async with asyncio.timeout(20):
                while not work._lanes.in_flight:
                    await asyncio.sleep(0.001)
                await backend.publish("orders.billing.retry", "other:2", mainstem_retry_attempts="1")
                while not lists:
                    await asyncio.sleep(0.001)
                await work.revoked(list(work._ledgers))
            assert work._lanes.in_flight == 0

    on_cluster(test)
    assert lists == [["k:1"]]


def test_the_bench_of_the_lanes_runs() -> None:
    assert all(asyncio.run(lanes.rate(concurrency, 500)) > 0 for concurrency in lanes.BARS)
