"""A mainstem with the Pub/Sub door, for the suites that also run against Google's emulator."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import Server


def pubsub_server(folder: Path, **settings: object) -> Server:
    """A server that is not started, in a folder of its own."""
    usual = {"http": "127.0.0.1:0", "pubsub": "127.0.0.1:0", "doors": "kafka,http,pubsub"}
    return Server(folder / "data", **{**usual, **settings})


def pubsub_address(server: Server) -> str:
    """HOST:PORT of the Pub/Sub door of a server that runs."""
    match = re.search(r"  pubsub=(\S+)", server.ready_line)
    assert match, server.ready_line
    return match[1]


@contextlib.contextmanager
def mainstem_with_pubsub(folder: Path) -> Iterator[str]:
    """A fresh server; yields the HOST:PORT of its Pub/Sub door."""
    with pubsub_server(folder).start() as server:
        yield pubsub_address(server)
