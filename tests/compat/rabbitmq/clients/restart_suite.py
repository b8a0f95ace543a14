"""Clients that go on by themselves when the server has been killed and started again.

    python -m tests.compat.rabbitmq.clients.restart_suite HOST:PORT CASE

Prints READY when the server may be killed, and waits for a line on its standard input when it is there again.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

import aio_pika
import kombu
from aio_pika.exceptions import AMQPError

from tests.compat.cases import Address, case, eventually, main, same

SECONDS_MAX = 45


def wait_for_the_restart() -> None:
    print("READY", flush=True)
    assert sys.stdin.readline(), "the server did not come back"


@case("aio_pika")
def robust_connection() -> None:
    async def run() -> None:
        received: set[bytes] = set()

        async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            async with message.process(ignore_processed=True):
                received.add(message.body)

        async def until(body: bytes) -> None:
            while body not in received:
                await asyncio.sleep(0.05)

        url = f"amqp://guest:guest@{Address.value}/?reconnect_interval=1"
        connection = await aio_pika.connect_robust(url)
        async with connection, asyncio.timeout(SECONDS_MAX):
            channel = await connection.channel()
            exchange = await channel.declare_exchange("restart-aio", "topic", durable=True)
            queue = await channel.declare_queue("restart-aio", durable=True)
            await queue.bind(exchange, "order.#")
            await queue.consume(on_message)
            await exchange.publish(aio_pika.Message(b"order 0"), "order.placed")
            await until(b"order 0")
            await asyncio.to_thread(wait_for_the_restart)
            while True:
                try:
                    await exchange.publish(aio_pika.Message(b"order 1"), "order.placed", timeout=5)
                    break
                except (AMQPError, ConnectionError, TimeoutError, RuntimeError):
                    await asyncio.sleep(0.2)
            await until(b"order 1")

    asyncio.run(run())


@case("kombu")
def ensured_publishing() -> None:
    queue = kombu.Queue("restart-kombu", kombu.Exchange("restart-kombu", "topic"), routing_key="order.#")
    url = f"amqp://guest:guest@{Address.value}//"
    with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer()
        retry = {"max_retries": 100, "interval_start": 0.1, "interval_max": 0.5}
        send: Callable[[str], None] = lambda body: producer.publish(  # noqa: E731
            body,
            exchange=queue.exchange,
            routing_key="order.placed",
            declare=[queue],
            retry=True,
            retry_policy=retry,
        )
        send("order 0")
        wait_for_the_restart()
        send("order 1")
    with kombu.Connection(url) as connection:
        waiting = connection.SimpleQueue(queue)
        bodies = []
        for _ in range(2):
            message = waiting.get(timeout=20)
            bodies.append(message.payload)
            message.ack()
        same(bodies, ["order 0", "order 1"])


@case("celery")
def celery_worker() -> None:
    """The worker reconnects, and has the task that waited and one that is sent later."""
    folder = tempfile.mkdtemp(prefix="celery-")
    results = os.path.join(folder, "results")
    os.mkdir(results)
    os.environ |= {"COMPAT_BROKER": Address.value, "COMPAT_RESULTS": f"file://{results}"}
    from tests.compat.rabbitmq.clients import celery_app

    celery_app.app.conf.broker_transport_options = {"confirm_publish": True}
    app = "tests.compat.rabbitmq.clients.celery_app"
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        app,
        "worker",
        "-c",
        "1",
        "-n",
        "restart",
        "-l",
        "info",
    ]
    with open(os.path.join(folder, "log"), "wb") as log:
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        same(celery_app.price.delay(10).get(timeout=SECONDS_MAX), 12.0)
        later = celery_app.price.apply_async((20,), countdown=5)
        wait_for_the_restart()
        policy = {"max_retries": 100, "interval_start": 0.1, "interval_max": 0.5}
        result = celery_app.price.apply_async((30,), retry=True, retry_policy=policy)
        eventually(result.ready, "the later task", SECONDS_MAX)
        eventually(later.ready, "the task that waited", SECONDS_MAX)
        same((later.get(), result.get()), (24.0, 36.0))
    finally:
        worker.terminate()
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    main()
