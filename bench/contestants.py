"""The servers that are measured, each with the durability that its acknowledgement promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from bench import peers, servers
from bench.figures import DurabilityPromise, Figures
from bench.servers import ServerUnderTest

MAINSTEM, KAFKA, TANSU, NATS, RABBITMQ, REDIS = (
    "mainstem",
    "Kafka",
    "Tansu",
    "NATS",
    "RabbitMQ",
    "Redis",
)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server with its settings."""

    name: str
    promise: DurabilityPromise
    settings: str
    """The setting that gives this promise, in the server's own words."""
    start: Callable[[], AbstractContextManager[ServerUnderTest]]
    speaks_kafka: bool = False


CONTESTANTS = (
    Contestant(MAINSTEM, "page cache", "--durability os", partial(servers.mainstem, "os"), True),
    Contestant(KAFKA, "page cache", "stock", partial(servers.apache, "os"), True),
    Contestant(TANSU, "page cache", "memory://, its only engine of its own", peers.tansu, True),
    Contestant(NATS, "page cache", "JetStream, file store, default", partial(peers.nats, False)),
    Contestant(RABBITMQ, "page cache", "a stream", partial(peers.rabbitmq, "rabbitmq_stream")),
    Contestant(REDIS, "page cache", "a stream, appendfsync everysec", partial(peers.redis, False)),
    Contestant(MAINSTEM, "on disk", "--durability disk (default)", partial(servers.mainstem, "disk"), True),
    Contestant(KAFKA, "on disk", "flush.messages=1", partial(servers.apache, "disk"), True),
    Contestant(NATS, "on disk", "JetStream, sync_interval: always", partial(peers.nats, True)),
    Contestant(RABBITMQ, "on disk", "a quorum queue", partial(peers.rabbitmq, "amqp")),
    Contestant(REDIS, "on disk", "a stream, appendfsync always", partial(peers.redis, True)),
)


VERSIONS: Mapping[str, Callable[[], str]] = {
    MAINSTEM: lambda: version("mainstem"),
    KAFKA: servers.apache_version,
    TANSU: peers.tansu_version,
    NATS: peers.nats_version,
    RABBITMQ: peers.rabbitmq_version,
    REDIS: peers.redis_version,
}
"""How to find out the version of each server that is installed."""


def named(names: list[str]) -> list[Contestant]:
    """The contestants with one of these names; all of them for an empty list."""
    return [contestant for contestant in CONTESTANTS if not names or contestant.name in names]


def present(figures: Figures, promise: DurabilityPromise) -> list[str]:
    """The servers that have a figure under this promise, in the order of the list."""
    have = {name for (of, _), row in figures.rows.items() if of == promise for name in row.runs}
    return [
        contestant.name
        for contestant in CONTESTANTS
        if contestant.promise == promise and contestant.name in have
    ]
