"""Deliveries of whole batches: pulls whose consumer is not there any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mainstem.coordinator.groups.share_types import ShareHeartbeat
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.view_starts import PartitionStart
from mainstem.engines.embedded.queues import share_starts, subscription_queue
from mainstem.promise import Promise
from mainstem.queue_contract import SubscriptionSettings
from mainstem.share_contract import BatchPull
from tests.engines.queue_server import SimulatedServer, simulated
from tests.engines.test_share_dead_letters import group


def test_a_pull_that_is_cancelled_while_it_reads_acquires_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        await group(server)
        await server.publish("t", b"0", b"1")
        topic = server.node.topics.get("t")
        assert topic is not None
        partition, queues = server.node.partition(topic, 0), server.engine.batch_queues
        batches = partition.read(0, 1_000)
        reading: Promise[Any] = Promise()
        reads: list[object] = []

        def read(_: object, *place: int) -> Promise[Any]:
            reads.append(place)
            return reading

        monkeypatch.setattr(type(partition), "read", read)
        pull = BatchPull("g", "m", [(topic.id, 0)], max_events=9, max_bytes=999, min_bytes=1, wait_ms=500)
        pulled, cancel = queues.pull_batches(pull)
        while not reads:
            await server.pass_time(0.01)
            assert not pulled.done
        cancel()
        queues.release("g", "m")
        monkeypatch.undo()
        reading.resolve(batches)
        assert await server.drive(pulled) == []
        (view,) = server.node.subscriptions.views_of("g")
        assert view.sequence.counts().leased == 0

    simulated(test)


def test_views_of_many_partitions_are_begun_together(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    open_views = Subscriptions.open_views

    def counted(self: Subscriptions, name: str, starts: Sequence[PartitionStart]) -> Promise[None]:
        begun.append(len(starts))
        return open_views(self, name, starts)

    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.create_topic("wide", partitions=7))
        await server.drive(server.node.share_groups.begin_without_members("g", ["wide"]))
        for module in (share_starts, subscription_queue):
            monkeypatch.setattr(module, "OPENED_AT_ONCE", 3)
        monkeypatch.setattr(Subscriptions, "open_views", counted)
        heartbeat = ShareHeartbeat(group_id="g", member_id="m", member_epoch=0, topics=("wide",))
        await server.drive(server.node.share_groups.heartbeat(heartbeat))
        await server.pass_time(0.1)
        assert begun == [3, 3, 1]
        again = ShareHeartbeat(group_id="g", member_id="m2", member_epoch=0, topics=("wide",))
        await server.drive(server.node.share_groups.heartbeat(again))
        await server.pass_time(0.1)
        assert begun == [3, 3, 1], "a further member begins nothing"
        await server.drive(server.engine.create_subscription("w", SubscriptionSettings(topics=("wide",))))
        assert begun == [3, 3, 1] * 2
        assert len(server.node.subscriptions.views_of("w")) == 7

    simulated(test)
