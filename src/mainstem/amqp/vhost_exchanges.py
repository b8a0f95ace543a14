"""Exchanges and bindings of a virtual host: declare, delete, bind, unbind.

Owns: RabbitMQ's rules for these (AMQP 0-9-1, 1.6 and 3.1; https://www.rabbitmq.com/docs/e2e), and what of
them is durable: an exchange that was declared so, and a binding whose two ends are. Refuses: routing.
"""

from __future__ import annotations

import asyncio

from mainstem.amqp.binding_tables import KINDS
from mainstem.amqp.errors import (
    AmqpError,
    amqp_error,
    default_exchange_refuses,
    inequivalent,
    locked_queue,
    no_exchange,
    no_queue,
    reserved_name,
)
from mainstem.amqp.policies import applying
from mainstem.amqp.queue_arguments import check_same_argument, invalid_type, shown
from mainstem.amqp.stored_topology import EXCHANGE, binding_data, binding_note, exchange_data
from mainstem.amqp.topic_names import topic_of_exchange
from mainstem.amqp.topology import AmqpBinding, AmqpQueue, Exchange, ExchangeDeclaration
from mainstem.amqp.vhost_state import KEPT_AS_NOTE, RESERVED_PREFIX, VhostState, clean_name, engine_errors

DELAYED = "x-delayed-message"


class VhostExchanges(VhostState):
    """What clients ask of exchanges. `owner`: the connection, of whose exclusive queues it may be about."""

    def exchange(self, name: str) -> Exchange:
        """The exchange of this name. AmqpError: 404."""
        known = self.exchanges.get(name)
        if known is None:
            raise no_exchange(name, self.name)
        return known

    def check_exchange(self, name: str) -> None:
        """A passive declaration. AmqpError: 403, 404."""
        if name == "":
            raise default_exchange_refuses()
        if self.is_topic(name):
            return
        self.exchange(clean_name(name))

    def is_topic(self, exchange: str) -> bool:
        """Whether this name of an exchange is that of a topic, which may not exist."""
        return exchange not in self.exchanges and bool(topic_of_exchange(exchange))

    def check_publish(self, exchange: str) -> None:
        """Check that clients may publish there: to an exchange, or a topic as such. AmqpError: 404, 403."""
        if self.is_topic(exchange):
            return
        if self.exchange(exchange).internal:
            raise amqp_error(403, f"cannot publish to internal exchange '{exchange}' in vhost '{self.name}'")

    async def declare_exchange(self, declaration: ExchangeDeclaration) -> None:
        """Declare an exchange. AmqpError: 403 (the name), 406 (type, arguments, another exchange)."""
        name = clean_name(declaration.name)
        if name == "":
            raise default_exchange_refuses()
        async with self._locks.of(f"exchange {name}"):
            known = self.exchanges.get(name)
            self._check_type(declaration)
            if known is not None:
                self._check_equivalent(known, declaration)
                return
            if name.startswith(RESERVED_PREFIX):
                raise reserved_name("exchange", name)
            made = Exchange(
                name,
                declaration.kind,
                declaration.durable,
                declaration.auto_delete,
                declaration.internal,
                declaration.arguments,
            )
            self.apply_policy_to_exchange(made)
            if made.durable:
                with engine_errors(f"exchange '{name}'"):
                    await self._note(EXCHANGE + name, exchange_data(made))
            self.exchanges[name] = made
            self.router.changed()

    def _check_type(self, declaration: ExchangeDeclaration) -> None:
        kind = declaration.kind
        if kind == DELAYED:
            if declaration.arguments.get("x-delayed-type") not in KINDS:
                raise amqp_error(406, "Invalid argument, 'x-delayed-type' must be an existing exchange type")
        elif kind not in KINDS:
            raise amqp_error(406, f"unknown exchange type '{kind}'")
        alternate = declaration.arguments.get("alternate-exchange", "")
        if not isinstance(alternate, str):
            raise invalid_type("alternate-exchange", alternate, "exchange", declaration.name, self.name)

    def _check_equivalent(self, known: Exchange, declaration: ExchangeDeclaration) -> None:
        for argument, received, current in (
            ("type", declaration.kind, known.kind),
            ("durable", declaration.durable, known.durable),
            ("auto_delete", declaration.auto_delete, known.auto_delete),
            ("internal", declaration.internal, known.internal),
        ):
            if received != current:
                difference = f"received '{shown(received)}' but current is '{shown(current)}'"
                raise inequivalent(argument, "exchange", known.name, self.name, difference)
        for argument in ("alternate-exchange", "x-delayed-type"):
            check_same_argument(
                argument, "exchange", known.name, self.name, declaration.arguments, known.arguments
            )

    def apply_policy_to_exchange(self, exchange: Exchange) -> None:
        """Set what the present policies say of an exchange. Its argument goes before them."""
        policy = applying(self.policies.values(), exchange.name, "exchange") if exchange.name else None
        exchange.policy = "" if policy is None else policy.name
        by_policy = "" if policy is None else policy.definition.get("alternate-exchange", "")
        exchange.alternate = str(exchange.arguments.get("alternate-exchange", by_policy))

    async def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange with its bindings; one that does not exist, too. AmqpError: 403; 406: it is in
        use."""
        if name == "":
            raise default_exchange_refuses()
        if name.startswith(RESERVED_PREFIX):
            raise amqp_error(403, f"deletion of system exchange '{name}' in vhost '{self.name}' not allowed")
        if if_unused and self.router.bindings_of(name):
            raise amqp_error(406, f"exchange '{name}' in vhost '{self.name}' in use")
        await self._remove_exchange(name)

    async def _remove_exchange(self, name: str) -> None:
        async with self._locks.of(f"exchange {name}"):
            known = self.exchanges.pop(name, None)
            if known is None:
                return
            bindings = [*self.router.bindings_of(name), *self.router.bindings_to(name, is_queue=False)]
            for binding in bindings:
                self.router.remove(binding)
            self.router.forget_exchange(name)
            with engine_errors(f"exchange '{name}'"):
                if known.durable:
                    await self._note(EXCHANGE + name, None)
                await asyncio.gather(*(self._forget_binding(binding) for binding in bindings))
            for source in {binding.source for binding in bindings} - {name}:
                await self._remove_if_unused(source)

    async def _remove_if_unused(self, name: str) -> None:
        """Delete an exchange that goes with its last binding, if that is gone."""
        known = self.exchanges.get(name)
        if known is not None and known.auto_delete and not self.router.bindings_of(name):
            await self._remove_exchange(name)

    # --- bindings -----------------------------------------------------------------------------------------

    def bindings(self) -> list[AmqpBinding]:
        """All bindings, with those that the default exchange has to each queue."""
        default = [AmqpBinding("", name, True, name) for name in self.queues]
        return [*default, *self.router.bindings()]

    async def bind(self, binding: AmqpBinding, owner: object = None) -> None:
        """Bind. AmqpError: 404, 403 (the default exchange), 405 (another's queue), 406 (the arguments)."""
        async with self._locks.of(f"binding {binding.destination}"):
            is_durable = self._check_ends(binding, owner)
            if binding in self.router:
                return
            try:
                self.router.add(binding)
            except ValueError as error:
                raise amqp_error(406, str(error)) from None
            if not is_durable:
                return
            try:
                with engine_errors(f"binding to '{binding.destination}'"):
                    await self._keep_binding(binding)
            except BaseException:
                self.router.remove(binding)
                raise

    async def unbind(self, binding: AmqpBinding, owner: object = None) -> None:
        """Remove a binding; one that does not exist, too. AmqpError: 403, 405."""
        async with self._locks.of(f"binding {binding.destination}"):
            if binding.source == "":
                raise default_exchange_refuses()
            if binding.is_to_queue and binding.destination in self.queues:
                self.queue_for(binding.destination, owner)
            if not self.router.remove(binding):
                return
            with engine_errors(f"binding to '{binding.destination}'"):
                await self._forget_binding(binding)
        await self._remove_if_unused(binding.source)

    def _check_ends(self, binding: AmqpBinding, owner: object) -> bool:
        """Whether both ends are durable."""
        if binding.source == "" or (binding.destination == "" and not binding.is_to_queue):
            raise default_exchange_refuses()
        end: Exchange | AmqpQueue
        if binding.is_to_queue:
            queue = end = self.queue_for(binding.destination, owner)
            if queue.topic:
                raise amqp_error(
                    406,
                    f"queue '{queue.name}' in vhost '{self.name}' has the events of the topic"
                    f" '{queue.topic}', and is bound to nothing",
                )
            is_durable = queue.durable and not queue.exclusive
        else:
            end = self.exchange(binding.destination)
            is_durable = end.durable
        return self.exchange(binding.source).durable and is_durable

    def queue_for(self, name: str, owner: object) -> AmqpQueue:
        """The queue of this name, for a connection. AmqpError: 404, 405."""
        known = self.queues.get(name)
        if known is None:
            raise no_queue(name, self.name)
        if known.exclusive and known.owner is not owner:
            raise locked_queue(name, self.name)
        return known

    def no_such_queue(self, name: str) -> AmqpError:
        """The error for a queue that was deleted meanwhile: 404."""
        return no_queue(name, self.name)

    async def _keep_binding(self, binding: AmqpBinding) -> None:
        if not binding.is_to_queue:
            await self._note(binding_note(binding), binding_data(binding, is_noted=True))
        elif self.queues[binding.destination].place is not None:
            await self._note(binding_note(binding), binding_data(binding, is_noted=True))
            self._binding_ids[binding.identity] = KEPT_AS_NOTE
        else:
            self._binding_ids[binding.identity] = await self._routed.bind_queue(
                self.name, binding.destination, binding_data(binding)
            )

    async def _forget_binding(self, binding: AmqpBinding) -> None:
        id_ = self._binding_ids.pop(binding.identity, None) if binding.is_to_queue else KEPT_AS_NOTE
        if id_ == KEPT_AS_NOTE:
            await self._note(binding_note(binding), None)
        elif id_ is not None:
            await self._routed.unbind_queue(self.name, id_)
