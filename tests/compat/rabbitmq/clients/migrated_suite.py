"""pika as a user whose server has moved: see test_migration.py.

python -m tests.compat.rabbitmq.clients.migrated_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import pika
import pika.exceptions

from tests.compat.cases import case, main, same
from tests.compat.rabbitmq.clients.pika_session import ORDER, BlockingSession

PASSWORD = "Zürich 8001"


@case("alice")
def everything_is_there() -> None:
    credentials = pika.PlainCredentials("alice", PASSWORD)
    with BlockingSession(virtual_host="shop", credentials=credentials) as channel:
        channel.confirm_delivery()
        channel.exchange_declare("orders", "topic", durable=True)  # as it was, or this is refused
        channel.basic_publish("orders", "order.placed", ORDER, mandatory=True)
        for queue in ("billing", "audit"):
            method, _, body = channel.basic_get(queue)
            same(body, ORDER)
            assert method is not None
            channel.basic_ack(method.delivery_tag)


@case("wrong-password")
def wrong_password() -> None:
    credentials = pika.PlainCredentials("alice", PASSWORD.lower())
    try:
        BlockingSession(virtual_host="shop", credentials=credentials)
    except pika.exceptions.ProbableAuthenticationError:
        return
    raise AssertionError("logged in by a wrong password")


if __name__ == "__main__":
    main()
