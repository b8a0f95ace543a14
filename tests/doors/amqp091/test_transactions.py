"""What a transaction leaves when the server dies after its commit, or in the middle of it."""

from __future__ import annotations

import asyncio
import random

import pytest

from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091 import methods
from tests.amqp.model import Model, with_model
from tests.doors.amqp091.test_channel_with_engine import EngineChannels, message

ORDERS, BILLS = 3, 4
QUEUES = ("orders", "bills", "letters")


async def transaction(model: Model) -> EngineChannels:
    """A channel that has taken three orders and, for its commit, published bills and answered the orders."""
    channels = EngineChannels(model)
    channel = channels.open()
    await channels.call(channel, *(methods.QueueDeclare(name, durable=True) for name in QUEUES))
    await channels.call(channel, *(message("orders", b"order %d" % number) for number in range(ORDERS)))
    await channels.call(channel, methods.TxSelect(), *[methods.BasicGet("orders")] * ORDERS)
    for number in range(BILLS):
        for queue in ("bills", "letters"):
            channel.on_message(methods.BasicPublish("", queue), Properties(), b"bill %d" % number)
    channel.on_method(methods.BasicAck(2, multiple=True))
    channel.on_method(methods.BasicReject(3, requeue=False))
    channel.on_method(methods.TxCommit())
    return channels


async def left(model: Model) -> dict[str, list[tuple[bytes, bool]]]:
    """What the queues have after a start: (body, whether it was delivered before)."""
    channels = EngineChannels(model)
    channel = channels.open()
    return {queue: await channels.get_all(channel, queue) for queue in QUEUES}


@pytest.mark.parametrize("power", [False, True])
def test_all_of_a_transaction_is_durable_when_its_commit_is_answered(power: bool) -> None:
    async def scenario(model: Model) -> None:
        channels = await transaction(model)
        await model.drive(channels.connection.idle())
        assert channels.connection.sent[-1] == methods.TxCommitOk()
        await model.crash(power=power)
        bills = [(b"bill %d" % number, False) for number in range(BILLS)]
        assert await left(model) == {"orders": [], "bills": bills, "letters": bills}

    with_model(scenario)


@pytest.mark.parametrize("seed", range(12))
def test_a_crash_in_the_middle_of_a_commit_loses_nothing(seed: int) -> None:
    async def scenario(model: Model) -> None:
        rng = random.Random(seed)
        channels = await transaction(model)
        idle = asyncio.ensure_future(channels.connection.idle())
        for _ in range(seed):
            if not await model.server.turns():
                model.server.clock.advance(0.000_2)
        is_answered = methods.TxCommitOk() in channels.connection.sent
        idle.cancel()
        await model.crash(power=rng.random() < 0.5)
        queues = await left(model)
        bills = [(b"bill %d" % number, False) for number in range(BILLS)]
        assert queues["bills"] == queues["letters"]
        assert queues["bills"] in ([], bills), "what was published to one exchange at once is one batch"
        if queues["orders"] != [(b"order %d" % number, True) for number in range(ORDERS)]:
            assert queues["orders"] == [], "the answers for one queue are one record"
            assert queues["bills"] == bills, "what was answered is done after what was published is stored"
        if is_answered:
            assert (queues["orders"], queues["bills"]) == ([], bills)

    with_model(scenario)
