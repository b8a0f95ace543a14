"""Streams over AMQP 0-9-1 as pika sees them, beside a client of the stream protocol."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, NackError

from mainstem.access_contract import (
    ANY_HOST,
    USER,
    Acl,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
    ScramMechanism,
)
from mainstem.authentication.scram import make_verifier
from mainstem.contract import NewEvent
from mainstem.doors.rabbitmq_stream.response_code import ResponseCode
from mainstem.serve.server import Running
from tests.doors.rabbitmq_stream import raw_client
from tests.doors.rabbitmq_stream.raw_client import connected, publish_frame
from tests.support.memory_masks import mask_rule

STREAM = {"x-queue-type": "stream"}


def connection_to(running: Running, user: str = "guest", password: str = "guest") -> pika.BlockingConnection:
    (address,) = running.addresses["amqp091"]
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(
        pika.ConnectionParameters(address.host, address.port, credentials=credentials, heartbeat=0)
    )


async def with_channel(running: Running, work: Callable[[BlockingChannel], Any]) -> Any:
    """Let a client do something in a thread, for pika blocks."""

    def body() -> Any:
        connection = connection_to(running)
        try:
            return work(connection.channel())
        finally:
            if connection.is_open:
                connection.close()

    return await asyncio.to_thread(body)


def run(folder: Path, scenario: Callable[[Running], Any], **given: object) -> None:
    raw_client.run(folder, scenario, **{"amqp091": "127.0.0.1:0", **given})


def offsets_of(
    channel: BlockingChannel, count: int, offset: object = "first", **arguments: object
) -> list[tuple[int, bytes]]:
    """(offset, body) of the first messages from a place on, each of which is acknowledged."""
    if offset is not None:
        arguments["x-stream-offset"] = offset
    arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
    received: list[tuple[int, bytes]] = []
    for method, properties, body in channel.consume("orders", arguments=arguments):
        assert not method.redelivered
        received.append((properties.headers["x-stream-offset"], body))
        channel.basic_ack(method.delivery_tag)
        if len(received) == count:
            break
    channel.cancel()
    return received


def filled(channel: BlockingChannel, count: int = 5) -> None:
    """Declare the stream `orders`, and publish 0, 1 … to it."""
    channel.queue_declare("orders", durable=True, arguments=STREAM)
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", "orders", b"%d" % number)


def test_consumers_begin_where_they_say(tmp_path: Path) -> None:
    all_of = [(number, b"%d" % number) for number in range(5)]

    def work(channel: BlockingChannel) -> None:
        filled(channel)
        channel.basic_qos(prefetch_count=2)
        assert offsets_of(channel, 5) == all_of
        assert offsets_of(channel, 5, "1h") == all_of
        assert offsets_of(channel, 1, "last") == all_of[4:]
        assert offsets_of(channel, 2, 3) == all_of[3:]

    async def scenario(running: Running) -> None:
        await with_channel(running, work)
        now = datetime.datetime.now(datetime.UTC)
        soon = now + datetime.timedelta(minutes=30)  # more than an hour is refused
        await running.engine.publish("orders", [NewEvent(b"soon", None, (), int(soon.timestamp() * 1_000))])

        def by_time(channel: BlockingChannel) -> Any:
            channel.basic_qos(prefetch_count=2)
            return offsets_of(channel, 1, now + datetime.timedelta(minutes=10))

        assert await with_channel(running, by_time) == [(5, b"soon")]

    run(tmp_path / "data", scenario)


def test_a_consumer_of_next_gets_what_comes(tmp_path: Path) -> None:
    def work(channel: BlockingChannel) -> None:
        filled(channel, 3)
        channel.basic_qos(prefetch_count=10)
        received: list[bytes] = []
        channel.basic_consume("orders", lambda *delivery: received.append(delivery[3]))
        for number in (3, 4):
            channel.basic_publish("", "orders", b"%d" % number)
        while len(received) < 2:
            channel.connection.process_data_events(1)
        assert received == [b"3", b"4"]

    async def scenario(running: Running) -> None:
        await with_channel(running, work)

    run(tmp_path / "data", scenario)


def test_answers_make_room_and_nothing_else(tmp_path: Path) -> None:
    def work(channel: BlockingChannel) -> None:
        filled(channel, 8)
        channel.basic_qos(prefetch_count=3)
        received: list[tuple[int, bytes]] = []
        channel.basic_consume(
            "orders",
            lambda _, method, __, body: received.append((method.delivery_tag, body)),
            arguments={"x-stream-offset": "first"},
        )

        def receive(count: int) -> list[bytes]:
            while len(received) < count:
                channel.connection.process_data_events(1)
            # An answered request shows that nothing more was on its way.
            channel.queue_declare("orders", durable=True, passive=True)
            channel.connection.process_data_events(0)
            return [body for _, body in received]

        assert receive(3) == [b"0", b"1", b"2"]
        channel.basic_nack(received[1][0], multiple=True, requeue=True)
        assert receive(5) == [b"0", b"1", b"2", b"3", b"4"]
        channel.basic_reject(received[2][0], requeue=False)
        assert receive(6) == [b"0", b"1", b"2", b"3", b"4", b"5"]
        assert channel.queue_declare("orders", durable=True, passive=True).method.message_count == 8

    async def scenario(running: Running) -> None:
        await with_channel(running, work)

    run(tmp_path / "data", scenario)


def test_a_transaction_answers_deliveries(tmp_path: Path) -> None:
    def work(channel: BlockingChannel) -> None:
        filled(channel, 3)
        channel = channel.connection.channel()
        channel.tx_select()
        channel.basic_qos(prefetch_count=2)
        deliveries = channel.consume("orders", arguments={"x-stream-offset": "first"})
        assert [next(deliveries)[2] for _ in range(2)] == [b"0", b"1"]
        channel.basic_ack(2, multiple=True)
        channel.tx_commit()
        assert next(deliveries)[2] == b"2"

    async def scenario(running: Running) -> None:
        await with_channel(running, work)

    run(tmp_path / "data", scenario)


def test_consumers_choose_by_filter_values(tmp_path: Path) -> None:
    def work(channel: BlockingChannel) -> None:
        filled(channel, 1)
        for region in ("emea", "apac", "emea"):
            headers = {"x-stream-filter-value": region}
            channel.basic_publish("", "orders", region.encode(), pika.BasicProperties(headers=headers))
        channel.basic_qos(prefetch_count=10)
        assert offsets_of(channel, 2, x_stream_filter="emea") == [(1, b"emea"), (3, b"emea")]
        several = offsets_of(channel, 3, x_stream_filter=["apac", "emea"])
        assert [offset for offset, _ in several] == [1, 2, 3]
        both = offsets_of(channel, 2, x_stream_filter="apac", x_stream_match_unfiltered=True)
        assert both == [(0, b"0"), (2, b"apac")]

    async def scenario(running: Running) -> None:
        await with_channel(running, work)

    run(tmp_path / "data", scenario)


def test_it_is_the_stream_of_the_stream_protocol(tmp_path: Path) -> None:
    payload = b'{"order":17}'
    message = b"\x00\x53\x75\xa0" + bytes((len(payload),)) + payload

    async def scenario(running: Running) -> None:
        async with connected(running) as client:
            assert await client.create("orders") == ResponseCode.OK
            await client.declare(1, "orders")
            client.write(publish_frame(1, [(0, message)]))
            await client.confirms(1)

            def work(channel: BlockingChannel) -> Any:
                channel.queue_declare("orders", durable=True, arguments=STREAM)
                channel.confirm_delivery()
                channel.basic_publish("", "orders", b"by AMQP 0-9-1")
                channel.basic_qos(prefetch_count=2)
                return offsets_of(channel, 2)

            assert await with_channel(running, work) == [(0, payload), (1, b"by AMQP 0-9-1")]
            assert await client.subscribe(7, "orders") == ResponseCode.OK
            first, second = await client.messages(2)
            assert (first, second.endswith(b"by AMQP 0-9-1")) == (message, True)

            def delete(channel: BlockingChannel) -> None:
                channel.queue_delete("orders")

            await with_channel(running, delete)
            assert await client.declare(2, "orders") == ResponseCode.STREAM_DOES_NOT_EXIST

    run(tmp_path / "data", scenario)


def test_a_consumer_ends_with_its_stream(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        loop = asyncio.get_running_loop()

        def work(channel: BlockingChannel) -> None:
            filled(channel, 1)
            channel.basic_qos(prefetch_count=5)
            consumer = channel.consume("orders", arguments={"x-stream-offset": "first"})
            assert next(consumer)[2] == b"0"
            asyncio.run_coroutine_threadsafe(running.engine.delete_topic("orders"), loop).result()
            assert list(consumer) == []
            with pytest.raises(ChannelClosedByBroker, match="no queue 'orders'"):
                channel.queue_declare("orders", durable=True, passive=True)

        await with_channel(running, work)

    run(tmp_path / "data", scenario)


def test_what_streams_do_not_have(tmp_path: Path) -> None:
    def begin(offset: object, **arguments: object) -> Callable[[BlockingChannel], Any]:
        def work(channel: BlockingChannel) -> None:
            channel.basic_qos(prefetch_count=1)
            offsets_of(channel, 1, offset, **arguments)

        return work

    attempts: list[tuple[Callable[[BlockingChannel], Any], type[Exception], str]] = [
        (lambda channel: channel.basic_get("orders"), ConnectionClosedByBroker, "basic.get not supported"),
        (lambda channel: channel.queue_purge("orders"), ConnectionClosedByBroker, "purge not supported"),
        (lambda channel: offsets_of(channel, 1), ChannelClosedByBroker, "prefetch count is not set"),
        (
            lambda channel: next(channel.consume("orders", auto_ack=True)),
            ConnectionClosedByBroker,
            "automatic acknowledgement not supported",
        ),
        (begin("never"), ChannelClosedByBroker, "x-stream-offset"),
        (begin(-1), ChannelClosedByBroker, "x-stream-offset"),
        (begin(True), ChannelClosedByBroker, "x-stream-offset"),
        (begin("first", x_stream_filter=5), ChannelClosedByBroker, "x-stream-filter"),
    ]

    async def scenario(running: Running) -> None:
        await with_channel(running, lambda channel: filled(channel, 1))
        for work, error, text in attempts:
            with pytest.raises(error, match=text):
                await with_channel(running, work)

    run(tmp_path / "data", scenario)


async def allow(running: Running, kind: ResourceType, name: str, *operations: Operation) -> None:
    """Entries for alice."""
    principal = Principal(USER, "alice")
    await running.node.access.create_acls(
        [
            Acl(kind, name, PatternType.LITERAL, principal, ANY_HOST, operation, Permission.ALLOW)
            for operation in operations
        ]
    )


def test_a_topic_needs_rights_to_the_topic(tmp_path: Path) -> None:
    """All rights to the queue are not enough for a topic that others have made."""

    async def scenario(running: Running) -> None:
        verifier = make_verifier(ScramMechanism.SHA_256, "secret", b"salt-of-a-test", 4_096)
        await running.node.access.put_verifiers("alice", [verifier])
        await allow(running, ResourceType.SUBSCRIPTION, "%2F/", Operation.DESCRIBE)
        every = (Operation.CREATE, Operation.READ, Operation.WRITE, Operation.DELETE, Operation.DESCRIBE)
        await allow(running, ResourceType.SUBSCRIPTION, "%2F/orders", *every)
        await allow(running, ResourceType.EXCHANGE, "%2F/amq.default", Operation.WRITE)
        await running.engine.create_topic("orders", partitions=1)
        await running.engine.publish("orders", [NewEvent(b"secret")])

        def attempt(work: Callable[[BlockingChannel], Any]) -> Any:
            connection = connection_to(running, "alice", "secret")
            try:
                channel = connection.channel()
                channel.basic_qos(prefetch_count=1)
                return work(channel)
            except ChannelClosedByBroker as error:
                return error.reply_code
            finally:
                connection.close()

        def declare(channel: BlockingChannel) -> str:
            return str(channel.queue_declare("orders", durable=True, arguments=STREAM).method.queue)

        def delete(channel: BlockingChannel) -> int:
            return int(channel.queue_delete("orders").method.message_count)

        assert await asyncio.to_thread(attempt, declare) == 403
        await allow(running, ResourceType.TOPIC, "orders", Operation.WRITE)
        assert await asyncio.to_thread(attempt, declare) == "orders"
        assert await asyncio.to_thread(attempt, lambda channel: offsets_of(channel, 1)) == 403
        await allow(running, ResourceType.TOPIC, "orders", Operation.READ)
        assert await asyncio.to_thread(attempt, lambda channel: offsets_of(channel, 1)) == [(0, b"secret")]
        assert await asyncio.to_thread(attempt, delete) == 403
        await allow(running, ResourceType.TOPIC, "orders", Operation.DELETE)
        assert await asyncio.to_thread(attempt, delete) == 0
        assert await asyncio.to_thread(attempt, declare) == 403

    access = {
        "access_control": True,
        "super_users": "User:ANONYMOUS",
        "amqp091": "SASL_PLAINTEXT://127.0.0.1:0",
        "connection_failed_authentication_delay_ms": 1,
    }
    run(tmp_path / "data", scenario, **access)


def test_who_sees_masks_lets_no_messages_be_copied(tmp_path: Path) -> None:
    """A copy is in another topic, for which there may be no rule."""

    dead_letters = {"x-dead-letter-exchange": ""}
    attempts: list[Callable[[BlockingChannel], Any]] = [
        lambda channel: channel.queue_bind("orders", "amq.fanout"),
        lambda channel: channel.queue_declare("work", durable=True, arguments=dead_letters),
    ]

    async def scenario(running: Running) -> None:
        await with_channel(running, filled)
        for attempt in attempts:
            await with_channel(running, attempt)
        await running.node.access.masks.put_rule(mask_rule("amqp.amq.fanout", "card"))
        for attempt in attempts:
            with pytest.raises(ChannelClosedByBroker, match="masked"):
                await with_channel(running, attempt)

    run(tmp_path / "data", scenario)


def test_a_stream_that_is_an_exchanges_topic_takes_no_messages(tmp_path: Path) -> None:
    def work(channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        channel.basic_publish("amq.fanout", "", b"by its exchange")
        channel.queue_declare("amqp.amq.fanout", durable=True, arguments=STREAM)
        with pytest.raises(NackError):
            channel.basic_publish("", "amqp.amq.fanout", b"by its name")
        channel.basic_qos(prefetch_count=1)
        method, _, body = next(channel.consume("amqp.amq.fanout", arguments={"x-stream-offset": "first"}))
        assert (method.exchange, body) == ("", b"by its exchange")

    async def scenario(running: Running) -> None:
        await with_channel(running, work)

    run(tmp_path / "data", scenario)
