"""aio-pika: robust connections, iterators, its patterns of requests and of workers.

python -m tests.compat.rabbitmq.clients.aio_pika_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
from aio_pika.patterns import RPC, Master

from tests.compat.cases import Address, case, main, same

ORDER = b'{"order": 7}'


def with_channel(
    body: Callable[[Any, Any], Awaitable[None]],
) -> Callable[[], None]:
    """A case: runs `body(connection, channel)` on a robust connection."""

    async def run() -> None:
        connection = await aio_pika.connect_robust(f"amqp://guest:guest@{Address.value}/")
        async with connection:
            async with asyncio.timeout(50):
                await body(connection, await connection.channel())

    return case(body.__name__.replace("_", "-"))(lambda: asyncio.run(run()))


@with_channel
async def publish_and_iterate(_: Any, channel: Any) -> None:
    queue = await channel.declare_queue("aio-orders", exclusive=True)
    for i in range(200):
        message = aio_pika.Message(ORDER, message_id=str(i), headers={"number": i}, delivery_mode=2)
        await channel.default_exchange.publish(message, queue.name)
    received = []
    async with queue.iterator(timeout=20) as messages:
        async for message in messages:
            async with message.process():
                received.append((message.message_id, message.headers["number"], message.body))
            if len(received) == 200:
                break
    same(received, [(str(i), i, ORDER) for i in range(200)])


@with_channel
async def publish_at_once(_: Any, channel: Any) -> None:
    queue = await channel.declare_queue("aio-at-once", exclusive=True)
    publish = channel.default_exchange.publish
    await asyncio.gather(*(publish(aio_pika.Message(b"%d" % i), queue.name) for i in range(500)))
    same((await queue.declare()).message_count, 500)


@with_channel
async def returned(connection: Any, _: Any) -> None:
    channel = await connection.channel(on_return_raises=True)
    try:
        await channel.default_exchange.publish(aio_pika.Message(ORDER), "aio-no-such", mandatory=True)
    except aio_pika.exceptions.DeliveryError:
        return
    raise AssertionError("was not returned")


@with_channel
async def topic_exchange(_: Any, channel: Any) -> None:
    exchange = await channel.declare_exchange("aio-topic", "topic", auto_delete=True)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange, "orders.*.created")
    await exchange.publish(aio_pika.Message(b"no"), "orders.eu.paid", mandatory=False)
    await exchange.publish(aio_pika.Message(b"yes"), "orders.eu.created")
    message = await queue.get(timeout=10)
    same(message.body, b"yes")
    await message.reject(requeue=True)
    same((await queue.get(timeout=10, no_ack=True)).redelivered, True)


@with_channel
async def transaction(connection: Any, _: Any) -> None:
    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.declare_queue("aio-tx", exclusive=True)
    async with channel.transaction():
        await channel.default_exchange.publish(aio_pika.Message(ORDER), queue.name)
    same((await queue.declare()).message_count, 1)


@with_channel
async def requests(_: Any, channel: Any) -> None:
    rpc = await RPC.create(channel)

    async def price(*, amount: float) -> float:
        return amount * 2

    await rpc.register("aio-price", price, auto_delete=True)
    same(await rpc.call("aio-price", {"amount": 6.0}), 12.0)
    await rpc.close()


@with_channel
async def workers(_: Any, channel: Any) -> None:
    master, done = Master(channel), asyncio.Queue[int]()

    async def work(*, number: int) -> None:
        done.put_nowait(number)

    worker = await master.create_worker("aio-work", work, auto_delete=True)
    for i in range(20):
        await master.create_task("aio-work", {"number": i})
    same(sorted([await done.get() for _ in range(20)]), list(range(20)))
    await worker.close()


@with_channel
async def dead_letters(_: Any, channel: Any) -> None:
    dead = await channel.declare_queue("aio-dead", exclusive=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name, "x-max-length": 1}
    queue = await channel.declare_queue("aio-limited", exclusive=True, arguments=arguments)
    for body in (b"first", b"second"):
        await channel.default_exchange.publish(aio_pika.Message(body), queue.name)
    async with dead.iterator(timeout=20) as messages:
        message = await anext(aiter(messages))
        same((message.body, message.headers["x-death"][0]["reason"]), (b"first", "maxlen"))


if __name__ == "__main__":
    main()
