"""Named snapshots of subscriptions: taken, listed, deleted, and sought, over kills and losses."""

from __future__ import annotations

import pytest

from mainstem.contract import InvalidArgument, NewEvent
from mainstem.coordinator.queues import named_snapshots
from mainstem.coordinator.queues.types import Settlement
from mainstem.queue_contract import (
    Ack,
    Nack,
    NoSuchSnapshot,
    NoSuchSubscription,
    Outcome,
    Reject,
    SnapshotInfo,
    SnapshotName,
    SnapshotNameTaken,
)
from mainstem.queues.pages import PositionState
from tests.coordinator.test_queue_clamp import deliver_and_ack, subscribed, view_of
from tests.engines.queue_server import SimulatedServer, depth, simulated, values
from tests.test_node import NodeRig


async def seek(server: SimulatedServer, snapshot: str) -> int:
    return await server.drive(server.engine.seek("s", SnapshotName(snapshot)))


async def taken(server: SimulatedServer, snapshot: str) -> SnapshotInfo:
    return await server.drive(server.engine.take_snapshot("s", snapshot))


async def listed(server: SimulatedServer) -> list[tuple[str, int]]:
    infos = await server.drive(server.engine.snapshots("s"))
    return [(info.name, info.events) for info in infos]


def test_a_seek_to_a_snapshot_delivers_what_was_not_done_and_what_came_since() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(6)])
        deliveries = await server.pull()
        await server.ack(deliveries[0], deliveries[3])
        outcomes: list[Outcome] = [Nack(deliveries[1].token, 60_000), Reject(deliveries[2].token)]
        await server.drive(server.engine.delete_topic("dead"))
        await server.drive(server.engine.settle("s", outcomes))
        info = await taken(server, "release-7")
        assert (info.name, info.events) == ("release-7", 4)
        await server.ack(*deliveries[4:])
        await server.publish("t", b"6")
        assert await listed(server) == [("release-7", 5)]
        for crashes in (False, True):
            if crashes:
                server.node.queue_runtime.take_snapshot()
                await server.pass_time(1)
                await server.crash(power=True)
            assert await seek(server, "release-7") == 5
            again = await server.pull()
            assert values(again) == [b"1", b"2", b"4", b"5", b"6"]
            assert [delivery.attempt for delivery in again] == [1] * 5
            assert await server.drive(server.engine.settle("s", [Ack(deliveries[4].token)])) == ["stale"]
            await server.ack(*again)
            assert (await depth(server)).outstanding == 0

    simulated(test, dead_letter_topic="dead")


def test_what_a_snapshot_has_is_counted_the_same_after_a_kill() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(10)])
        deliveries = await server.pull(count=4)
        await server.ack(deliveries[0], deliveries[2])
        await taken(server, "x")
        await server.ack(deliveries[3])
        assert await listed(server) == [("x", 8)]
        for _ in range(2):
            await server.crash(power=False)
            assert await listed(server) == [("x", 8)]
            assert await seek(server, "x") == 8
            assert (await depth(server)).outstanding == 8
        await server.drive(server.engine.delete_records("t", 0, 2))
        assert await listed(server) == [("x", 7)]
        assert values(await server.pull()) == [b"%d" % number for number in range(3, 10)]

    simulated(test)


def test_a_snapshot_does_not_change_with_its_subscription() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2")
        await taken(server, "empty")
        first, *others = await server.pull()
        await server.ack(first)
        await taken(server, "one")
        await server.ack(*others)
        await taken(server, "all")
        assert await listed(server) == [("all", 0), ("empty", 3), ("one", 2)]
        assert await seek(server, "empty") == 3
        assert await seek(server, "one") == 2
        assert values(await server.pull()) == [b"1", b"2"]
        assert await seek(server, "all") == 0
        await server.drive(server.engine.delete_snapshot("s", "one"))
        assert await listed(server) == [("all", 0), ("empty", 3)]

    simulated(test)


def test_partitions_and_events_that_are_new_or_deleted_since() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2", b"3")
        await server.ack((await server.pull())[1])
        await taken(server, "x")
        await server.drive(server.engine.add_partitions("t", 2))
        await server.drive(server.engine.publish("t", [NewEvent(b"new", partition=1)]))
        await server.pass_time(30)
        await server.ack(*await server.pull())
        await server.drive(server.engine.delete_records("t", 0, 1))
        assert await listed(server) == [("x", 3)]
        assert await seek(server, "x") == 3
        assert sorted(value or b"" for value in values(await server.pull())) == [b"2", b"3", b"new"]
        await server.drive(server.engine.delete_topic("t"))
        await server.drive(server.engine.create_topic("t", partitions=1))
        await server.publish("t", b"another")
        await server.ack(*await server.pull(wait_ms=1000))
        assert await seek(server, "x") == 1, "what it knew of the deleted topic is forgotten"

    simulated(test, lock_ms=20_000)


def test_a_filter_still_excludes_events() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"yes 0", b"no 1", b"yes 2")
        await server.pass_time(1)
        await taken(server, "x")
        await server.publish("t", b"no 3", b"yes 4")
        await server.pass_time(1)
        await server.ack(*await server.pull())
        await seek(server, "x")
        await server.pass_time(1)
        assert values(await server.pull()) == [b"yes 0", b"yes 2", b"yes 4"]

    simulated(test, filter="yes")


def test_names_and_numbers_of_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_snapshots, "SNAPSHOTS_MAX", 2)

    async def test(server: SimulatedServer) -> None:
        await taken(server, "a")
        with pytest.raises(SnapshotNameTaken, match="'a' already"):
            await taken(server, "a")
        with pytest.raises(InvalidArgument, match="name of the snapshot"):
            await taken(server, "a/b")
        await taken(server, "b")
        with pytest.raises(InvalidArgument, match="2 snapshots already"):
            await taken(server, "c")
        for call in (seek(server, "c"), server.drive(server.engine.delete_snapshot("s", "c"))):
            with pytest.raises(NoSuchSnapshot, match="no snapshot 'c'"):
                await call
        for unknown in (server.engine.snapshots("n"), server.engine.take_snapshot("n", "a")):
            with pytest.raises(NoSuchSubscription):
                await server.drive(unknown)
        await server.drive(server.engine.delete_subscription("s"))
        assert not server.node.subscriptions.snapshots.contents._by_id

    simulated(test)


def test_a_snapshot_is_not_ahead_of_a_log_that_lost_events() -> None:
    machine = NodeRig(durability="os")
    view = subscribed(machine, 3)
    deliver_and_ack(machine, view, 6, (1, 2), (4, 6))
    machine.done(machine.node.subscriptions.snapshots.take("mail", "x"))
    lease = machine.done(machine.node.subscriptions.acquire(view, "c", 6))
    if lease is not None:
        answer = Settlement(view.id, lease.id, machine.node.subscriptions.epoch, lease.runs)
        machine.done(machine.node.subscriptions.settle([answer]))
    for _ in range(2):
        machine.start()
        machine.settle()
    for _ in range(3):
        machine.append(machine.node.topics.all()[0])
    machine.done(machine.node.subscriptions.snapshots.restore("mail", "x", {}))
    view = view_of(machine)
    view.sequence.scan(6)
    undone = [offset for offset in range(6) if view.sequence.state(offset) is not PositionState.DONE]
    assert undone == [0, 2, 3, 4, 5]


def test_many_holes_are_kept_in_turns_and_come_back() -> None:
    async def test(server: SimulatedServer) -> None:
        node = server.node
        await server.publish("t", *[b"x"] * 9_000)
        deliveries = await server.drive(server.engine.pull("s", "c", max_events=9_000))
        await server.ack(*deliveries[::2])
        await taken(server, "x")
        await server.pass_time(1)
        (part,) = node.subscriptions.snapshots.get("s", "x").views.values()
        assert len(part.pages) == 3
        assert sum(len(page.data) for page in part.pages) < 2_000
        await server.drive(server.engine.purge("s"))
        assert await seek(server, "x") == 4_500
        again = await server.drive(server.engine.pull("s", "c", max_events=9_000))
        assert [item.event.offset for item in again] == [item.event.offset for item in deliveries[1::2]]

    simulated(test)
