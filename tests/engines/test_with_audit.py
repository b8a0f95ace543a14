"""The audit of a console beside the topics of a cluster: which of the two a call is about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, cast

import pytest

from mainstem.contract import Engine, InvalidArgument, NewEvent, NotAllowed, Position, TopicSummary
from mainstem.coordinator.topics.types import AUDIT_TOPIC
from mainstem.engines.with_audit import EngineWithAudit, SearchWithAudit
from mainstem.search.contract import Search, SearchRequest
from tests.engines.test_read_only import calls_of

AT = Position(AUDIT_TOPIC, 0, 0)
ORDERS = Position("orders", 0, 0)


class NamedSide:
    """An engine and a search that say which of the two they are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.request: SearchRequest | None = None

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        names = ["orders", *([AUDIT_TOPIC] if internal else [])]
        return [TopicSummary(name, 1, 0, id=self.name) for name in names]

    async def search(self, request: SearchRequest) -> AsyncGenerator[Any, None]:
        self.request = request
        yield self.name

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> str:
            return self.name

        return call


def engine() -> Any:
    return EngineWithAudit(cast(Engine, NamedSide("cluster")), cast(Engine, NamedSide("own")))


def test_it_has_every_call_of_an_engine() -> None:
    assert calls_of(*Engine.__mro__[:3]) <= calls_of(EngineWithAudit)


def test_the_topic_of_the_audit_is_that_of_the_own_folder() -> None:
    async def run() -> None:
        both = engine()
        for call in (both.partitions, both.topic_id, both.topic):
            assert (await call(AUDIT_TOPIC), await call("orders")) == ("own", "cluster")
        assert (await both.bounds(AUDIT_TOPIC, 0), await both.bounds("orders", 0)) == ("own", "cluster")
        assert (await both.reader([AT]), await both.reader([ORDERS])) == ("own", "cluster")
        with pytest.raises(InvalidArgument, match="by itself"):
            await both.reader([AT, ORDERS])
        assert [(topic.name, topic.id) for topic in await both.topics(internal=True)] == [
            (AUDIT_TOPIC, "own"),
            ("orders", "cluster"),
        ]
        assert [topic.name for topic in await both.topics()] == ["orders"]

    asyncio.run(run())


@pytest.mark.parametrize(
    "change",
    [
        lambda both: both.publish(AUDIT_TOPIC, [NewEvent(b"x")]),
        lambda both: both.create_topic(AUDIT_TOPIC),
        lambda both: both.add_partitions(AUDIT_TOPIC, 2),
        lambda both: both.alter_topic(AUDIT_TOPIC, {"retention.ms": "1"}),
        lambda both: both.delete_topic(AUDIT_TOPIC),
        lambda both: both.delete_records(AUDIT_TOPIC, 0, -1),
        lambda both: both.join("g", ["orders", AUDIT_TOPIC], start="earliest"),
        lambda both: both.set_positions("g", [ORDERS, AT]),
    ],
    ids=range(8),
)
def test_no_call_changes_it(change: Callable[[Any], Awaitable[Any]]) -> None:
    async def run() -> None:
        with pytest.raises(NotAllowed, match="only the console writes and changes it"):
            await change(engine())

    asyncio.run(run())


def test_a_search_is_of_the_one_or_the_other() -> None:
    sides = {name: NamedSide(name) for name in ("cluster", "own")}

    async def side(*topics: str) -> Any:
        both = SearchWithAudit(lambda: cast(Search, sides["cluster"]), lambda: cast(Search, sides["own"]))
        return await anext(both.search(SearchRequest(topics=topics)))

    async def run() -> None:
        assert await side(AUDIT_TOPIC) == "own"
        for topics in ((), ("orders",), ("__mainstem_*",)):
            assert await side(*topics) == "cluster"
        with pytest.raises(InvalidArgument, match="by itself"):
            await side("orders", AUDIT_TOPIC)
        request = sides["cluster"].request
        assert request is not None
        assert request.readable is not None
        assert request.readable("orders")
        with pytest.raises(InvalidArgument, match="by itself"):  # of the cluster, found by a wildcard
            request.readable(AUDIT_TOPIC)

    asyncio.run(run())
