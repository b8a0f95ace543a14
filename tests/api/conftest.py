"""The places that the same tests of the Python API run on: a server, a log in this process, a real Kafka."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import mainstem
from tests.support.server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("api") / "data", http="127.0.0.1:0", durability="os") as running:
        yield running


@dataclass(frozen=True, slots=True)
class OpenPlace:
    """A stream that is open, and the loop in which it is."""

    runner: asyncio.Runner
    stream: mainstem.Stream


@dataclass(frozen=True, slots=True)
class Place:
    """Where a test has its stream, and a topic of its own; the names of others begin with it."""

    opened: OpenPlace
    topic: str

    def run(self, work: Callable[[mainstem.Stream], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine function with a stream that is open."""
        self.opened.runner.run(work(self.opened.stream))


KINDS = ["server", "memory", pytest.param("apache-kafka", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=KINDS)
def open_place(request: pytest.FixtureRequest) -> Iterator[OpenPlace]:
    if request.param == "memory":
        stream = mainstem.open(":memory:")
    elif request.param == "server":
        stream = mainstem.connect(request.getfixturevalue("server").address)
    else:
        stream = mainstem.connect("kafka://" + request.getfixturevalue("real_kafka"))
    with asyncio.Runner() as runner:
        runner.run(stream.__aenter__())
        yield OpenPlace(runner, stream)
        runner.run(stream.__aexit__(None, None, None))


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W", "_", request.node.name.removeprefix("test_"))[:80]


@pytest.fixture
def place(open_place: OpenPlace, topic: str) -> Place:
    return Place(open_place, topic)
