"""The state of a virtual host, and what all requests to it need.

Owns: exchanges, queues and policies in memory, locks of names, and the translation of the engine's errors.
Refuses: requests (`vhost_exchanges.py`, `vhost_queues.py`, `vhost_policies.py`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

from mainstem.amqp.errors import amqp_error
from mainstem.amqp.moved_copies import MovedCopies
from mainstem.amqp.policies import Policy
from mainstem.amqp.publisher import VhostPublisher
from mainstem.amqp.router import Router
from mainstem.amqp.topology import AmqpQueue, Exchange
from mainstem.attach_contract import AttachesConsumers
from mainstem.clock import Clock
from mainstem.contract import Engine, InvalidArgument, NotAuthorized, StreamError, UnknownTopic
from mainstem.queue_contract import NoSuchSubscription, Queues, SubscriptionNameTaken
from mainstem.routing_contract import OffersRoutedQueues

PREDECLARED = (
    ("", "direct", False),
    ("amq.direct", "direct", False),
    ("amq.fanout", "fanout", False),
    ("amq.headers", "headers", False),
    ("amq.match", "headers", False),
    ("amq.rabbitmq.trace", "topic", True),
    ("amq.topic", "topic", False),
)
"""Name, type and whether it is internal of the exchanges that each virtual host has."""
RESERVED_PREFIX = "amq."
KEPT_AS_NOTE = -1
"""In place of the engine's id of a binding: a binding to a stream is a note."""

StartTask = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a coroutine; its errors are logged."""


class BrokerEngine(Engine, Queues, OffersRoutedQueues, AttachesConsumers, Protocol):
    """The engine that virtual hosts are made of."""


class NameLocks:
    """A lock for each name, while somebody has it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Have the lock of a name."""
        lock, users = self._locks.get(name) or (asyncio.Lock(), 0)
        self._locks[name] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[name]
            if users == 1:
                del self._locks[name]
            else:
                self._locks[name] = lock, users - 1


@contextmanager
def engine_errors(subject: str) -> Iterator[None]:
    """Convert errors of the engine: what it calls invalid is 406 here, what is gone 404, what the requester
    may not do 403, all else 541."""
    try:
        yield
    except (
        NoSuchSubscription,
        UnknownTopic,
    ) as error:  # the queue was deleted meanwhile, or there is no topic
        raise amqp_error(404, f"{subject}: {error}") from None
    except NotAuthorized as error:
        raise amqp_error(403, f"{subject}: {error}") from None
    except (InvalidArgument, SubscriptionNameTaken) as error:
        raise amqp_error(406, f"{subject}: {error}") from None
    except StreamError as error:
        raise amqp_error(541, f"{subject}: {error}") from None


def clean_name(name: str) -> str:
    """A name as it is declared: without line breaks, as RabbitMQ has it. AmqpError (406): it is not UTF-8."""
    name = name.replace("\r", "").replace("\n", "")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise amqp_error(406, f"the name {name!r} is not UTF-8") from None
    return name


class VhostState:
    """A virtual host's state."""

    def __init__(
        self, name: str, engine: BrokerEngine, clock: Clock, rng: random.Random, start_task: StartTask
    ) -> None:
        """`name`: that of its namespace, too."""
        self.name = name
        self.exchanges: dict[str, Exchange] = {
            name: Exchange(name, kind, internal=internal) for name, kind, internal in PREDECLARED
        }
        self.queues: dict[str, AmqpQueue] = {}
        self.policies: dict[str, Policy] = {}
        self.operator_policies: dict[str, Policy] = {}
        self._engine = engine
        self._routed = engine.routed_queues
        self._clock = clock
        self._rng = rng
        self._start_task = start_task
        self._locks = NameLocks()
        self._exclusive: dict[object, dict[str, AmqpQueue]] = {}
        """Connection -> its exclusive queues, by name."""
        self._binding_ids: dict[object, int] = {}
        """Identity of a durable binding to a queue -> its id at the engine, or KEPT_AS_NOTE."""
        self.router = Router(self.exchanges, self.queues, rng)
        self.publisher = VhostPublisher(
            name,
            routed=self._routed,
            topics=engine,
            router=self.router,
            exchanges=self.exchanges,
            queues=self.queues,
            clock=clock,
            start_task=start_task,
        )
        self.copies = MovedCopies(
            name, self.queues, events=engine, routed=self._routed, clock=clock, start_task=start_task
        )

    async def _note(self, name: str, data: bytes | None) -> None:
        """Keep something with the namespace."""
        await self._routed.set_note(self.name, name, data)
