"""pika's blocking and asynchronous connections against any server of AMQP 0-9-1.

python -m tests.compat.rabbitmq.clients.pika_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

from tests.compat.cases import case, main, same
from tests.compat.rabbitmq.clients.pika_session import ORDER, BlockingSession, host_and_port


@case("publish-and-consume")
def publish_and_consume() -> None:
    with BlockingSession() as channel:
        channel.queue_declare("pika-orders")
        channel.confirm_delivery()
        for i in range(100):
            properties = pika.BasicProperties(delivery_mode=2, message_id=f"m{i}", headers={"i": i})
            channel.basic_publish("", "pika-orders", ORDER, properties, mandatory=True)
        received = []
        for method, properties, body in channel.consume("pika-orders", inactivity_timeout=10):
            assert method is not None
            assert properties is not None
            received.append((properties.message_id, properties.headers["i"], body))
            channel.basic_ack(method.delivery_tag)
            if len(received) == 100:
                break
        channel.cancel()
        assert received == [(f"m{i}", i, ORDER) for i in range(100)]
        assert channel.queue_delete("pika-orders").method.message_count == 0


@case("get")
def get() -> None:
    with BlockingSession() as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        assert queue.startswith("amq.gen-")
        assert channel.basic_get(queue)[0] is None
        channel.basic_publish("", queue, ORDER)
        method, _, body = channel.basic_get(queue)
        assert method is not None
        assert body == ORDER
        channel.basic_nack(method.delivery_tag, requeue=True)
        method, _, body = channel.basic_get(queue, auto_ack=True)
        assert method is not None
        assert method.redelivered


@case("unroutable")
def unroutable() -> None:
    with BlockingSession() as channel:
        channel.confirm_delivery()
        try:
            channel.basic_publish("", "pika-no-such", ORDER, mandatory=True)
        except pika.exceptions.UnroutableError as error:
            same(error.messages[0].method.reply_code, 312)
        else:
            raise AssertionError("was not returned")


@case("nacked")
def nacked() -> None:
    with BlockingSession() as channel:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare("pika-full", exclusive=True, arguments=arguments)
        channel.confirm_delivery()
        channel.basic_publish("", "pika-full", ORDER)
        try:
            channel.basic_publish("", "pika-full", ORDER)
        except pika.exceptions.NackError:
            return
        raise AssertionError("was not refused")


@case("channel-errors")
def channel_errors() -> None:
    session = BlockingSession()
    with session:
        causes: list[tuple[int, Callable[[BlockingChannel], object]]] = [
            (404, lambda channel: channel.queue_declare("pika-no-such", passive=True)),
            (406, lambda channel: channel.exchange_declare("amq.direct", "fanout", durable=True)),
            (403, lambda channel: channel.queue_declare("amq.pika")),
        ]
        for code, cause in causes:
            channel = session.connection.channel()
            try:
                cause(channel)
            except pika.exceptions.ChannelClosedByBroker as error:
                same(error.reply_code, code)
            else:
                raise AssertionError(f"no {code}")


@case("wrong-password")
def wrong_password() -> None:
    try:
        BlockingSession(credentials=pika.PlainCredentials("guest", "wrong"))
    except pika.exceptions.ProbableAuthenticationError:
        return
    raise AssertionError("was let in")


@case("unknown-vhost")
def unknown_vhost() -> None:
    try:
        BlockingSession(virtual_host="no-such")
    except (pika.exceptions.ConnectionClosedByBroker, pika.exceptions.ProbableAccessDeniedError):
        return
    raise AssertionError("was let in")


@case("exchanges")
def exchanges() -> None:
    with BlockingSession() as channel:
        for kind, key, other in (("direct", "eu", "us"), ("topic", "orders.eu", "flights.eu")):
            name = f"pika-{kind}"
            channel.exchange_declare(name, kind, auto_delete=True)
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, name, "orders.#" if kind == "topic" else key)
            channel.confirm_delivery()
            channel.basic_publish(name, other, b"other")
            channel.basic_publish(name, key, b"this")
            assert channel.basic_get(queue, auto_ack=True)[2] == b"this"
            assert channel.basic_get(queue)[0] is None
            channel.queue_unbind(queue, name, "orders.#" if kind == "topic" else key)


@case("large-message")
def large_message() -> None:
    with BlockingSession() as channel:
        channel.queue_declare("pika-large", exclusive=True)
        channel.confirm_delivery()
        body = bytes(range(256)) * 20_000
        channel.basic_publish("", "pika-large", body)
        assert channel.basic_get("pika-large", auto_ack=True)[2] == body


@case("prefetch")
def prefetch() -> None:
    with BlockingSession() as channel:
        channel.queue_declare("pika-prefetch", exclusive=True)
        channel.basic_qos(prefetch_count=3)
        for _ in range(10):
            channel.basic_publish("", "pika-prefetch", ORDER)
        tags: list[int] = []
        channel.basic_consume("pika-prefetch", lambda _c, method, _p, _b: tags.append(method.delivery_tag))
        channel.connection.process_data_events(1)
        assert tags == [1, 2, 3], tags
        channel.basic_ack(3, multiple=True)
        channel.connection.process_data_events(1)
        assert tags == [1, 2, 3, 4, 5, 6], tags


@case("consumer-cancelled")
def consumer_cancelled() -> None:
    with BlockingSession() as channel:
        channel.queue_declare("pika-cancelled")
        cancelled: list[Any] = []
        channel.add_on_cancel_callback(cancelled.append)
        channel.basic_consume("pika-cancelled", lambda *_: None)
        channel.queue_delete("pika-cancelled")
        channel.connection.process_data_events(2)
        assert len(cancelled) == 1


@case("transactions")
def transactions() -> None:
    with BlockingSession() as channel:
        channel.queue_declare("pika-tx", exclusive=True)
        channel.tx_select()
        channel.basic_publish("", "pika-tx", ORDER)
        channel.tx_rollback()
        channel.basic_publish("", "pika-tx", ORDER)
        channel.tx_commit()
        assert channel.queue_declare("pika-tx", passive=True).method.message_count == 1


@case("dead-letters")
def dead_letters() -> None:
    with BlockingSession() as channel:
        channel.queue_declare("pika-dead", exclusive=True)
        arguments = {
            "x-message-ttl": 50,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "pika-dead",
        }
        channel.queue_declare("pika-short", exclusive=True, arguments=arguments)
        channel.basic_publish("", "pika-short", ORDER)
        for method, properties, body in channel.consume("pika-dead", inactivity_timeout=10):
            assert method is not None
            assert properties is not None
            assert body == ORDER
            assert properties.headers["x-death"][0]["reason"] == "expired"
            assert properties.headers["x-first-death-queue"] == "pika-short"
            break
        channel.cancel()


@case("reply-to")
def reply_to() -> None:
    with BlockingSession() as channel:
        channel.queue_declare("pika-rpc", exclusive=True)
        answers: list[bytes] = []

        def serve(channel: Any, _method: Any, properties: Any, body: bytes) -> None:
            channel.basic_publish("", properties.reply_to, body.upper())

        channel.basic_consume("pika-rpc", serve, auto_ack=True)
        channel.basic_consume("amq.rabbitmq.reply-to", lambda *given: answers.append(given[3]), auto_ack=True)
        request = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="1")
        channel.basic_publish("", "pika-rpc", b"request", request)
        for _ in range(100):
            channel.connection.process_data_events(0.1)
            if answers:
                break
        assert answers == [b"REQUEST"]


@case("select-connection")
def select_connection() -> None:
    """Asynchronous: 1,000 events published and confirmed, consumed by another channel."""
    host, port = host_and_port()
    received: list[int] = []
    confirmed: list[int] = []

    def on_open(connection: Any) -> None:
        connection.channel(on_open_callback=on_channel)

    def on_channel(channel: Any) -> None:
        channel.confirm_delivery(lambda frame: confirmed.append(frame.method.delivery_tag))
        channel.queue_declare("pika-select", exclusive=True, callback=lambda _: on_queue(channel))

    def on_queue(channel: Any) -> None:
        channel.basic_consume("pika-select", on_message)
        for i in range(1000):
            channel.basic_publish("", "pika-select", str(i).encode())

    def on_message(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        received.append(int(body))
        channel.basic_ack(method.delivery_tag)
        if len(received) == 1000:
            channel.connection.close()

    connection = pika.SelectConnection(
        pika.ConnectionParameters(host, port),
        on_open_callback=on_open,
        on_close_callback=lambda connection, _: connection.ioloop.stop(),
    )
    connection.ioloop.call_later(60, connection.ioloop.stop)
    connection.ioloop.start()
    assert received == list(range(1000))
    assert confirmed
    assert max(confirmed) <= 1000


if __name__ == "__main__":
    main()
