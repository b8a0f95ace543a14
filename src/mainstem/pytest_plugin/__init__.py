"""The pytest plugin: a real broker for each test, in memory, in some milliseconds.

Owns: the fixtures `mainstem_broker`, `mainstem_stream` and `mainstem_server`. Refuses: to import anything but
pytest until a test uses one of them, for every run of pytest loads this module; and fixtures that are
coroutines, which would need a plugin for event loops: these work with any, and without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mainstem.api.stream import Stream
    from mainstem.pytest_plugin.broker import MainstemBroker
    from mainstem.pytest_plugin.server import ServerProcess

__all__ = ["MainstemBroker", "ServerProcess"]


def __getattr__(name: str) -> Any:
    if name == "MainstemBroker":
        from mainstem.pytest_plugin.broker import MainstemBroker

        return MainstemBroker
    if name == "ServerProcess":
        from mainstem.pytest_plugin.server import ServerProcess

        return ServerProcess
    raise AttributeError(f"module 'mainstem.pytest_plugin' has no attribute {name!r}")


@pytest.fixture
def mainstem_broker() -> Iterator[MainstemBroker]:
    """A broker in memory, new for this test: topics, groups, subscriptions and search as on a server."""
    from mainstem.pytest_plugin.broker import MainstemBroker

    broker = MainstemBroker.open()
    try:
        yield broker
    finally:
        broker.close()


@pytest.fixture
def mainstem_stream(mainstem_broker: MainstemBroker) -> Stream:
    """A new stream, connected to `mainstem_broker`."""
    return mainstem_broker.stream()


@pytest.fixture(scope="session")
def mainstem_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`mainstem serve` as a process, for all tests of this run of pytest: for clients in other languages and
    for tests that kill it. Tests share it, so they take topics with names of their own from
    `mainstem_server.topic("orders")`."""
    from mainstem.pytest_plugin.server import ServerProcess

    server = ServerProcess(tmp_path_factory.mktemp("mainstem", numbered=True))
    try:
        server.start()
        yield server
    finally:
        server.stop()
