"""kombu's transport for Pub/Sub: a topic for each exchange, a subscription for each queue; purge is a Seek.

python -m tests.compat.pubsub.clients.kombu_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import time
from typing import Any

from kombu import Connection, Consumer, Exchange, Queue

from tests.compat.cases import case, eventually, fresh, main, same

ORDER = {"order": 7, "amount": 12.5, "shop": "grüße"}


def connection() -> Connection:
    return Connection("gcpubsub://projects/compat", transport_options={"bulk_max_messages": 10})


def drain(link: Connection, received: list[Any], count: int) -> None:
    def enough() -> bool:
        try:
            link.drain_events(timeout=1)
        except OSError:  # nothing has come within the second
            pass
        return len(received) >= count

    eventually(enough, f"{count} messages", 30)


@case("produce-and-consume")
def produce_and_consume() -> None:
    name = fresh("orders")
    exchange = Exchange(name, "direct")
    queue = Queue(name, exchange, routing_key=name)
    received: list[Any] = []

    def take(body: Any, message: Any) -> None:
        received.append((body["number"], body["order"]))
        message.ack()

    with connection() as link, Consumer(link.channel(), [queue], callbacks=[take], accept=["json"]):
        producer = link.Producer()
        for i in range(20):
            producer.publish(ORDER | {"number": i}, exchange=exchange, routing_key=name, declare=[queue])
        drain(link, received, 20)
    same(sorted(received), [(i, 7) for i in range(20)])


@case("fanout-to-two-queues")
def fanout() -> None:
    exchange = Exchange(fresh("prices"), "fanout")
    received: list[Any] = []

    def take(body: Any, message: Any) -> None:
        received.append(body)
        message.ack()

    with connection() as link:
        queues = [Queue(fresh("shop"), exchange) for _ in range(2)]
        with Consumer(link.channel(), queues, callbacks=[take], accept=["json"]):
            link.Producer().publish(ORDER, exchange=exchange, declare=queues)
            drain(link, received, 2)
    same(received, [ORDER, ORDER])


@case("purge")
def purge() -> None:
    name = fresh("orders")
    queue = Queue(name, Exchange(name, "direct"), routing_key=name)
    with connection() as link:
        channel = link.channel()
        link.Producer().publish(ORDER, exchange=queue.exchange, routing_key=name, declare=[queue])
        time.sleep(1.0)  # kombu publishes in the background, and a seek leaves what comes after it
        bound = queue(channel)
        bound.purge()
        same(bound.get(), None)


@case("declared-twice")
def declared_twice() -> None:
    name = fresh("orders")
    queue = Queue(name, Exchange(name, "direct"), routing_key=name, expires=86400)
    for _ in range(2):
        with connection() as link:
            queue(link.channel()).declare()


if __name__ == "__main__":
    main()
