"""Makes what the doors of RabbitMQ's protocols share, when the first of them needs it.

Owns: that there is a single one. Refuses: to load it for a server that is asked for none of these protocols.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from mainstem.amqp.broker import AmqpBroker
    from mainstem.clock import Clock
    from mainstem.engines.embedded.engine import EmbeddedEngine


class LazyBroker:
    """The broker of a server. `engine`: the one that may do everything; `rng`: its numbers cannot be guessed,
    for they become the names of queues."""

    def __init__(self, engine: EmbeddedEngine, clock: Clock, rng: random.Random) -> None:
        self._engine = engine
        self._clock = clock
        self._rng = rng
        self._loading: asyncio.Task[AmqpBroker] | None = None

    async def get(self) -> AmqpBroker:
        """The broker, which the first call loads. StreamError: it cannot be loaded; the next call tries
        again."""
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.create_task(self._load(), name="broker")
        return await asyncio.shield(self._loading)

    async def _load(self) -> AmqpBroker:
        from mainstem.amqp.broker import AmqpBroker
        from mainstem.amqp.vhosts import Vhosts

        vhosts = await Vhosts.open(self._engine, self._clock, self._rng)
        return AmqpBroker(vhosts=vhosts, routed_queues=self._engine.routed_queues)

    async def close(self) -> None:
        """End its timers and tasks."""
        if self._loading is not None:
            await asyncio.wait([self._loading])
            if self._loading.exception() is None:
                await self._loading.result().vhosts.close()
