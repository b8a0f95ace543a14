"""Watching topics: each durable change is reported, in order."""

from __future__ import annotations

from collections.abc import Callable

from mainstem.contract import StreamError
from mainstem.door_contract import TopicChange, WatchesTopics
from tests.engines.queue_server import SimulatedServer, simulated


def test_changes_of_topics_are_reported_when_they_are_durable() -> None:
    async def test(server: SimulatedServer) -> None:
        engine = server.engine
        assert isinstance(engine, WatchesTopics)
        changes: list[TopicChange] = []
        stop = engine.watch_topics(changes.append)
        await server.drive(engine.create_topic("new", partitions=1))
        await server.drive(engine.add_partitions("new", 3))
        await server.drive(engine.alter_topic("new", {"retention.ms": "1000"}))
        id_ = await server.drive(engine.topic_id("new"))
        await server.drive(engine.delete_topic("new"))
        await server.drive(engine.create_topic("new", partitions=1))
        assert [(change.kind, change.topic) for change in changes] == [
            ("created", "new"),
            ("changed", "new"),
            ("changed", "new"),
            ("deleted", "new"),
            ("created", "new"),
        ]
        assert [change.id for change in changes[:4]] == [id_] * 4
        assert changes[4].id != id_
        stop()
        stop()
        await server.drive(engine.delete_topic("new"))
        assert len(changes) == 5

    simulated(test)


def test_a_change_that_is_not_durable_is_not_reported() -> None:
    async def test(server: SimulatedServer) -> None:
        changes: list[TopicChange] = []
        server.engine.watch_topics(changes.append)
        server.disk.sync_fails = 1.0
        try:
            await server.drive(server.engine.create_topic("new", partitions=1))
        except StreamError:
            pass
        assert changes == []

    simulated(test)


def test_a_watcher_may_stop_another_while_it_is_called() -> None:
    async def test(server: SimulatedServer) -> None:
        calls: list[str] = []
        stops: list[Callable[[], None]] = []
        for name in ("first", "second"):

            def on_change(_: TopicChange, name: str = name) -> None:
                calls.append(name)
                for stop in stops:
                    stop()

            stops.append(server.engine.watch_topics(on_change))
        await server.drive(server.engine.create_topic("new", partitions=1))
        assert calls == ["first"]

    simulated(test)
