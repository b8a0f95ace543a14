"""Queues that have the events of a topic."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_values import Timestamp
from mainstem.amqp.properties_codec import decode_properties
from mainstem.amqp.topology import AmqpBinding
from mainstem.contract import NewEvent
from mainstem.queue_contract import Nack, Reject
from tests.amqp.model import Model, with_model


async def orders(model: Model, *bodies: bytes, **more: Any) -> None:
    """Publish to the topic `orders` as Kafka's clients do."""
    await model.drive(model.server.engine.publish("orders", [NewEvent(body, **more) for body in bodies]))


async def refused(model: Model, call: Any, text: str, code: int = 406) -> None:
    with pytest.raises(AmqpError) as raised:
        await model.drive(call)
    assert (raised.value.code, text in raised.value.text) == (code, True), raised.value.text


def test_a_queue_has_the_events_of_a_topic_from_where_it_says() -> None:
    async def scenario(model: Model) -> None:
        await model.drive(model.server.engine.create_topic("orders", partitions=3))
        await orders(model, b"1", b"2", timestamp_ms=1_000_000)
        await orders(model, b"3", timestamp_ms=9_000_000)
        topic = {"x-mainstem-topic": "orders"}
        assert (await model.queue("new", topic)).messages == 0
        await model.queue("all", topic | {"x-mainstem-from": "first"})
        await model.queue("late", topic | {"x-mainstem-from": Timestamp(5_000)})
        await model.queue("paid", topic | {"x-mainstem-from": "first", "x-mainstem-filter": "paid"})
        await orders(model, b"4", b"paid 5")
        assert await model.publish("", "all", b"to the queue") == ["unrouted"]
        await model.crash()
        assert sorted(await model.bodies("all")) == [b"1", b"2", b"3", b"4", b"paid 5"]  # type: ignore[type-var]
        assert set(await model.bodies("late")) == {b"3", b"4", b"paid 5"}
        assert set(await model.bodies("new")) == {b"4", b"paid 5"}
        assert await model.bodies("paid") == [b"paid 5"]
        await model.drive(model.vhost.delete_queue("all"))
        assert "%2F/all" not in await model.drive(model.server.engine.subscriptions())
        await model.crash()
        assert set(model.vhost.queues) == {"late", "new", "paid"}

    with_model(scenario)


def test_a_queue_that_does_not_last_ends_with_the_server() -> None:
    async def scenario(model: Model) -> None:
        engine = model.server.engine
        await model.drive(engine.create_topic("orders", partitions=1))
        await model.queue("soon", {"x-mainstem-topic": "orders"}, durable=False)
        await model.queue("kept", {"x-mainstem-topic": "orders"})
        await model.crash()
        assert set(model.vhost.queues) == {"kept"}
        assert await model.drive(model.server.engine.subscriptions()) == ["%2F/kept"]

    with_model(scenario)


def test_events_are_messages_and_properties_are_checked() -> None:
    async def scenario(model: Model) -> None:
        await model.drive(model.server.engine.create_topic("orders", partitions=1))
        await model.queue("work", {"x-mainstem-topic": "orders", "x-queue-type": "quorum"})
        headers = (("content-type", b"application/json"), ("tenant", b"acme"))
        await orders(model, b"{}", key=b"order-17", headers=headers)
        await orders(model, b"forged", headers=(("mainstem-amqp091", b"\xff" * 9),))
        queue = model.vhost.queue("work")
        first, second = await model.pull("work")
        message = model.vhost.from_event(first.event, queue)
        assert (message.exchange, message.routing_key, message.body) == ("kafka.orders", "order-17", b"{}")
        properties = decode_properties(message.properties_raw)
        assert (properties.content_type, properties.headers) == ("application/json", {"tenant": "acme"})
        assert model.vhost.from_event(second.event, queue).properties_raw == b"\x00\x00"
        await model.drive(model.server.engine.settle(queue.subscription, [Nack(first.token)]))
        (again,) = await model.pull("work")
        message = model.vhost.from_event(again.event, queue, again.failures + 1)
        headers_then = decode_properties(message.properties_raw).headers
        assert headers_then == {"tenant": "acme", "x-delivery-count": 1}

    with_model(scenario)


def test_dead_letters_of_a_queue_of_a_topic_go_to_its_exchange() -> None:
    async def scenario(model: Model) -> None:
        await model.drive(model.server.engine.create_topic("orders", partitions=1))
        await model.queue("failed")
        arguments = {
            "x-mainstem-topic": "orders",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "failed",
        }
        await model.queue("work", arguments)
        await orders(model, b"bad", key=b"order-17")
        (delivery,) = await model.pull("work")
        subscription = model.vhost.queue("work").subscription
        await model.drive(model.server.engine.settle(subscription, [Reject(delivery.token)]))
        await model.server.pass_time(1)
        (letter,) = await model.pull("failed")
        message = model.vhost.from_event(letter.event, model.vhost.queue("failed"))
        headers: Any = decode_properties(message.properties_raw).headers
        (death,) = headers["x-death"]
        assert (death["queue"], death["exchange"]) == ("work", "kafka.orders")
        assert death["routing-keys"] == ["order-17"]

    with_model(scenario)


def test_the_history_of_an_exchange_is_a_queue() -> None:
    async def scenario(model: Model) -> None:
        await model.exchange("shop", "topic")
        await model.publish("shop", "order.placed", b"1", b"2")
        await model.queue("audit", {"x-mainstem-topic": "amqp.shop", "x-mainstem-from": "first"})
        await model.publish("shop", "order.paid", b"3")
        queue = model.vhost.queue("audit")
        messages = [model.vhost.from_event(delivery.event, queue) for delivery in await model.pull("audit")]
        assert [(message.exchange, message.routing_key, message.body) for message in messages] == [
            ("shop", "order.placed", b"1"),
            ("shop", "order.placed", b"2"),
            ("shop", "order.paid", b"3"),
        ]

    with_model(scenario)


def test_what_a_queue_of_a_topic_does_not_have() -> None:
    async def scenario(model: Model) -> None:
        await model.drive(model.server.engine.create_topic("orders", partitions=1))
        topic = {"x-mainstem-topic": "orders"}
        await refused(model, model.queue("q", topic | {"x-max-length": 5}), "not of a queue of a topic")
        await refused(model, model.queue("q", topic | {"x-mainstem-from": 5}), "a topic has partitions")
        await refused(model, model.queue("q", topic | {"x-mainstem-filter": "((("}), "the filter is no query")
        await refused(model, model.queue("q", {"x-mainstem-from": "first"}), "only of a queue with")
        await refused(model, model.queue("q", {"x-mainstem-topic": "parcels"}), "no such topic", 404)
        await model.queue("q", topic)
        await refused(model, model.queue("q"), "inequivalent arg 'x-mainstem-topic'")
        await refused(model, model.vhost.bind(AmqpBinding("amq.fanout", "q")), "is bound to nothing")

    with_model(scenario)
