"""The virtual hosts of a server, one for all doors that speak of exchanges and queues.

Owns: which virtual hosts there are, and the tasks that they start. A virtual host is a namespace of routed
queues (`mainstem.routing_contract`). Refuses: what happens in one (`vhost.py`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, cast

from mainstem.amqp.dead_lettering import DeadLettering
from mainstem.amqp.errors import amqp_error
from mainstem.amqp.stored_topology import VHOST
from mainstem.amqp.vhost import Vhost
from mainstem.amqp.vhost_state import BrokerEngine, engine_errors
from mainstem.attach_contract import OffersDeadLetterSink
from mainstem.clock import Clock
from mainstem.contract import Engine, InvalidArgument
from mainstem.door_contract import TopicChange, WatchesTopics
from mainstem.routing_contract import NamespaceNameTaken, NoSuchNamespace

DEFAULT_VHOST = "/"
log = logging.getLogger(__name__)


class Vhosts:
    """All virtual hosts."""

    def __init__(self, engine: BrokerEngine, clock: Clock, rng: random.Random) -> None:
        """Use `open`."""
        self._engine = engine
        self._clock = clock
        self._rng = rng
        self._vhosts: dict[str, Vhost] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop_watching: Callable[[], None] = lambda: None

    @classmethod
    async def open(cls, engine: Engine, clock: Clock, rng: random.Random) -> Vhosts:
        """Take over the namespaces of an engine that has routed queues; it may do everything. `/` is created
        if there is none. StreamError."""
        vhosts = cls(cast(BrokerEngine, engine), clock, rng)
        routed = vhosts._engine.routed_queues
        names = await routed.namespaces()
        vhost_names = [name for name in names if VHOST in await routed.notes(name)]
        if DEFAULT_VHOST not in vhost_names:
            await vhosts._claim(DEFAULT_VHOST)
            vhost_names.append(DEFAULT_VHOST)
        for name in vhost_names:
            await vhosts._load(name)
        if isinstance(engine, WatchesTopics):
            vhosts._stop_watching = engine.watch_topics(vhosts._on_topic_change)
        if isinstance(engine, OffersDeadLetterSink):
            engine.attach_dead_letter_sink(DeadLettering(vhosts.of_subscription, clock))
        return vhosts

    async def _claim(self, name: str) -> None:
        """Make a namespace a virtual host, and create it if there is none. InvalidArgument: it is something
        else, for it has queues or notes."""
        routed = self._engine.routed_queues
        try:
            await routed.create_namespace(name)
        except NamespaceNameTaken:
            notes = await routed.notes(name)
            if VHOST not in notes and (notes or await routed.queues_of(name)):
                raise InvalidArgument(f"the namespace '{name}' is no virtual host") from None
        await routed.set_note(name, VHOST, b"")

    async def _load(self, name: str) -> Vhost:
        vhost = Vhost(name, self._engine, self._clock, self._rng, self._start_task)
        await vhost.load()
        self._vhosts[name] = vhost
        return vhost

    def get(self, name: str) -> Vhost | None:
        """The virtual host of this name."""
        return self._vhosts.get(name)

    def names(self) -> list[str]:
        """The names of all, sorted."""
        return sorted(self._vhosts)

    def of_subscription(self, subscription: str) -> tuple[Vhost, str] | None:
        """The virtual host and the queue that a subscription is; None: it is none of these."""
        for vhost in self._vhosts.values():
            prefix = self._engine.routed_queues.subscription_of(vhost.name, "")
            if subscription.startswith(prefix):
                return vhost, subscription.removeprefix(prefix)
        return None

    async def create(self, name: str) -> Vhost:
        """Create a virtual host; one that exists is returned. AmqpError: 406 (the name)."""
        if (known := self._vhosts.get(name)) is not None:
            return known
        with engine_errors(f"vhost '{name}'"):
            await self._claim(name)
            return self._vhosts.get(name) or await self._load(name)

    async def delete(self, name: str) -> None:
        """Delete a virtual host with its queues. Its messages stay in their topics. AmqpError: 404."""
        vhost = self._vhosts.pop(name, None)
        if vhost is None:
            raise amqp_error(404, f"no vhost '{name}'")
        vhost.close()
        with engine_errors(f"vhost '{name}'"):
            for queue in [queue for queue in vhost.queues.values() if queue.topic]:
                await vhost.remove_queue(queue, self._engine)
            try:
                await self._engine.routed_queues.delete_namespace(name)
            except NoSuchNamespace:
                pass

    def _on_topic_change(self, change: TopicChange) -> None:
        """A stream ends with its topic, whichever door deletes it."""
        if change.kind == "deleted":
            for vhost in self._vhosts.values():
                for queue in vhost.streams_in(change.topic):
                    self._start_task(vhost.remove_queue(queue, self._engine, topic_is_gone=True))

    # --- tasks --------------------------------------------------------------------------------------------

    def _start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._end_task)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a virtual host failed at a task", exc_info=error)

    async def close(self) -> None:
        """End timers and tasks. Idempotent."""
        self._stop_watching()
        for vhost in self._vhosts.values():
            vhost.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
