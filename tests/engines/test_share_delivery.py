"""Deliveries of whole batches: pulls whose consumer is not there any more."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.promise import Promise
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
