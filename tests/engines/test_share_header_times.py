"""Share groups: what an event says about its time holds for batches that are delivered as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mainstem.contract import NewEvent
from mainstem.engines.embedded.queues.header_times import LOOK_S
from mainstem.log.storage.record_batch import build
from mainstem.queues.range_answer import RangeAnswer, RangeVerb
from mainstem.share_contract import BatchPull, PartitionKey
from tests.engines.queue_server import SimulatedServer, depth, simulated
from tests.engines.test_queue_expiry_refused import refuse
from tests.engines.test_share_dead_letters import group, letters

DAY_MS = 24 * 3_600_000


def key_of(server: SimulatedServer) -> PartitionKey:
    topic = server.node.topics.get("t")
    assert topic is not None
    return topic.id, 0


def pull_of(server: SimulatedServer, wait_ms: int = 0) -> BatchPull:
    return BatchPull(
        "g", "m", [key_of(server)], max_events=100, max_bytes=1 << 20, min_bytes=1, wait_ms=wait_ms
    )


async def acquired(server: SimulatedServer, pull: BatchPull | None = None) -> list[tuple[int, int, int]]:
    """(first, last, deliveries) of what is acquired now."""
    pull = pull_of(server) if pull is None else pull
    deliveries = await server.drive(server.engine.batch_queues.pull_batches(pull)[0])
    assert [delivery.error for delivery in deliveries if delivery.error is not None] == []
    runs = [run for delivery in deliveries for run in delivery.acquired]
    return [(run.first, run.last, run.deliveries) for run in runs]


async def answer(server: SimulatedServer, verb: RangeVerb, first: int, end: int) -> None:
    answers = {key_of(server): [RangeAnswer(first, end, verb)]}
    assert await server.drive(server.engine.batch_queues.answer_ranges("g", "m", answers)) == {}


async def publish(
    server: SimulatedServer, *headers: Sequence[tuple[str, bytes]], codec: str = "none"
) -> None:
    """A batch of events with these headers, as a Kafka client sends it."""
    now_ms = server.clock.wall_ms()
    topic = server.node.topics.get("t")
    assert topic is not None
    partition = server.node.partition(topic, 0)
    records = [(b"LH430", b'{"state":"boarding"}', tuple(own), now_ms) for own in headers]
    append = partition.append(memoryview(bytearray(build(records, codec=codec))))
    await server.drive(partition.when_committed(append.next_offset))


def until(server: SimulatedServer, lives_ms: int) -> tuple[str, bytes]:
    return "expires-at", b"%d" % (server.clock.wall_ms() + lives_ms)


def after(server: SimulatedServer, delay_ms: int) -> tuple[str, bytes]:
    return "mainstem-not-before", b"%d" % (server.clock.wall_ms() + delay_ms)


@pytest.mark.parametrize("codec", ["none", "gzip", "lz4", "zstd"])
def test_what_is_over_is_not_acquired_and_is_a_dead_letter(codec: str) -> None:
    async def test(server: SimulatedServer) -> None:
        await group(server)
        over, later = until(server, 5_000), until(server, DAY_MS)
        await publish(server, [over], [], [later], [over], [("expires-at", b"soon")], codec=codec)
        assert await acquired(server) == [(0, 4, 1)], "in time, it is delivered"
        await answer(server, "release", 0, 5)
        server.clock.advance(5)
        assert await acquired(server) == [(1, 2, 2), (4, 4, 2)]
        await server.pass_time(1)
        assert [headers["__dlq.errors.offset"] for _, headers in await letters(server)] == ["0", "3"]
        assert (await depth(server, "g")).outstanding == 3

    simulated(test)


def test_what_is_over_is_given_up_without_a_consumer() -> None:
    async def test(server: SimulatedServer) -> None:
        await group(server)
        await publish(server, [])
        assert await acquired(server) == [(0, 0, 1)]  # the group has a view from now on
        await publish(server, [until(server, 5_000)], [])
        server.clock.advance(LOOK_S)
        await server.pass_time(1)
        assert [headers["__dlq.errors.offset"] for _, headers in await letters(server)] == ["1"]

    simulated(test)


def test_a_delay_of_the_publisher_holds_for_a_pull_that_waits_and_over_a_kill() -> None:
    async def test(server: SimulatedServer) -> None:
        await group(server)
        await publish(server, [after(server, 30_000)], [after(server, 60_000)], [])
        assert await acquired(server) == [(2, 2, 1)]
        await answer(server, "ack", 2, 3)
        assert (await depth(server, "g")).waiting == 2
        due_s = server.clock.monotonic() + 29
        pull, _ = server.engine.batch_queues.pull_batches(pull_of(server, wait_ms=40_000))
        waiting = asyncio.ensure_future(server.drive(pull))
        (delivery,) = await waiting
        assert [(run.first, run.last, run.deliveries) for run in delivery.acquired] == [(0, 0, 1)]
        assert server.clock.monotonic() > due_s
        await answer(server, "ack", 0, 1)
        await server.crash(power=False)
        assert await acquired(server) == []
        assert (await depth(server, "g")).waiting == 1
        server.clock.advance(60)
        await server.turns()
        assert await acquired(server) == [(1, 1, 1)]

    simulated(test)


def test_what_is_over_stays_undelivered_while_the_disk_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        await group(server)
        await publish(server, [])
        assert await acquired(server) == [(0, 0, 1)], "its view is durable now"
        await publish(server, [until(server, 1_000)], [after(server, 60_000)])
        server.clock.advance(2)
        refuse(monkeypatch, server)
        assert await acquired(server) == []
        assert (await depth(server, "g")).ready == 2
        monkeypatch.undo()
        assert await acquired(server) == []
        assert (await depth(server, "g")).waiting == 1

    simulated(test)


def test_what_was_woken_early_is_delivered_at_once() -> None:
    async def test(server: SimulatedServer) -> None:
        await group(server)
        (place,) = await server.drive(
            server.engine.publish("t", [NewEvent(b"x", headers=(after(server, 60_000),))])
        )
        assert await acquired(server) == []
        await server.drive(server.engine.wake("g", [place]))
        assert await acquired(server) == [(0, 0, 1)]

    simulated(test)


def test_events_without_such_headers_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_to_decode(*_: object) -> None:
        raise AssertionError("a batch without these headers was decoded")

    monkeypatch.setattr("mainstem.engines.embedded.queues.batch_headers.records_in", refuse_to_decode)

    async def test(server: SimulatedServer) -> None:
        await group(server)
        await publish(server, [("kind", b"boarding")], [], codec="lz4")
        assert await acquired(server) == [(0, 1, 1)]

    simulated(test)
