"""The probes: importing this package registers all of them."""

from tests.compat.rabbitmq.probes import (
    connections,
    consuming,
    dead_letters,
    errors,
    exchanges,
    lifetimes,
    publishing,
    queues,
)

__all__ = [
    "connections",
    "consuming",
    "dead_letters",
    "errors",
    "exchanges",
    "lifetimes",
    "publishing",
    "queues",
]
