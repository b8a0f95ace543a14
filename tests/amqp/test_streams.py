"""Streams as queues of a virtual host: topics, what routes lead to them, restarts."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import decode_properties
from mainstem.amqp.topology import QueueDeclaration
from mainstem.contract import Event, NewEvent, Position, UnknownTopic
from tests.amqp.model import Model, with_model

STREAM = {"x-queue-type": "stream"}


async def events(model: Model, topic: str, partition: int = 0) -> list[Event]:
    """All events of a partition."""

    async def read() -> list[Event]:
        reader = await model.server.engine.reader([Position(topic, partition, 0)])
        try:
            return list((await reader.read(wait_ms=0)).events)
        finally:
            await reader.close()

    return await model.drive(read())


async def values(model: Model, topic: str, partition: int = 0) -> list[bytes | None]:
    return [event.value for event in await events(model, topic, partition)]


async def refused(model: Model, call: Any, code: int, text: str) -> None:
    with pytest.raises(AmqpError) as raised:
        await model.drive(call)
    assert (raised.value.code, text in raised.value.text) == (code, True), raised.value.text


def test_a_stream_gets_what_is_routed_to_it_and_outlives_a_crash() -> None:
    async def scenario(model: Model) -> None:
        await model.exchange("shop", "topic")
        await model.queue("orders", STREAM | {"x-max-age": "7D"})
        await model.queue("billing")
        await model.bind("shop", "orders", "order.*")
        await model.bind("shop", "billing", "order.placed")
        assert await model.publish("", "orders", b"by name") == ["routed"]
        for power in (False, True):
            assert await model.publish("shop", "order.placed", b"placed") == ["routed"]
            assert await model.publish("shop", "order.paid", b"paid") == ["routed"]
            assert await model.publish("shop", "parcel.sent", b"sent") == ["unrouted"]
            await model.crash(power=power)
        assert await values(model, "orders") == [b"by name", b"placed", b"paid", b"placed", b"paid"]
        assert await model.bodies("billing") == [b"placed", b"placed"]
        # Its exchange has each message once, and the default exchange none.
        assert await values(model, "amqp.shop") == [b"placed", b"paid", b"sent"] * 2
        assert await values(model, "amqp.default") == []
        topic = await model.drive(model.server.engine.topic("orders"))
        settings = {setting.name: setting.value for setting in topic.settings}
        assert (settings["retention.ms"], settings["retention.bytes"]) == (str(7 * 86_400_000), "-1")
        assert (await model.queue("orders", STREAM | {"x-max-age": "7D"})).messages == 5

    with_model(scenario)


def test_messages_of_a_stream_have_their_exchange_and_properties() -> None:
    async def scenario(model: Model) -> None:
        await model.exchange("shop", "fanout")
        await model.queue("orders", STREAM)
        await model.bind("shop", "orders")
        properties = Properties(message_id="m-1", headers={"tenant": "acme", "BCC": []})
        await model.publish("shop", "order.placed", b"placed", properties=properties)
        engine = model.server.engine
        by_kafka = NewEvent(b"by Kafka", None, (("content-type", b"text/plain"), ("tenant", b"acme")))
        await model.drive(engine.publish("orders", [by_kafka]))
        forged = NewEvent(b"forged", b"k", (("mainstem-amqp091", b"\xff\xff\xff"),))
        await model.drive(engine.publish("orders", [forged]))
        queue = model.vhost.queue("orders")
        messages = [model.vhost.from_stream(event, queue) for event in await events(model, "orders")]
        assert [(message.exchange, message.routing_key) for message in messages] == [
            ("shop", "order.placed"),
            ("", "orders"),
            ("", "k"),
        ]
        received = [decode_properties(message.properties_raw) for message in messages]
        assert [properties.headers for properties in received] == [
            {"tenant": "acme", "x-stream-offset": 0},
            {"tenant": "acme", "x-stream-offset": 1},
            {"x-stream-offset": 2},
        ]
        assert (received[0].message_id, received[1].content_type) == ("m-1", "text/plain")

    with_model(scenario)


def test_a_topic_that_is_there_is_taken_over() -> None:
    async def scenario(model: Model) -> None:
        engine = model.server.engine
        await model.drive(engine.create_topic("orders", partitions=1, settings={"retention.ms": "60000"}))
        await model.drive(engine.publish("orders", [NewEvent(b"before")]))
        text = (
            "inequivalent arg 'x-max-age' for queue 'orders' in vhost '/': the topic has another retention.ms"
        )
        await refused(model, model.queue("orders", STREAM | {"x-max-age": "2m"}), 406, text)
        assert (await model.queue("orders", STREAM | {"x-max-age": "60s"})).messages == 1
        await model.publish("", "orders", b"after")
        assert await values(model, "orders") == [b"before", b"after"]

        await model.drive(engine.create_topic("payments", partitions=2))
        await refused(model, model.queue("payments", STREAM), 406, "has several partitions")
        await model.queue("payments-1", STREAM)
        await model.publish("", "payments-1", b"paid")
        assert (await values(model, "payments"), await values(model, "payments", 1)) == ([], [b"paid"])
        await model.drive(model.vhost.delete_queue("payments-1"))
        assert await values(model, "payments", 1) == [b"paid"]
        await refused(model, model.queue("__mainstem_access", STREAM), 406, "reserved for the server")
        await refused(model, model.queue("not a topic", STREAM), 406, "not a topic")

    with_model(scenario)


def test_the_topic_of_an_exchange_is_a_stream_to_read() -> None:
    async def scenario(model: Model) -> None:
        await model.exchange("shop", "fanout")
        await model.publish("shop", "order.placed", b"1", b"2")
        assert (await model.queue("amqp.shop", STREAM)).messages == 2
        assert await model.publish("", "amqp.shop", b"by another way") == ["refused"]
        await model.drive(model.vhost.delete_queue("amqp.shop"))
        assert await values(model, "amqp.shop") == [b"1", b"2"]

    with_model(scenario)


def test_a_stream_ends_with_its_topic_and_its_topic_with_the_stream() -> None:
    async def scenario(model: Model) -> None:
        engine = model.server.engine
        await model.exchange("shop", "fanout")
        for _ in range(2):
            await model.queue("orders", STREAM)
            await model.bind("shop", "orders")
            await model.publish("shop", "", b"placed")
            await model.drive(engine.delete_topic("orders"))
            await model.server.pass_time(0.1)
            await refused(model, model.drive(model.vhost.queue_figures("orders")), 404, "no queue 'orders'")
            assert model.vhost.router.bindings_of("shop") == []
        await model.queue("orders", STREAM)
        await model.bind("shop", "orders")
        await model.publish("shop", "", b"placed")
        await refused(model, model.vhost.delete_queue("orders", if_empty=True), 406, "not empty")
        assert await model.drive(model.vhost.delete_queue("orders")) == 0
        with pytest.raises(UnknownTopic):
            await events(model, "orders")
        await model.crash()
        assert "orders" not in model.vhost.queues
        assert model.vhost.router.bindings_of("shop") == []

    with_model(scenario)


def test_dead_letters_go_to_a_stream() -> None:
    async def scenario(model: Model) -> None:
        await model.queue("failed", STREAM)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "failed", "x-max-length": 1}
        await model.queue("work", arguments)
        await model.publish("", "work", b"1", b"2", b"3")
        await model.server.pass_time(1)
        assert await values(model, "failed") == [b"1", b"2"]
        assert await model.bodies("work") == [b"3"]

    with_model(scenario)


def test_a_stream_that_refuses_a_dead_letter_does_not_repeat_it_elsewhere() -> None:
    async def scenario(model: Model) -> None:
        await model.exchange("dead", "fanout")
        await model.drive(
            model.server.engine.create_topic("small", partitions=1, settings={"max.message.bytes": "1000"})
        )
        await model.queue("small", STREAM)
        await model.queue("failed")
        await model.bind("dead", "small")
        await model.bind("dead", "failed")
        await model.queue("work", {"x-dead-letter-exchange": "dead", "x-max-length": 1})
        await model.publish("", "work", b"large" * 1_000, b"2", b"3")
        await model.server.pass_time(120)
        assert await model.bodies("failed") == [b"large" * 1_000, b"2"]
        assert await values(model, "small") == [b"2"]

    with_model(scenario)


def test_a_stream_takes_as_large_messages_as_a_queue() -> None:
    async def scenario(model: Model) -> None:
        await model.queue("orders", STREAM)
        large = bytes(2 << 20)
        assert await model.publish("", "orders", large) == ["routed"]
        assert await values(model, "orders") == [large]

    with_model(scenario)


def test_a_topic_that_has_got_partitions_stays_a_stream() -> None:
    async def scenario(model: Model) -> None:
        await model.exchange("shop", "fanout")
        await model.queue("orders", STREAM)
        await model.bind("shop", "orders")
        await model.drive(model.server.engine.add_partitions("orders", 3))
        await model.crash()
        assert await model.publish("shop", "", b"placed") == ["routed"]
        assert await values(model, "orders") == [b"placed"]

    with_model(scenario)


def test_a_topic_made_anew_is_not_deleted_with_the_stream_before_it() -> None:
    async def scenario(model: Model) -> None:
        engine = model.server.engine
        await model.queue("orders", STREAM)
        async with model.vhost._locks.of("queue orders"):
            await model.drive(engine.delete_topic("orders"))
            await model.drive(engine.create_topic("orders", partitions=1))
        await model.server.pass_time(0.1)
        assert "orders" not in model.vhost.queues
        assert await values(model, "orders") == []

    with_model(scenario)


def test_the_topic_of_an_exchange_is_made_by_its_exchange_only() -> None:
    async def scenario(model: Model) -> None:
        declaring = model.queue("amqp.shop", STREAM)
        await refused(model, declaring, 406, "has got no message yet")

    with_model(scenario)


def test_what_streams_cannot_be() -> None:
    async def scenario(model: Model) -> None:
        for options, field in (
            ({"durable": False}, "non-durable"),
            ({"exclusive": True}, "exclusive-owner"),
            ({"auto_delete": True}, "auto-delete"),
        ):
            await refused(model, model.queue("orders", STREAM, **options), 406, f"invalid property '{field}'")
        for argument, value, text in (
            ("x-max-age", "x", "'x' is no time such as 7D or 90m"),
            ("x-max-age", 5, "is no time"),
            ("x-max-length-bytes", "5", "expected integer, got longstr"),
            ("x-message-ttl", 5, "of queue type rabbit_stream_queue"),
            ("x-single-active-consumer", True, "of queue type rabbit_stream_queue"),
        ):
            await refused(model, model.queue("orders", STREAM | {argument: value}), 406, text)
        await model.queue("orders", STREAM)
        await refused(model, model.queue("orders"), 406, "inequivalent arg 'x-queue-type'")
        await refused(model, model.vhost.purge_queue("orders"), 540, "queue.purge not supported by stream")
        shop = await model.drive(model.vhosts.create("shop"))
        declaration = QueueDeclaration("orders", durable=True, arguments=dict(STREAM))
        await refused(model, shop.declare_queue(declaration), 540, "streams are queues of the vhost '/'")

    with_model(scenario)
