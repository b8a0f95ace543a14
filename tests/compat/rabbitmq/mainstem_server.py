"""A mainstem with the AMQP door, for the suites and probes that also run against RabbitMQ."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import Server


@contextlib.contextmanager
def mainstem_with_amqp(folder: Path) -> Iterator[str]:
    """A fresh server; yields the HOST:PORT of its AMQP door."""
    settings = {"http": "127.0.0.1:0", "amqp091": "127.0.0.1:0", "doors": "kafka,http,amqp091"}
    with Server(folder / "data", **settings).start() as server:
        match = re.search(r"  amqp091=(\S+)", server.ready_line)
        assert match, server.ready_line
        yield match[1]
