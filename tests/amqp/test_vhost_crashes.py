"""What a virtual host has after random requests and crashes in the middle of one: what was answered, and no
part of what was not."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable

import pytest

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.topology import AmqpBinding, ExchangeDeclaration, QueueDeclaration
from mainstem.amqp.vhost import Vhost
from tests.amqp.model import Model, with_model

EXCHANGES, QUEUES = ("orders", "events", "audit"), ("billing", "mail", "archive")
Durable = tuple[frozenset[str], frozenset[str], frozenset[tuple[str, bool, str, str]]]


def durable(vhost: Vhost) -> Durable:
    """What a restart is to bring back."""
    exchanges = {item.name for item in vhost.exchanges.values() if item.durable}
    queues = {item.name for item in vhost.queues.values() if item.durable}
    bindings = {
        (item.source, item.is_to_queue, item.destination, item.routing_key)
        for item in vhost.router.bindings()
        if item.source in exchanges and item.destination in (queues if item.is_to_queue else exchanges)
    }
    return frozenset(exchanges), frozenset(queues), frozenset(bindings)


def request(vhost: Vhost, rng: random.Random) -> Awaitable[object]:
    exchange, queue, other = rng.choice(EXCHANGES), rng.choice(QUEUES), rng.choice(EXCHANGES)
    is_to_queue = rng.random() < 0.6
    binding = AmqpBinding(exchange, queue if is_to_queue else other, is_to_queue, rng.choice("ab"))
    match rng.choice(
        ("queue", "queue", "exchange", "exchange", "bind", "bind", "bind", "unbind", "delete", "end")
    ):
        case "queue":
            return vhost.declare_queue(QueueDeclaration(queue, durable=rng.random() < 0.7))
        case "exchange":
            return vhost.declare_exchange(ExchangeDeclaration(exchange, durable=rng.random() < 0.7))
        case "bind":
            return vhost.bind(binding)
        case "unbind":
            return vhost.unbind(binding)
        case "delete":
            return vhost.delete_queue(queue)
        case _:
            return vhost.delete_exchange(exchange)


@pytest.mark.parametrize("seed", range(6))
def test_a_crash_leaves_what_was_answered(seed: int) -> None:
    async def test(model: Model) -> None:
        rng = random.Random(seed)
        for _ in range(5):
            for _ in range(rng.randrange(12)):
                with contextlib.suppress(AmqpError):  # what does not exist, or is there with other options
                    await model.drive(request(model.vhost, rng))
            before = durable(model.vhost)
            task = asyncio.ensure_future(request(model.vhost, rng))
            for _ in range(rng.randrange(4)):
                await model.server.turns()
            after = durable(model.vhost)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await model.crash(power=rng.random() < 0.5)
            restored = durable(model.vhost)
            for kind in range(3):
                assert restored[kind] >= before[kind] & after[kind]
                # The last request may be recorded and not answered.
                assert len(restored[kind] - before[kind] - after[kind]) <= 1
            assert await model.drive(model.server.engine.routed_queues.queues_of("/")) == sorted(restored[1])
            await model.crash()
            assert durable(model.vhost) == restored

    with_model(test)
