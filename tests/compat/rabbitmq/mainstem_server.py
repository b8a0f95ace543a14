"""A mainstem with RabbitMQ's doors, for the suites and probes that also run against RabbitMQ."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import Server


@contextlib.contextmanager
def mainstem_with_management(folder: Path) -> Iterator[tuple[str, str]]:
    """A fresh server; yields the HOST:PORT of its AMQP door, and that of its management API."""
    doors = ("http", "amqp091", "rabbitmq_management")
    settings = {**dict.fromkeys(doors, "127.0.0.1:0"), "doors": f"kafka,{','.join(doors)}"}
    with Server(folder / "data", **settings).start() as server:
        addresses = dict(re.findall(r"  (\w+)=(\S+)", server.ready_line))
        yield addresses["amqp091"], addresses["rabbitmq_management"]


@contextlib.contextmanager
def mainstem_with_amqp(folder: Path) -> Iterator[str]:
    """A fresh server; yields the HOST:PORT of its AMQP door."""
    with mainstem_with_management(folder) as (amqp, _):
        yield amqp
