"""Makes what the doors of RabbitMQ's protocols share: soon after the start if there are virtual hosts, for
what waits in them expires and is moved whether clients come or not; otherwise when the first door needs it.

Owns: that there is a single one. Refuses: to load it for a server that never had one of these protocols.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from mainstem.amqp.broker import AmqpBroker
    from mainstem.clock import Clock, Timer
    from mainstem.engines.embedded.engine import EmbeddedEngine

RETRY_S = 10.0
log = logging.getLogger(__name__)


class LazyBroker:
    """The broker of a server. `engine`: the one that may do everything; `rng`: its numbers cannot be guessed,
    for they become the names of queues."""

    def __init__(
        self, engine: EmbeddedEngine, clock: Clock, rng: random.Random, is_there: Callable[[], bool]
    ) -> None:
        """`is_there`: whether there are virtual hosts, or may be."""
        self._engine = engine
        self._is_there = is_there
        self._clock = clock
        self._rng = rng
        self._loading: asyncio.Task[AmqpBroker] | None = None
        self._retry: Timer | None = None

    def load_what_is_there(self) -> None:
        """Load the virtual hosts if there are some. What fails is logged and tried again."""
        if self._is_there():
            asyncio.ensure_future(self.get()).add_done_callback(self._on_loaded)

    def _on_loaded(self, loaded: asyncio.Future[AmqpBroker]) -> None:
        if not loaded.cancelled() and (error := loaded.exception()) is not None:
            log.warning("the virtual hosts cannot be loaded, which is tried again: %s", error)
            self._retry = self._clock.call_later(RETRY_S, self.load_what_is_there)

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
        if self._retry is not None:
            self._retry.cancel()
        if self._loading is not None:
            await asyncio.wait([self._loading])
            if self._loading.exception() is None:
                await self._loading.result().vhosts.close()
