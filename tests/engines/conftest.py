"""A fixture with each engine, so that the same tests run against all of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mainstem.api.host import HostedNode
from mainstem.contract import Engine
from tests.support.server import Server

Opener = Callable[[], AbstractAsyncContextManager[Engine]]
Run = Callable[[Callable[[Engine], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("engine") / "data") as running:
        yield running


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Engine]:
    """The embedded engine on a node with a data folder of its own."""
    from mainstem.clock import LoopClock
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.log.disk.real_disk import RealDisk
    from mainstem.node import Node
    from mainstem.settings import Settings

    loop = asyncio.get_running_loop()
    disk = RealDisk(folder, loop)
    node = await Node.open(Settings(data=str(folder)), disk, LoopClock(loop), random.Random(7))
    engine = EmbeddedEngine(node)
    try:
        yield engine
    finally:
        await engine.close()
        await node.close()


@pytest.fixture
def hosted_node() -> Iterator[HostedNode]:
    """A node in memory, in a thread of its own, as `mainstem.open(":memory:")` has it."""
    node = HostedNode.open(":memory:")
    yield node
    assert node.close_now() == []


@asynccontextmanager
async def in_thread(node: HostedNode) -> AsyncIterator[Engine]:
    """The engine of a node in a thread of its own, which it outlives: it is in memory."""
    yield node.engine


@asynccontextmanager
async def kafka(address: str) -> AsyncIterator[Engine]:
    """The Kafka engine on a cluster."""
    from mainstem.engines.kafka.engine import KafkaEngine

    engine = await KafkaEngine.connect(address, timeout_s=10)
    try:
        yield engine
    finally:
        await engine.close()


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("in-thread", marks=pytest.mark.slow),
        "kafka",
        pytest.param("apache-kafka", marks=pytest.mark.slow),
    ]
)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a coroutine function with an engine."""
    opener: Any
    if request.param == "embedded":
        opener = lambda: embedded(tmp_path)  # noqa: E731
    elif request.param == "in-thread":
        hosted = request.getfixturevalue("hosted_node")
        opener = lambda: in_thread(hosted)  # noqa: E731
    elif request.param == "kafka":
        address = request.getfixturevalue("server").address
        opener = lambda: kafka(address)  # noqa: E731
    else:
        address = request.getfixturevalue("real_kafka")
        opener = lambda: kafka(address)  # noqa: E731

    def go(work: Callable[[Engine], Awaitable[None]]) -> None:
        async def inner() -> None:
            async with opener() as engine:
                await work(engine)

        asyncio.run(inner())

    return go
