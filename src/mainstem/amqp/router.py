"""Routing of a virtual host: from an exchange and a message to the queues that get it.

Owns: the bindings of all exchanges by type, the walk over bindings between exchanges and to alternate ones,
and a cache of what routing keys alone decide. Refuses: names that do not exist (the callers check), and
anything durable.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

from mainstem.amqp.binding_tables import BindingTable, Routable, new_table
from mainstem.amqp.topology import AmqpBinding, AmqpQueue, Exchange, Target

K = TypeVar("K", bound=Hashable)
CACHED_MAX = 65_536
"""Routes that are remembered; a full cache starts anew."""


class Router:
    """The bindings of a virtual host."""

    def __init__(
        self, exchanges: Mapping[str, Exchange], queues: Mapping[str, AmqpQueue], rng: random.Random
    ) -> None:
        """`exchanges`, `queues`: those of the virtual host, live."""
        self._exchanges = exchanges
        self._queues = queues
        self._rng = rng
        self._tables: dict[str, BindingTable] = {}
        self._bindings: dict[object, AmqpBinding] = {}
        self._from: dict[str, dict[object, AmqpBinding]] = {}
        self._to: dict[Target, dict[object, AmqpBinding]] = {}
        self._cache: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}

    # --- bindings -----------------------------------------------------------------------------------------

    def __contains__(self, binding: AmqpBinding) -> bool:
        return binding.identity in self._bindings

    def bindings(self) -> Iterator[AmqpBinding]:
        """All of them, but for those that the default exchange has."""
        return iter(self._bindings.values())

    def bindings_of(self, exchange: str) -> list[AmqpBinding]:
        """Those from an exchange."""
        return list(self._from.get(exchange, {}).values())

    def bindings_to(self, name: str, *, is_queue: bool) -> list[AmqpBinding]:
        """Those to a queue, or to an exchange."""
        return list(self._to.get((is_queue, name), {}).values())

    def add(self, binding: AmqpBinding) -> None:
        """Add a binding whose ends exist. ValueError: the type of its exchange does not allow it."""
        identity = binding.identity
        if identity in self._bindings:
            return
        table = self._tables.get(binding.source)
        if table is None:
            exchange = self._exchanges[binding.source]
            table = new_table(exchange.routing_kind, exchange.arguments, self._rng)
        table.add(binding)
        self._tables[binding.source] = table
        self._bindings[identity] = binding
        self._from.setdefault(binding.source, {})[identity] = binding
        self._to.setdefault(binding.target, {})[identity] = binding
        self.changed()

    def remove(self, binding: AmqpBinding) -> bool:
        """Remove a binding. Whether there was one."""
        identity = binding.identity
        known = self._bindings.pop(identity, None)
        if known is None:
            return False
        self._tables[binding.source].remove(known)
        _drop(self._from, binding.source, identity)
        _drop(self._to, binding.target, identity)
        self.changed()
        return True

    def forget_exchange(self, name: str) -> None:
        """The exchange is deleted, and had no bindings any more."""
        self._tables.pop(name, None)
        self.changed()

    def changed(self) -> None:
        """Exchanges or queues have changed: what is remembered may be wrong."""
        self._cache.clear()

    # --- routing ------------------------------------------------------------------------------------------

    def route(self, exchange: str, message: Routable) -> tuple[str, ...]:
        """The queues that get a message, sorted."""
        key = (exchange, message.keys)
        known = self._cache.get(key)
        if known is not None:
            return known
        queues, is_cacheable = self._walk(exchange, message)
        if is_cacheable:
            if len(self._cache) >= CACHED_MAX:
                self._cache.clear()
            self._cache[key] = queues
        return queues

    def _walk(self, first: str, message: Routable) -> tuple[tuple[str, ...], bool]:
        """The queues, and whether the keys alone have decided."""
        queues: set[str] = set()
        seen = {first}
        stack = [first]
        is_cacheable = True
        while stack:
            name = stack.pop()
            if name == "":
                queues.update(
                    key
                    for key in message.keys
                    if (queue := self._queues.get(key)) is not None and not queue.topic
                )
                continue
            table = self._tables.get(name)
            targets = set() if table is None else set(table.match(message))
            is_cacheable &= table is None or table.by_key_alone
            for is_queue, target in targets:
                if is_queue:
                    queues.add(target)
                elif target not in seen:
                    seen.add(target)
                    stack.append(target)
            known = self._exchanges.get(name)
            alternate = known.alternate if known is not None else ""
            if not targets and alternate in self._exchanges and alternate and alternate not in seen:
                seen.add(alternate)
                stack.append(alternate)
        return tuple(sorted(queues)), is_cacheable


def _drop(index: dict[K, dict[object, AmqpBinding]], key: K, identity: object) -> None:
    bindings = index[key]
    del bindings[identity]
    if not bindings:
        del index[key]
