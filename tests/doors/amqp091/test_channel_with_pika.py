"""The work of channels, as pika sees it: the whole server behind it, one for all tests of this file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, NackError, UnroutableError

from tests.support.server import Server

QUEUE_NUMBERS = count(1)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    folder = tmp_path_factory.mktemp("amqp") / "data"
    with Server(folder, log_level="warning", doors="kafka,amqp091", amqp091="127.0.0.1:0") as server:
        match = re.search(r"amqp091=(\S+):(\d+)", server.ready_line)
        assert match is not None, server.ready_line
        yield match[1], int(match[2])


@contextmanager
def connected(address: tuple[str, int]) -> Iterator[pika.BlockingConnection]:
    """A connection as guest."""
    connection = pika.BlockingConnection(pika.ConnectionParameters(*address, heartbeat=0))
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


@pytest.fixture
def connection(address: tuple[str, int]) -> Iterator[pika.BlockingConnection]:
    with connected(address) as connection:
        yield connection


@pytest.fixture
def channel(connection: pika.BlockingConnection) -> BlockingChannel:
    return connection.channel()


@pytest.fixture
def queue(channel: BlockingChannel) -> str:
    """A queue of this test, which goes with its connection."""
    name = f"orders-{next(QUEUE_NUMBERS)}"
    channel.queue_declare(name, exclusive=True)
    return name


def publish(channel: BlockingChannel, queue: str, *bodies: str) -> None:
    """Publish to a queue by the default exchange."""
    for body in bodies:
        channel.basic_publish("", queue, body.encode())


def bodies_of(channel: BlockingChannel, queue: str) -> list[str]:
    """Take all messages of a queue."""
    bodies: list[str] = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body.decode())


def test_the_code_of_the_page_runs(address: tuple[str, int], channel: BlockingChannel) -> None:
    """With the address of this server; its queue is empty then, and the event stays."""
    page = (Path(__file__).parents[3] / "docs" / "RABBITMQ.md").read_text()
    code, of_streams, of_topics = [part.partition("```")[0] for part in page.split("```python\n")[1:]]
    assert '"127.0.0.1", 5672' in code
    names: dict[str, Any] = {}
    exec(code.replace('"127.0.0.1", 5672', f'"{address[0]}", {address[1]}'), names)
    assert names["method"].routing_key == "order.placed"
    assert names["body"] == b'{"order": 4711, "total": 25.9}'
    exec(of_streams.replace('"127.0.0.1", 5672', f'"{address[0]}", {address[1]}'), names)
    assert names["properties"].headers == {"x-stream-offset": 0}
    channel.queue_declare("arrivals", durable=True, arguments={"x-queue-type": "stream"})  # which is a topic
    exec(of_topics.replace('"127.0.0.1", 5672', f'"{address[0]}", {address[1]}'), names)
    assert (names["method"].exchange, names["method"].routing_key) == ("kafka.arrivals", "LH 454")
    assert channel.queue_declare("billing", durable=True, passive=True).method.message_count == 0


def test_messages_come_out_as_they_went_in(channel: BlockingChannel, queue: str) -> None:
    properties = pika.BasicProperties(
        content_type="application/json",
        headers={"tenant": "acme", "attempt": 3},
        delivery_mode=2,
        correlation_id="c-17",
        message_id="m-1",
        timestamp=1_764_547_200,
    )
    channel.basic_publish("", queue, b'{"order": 17}', properties)
    channel.basic_publish("", queue, b"x" * 300_000)
    channel.basic_publish("", queue, b"")
    method, received, body = channel.basic_get(queue, auto_ack=True)
    assert method is not None
    assert (method.exchange, method.routing_key, method.redelivered) == ("", queue, False)
    assert method.message_count == 2
    assert received.__dict__ == properties.__dict__
    assert body == b'{"order": 17}'
    assert bodies_of(channel, queue) == ["x" * 300_000, ""]


def test_a_channel_sees_what_it_published_before(channel: BlockingChannel, queue: str) -> None:
    for number in range(1, 20):
        publish(channel, queue, f"order {number}")
        assert channel.queue_declare(queue, passive=True).method.message_count == number
    assert channel.queue_purge(queue).method.message_count == 19
    assert bodies_of(channel, queue) == []


def test_confirms_and_returns(channel: BlockingChannel, queue: str) -> None:
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"order 1", mandatory=True)
    with pytest.raises(UnroutableError) as returned:
        channel.basic_publish("", "nowhere", b"order 2", mandatory=True)
    (message,) = returned.value.messages
    assert message.body == b"order 2"
    assert (message.method.reply_code, message.method.reply_text) == (312, "NO_ROUTE")
    channel.basic_publish("", "nowhere", b"order 3")
    assert bodies_of(channel, queue) == ["order 1"]


def test_a_queue_is_consumed_and_acknowledged(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, *map(str, range(100)))
    channel.basic_qos(prefetch_count=7)
    received = []
    for method, _, body in channel.consume(queue, inactivity_timeout=30):
        assert method is not None
        assert not method.redelivered
        received.append(body.decode())
        channel.basic_ack(method.delivery_tag)
        if len(received) == 100:
            break
    assert received == [str(number) for number in range(100)]
    channel.cancel()
    assert channel.queue_declare(queue, passive=True).method.message_count == 0


def test_what_is_given_back_is_in_its_old_place(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, "a", "b", "c", "d")
    tags = []
    for _ in range(3):
        method, _, _ = channel.basic_get(queue)
        assert method is not None
        tags.append(method.delivery_tag)
    channel.basic_nack(tags[1], requeue=True)
    channel.basic_reject(tags[0], requeue=True)
    channel.basic_ack(tags[2])
    method, _, body = channel.basic_get(queue)
    assert method is not None
    assert (body, method.redelivered) == (b"a", True)
    channel.basic_recover(requeue=True)
    assert bodies_of(channel, queue) == ["a", "b", "d"]


def test_a_closed_channel_gives_back_and_a_closed_connection_too(address: tuple[str, int]) -> None:
    name = f"flights-{next(QUEUE_NUMBERS)}"
    with connected(address) as first, connected(address) as second:
        first_channel, second_channel = first.channel(), second.channel()
        second_channel.queue_declare(name)
        publish(second_channel, name, "LH 1", "LH 2")
        first_channel.basic_get(name)
        first_channel.close()
        first.channel().basic_get(name)
        first.close()
        assert bodies_of(second_channel, name) == ["LH 1", "LH 2"]
        second_channel.queue_delete(name)


def test_a_transaction(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, "a")
    channel.tx_select()
    publish(channel, queue, "b")
    method, _, _ = channel.basic_get(queue)
    assert method is not None
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.basic_recover(requeue=True)
    publish(channel, queue, "c")
    method, _, body = channel.basic_get(queue)
    assert method is not None
    assert body == b"a"
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    assert bodies_of(channel, queue) == ["c"]


def test_direct_replies(address: tuple[str, int], channel: BlockingChannel, queue: str) -> None:
    replies: list[bytes] = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda *reply: replies.append(reply[3]), auto_ack=True)
    for number in range(3):
        channel.basic_publish(
            "", queue, b"%d" % number, pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")
        )
    with connected(address) as connection:
        server = connection.channel()
        for _ in range(3):
            _, properties, body = channel.basic_get(queue, auto_ack=True)
            assert properties.reply_to.startswith("amq.rabbitmq.reply-to.")
            server.basic_publish("", properties.reply_to, b"answer to " + body)
        server.close()
    while len(replies) < 3:
        channel.connection.process_data_events(time_limit=30)
    assert replies == [b"answer to 0", b"answer to 1", b"answer to 2"]


def test_a_deleted_queue_cancels_its_consumers(address: tuple[str, int]) -> None:
    name = f"flights-{next(QUEUE_NUMBERS)}"
    with connected(address) as connection:
        channel = connection.channel()
        cancelled: list[str] = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        channel.queue_declare(name)
        tag = channel.basic_consume(name, lambda *_: None)
        with connected(address) as other:
            other.channel().queue_delete(name)
        while not cancelled:
            connection.process_data_events(time_limit=30)
        assert cancelled == [tag]


def test_consumers_get_messages_in_turn_and_by_priority(channel: BlockingChannel, queue: str) -> None:
    counts = {"low": 0, "high": 0}

    def consume(name: str, priority: int) -> None:
        def received(_: BlockingChannel, method: pika.spec.Basic.Deliver, *rest: object) -> None:
            counts[name] += 1

        channel.basic_qos(prefetch_count=2)
        channel.basic_consume(queue, received, consumer_tag=name, arguments={"x-priority": priority})

    consume("low", 0)
    consume("high", 10)
    publish(channel, queue, *map(str, range(3)))
    while sum(counts.values()) < 3:
        channel.connection.process_data_events(time_limit=30)
    assert counts == {"high": 2, "low": 1}


def test_an_auto_delete_queue_goes_with_its_last_consumer(channel: BlockingChannel) -> None:
    name = f"flights-{next(QUEUE_NUMBERS)}"
    channel.queue_declare(name, auto_delete=True)
    tag = channel.basic_consume(name, lambda *_: None)
    assert channel.queue_declare(name, passive=True).method.consumer_count == 1
    channel.basic_cancel(tag)
    with pytest.raises(ChannelClosedByBroker, match="404"):
        channel.queue_declare(name, passive=True)


def test_an_exclusive_queue_is_of_its_connection(address: tuple[str, int], queue: str) -> None:
    with connected(address) as other:
        for call in ("queue_declare", "queue_purge", "queue_delete", "basic_get"):
            channel = other.channel()
            with pytest.raises(ChannelClosedByBroker) as refusal:
                getattr(channel, call)(queue)
            assert refusal.value.reply_code == 405, call


CHANNEL_ERRORS = [
    ("queue_declare", ("no-queue", True), 404),
    ("basic_consume", ("no-queue", lambda *_: None), 404),
    ("basic_get", ("no-queue",), 404),
    ("exchange_declare", ("no-exchange", "direct", True), 404),
    ("queue_declare", ("amq.mine",), 403),
    ("exchange_declare", ("amq.mine",), 403),
    ("exchange_declare", ("", "direct"), 403),
    ("exchange_delete", ("",), 403),
    ("exchange_declare", ("amq.direct", "fanout", False, True), 406),
    ("exchange_declare", ("orders-x", "no-such-type"), 406),
    ("tx_commit", (), 406),
]


@pytest.mark.parametrize(("call", "arguments", "code"), CHANNEL_ERRORS)
def test_an_error_closes_the_channel_and_no_more(
    connection: pika.BlockingConnection, call: str, arguments: tuple[object, ...], code: int
) -> None:
    channel = connection.channel()
    with pytest.raises(ChannelClosedByBroker) as refusal:
        getattr(channel, call)(*arguments)
    assert refusal.value.reply_code == code
    assert connection.channel().is_open


def test_publishing_to_a_missing_exchange_closes_the_channel(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as refusal:
        channel.basic_publish("no-exchange", "key", b"")
    assert refusal.value.reply_text == "NOT_FOUND - no exchange 'no-exchange' in vhost '/'"


def test_deleting_and_unbinding_what_is_not_there_is_no_error(channel: BlockingChannel, queue: str) -> None:
    assert channel.queue_delete("no-queue").method.message_count == 0
    channel.exchange_delete("no-exchange")
    channel.queue_unbind(queue, "amq.topic", "no-key")


def test_what_is_not_implemented_closes_the_connection(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        channel = connection.channel()
        with pytest.raises(ConnectionClosedByBroker, match="540"):
            channel.basic_qos(prefetch_size=10)


def test_a_queue_that_is_full_refuses(channel: BlockingChannel) -> None:
    name = f"full-{next(QUEUE_NUMBERS)}"
    arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}
    channel.queue_declare(name, exclusive=True, arguments=arguments)
    channel.confirm_delivery()
    publish(channel, name, "a", "b")
    with pytest.raises(NackError):
        publish(channel, name, "c")
    assert bodies_of(channel, name) == ["a", "b"]
