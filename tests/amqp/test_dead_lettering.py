"""What queues give up goes to their dead-letter exchange, as RabbitMQ's rules say."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mainstem.amqp.dead_lettering import DeadLettering
from mainstem.amqp.deaths import deaths_of
from mainstem.amqp.messages import properties_of
from mainstem.amqp.properties import Properties
from mainstem.attach_contract import DeadEvent, DeadLetterReason
from mainstem.contract import Event, NotReachable
from tests.amqp.model import Model, with_model


async def given_up(model: Model, queue: str, reason: DeadLetterReason = "rejected") -> list[Any]:
    """Give up what a queue has. The results."""
    events = [delivery.event for delivery in await model.pull(queue)]
    sink = DeadLettering(model.vhosts.of_subscription, model.server.clock)
    dead = [DeadEvent(event, reason, 1, f"place/{event.offset}") for event in events]
    return await model.drive(sink.move(model.vhost.queues[queue].subscription, dead))


async def letter(model: Model, queue: str) -> Event:
    (delivery,) = await model.pull(queue)
    return delivery.event


def test_a_letter_is_routed_by_the_exchange_with_the_keys_of_the_message() -> None:
    async def test(model: Model) -> None:
        await model.exchange("dead", "topic")
        await model.queue("work", {"x-dead-letter-exchange": "dead"})
        await model.queue("paid")
        await model.queue("copies")
        await model.bind("dead", "paid", "work")
        await model.bind("dead", "copies", "copy")
        properties = Properties(headers={"CC": ["copy"]}, expiration="60000", message_id="m-1")
        await model.publish("", "work", b"1", properties=properties)
        assert await given_up(model, "work", "expired") == [None]
        await model.server.pass_time(120)
        for queue in ("paid", "copies"):
            event = await letter(model, queue)
            message = model.vhost.from_event(event)
            assert (message.exchange, message.routing_key, message.body) == ("dead", "work", b"1")
            found_properties = properties_of(event)
            assert (found_properties.message_id, found_properties.expiration) == ("m-1", None)
            (death,) = deaths_of(found_properties.headers)
            assert (death["exchange"], death["routing-keys"]) == ("", ["work", "copy"])
            assert dict(event.headers)["mainstem-moved-from"] == b"place/0"

    with_model(test)


def test_a_queue_may_name_the_key_of_its_letters() -> None:
    async def test(model: Model) -> None:
        await model.queue("work", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graveyard"})
        await model.queue("graveyard")
        await model.queue("copy")
        await model.publish("", "work", b"1", b"2", properties=Properties(headers={"CC": ["copy"]}))
        assert await given_up(model, "work", "failed") == [None, None]
        deliveries = await model.pull("graveyard")
        assert [delivery.event.value for delivery in deliveries] == [b"1", b"2"]
        headers = properties_of(deliveries[0].event).headers
        assert headers is not None
        assert "CC" not in headers
        assert deaths_of(headers)[0]["reason"] == "delivery_limit"
        assert await model.bodies("copy") == [b"1", b"2"]  # from the publisher, and none of the letters

    with_model(test)


def test_what_has_no_exchange_to_go_to_is_dropped() -> None:
    async def test(model: Model) -> None:
        await model.queue("plain")
        await model.queue("lost", {"x-dead-letter-exchange": "missing"})
        for queue in ("plain", "lost"):
            await model.publish("", queue, b"1")
            assert await given_up(model, queue) == [None]
        sink = DeadLettering(model.vhosts.of_subscription, model.server.clock)
        dead = DeadEvent(Event("t", 0, 0, 0, None, None), "rejected", 1, "t/0/0")
        assert await model.drive(sink.move("fees", [dead])) == [None]
        assert await model.drive(sink.move("%2F/deleted", [dead])) == [None]

    with_model(test)


def test_what_expires_in_a_circle_is_dropped_and_what_a_consumer_rejects_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(model: Model) -> None:
        await model.queue("work", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "retry"})
        await model.queue("retry", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"})
        await model.publish("", "work", b"1")
        for _ in range(3):
            assert await given_up(model, "work", "rejected") == [None]
            assert await given_up(model, "retry", "expired") == [None]
        with caplog.at_level(logging.WARNING):
            assert await given_up(model, "work", "expired") == [None]
        assert await model.pull("work") == await model.pull("retry") == []
        assert "messages of queue work are dropped: they were dead in retry before" in caplog.text

    with_model(test)


def test_letters_that_are_refused_are_tried_again() -> None:
    async def test(model: Model) -> None:
        await model.queue("work", {"x-dead-letter-exchange": "amq.fanout"})
        await model.queue("graveyard")
        await model.bind("amq.fanout", "graveyard")
        await model.publish("", "work", b"1")
        await model.publish("amq.fanout", "", b"0")

        class Refusing:
            async def publish(self, namespace: str, events: object) -> list[object]:
                raise NotReachable("the disk is full")

        publisher = model.vhost.publisher
        publisher._routed, before = Refusing(), publisher._routed  # type: ignore[assignment]
        (result,) = await given_up(model, "work")
        assert isinstance(result, NotReachable)
        publisher._routed = before
        assert await model.bodies("graveyard") == [b"0"]

    with_model(test)
