"""A node in a thread of this process: reads and deliveries survive cancelled calls, the time of a log in
memory moves, a folder has one user, and all is closed in time."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Coroutine, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mainstem.api import hosted_engine
from mainstem.api.errors import FolderInUse
from mainstem.api.host import HostedNode
from mainstem.clock import TravelClock
from mainstem.contract import (
    AssignedPartition,
    Engine,
    InvalidArgument,
    NewEvent,
    NotReachable,
    Position,
    TopicPartition,
    UnknownTopic,
)
from mainstem.door_contract import PublishesOnce
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.queue_contract import Ack, Nack, Queues, SubscriptionSettings

LEFT_OUT = {
    # for doors and for the search, which are in the node's thread themselves
    "attach_dead_letter_sink", "attach_pusher", "attached", "batch_queues", "byte_ranges", "clock_moved",
    "indexed_topics", "metric_values", "partition_files", "routed_queues", "skip_blocks_by", "watch_topics",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[HostedNode]:
    """A node of all tests that use topics of their own."""
    node = HostedNode.open(":memory:")
    yield node
    assert node.close_now() == []


@pytest.fixture
def node() -> Iterator[HostedNode]:
    node = HostedNode.open(":memory:")
    yield node
    assert node.close_now() == []


def values(count: int) -> list[NewEvent]:
    return [NewEvent(b"%d" % number, partition=0) for number in range(count)]


def test_every_call_of_the_engine_is_passed_on_or_left_out(shared: HostedNode) -> None:
    calls = {name for name in dir(EmbeddedEngine) if not name.startswith("_")}
    assert calls - LEFT_OUT == {name for name in dir(hosted_engine.HostedEngine) if not name.startswith("_")}
    assert isinstance(shared.engine, Queues)
    assert isinstance(shared.engine, PublishesOnce)


def test_events_cross_threads_and_so_do_errors(shared: HostedNode) -> None:
    async def main() -> None:
        assert await shared.engine.publish("orders", values(2)) == [
            Position("orders", 0, 0),
            Position("orders", 0, 1),
        ]
        reader = await shared.engine.reader([Position("orders", 0, 0)])
        assert [event.value for event in (await reader.read(max_events=1)).events] == [b"0"]
        assert reader.positions() == [Position("orders", 0, 1)]
        reader.seek(Position("orders", 0, 0))
        assert reader.positions() == [Position("orders", 0, 0)]
        assert len((await reader.read()).events) == 2
        with pytest.raises(UnknownTopic):
            reader.seek(Position("orders", 1, 0))
        await reader.close()
        with pytest.raises(UnknownTopic, match="there is no such topic"):
            await shared.engine.topic("nothing")

    asyncio.run(main())
    asyncio.run(main_reads_again(shared))  # from another loop


async def main_reads_again(node: HostedNode) -> None:
    reader = await node.engine.reader([Position("orders", 0, 0)])
    assert len((await reader.read()).events) == 2


async def cancelled_when_done(node: HostedNode, call: Coroutine[Any, Any, object]) -> None:
    """Make a call and cancel it when its result is on its way back."""

    async def nothing() -> None: ...

    task = asyncio.create_task(call)
    await asyncio.sleep(0)  # it crosses
    for _ in range(20):
        node.call(nothing)  # this loop is blocked, and the node goes on
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_what_a_cancelled_read_had_read_is_returned_by_the_next_one(shared: HostedNode) -> None:
    async def main() -> None:
        await shared.engine.publish("cancelled", values(5))
        reader = await shared.engine.reader([Position("cancelled", 0, 0)])
        await cancelled_when_done(shared, reader.read())
        assert reader.positions() == [Position("cancelled", 0, 0)]
        assert [event.value for event in (await reader.read(max_events=2)).events] == [b"0", b"1"]
        assert reader.positions() == [Position("cancelled", 0, 2)]
        assert len((await reader.read()).events) == 3
        assert reader.positions() == [Position("cancelled", 0, 5)]
        reader.seek(Position("cancelled", 0, 1))
        await cancelled_when_done(shared, reader.read())
        reader.seek(Position("cancelled", 0, 3))
        assert [event.offset for event in (await reader.read()).events] == [3, 4]
        member = await shared.engine.join("cancelled", ["cancelled"], start="earliest")
        await member.read(max_events=1)
        await cancelled_when_done(shared, member.read(max_events=2))
        await member.commit()  # not of what was not returned
        assert (await shared.engine.group("cancelled")).positions[0].offset is None
        assert [event.offset for event in (await member.read()).events] == [1, 2]
        await member.commit()
        assert (await shared.engine.group("cancelled")).positions[0].offset == 3
        await member.close()

    asyncio.run(main())


def test_what_a_cancelled_pull_had_received_is_given_back(shared: HostedNode) -> None:
    async def main() -> None:
        engine = shared.engine
        await engine.publish("pulled", values(1))
        await engine.create_subscription("pulled", SubscriptionSettings(topics=("pulled",)))
        await cancelled_when_done(shared, engine.pull("pulled", "a", wait_ms=60_000))
        (delivery,) = await engine.pull("pulled", "b", wait_ms=60_000)
        assert delivery.attempt == 1
        await engine.settle("pulled", [Ack(delivery.token)])

    asyncio.run(main())


def test_a_log_in_memory_travels_in_time(node: HostedNode) -> None:
    async def main() -> None:
        engine = node.engine
        await engine.create_topic("orders", settings={"retention.ms": "86400000"})
        await engine.publish("orders", values(3))
        await engine.create_subscription("billing", SubscriptionSettings(topics=("orders",), lock_ms=10_000))
        (first, *_) = await engine.pull("billing", "a", max_events=3)
        await engine.settle("billing", [Nack(first.token, delay_ms=3_600_000)])
        assert (await engine.subscription("billing")).depth.waiting == 1
        before_ms = node.clock.wall_ms()
        await asyncio.to_thread(node.advance, timedelta(hours=2))
        assert node.clock.wall_ms() - before_ms >= 7_200_000
        again = await engine.pull("billing", "b", max_events=3, wait_ms=5_000)
        assert first.event in [delivery.event for delivery in again]
        await engine.settle("billing", [Ack(delivery.token) for delivery in again])
        (position,) = await engine.publish("orders", values(1))
        reader = await engine.reader([position])
        (event,) = (await reader.read()).events
        assert event.timestamp_ms - before_ms >= 7_200_000
        await asyncio.to_thread(node.advance, timedelta(days=2))
        assert (await engine.bounds("orders", 0)).begin == 4

    asyncio.run(main())
    with pytest.raises(ValueError, match="forward only"):
        node.advance(timedelta(seconds=-1))


def test_the_time_of_a_log_on_disk_does_not_move_and_the_folder_has_one_user(tmp_path: Path) -> None:
    node = HostedNode.open(tmp_path / "data", settings={"durability": "os"})
    try:
        assert not isinstance(node.clock, TravelClock)
        with pytest.raises(InvalidArgument):
            node.advance(timedelta(seconds=1))
        with pytest.raises(FolderInUse, match=r"is in use by this process: stop it"):
            HostedNode.open(tmp_path / "data")
        asyncio.run(node.engine.publish("orders", values(1)))
    finally:
        assert node.close_now() == []
    again = HostedNode.open(tmp_path / "data", settings={"durability": "os"})
    try:
        assert asyncio.run(again.engine.bounds("orders", 0)).end == 1
    finally:
        again.close_now()


@pytest.mark.slow
def test_a_folder_of_another_process_is_refused_with_its_name(tmp_path: Path) -> None:
    node = HostedNode.open(tmp_path / "data", settings={"durability": "os"})
    try:
        attempt = (
            "import sys\nfrom mainstem.api.host import HostedNode\n"
            "from mainstem.api.errors import FolderInUse\n"
            "try: HostedNode.open(sys.argv[1])\nexcept FolderInUse as error: print(error)\n"
        )
        text = subprocess.check_output([sys.executable, "-c", attempt, str(tmp_path / "data")], text=True)
    finally:
        node.close_now()
    expected = rf"process {os.getpid()} \(.+\)" if sys.platform == "linux" else "another process"
    assert re.search(rf"is in use by {expected}: stop it", text)


@pytest.mark.slow
def test_a_process_that_was_forked_since_has_to_open_its_own() -> None:
    code = (
        "import asyncio, os\nfrom mainstem.api.host import HostedNode\n"
        "from mainstem.contract import NewEvent, NotReachable\nnode = HostedNode.open(':memory:')\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    try: asyncio.run(node.engine.partitions('orders'))\n"
        "    except NotReachable as error: print(error, flush=True)\n"
        "    assert node.close_now() == []\n"
        "    own = HostedNode.open(':memory:')\n"
        "    print(asyncio.run(own.engine.publish('orders', [NewEvent(b'1')])), flush=True)\n"
        "    own.close_now()\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\nasyncio.run(node.engine.publish('orders', [NewEvent(b'1')]))\n"
        "print(node.close_now())\n"
    )
    text = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
    refused, published, closed = text.splitlines()
    assert "was opened before it was forked; open it in the new process" in refused
    assert (published, closed) == ("[Position(topic='orders', partition=0, offset=0)]", "[]")


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReachable, match="is a file"):
        HostedNode.open(tmp_path / "file")
    with pytest.raises(InvalidArgument, match="there is no setting dura"):
        HostedNode.open(":memory:", settings={"dura": "os"})
    with pytest.raises(InvalidArgument, match="durability"):
        HostedNode.open(":memory:", settings={"durability": "none"})


class LoopNoting:
    """Hooks that note the loop they are called in."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object, asyncio.AbstractEventLoop]] = []

    async def assigned(self, partitions: Sequence[AssignedPartition]) -> None:
        self.calls += [("assigned", part, asyncio.get_running_loop()) for part in partitions]

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.calls += [("revoked", part, asyncio.get_running_loop()) for part in partitions]

    lost = revoked


def test_hooks_of_a_member_run_in_the_loop_of_its_user(shared: HostedNode) -> None:
    async def main() -> None:
        await shared.engine.create_topic("hooked")
        await shared.engine.publish("hooked", values(3))
        hooks = LoopNoting()
        for offset, notes in ((None, ""), (1, "~")):
            member = await shared.engine.join("hooked", ["hooked"], start="earliest", hooks=hooks)
            await member.read()
            assigned = AssignedPartition("hooked", 0, offset, notes)
            assert hooks.calls.pop() == ("assigned", assigned, asyncio.get_running_loop())
            await member.commit([Position("hooked", 0, 1)], {("hooked", 0): "~"})
            member.pause([("hooked", 0)])
            await shared.engine.publish("hooked", values(1))
            assert not await member.read(wait_ms=1)
            member.resume([("hooked", 0)])
            assert len((await member.read()).events) == 1
            await member.close()

    asyncio.run(main())


def test_a_closed_node_is_not_reachable_and_those_that_wait_return() -> None:
    node = HostedNode.open(":memory:")

    async def main() -> None:
        engine = node.engine
        await engine.create_topic("orders")
        await engine.create_subscription("billing", SubscriptionSettings(topics=("orders",)))
        member = await engine.join("group", ["orders"], start="earliest")
        await member.read(wait_ms=10)
        pull = asyncio.create_task(engine.pull("billing", "a", wait_ms=60_000))
        reader = await engine.reader([Position("orders", 0, 0)])
        read = asyncio.create_task(reader.read(wait_ms=60_000))
        await asyncio.sleep(0.01)
        await node.close()
        assert await pull == []
        with pytest.raises(NotReachable, match="was closed"):
            await read
        with pytest.raises(NotReachable, match="was closed"):
            await engine.partitions("orders")
        await engine.close()

    asyncio.run(main())
    assert node.close_now() == []


def test_a_search_over_threads_finds_and_can_be_left(shared: HostedNode) -> None:
    async def main() -> None:
        events = [NewEvent(b'{"state":"%s"}' % (b"paid" if i % 3 else b"open")) for i in range(900)]
        await shared.engine.publish("states", events)
        hits = [event async for event in shared.search("state:open", topics=["states"])]
        assert len(hits) == 300
        limited = [event.offset async for event in shared.search("", topics=["states"], limit=2)]
        assert limited == [899, 898]
        async for event in shared.search("state:paid", topics=["states"]):
            assert event.offset == 899
            break
        with pytest.raises(InvalidArgument):
            _ = [event async for event in shared.search("state:(", topics=["states"])]

    asyncio.run(main())


def test_doors_of_a_log_in_memory_open_when_they_are_needed(node: HostedNode) -> None:
    with pytest.raises(InvalidArgument, match="no door smtp"):
        node.serve("smtp")
    assert node.addresses == {}
    assert re.fullmatch(r"127\.0\.0\.1:\d+", node.serve("kafka")["kafka"])
    assert node.serve() is node.addresses

    async def main() -> None:
        from mainstem.engines.kafka.engine import KafkaEngine

        client: Engine = await KafkaEngine.connect(node.addresses["kafka"])
        await client.publish("orders", values(1))
        await client.close()
        assert (await node.engine.bounds("orders", 0)).end == 1

    asyncio.run(main())


def test_what_is_over_when_time_has_moved_is_given_up_at_once(shared: HostedNode) -> None:
    async def main() -> None:
        engine = shared.engine
        for topic in ("perishable", "given-up"):
            await engine.create_topic(topic)
        settings = SubscriptionSettings(
            topics=("perishable",), ttl_ms=3_600_000, dead_letter_topic="given-up"
        )
        await engine.create_subscription("perishable", settings)
        await engine.publish("perishable", values(1))
        assert (await engine.subscription("perishable")).depth.ready == 1
        await asyncio.to_thread(shared.advance, timedelta(hours=2))
        reader = await engine.reader([Position("given-up", 0, 0)])
        (letter,) = (await reader.read(wait_ms=10_000)).events
        assert letter.value == b"0"

    asyncio.run(main())
