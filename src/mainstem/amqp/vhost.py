"""A virtual host: exchanges, queues, bindings and policies, as the doors that speak of these use it.

Owns: the life of a virtual host: loading what is kept with its namespace, policies, publishing, and how an
event is delivered as a message. Refuses: wires, permissions (the doors check them) and connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mainstem.amqp.messages import (
    AmqpMessage,
    ReceivedMessage,
    received,
    received_from_stream,
    received_from_topic,
)
from mainstem.amqp.policies import Policy, check_policy
from mainstem.amqp.publisher import PublishOutcome
from mainstem.amqp.queue_arguments import kind_of, settings_of
from mainstem.amqp.stored_topology import (
    BINDING,
    EXCHANGE,
    MOVES,
    OPERATOR_POLICY,
    POLICY,
    QUEUE,
    TOPIC,
    binding_from,
    exchange_from,
    policy_data,
    policy_from,
    queue_from,
)
from mainstem.amqp.streams import StreamPlace, partition_count, place_of
from mainstem.amqp.topology import AmqpBinding, AmqpQueue
from mainstem.amqp.vhost_queues import VhostQueues
from mainstem.amqp.vhost_state import KEPT_AS_NOTE, engine_errors
from mainstem.contract import Event
from mainstem.queue_contract import NoSuchSubscription


class Vhost(VhostQueues):
    """A virtual host. All requests raise AmqpError, with RabbitMQ's texts; what they have answered is durable
    as far as AMQP says so."""

    # --- messages -----------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[AmqpMessage]) -> asyncio.Future[list[PublishOutcome]]:
        """Publish messages, after those of earlier calls; `check_publish` has allowed their exchanges. The
        value has the result of each. It does not fail."""
        return self.publisher.publish(messages)

    def from_stream(self, event: Event, queue: AmqpQueue) -> ReceivedMessage:
        """The message that an event of a stream is. Its header `x-stream-offset` has the offset."""
        return received_from_stream(event, queue.name)

    def from_event(self, event: Event, queue: AmqpQueue, attempt: int = 1) -> ReceivedMessage:
        """The message that a delivered event is. A quorum queue counts its deliveries in a header."""
        failures = attempt - 1 if queue.kind == "quorum" else 0
        if queue.topic:
            return received_from_topic(event, self.publisher.exchange_of(event), failures)
        return received(event, self.publisher.exchange_of(event), failures)

    # --- policies -----------------------------------------------------------------------------------------

    async def set_policy(self, policy: Policy, *, is_operator: bool = False) -> None:
        """Set a policy in place of the one of its name. AmqpError: 406."""
        check_policy(policy, is_operator=is_operator)
        policies, prefix = self._policies(is_operator)
        with engine_errors(f"policy '{policy.name}'"):
            await self._note(prefix + policy.name, policy_data(policy))
        policies[policy.name] = policy
        await self._apply_policies()

    async def clear_policy(self, name: str, *, is_operator: bool = False) -> bool:
        """Remove a policy. Whether there was one."""
        policies, prefix = self._policies(is_operator)
        if name not in policies:
            return False
        with engine_errors(f"policy '{name}'"):
            await self._note(prefix + name, None)
        policies.pop(name, None)
        await self._apply_policies()
        return True

    def _policies(self, is_operator: bool) -> tuple[dict[str, Policy], str]:
        return (self.operator_policies, OPERATOR_POLICY) if is_operator else (self.policies, POLICY)

    async def _apply_policies(self) -> None:
        """Let exchanges and queues follow the present policies. Only what changes is written."""
        for exchange in list(self.exchanges.values()):
            self.apply_policy_to_exchange(exchange)
        self.router.changed()
        for queue in list(self.queues.values()):
            if queue.place is not None:
                continue
            before = settings_of(kind_of(queue.arguments), queue.arguments, queue.effective)
            self.apply_policies_to_queue(queue)
            after = settings_of(kind_of(queue.arguments), queue.arguments, queue.effective)
            self.note_use(queue)
            if after != before:
                with engine_errors(f"queue '{queue.name}'"):
                    try:
                        await self._engine.alter_subscription(queue.subscription, after)
                    except NoSuchSubscription:
                        pass  # it is being deleted

    # --- loading ------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Take over what is kept with the namespace, after a start. Queues that were not durable have ended;
        what a crash has left of a deletion is removed. StreamError."""
        notes = await self._routed.notes(self.name)
        for note, data in notes.items():
            if note.startswith(EXCHANGE):
                name = note.removeprefix(EXCHANGE)
                self.exchanges[name] = exchange_from(name, data)
            elif note.startswith(POLICY):
                name = note.removeprefix(POLICY)
                self.policies[name] = policy_from(name, data)
            elif note.startswith(OPERATOR_POLICY):
                name = note.removeprefix(OPERATOR_POLICY)
                self.operator_policies[name] = policy_from(name, data)
            elif note.startswith(TOPIC):
                self.publisher.know_topic(note.removeprefix(TOPIC), data.decode())
        for exchange in self.exchanges.values():
            self.apply_policy_to_exchange(exchange)
        await self._load_queues(
            {note.removeprefix(QUEUE): data for note, data in notes.items() if note.startswith(QUEUE)}
        )
        await self._load_bindings({note: data for note, data in notes.items() if note.startswith(BINDING)})
        self.router.changed()
        await self.copies.load(notes.get(MOVES))

    async def _load_queues(self, notes: dict[str, bytes]) -> None:
        names = {*await self._routed.queues_of(self.name), *await self._queues_of_topics()}
        for name, data in notes.items():
            queue = self.new_queue(name, queue_from(name, data), None)
            if queue.kind == "stream":
                queue.place = await place_of(self._engine, name)
                if queue.place is None and await partition_count(self._engine, name):
                    queue.place = StreamPlace(name, 0)  # its topic has got more partitions since
            if name in names or queue.place is not None:
                self.queues[name] = queue
                self.note_use(queue)
            else:
                await self._note(QUEUE + name, None)
        ended = names - notes.keys()
        for name in ended:
            await self._engine.delete_subscription(self._routed.subscription_of(self.name, name))

    async def _queues_of_topics(self) -> list[str]:
        """The queues of the virtual host that are subscriptions of topics."""
        prefix = self._routed.subscription_of(self.name, "")
        names = [name for name in await self._engine.subscriptions() if name.startswith(prefix)]
        settings = [await self._engine.subscription_settings(name) for name in names]
        # A share group can have any name, and has no topics of its own.
        return [name.removeprefix(prefix) for name, its in zip(names, settings, strict=True) if its.topics]

    async def _load_bindings(self, notes: dict[str, bytes]) -> None:
        for stored in await self._routed.bindings(self.name):
            binding = binding_from(stored.data, stored.queue)
            if self._can_bind(binding) and binding not in self.router:
                self.router.add(binding)
                self._binding_ids[binding.identity] = stored.id
            else:
                await self._routed.unbind_queue(self.name, stored.id)
        for note, data in notes.items():
            binding = binding_from(data, None)
            if self._can_bind(binding):
                self.router.add(binding)
                if binding.is_to_queue:
                    self._binding_ids[binding.identity] = KEPT_AS_NOTE
            else:
                await self._note(note, None)

    def _can_bind(self, binding: AmqpBinding) -> bool:
        ends = self.queues if binding.is_to_queue else self.exchanges
        return binding.source in self.exchanges and binding.destination in ends

    def close(self) -> None:
        """End the timers."""
        self.copies.close()
        for queue in self.queues.values():
            if queue.expiry_timer is not None:
                queue.expiry_timer.cancel()
                queue.expiry_timer = None
