"""Queues of a virtual host: declare, delete, purge, and when they go by themselves.

Owns: RabbitMQ's rules for these (AMQP 0-9-1, 1.7; https://www.rabbitmq.com/docs/queues): exclusive queues,
those that go with their last consumer, those that go when they are not used. A queue that is not durable, or
exclusive, ends with a restart. Refuses: deliveries, which are the engine's.
"""

from __future__ import annotations

import asyncio
import base64

from mainstem.amqp.errors import (
    AmqpError,
    amqp_error,
    inequivalent,
    locked_queue,
    not_of_streams,
    reserved_name,
)
from mainstem.amqp.policies import applying
from mainstem.amqp.queue_arguments import (
    TOPIC,
    TOPIC_FROM,
    check_arguments,
    check_equivalent,
    effective_arguments,
    kind_of,
    settings_of,
    topic_start,
)
from mainstem.amqp.stored_topology import QUEUE, queue_data
from mainstem.amqp.topology import AmqpQueue, QueueDeclaration, QueueFigures
from mainstem.amqp.vhost_state import RESERVED_PREFIX, clean_name, engine_errors
from mainstem.amqp.vhost_streams import VhostStreams
from mainstem.contract import Engine
from mainstem.queues.settings import SubscriptionSettings
from mainstem.routing_contract import OffersRoutedQueues

GENERATED_PREFIX = "amq.gen-"


class VhostQueues(VhostStreams):
    """What clients ask of queues. `engine`: as the requester may use it, for what is done to topics; None: it
    may do everything."""

    def queue(self, name: str, owner: object = None) -> AmqpQueue:
        """The queue of this name. AmqpError: 404; 405: it is another connection's."""
        return self.queue_for(name, owner)

    async def declare_queue(
        self, declaration: QueueDeclaration, owner: object = None, engine: Engine | None = None
    ) -> QueueFigures:
        """Declare a queue; without a name it gets one. AmqpError: 403 (the name, or the topic of a stream),
        405, 406."""
        name = clean_name(declaration.name)
        is_generated = not name
        if is_generated:
            name = self._generated_name()
        async with self._locks.of(f"queue {name}"):
            known = self.queues.get(name)
            if known is not None:
                self._check_declared(known, declaration, owner)
                self.note_use(known)
                return await self.figures(known)
            if name.startswith(RESERVED_PREFIX) and not is_generated:
                raise reserved_name("queue", name)
            check_arguments(
                name,
                self.name,
                declaration.arguments,
                durable=declaration.durable,
                exclusive=declaration.exclusive,
                auto_delete=declaration.auto_delete,
            )
            made = self.new_queue(name, declaration, owner)
            if made.kind == "stream":
                made.place = await self._take_stream(name, declaration, engine or self._engine)
                with engine_errors(f"queue '{name}'"):
                    await self._note(QUEUE + name, queue_data(declaration))
            else:
                await self._create(made, declaration, engine or self._engine)
            self.queues[name] = made
            self.router.changed()
            if made.exclusive:
                self._exclusive.setdefault(owner, {})[name] = made
            self.note_use(made)
            return QueueFigures(name, 0, 0) if made.place is None else await self.figures(made)

    def new_queue(self, name: str, declaration: QueueDeclaration, owner: object) -> AmqpQueue:
        """The queue of a declaration, with the policies that apply."""
        made = AmqpQueue(
            name,
            self._routed.subscription_of(self.name, name),
            declaration.durable,
            declaration.exclusive,
            declaration.auto_delete,
            declaration.arguments,
            owner if declaration.exclusive else None,
            topic=str(declaration.arguments.get(TOPIC, "")),
        )
        self.apply_policies_to_queue(made)
        return made

    def _generated_name(self) -> str:
        return GENERATED_PREFIX + base64.urlsafe_b64encode(self._rng.randbytes(16)).rstrip(b"=").decode()

    def _check_declared(self, known: AmqpQueue, declaration: QueueDeclaration, owner: object) -> None:
        wanted = owner if declaration.exclusive else None
        if known.owner is not wanted or known.exclusive != declaration.exclusive:
            raise locked_queue(known.name, self.name)
        for argument, received, current in (
            ("durable", declaration.durable, known.durable),
            ("auto_delete", declaration.auto_delete, known.auto_delete),
        ):
            if received != current:
                difference = f"received '{str(received).lower()}' but current is '{str(current).lower()}'"
                raise inequivalent(argument, "queue", known.name, self.name, difference)
        check_equivalent(known.name, self.name, declaration.arguments, known.arguments)

    async def _create(self, queue: AmqpQueue, declaration: QueueDeclaration, engine: Engine) -> None:
        """Create the subscription. The note of a durable queue is written first, so that one without a note
        is known to have ended. `engine` reads the topic of a queue that has one."""
        is_kept = queue.durable and not queue.exclusive
        settings = settings_of(kind_of(queue.arguments), queue.arguments, queue.effective)
        created = self._create_subscription(queue, settings, engine)
        with engine_errors(f"queue '{queue.name}'"):
            if not is_kept:
                await created
                return
            note = self._note(QUEUE + queue.name, queue_data(declaration))
            failures = await asyncio.gather(note, created, return_exceptions=True)
            for failure in failures:
                if failure is not None:
                    await self._note(QUEUE + queue.name, None)
                    raise failure

    async def _create_subscription(
        self, queue: AmqpQueue, settings: SubscriptionSettings, engine: Engine
    ) -> None:
        routed = (
            engine.routed_queues if queue.topic and isinstance(engine, OffersRoutedQueues) else self._routed
        )
        await routed.create_queue(self.name, queue.name, settings)
        if queue.topic:
            start = topic_start(queue.arguments.get(TOPIC_FROM, "next"), self._clock.wall_ms())
            if start:
                await self._engine.seek(queue.subscription, start)

    def apply_policies_to_queue(self, queue: AmqpQueue) -> None:
        """Set what the present policies say of a queue. They say nothing of streams."""
        if queue.kind == "stream":
            return
        policy = applying(self.policies.values(), queue.name, queue.kind)
        limits = applying(self.operator_policies.values(), queue.name, queue.kind)
        queue.policy = "" if policy is None else policy.name
        queue.operator_policy = "" if limits is None else limits.name
        queue.effective = effective_arguments(
            queue.arguments,
            {} if policy is None else policy.definition,
            {} if limits is None else limits.definition,
        )

    # --- figures and purging ------------------------------------------------------------------------------

    async def queue_figures(self, name: str, owner: object = None) -> QueueFigures:
        """A passive declaration. AmqpError: 404, 405."""
        queue = self.queue_for(clean_name(name), owner)
        self.note_use(queue)
        return await self.figures(queue)

    async def purge_queue(self, name: str, owner: object = None) -> int:
        """Drop what is ready, and nothing that a consumer has. Returns how many there were. AmqpError: 404,
        405; 540: it is a stream."""
        queue = self.queue_for(name, owner)
        if queue.place is not None:
            raise not_of_streams("queue.purge", name, self.name)
        with engine_errors(f"queue '{name}'"):
            return await self._engine.attached.purge_ready(queue.subscription)

    # --- deleting -----------------------------------------------------------------------------------------

    async def delete_queue(
        self,
        name: str,
        owner: object = None,
        *,
        if_unused: bool = False,
        if_empty: bool = False,
        engine: Engine | None = None,
    ) -> int:
        """Delete a queue; one that does not exist, too. Returns how many messages were ready, which is 0 for
        streams, as in RabbitMQ. AmqpError: 403 (the topic of a stream), 405; 406: it has consumers, or
        messages."""
        if name not in self.queues:
            return 0
        queue = self.queue_for(name, owner)
        if if_unused and queue.consumers:
            raise amqp_error(406, f"queue '{name}' in vhost '{self.name}' in use")
        ready = await self.message_count(queue)
        if if_empty and ready:
            raise amqp_error(406, f"queue '{name}' in vhost '{self.name}' not empty")
        await self.remove_queue(queue, engine or self._engine)
        return 0 if queue.place is not None else ready

    async def remove_queue(self, queue: AmqpQueue, engine: Engine, *, topic_is_gone: bool = False) -> None:
        """Delete a queue with its bindings; nothing happens if it is deleted already. `topic_is_gone`: what
        has the name of the stream's topic now is another topic, and stays. AmqpError: 403."""
        name = queue.name
        async with self._locks.of(f"queue {name}"):
            if self.queues.get(name) is not queue:
                return
            if queue.place is not None and not topic_is_gone:
                with engine_errors(f"queue '{name}'"):
                    await self._delete_store(queue, engine)  # first, for it may be refused
            self.queues.pop(name, None)
            for end_consumer in list(queue.on_removed.values()):
                end_consumer()
            if queue.expiry_timer is not None:
                queue.expiry_timer.cancel()
            owned = self._exclusive.get(queue.owner, {})
            owned.pop(name, None)
            if not owned:
                self._exclusive.pop(queue.owner, None)
            bindings = self.router.bindings_to(name, is_queue=True)
            for binding in bindings:
                self.router.remove(binding)
                if queue.place is None:
                    self._binding_ids.pop(binding.identity, None)  # they go with the queue
            self.router.changed()
            with engine_errors(f"queue '{name}'"):
                if queue.place is None:
                    await self._delete_store(queue, engine)
                else:
                    await asyncio.gather(*(self._forget_binding(binding) for binding in bindings))
                if queue.durable and not queue.exclusive:
                    await self._note(QUEUE + name, None)
        for source in {binding.source for binding in bindings}:
            await self._remove_if_unused(source)

    async def connection_closed(self, owner: object) -> None:
        """Delete the exclusive queues of a connection."""
        queues = list(self._exclusive.get(owner, {}).values())
        await asyncio.gather(*(self.remove_queue(queue, self._engine) for queue in queues))

    # --- queues that go by themselves ---------------------------------------------------------------------

    def consumer_added(self, queue: AmqpQueue) -> None:
        """A consumer has subscribed."""
        queue.consumers += 1
        self.note_use(queue)

    async def consumer_removed(self, queue: AmqpQueue) -> None:
        """A consumer is gone. The queue goes with its last one, if it was declared so; it is deleted when
        this returns."""
        assert queue.consumers > 0, "a consumer is removed that was added"
        queue.consumers -= 1
        self.note_use(queue)
        if queue.auto_delete and not queue.consumers:
            await self._remove_unused(queue)

    def note_get(self, queue: AmqpQueue) -> None:
        """A message was asked for."""
        self.note_use(queue)

    def note_use(self, queue: AmqpQueue) -> None:
        """The queue is used: with `x-expires`, its time begins anew."""
        queue.used_s = self._clock.monotonic()
        expires_ms = queue.effective.get("expires")
        if expires_ms is not None and queue.expiry_timer is None:
            self._look_later(queue, expires_ms / 1_000)

    def _look_later(self, queue: AmqpQueue, seconds: float) -> None:
        queue.expiry_timer = self._clock.call_later(seconds, lambda: self._look_at(queue))

    def _look_at(self, queue: AmqpQueue) -> None:
        """Delete the queue if it was not used for its time, else look again when that may be so."""
        queue.expiry_timer = None
        expires_ms = queue.effective.get("expires")
        if expires_ms is None or self.queues.get(queue.name) is not queue:
            return
        if queue.consumers:
            self._look_later(queue, expires_ms / 1_000)
            return
        left_s = queue.used_s + expires_ms / 1_000 - self._clock.monotonic()
        if left_s > 0:
            self._look_later(queue, left_s)
        else:
            self._start_task(self._remove_unused(queue))

    async def _remove_unused(self, queue: AmqpQueue) -> None:
        if queue.consumers:
            return
        try:
            await self.remove_queue(queue, self._engine)
        except AmqpError:
            # The engine refuses changes. The queue has no name any more, and ends with a restart if it is
            # not durable; a durable one is back then, and its time begins anew.
            return
