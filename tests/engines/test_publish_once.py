"""Publishing with an identity: an acknowledged event is stored once, a failed one may be sent again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest

from mainstem.contract import InvalidArgument, NewEvent, NotReachable, Position, StreamError
from mainstem.coordinator import publishers
from mainstem.coordinator.publishers import PartitionKey
from mainstem.door_contract import PRODUCER_CHARS_MAX, PUBLISH_ID_MAX, OnceResult, PublishesOnce
from mainstem.engines.embedded import publish_once
from mainstem.engines.embedded.publish import BATCH_EVENTS_MAX
from mainstem.engines.embedded.publish_once import PUBLISHER_HEADER
from mainstem.log.partition.partition import Partition
from tests.engines.queue_server import SimulatedServer


def once(test: Callable[[SimulatedServer], Awaitable[None]], partitions: int = 1) -> None:
    """Run a test against a server with a topic `t`."""

    async def run() -> None:
        server = SimulatedServer()
        await server.drive(server.engine.create_topic("t", partitions=partitions))
        await test(server)
        await server.engine.close()

    asyncio.run(run())


async def send(
    server: SimulatedServer, *ids: int, producer: str = "p", key: bytes | None = None
) -> list[OnceResult]:
    events = [(id_, NewEvent(b"%d" % id_, key)) for id_ in ids]
    return await server.drive(server.engine.publish_once("t", producer, events))


async def stored(server: SimulatedServer, partitions: int = 1) -> list[bytes]:
    """The values of all events of the topic."""
    reader = await server.engine.reader([Position("t", index, 0) for index in range(partitions)])
    values: list[bytes] = []
    while result := await server.drive(reader.read(wait_ms=0)):
        values += [event.value or b"" for event in result.events]
    await reader.close()
    return values


def offsets(results: Sequence[OnceResult]) -> list[int | None]:
    assert not any(isinstance(result, StreamError) for result in results)
    return [result.offset if isinstance(result, Position) else None for result in results]


def test_an_event_is_stored_once_whatever_gaps_its_ids_have() -> None:
    async def test(server: SimulatedServer) -> None:
        assert isinstance(server.engine, PublishesOnce)
        assert await server.drive(server.engine.last_published("t", "p")) is None
        assert offsets(await send(server, 0, 1, 5)) == [0, 1, 2]
        assert offsets(await send(server, 1, 5, 6, 100)) == [None, None, 3, 4]
        assert offsets(await send(server, 7)) == [None]
        assert offsets(await send(server, 7, producer="other")) == [5]
        assert offsets(await send(server, PUBLISH_ID_MAX)) == [6]
        assert await stored(server) == [b"0", b"1", b"5", b"6", b"100", b"7", b"%d" % PUBLISH_ID_MAX]
        assert await server.drive(server.engine.last_published("t", "p")) == PUBLISH_ID_MAX

    once(test)


def test_each_partition_has_its_own_last_id_so_that_keys_may_be_mixed() -> None:
    async def test(server: SimulatedServer) -> None:
        events = [(id_, NewEvent(b"%d" % id_, b"k%d" % (id_ % 7))) for id_ in range(50)]
        results = await server.drive(server.engine.publish_once("t", "p", events))
        assert {result.partition for result in results if isinstance(result, Position)} == {0, 1, 2}
        assert await server.drive(server.engine.publish_once("t", "p", events)) == [None] * 50
        assert sorted(await stored(server, 3)) == sorted(b"%d" % id_ for id_ in range(50))
        assert await server.drive(server.engine.last_published("t", "p")) == 49

    once(test, partitions=3)


@pytest.mark.parametrize("power", [False, True])
def test_the_last_id_survives_crashes_also_before_it_is_recorded(power: bool) -> None:
    async def test(server: SimulatedServer) -> None:
        await send(server, 1, 2)
        await server.pass_time(1)
        server.engine._once._closed = True  # nothing more is recorded
        await send(server, 3, 4)
        await send(server, 9, producer="other")
        await server.publish("t", b"of a plain producer")
        await server.crash(power=power)
        assert await server.drive(server.engine.last_published("t", "p")) == 4
        assert offsets(await send(server, 3, 4, 5)) == [None, None, 6]
        assert offsets(await send(server, 9, producer="other")) == [None]

    once(test)


def test_a_partition_is_closed_when_it_is_idle_and_needs_no_reading_after_that() -> None:
    async def test(server: SimulatedServer) -> None:
        machine = server.node.publishers
        await send(server, 1)
        assert len(machine.open_partitions()) == 1
        await server.pass_time(25)
        assert machine.open_partitions() == []
        await server.publish("t", b"plain")
        assert offsets(await send(server, 1, 2)) == [None, 2]
        server.node.queue_runtime.take_snapshot()
        await server.pass_time(1)
        await server.crash(power=False)
        await server.pass_time(25)
        assert server.node.publishers.open_partitions() == []
        assert offsets(await send(server, 2, 3)) == [None, 3]

    once(test)


def test_an_event_that_failed_may_be_sent_again() -> None:
    async def test(server: SimulatedServer) -> None:
        await send(server, 1)
        server.disk.sync_fails = 1.0
        (failed,) = await send(server, 2)
        assert isinstance(failed, NotReachable)
        server.disk.sync_fails = 0.0
        await server.pass_time(30)
        assert await stored(server) == [b"1"]
        (result,) = await send(server, 2)
        assert isinstance(result, Position)
        assert await send(server, 2) == [None]

    once(test)


def test_a_duplicate_in_flight_waits_for_the_first() -> None:
    async def test(server: SimulatedServer) -> None:
        await send(server, 1)
        event = [(2, NewEvent(b"2"))]
        first = asyncio.ensure_future(server.engine.publish_once("t", "p", event))
        second = asyncio.ensure_future(server.engine.publish_once("t", "p", event))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not second.done()
        assert offsets(await server.drive(first)) == [1]
        assert await server.drive(second) == [None]
        server.disk.sync_fails = 1.0
        event = [(3, NewEvent(b"3"))]
        first = asyncio.ensure_future(server.engine.publish_once("t", "p", event))
        second = asyncio.ensure_future(server.engine.publish_once("t", "p", event))
        for call in (first, second):
            assert isinstance((await server.drive(call))[0], NotReachable)

    once(test)


def test_a_partition_that_is_closed_while_another_is_opened_is_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(server: SimulatedServer) -> None:
        opener = server.engine._once
        recover, slow = opener._recover, [True]

        async def recover_slowly(key: PartitionKey, partition: Partition) -> None:
            await recover(key, partition)
            if key[1] == 1 and slow and slow.pop():
                server.clock.advance(2 * publish_once.IDLE_S)
                for _ in range(40):
                    await asyncio.sleep(0)

        monkeypatch.setattr(opener, "_recover", recover_slowly)
        events = [(id_, NewEvent(b"%d" % id_, partition=id_ % 2)) for id_ in range(2)]
        results = await server.drive(server.engine.publish_once("t", "p", events))
        assert offsets(results) == [0, 0]
        assert not slow
        await server.crash(power=True)
        assert await server.drive(server.engine.publish_once("t", "p", events)) == [None, None]

    once(test, partitions=2)


def test_what_a_publisher_forges_is_not_believed() -> None:
    async def test(server: SimulatedServer) -> None:
        await send(server, 1)
        forged = NewEvent(b"x", None, ((PUBLISHER_HEADER, b"99:p"),))
        await server.drive(server.engine.publish("t", [forged]))
        await server.drive(server.engine.publish_once("t", "q", [(1, forged), (2, NewEvent(b"y"))]))
        await server.crash(power=False)
        assert await server.drive(server.engine.last_published("t", "p")) == 1
        (result,) = await send(server, 2)
        assert isinstance(result, Position)

    once(test)


def test_what_cannot_be_published_is_refused() -> None:
    async def test(server: SimulatedServer) -> None:
        async def refused(producer: str, *ids: int, timestamp_ms: int | None = None) -> None:
            with pytest.raises(InvalidArgument):
                events = [(id_, NewEvent(b"", timestamp_ms=timestamp_ms)) for id_ in ids]
                await server.drive(server.engine.publish_once("t", producer, events))

        await refused("", 1)
        await refused("p" * (PRODUCER_CHARS_MAX + 1), 1)
        await refused("p", 2, 2)
        await refused("p", -1)
        await refused("p", PUBLISH_ID_MAX + 1)
        await refused("p", 1, timestamp_ms=-5)
        too_large = [(1, NewEvent(b"1")), (2, NewEvent(bytes(2 << 20))), (3, NewEvent(b"3"))]
        results = await server.drive(server.engine.publish_once("t", "p", too_large))
        assert isinstance(results[0], Position)
        assert isinstance(results[1], StreamError)
        assert isinstance(results[2], NotReachable)
        assert offsets(await send(server, 1, 3)) == [None, 1]

    once(test)


def test_publishers_of_a_deleted_topic_and_idle_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        machine = server.node.publishers
        monkeypatch.setattr(publishers, "PUBLISHERS_MAX", 5)
        for number in range(8):
            await send(server, 1, producer=f"p{number}")
        await server.pass_time(1)
        assert len(machine) == 5
        assert await server.drive(server.engine.last_published("t", "p7")) == 1
        server.clock.advance(20)
        await server.turns()
        monkeypatch.setattr(publishers, "IDLE_MS_MAX", 3_000)
        await server.drive(machine.forget_idle())
        assert len(machine) == 0
        await send(server, 1)
        await server.pass_time(1)
        assert len(machine) == 1
        await server.drive(server.engine.delete_topic("t"))
        await server.pass_time(1)
        assert len(machine) == 0
        assert machine.open_partitions() == []

    once(test)


class OnceHistory:
    """Producers that send each event until it is acknowledged, over kills and power cuts."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.server = SimulatedServer(seed)
        self.next = Counter[str]()
        """Producer -> the first id that is not acknowledged."""

    async def run(self) -> None:
        server = self.server
        await server.drive(server.engine.create_topic("t", partitions=2))
        for _ in range(40):
            act = self.rng.choice((self.send, self.send, self.send, self.wait, self.disturb))
            await act()
        for producer in ("a", "b"):
            await self.send(producer)
        values = Counter(await stored(server, 2))
        for producer, end in self.next.items():
            for id_ in range(end):
                assert values[f"{producer}{id_}".encode()] == 1, f"{producer}{id_}"
        await server.engine.close()

    async def send(self, producer: str = "") -> None:
        server, producer = self.server, producer or self.rng.choice("ab")
        first = self.next[producer]
        ids = range(first, first + self.rng.randint(1, 20))
        events = [(id_, NewEvent(f"{producer}{id_}".encode(), b"k%d" % (id_ % 5))) for id_ in ids]
        for _ in range(20):
            call = asyncio.ensure_future(server.engine.publish_once("t", producer, events))
            if self.rng.random() < 0.15:
                for _ in range(self.rng.randrange(8)):
                    await server.turns()
                    if self.rng.random() < 0.5 and not call.done():
                        server.clock.advance(0.001)
                call.cancel()
                await server.crash(power=self.rng.random() < 0.5)
                continue
            try:
                results = await server.drive(call)
            except StreamError:
                results = [NotReachable("all")]
            if not any(isinstance(result, StreamError) for result in results):
                self.next[producer] = ids.stop
                return
            server.disk.sync_fails = 0.0
            await server.pass_time(2)
        raise AssertionError("an event is refused for ever")

    async def wait(self) -> None:
        if self.rng.random() < 0.3:
            self.server.node.queue_runtime.take_snapshot()
        await self.server.pass_time(self.rng.choice((0.01, 1, 30)))

    async def disturb(self) -> None:
        self.server.disk.sync_fails = self.rng.choice((0.0, 0.3))


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_stored_twice_over_crashes(seed: int) -> None:
    asyncio.run(OnceHistory(seed).run())


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 100, 25))
def test_nothing_is_stored_twice_in_many_histories(first: int) -> None:
    for seed in range(first, first + 25):
        asyncio.run(OnceHistory(seed).run())


def test_events_of_one_id_are_stored_together_and_once() -> None:
    async def test(server: SimulatedServer) -> None:
        events = [(1, NewEvent(b"a")), (1, NewEvent(b"b")), (2, NewEvent(b"c"))]
        with pytest.raises(InvalidArgument):
            await server.drive(server.engine.publish_once("t", "p", events))
        results = await server.drive(server.engine.publish_once("t", "p", events[:2], ids_may_repeat=True))
        assert results == [Position("t", 0, 0), Position("t", 0, 1)]
        results = await server.drive(server.engine.publish_once("t", "p", events, ids_may_repeat=True))
        assert results == [None, None, Position("t", 0, 2)]

    once(test)


def test_a_batch_ends_where_an_id_ends_unless_it_has_too_many_events() -> None:
    async def test(server: SimulatedServer) -> None:
        most = BATCH_EVENTS_MAX
        events = (
            [(0, NewEvent(b"x"))] * (most - 1) + [(1, NewEvent(b"x"))] * 2 + [(2, NewEvent(b"x"))] * most * 2
        )
        await server.drive(server.engine.publish_once("t", "p", events, ids_may_repeat=True))
        reader = await server.engine.reader([Position("t", 0, 0)])
        marks = []
        while read := (await server.drive(reader.read(max_events=1_000, wait_ms=0))).events:
            marks += [
                (event.offset, value)
                for event in read
                for name, value in event.headers
                if name == PUBLISHER_HEADER
            ]
        await reader.close()
        assert marks == [
            (most - 2, b"0:p"),
            (most, b"1:p"),
            (2 * most, b"1:p"),
            (3 * most, b"2:p"),
        ]

    once(test)
