"""kombu on py-amqp, as Celery uses it.

python -m tests.compat.rabbitmq.clients.kombu_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import socket
from typing import Any

from kombu import Connection, Consumer, Exchange, Producer, Queue

from tests.compat.cases import Address, case, eventually, main, same

ORDER = {"order": 7, "amount": 12.5, "shop": "grüße"}


def connection(**given: Any) -> Connection:
    return Connection(f"amqp://guest:guest@{Address.value}//", **given)


def get(queue: Any) -> Any:
    """The queue's next message: what was published without a confirm may need a moment."""
    messages: list[Any] = []

    def come() -> bool:
        messages.append(queue.get())
        return messages[-1] is not None

    eventually(come, f"a message in {queue.name}", 10)
    return messages[-1]


def drain(link: Connection, received: list[Any], count: int) -> None:
    """Read events until there are `count` received messages, at most 10 s."""

    def enough() -> bool:
        try:
            link.drain_events(timeout=0.5)
        except (socket.timeout, TimeoutError):  # noqa: UP041  (what kombu raises depends on its version)
            pass
        return len(received) >= count

    eventually(enough, f"{count} messages", 10)


@case("produce-and-consume")
def produce_and_consume() -> None:
    exchange = Exchange("kombu-orders", "topic", durable=True)
    queue = Queue("kombu-orders", exchange, "orders.#")
    received: list[Any] = []

    def take(body: Any, message: Any) -> None:
        received.append((body, message.delivery_info["routing_key"], message.headers["number"]))
        message.ack()

    with connection() as link:
        producer = Producer(link.channel())
        for i in range(20):
            producer.publish(
                ORDER, exchange=exchange, routing_key=f"orders.{i}", declare=[queue], headers={"number": i}
            )
        with Consumer(link.channel(), [queue], callbacks=[take], accept=["json"]):
            drain(link, received, 20)
        queue(link.channel()).delete()
    same(received, [(ORDER, f"orders.{i}", i) for i in range(20)])


@case("confirm-publish")
def confirm_publish() -> None:
    with connection(transport_options={"confirm_publish": True}) as link:
        queue = Queue("kombu-confirmed", exclusive=True)(link.channel())
        queue.declare()
        for _ in range(10):
            Producer(link.channel()).publish(ORDER, routing_key=queue.name)
        same(queue.queue_declare(passive=True).message_count, 10)


@case("simple-queue")
def simple_queue() -> None:
    with connection() as link:
        queue = link.SimpleQueue("kombu-simple")
        for i in range(5):
            queue.put({"i": i}, compression="zlib")
        for i in range(5):
            message = queue.get(timeout=10)
            same(message.payload, {"i": i})
            message.ack()
        try:
            queue.get(block=False)
        except queue.Empty:
            pass
        else:
            raise AssertionError("not empty")
        queue.close()
        queue.queue(link.channel()).delete()


@case("requeue-and-reject")
def requeue_and_reject() -> None:
    with connection() as link:
        dead = Queue("kombu-dead", exclusive=True)(link.channel())
        dead.declare()
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "kombu-dead"}
        queue = Queue("kombu-rejected", exclusive=True, queue_arguments=arguments)(link.channel())
        queue.declare()
        Producer(link.channel()).publish(ORDER, routing_key=queue.name)
        get(queue).requeue()
        message = get(queue)
        same(message.delivery_info["redelivered"], True)
        message.reject()
        same(get(dead).headers["x-death"][0]["reason"], "rejected")


@case("priorities")
def priorities() -> None:
    with connection() as link:
        queue = Queue("kombu-priorities", exclusive=True, max_priority=10)(link.channel())
        queue.declare()
        for priority in (0, 9, 3):
            Producer(link.channel()).publish({"p": priority}, routing_key=queue.name, priority=priority)
        eventually(lambda: queue.queue_declare(passive=True).message_count == 3, "three messages", 10)
        same([queue.get(no_ack=True).payload["p"] for _ in range(3)], [9, 3, 0])


@case("prefetch")
def prefetch() -> None:
    received: list[Any] = []
    with connection() as link:
        channel = link.channel()
        queue = Queue("kombu-prefetch", exclusive=True)(channel)
        queue.declare()
        for i in range(6):
            Producer(channel).publish({"i": i}, routing_key=queue.name)
        with Consumer(channel, [queue], callbacks=[lambda _, message: received.append(message)]) as consumer:
            consumer.qos(prefetch_count=2)
            drain(link, received, 2)
            received[0].ack()
            received[1].ack()
            drain(link, received, 4)


@case("broadcast")
def broadcast() -> None:
    """A fanout exchange with a queue for each process, as Celery's remote control has it."""
    received: list[Any] = []
    with connection() as link:
        exchange = Exchange("kombu-broadcast", "fanout", durable=False, auto_delete=True)
        names = [f"kombu-broadcast-{i}" for i in range(3)]
        queues = [Queue(name, exchange, exclusive=True, auto_delete=True)(link.channel()) for name in names]
        for queue in queues:
            queue.declare()
        Producer(link.channel()).publish(ORDER, exchange=exchange)
        with Consumer(link.channel(), queues, callbacks=[lambda body, _: received.append(body)], no_ack=True):
            drain(link, received, 3)
    same(received, [ORDER] * 3)


@case("heartbeats")
def heartbeats() -> None:
    with connection(heartbeat=2) as link:
        link.connect()
        for _ in range(8):
            link.heartbeat_check(rate=4)
            try:
                link.drain_events(timeout=0.5)
            except (socket.timeout, TimeoutError):  # noqa: UP041
                pass
        same(link.connected, True)


if __name__ == "__main__":
    main()
