"""What queues give up goes to their dead-letter exchange, as RabbitMQ's rules say."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mainstem.amqp.dead_lettering import DeadLettering
from mainstem.amqp.deaths import deaths_of
from mainstem.amqp.field_values import FieldTable
from mainstem.amqp.messages import properties_of
from mainstem.amqp.policies import Policy
from mainstem.amqp.properties import Properties
from mainstem.attach_contract import DeadEvent, DeadLetterReason
from mainstem.contract import Event, NotReachable
from mainstem.queue_contract import Ack, Nack, Reject
from tests.amqp.model import Model, with_model


async def given_up(model: Model, queue: str, reason: DeadLetterReason = "rejected") -> list[Any]:
    """Give up what a queue has. The results."""
    deliveries = await model.pull(queue)
    events = [delivery.event for delivery in deliveries]
    subscription = model.vhost.queues[queue].subscription
    await model.drive(model.server.engine.settle(subscription, [Ack(item.token) for item in deliveries]))
    sink = DeadLettering(model.vhosts.of_subscription, model.server.clock)
    dead = [DeadEvent(event, reason, 1, f"place/{event.offset}") for event in events]
    return await model.drive(sink.move(subscription, dead))


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
            message = model.vhost.from_event(event, model.vhost.queue(queue))
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


def test_what_is_rejected_expires_or_is_too_much_goes_to_the_exchange_by_itself() -> None:
    async def test(model: Model) -> None:
        await model.exchange("dead", "fanout")
        await model.queue("graveyard")
        await model.bind("dead", "graveyard")
        dead: FieldTable = {"x-dead-letter-exchange": "dead"}
        await model.queue("work", dead)
        await model.queue("short", {**dead, "x-max-length": 1})
        await model.queue("brief", {**dead, "x-message-ttl": 100})
        await model.queue("tried", {**dead, "x-queue-type": "quorum", "x-delivery-limit": 1})
        await model.publish("", "work", b"rejected")
        await model.publish("", "short", b"maxlen", b"newest")
        await model.publish("", "brief", b"expired")
        await model.publish("", "tried", b"delivery_limit")
        engine = model.server.engine
        (delivery,) = await model.pull("work")
        await model.drive(engine.settle("%2F/work", [Reject(delivery.token)]))
        for _ in range(2):
            (delivery,) = await model.pull("tried")
            await model.drive(engine.settle("%2F/tried", [Nack(delivery.token)]))
        await model.server.pass_time(1)
        deliveries = await model.pull("graveyard")
        assert {delivery.event.value for delivery in deliveries} == {
            b"rejected",
            b"maxlen",
            b"expired",
            b"delivery_limit",
        }
        for delivery in deliveries:
            (death,) = deaths_of(properties_of(delivery.event).headers)
            assert death["reason"].encode() == delivery.event.value
        assert await model.bodies("short") == [b"newest"]

    with_model(test)


def test_what_died_before_a_restart_goes_to_the_exchange_after_it() -> None:
    async def test(model: Model) -> None:
        await model.queue("graveyard")
        letters: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graveyard"}
        await model.queue("work", {**letters, "x-message-ttl": 5_000})
        await model.publish("", "work", b"1")
        await model.vhosts.close()
        await model.server.crash(power=False)
        await model.server.pass_time(10)  # no door has asked for a virtual host yet
        await model.open()
        await model.server.pass_time(1)
        assert await model.bodies("graveyard") == [b"1"]
        assert await model.bodies("work") == []

    with_model(test)


def test_a_full_queue_refuses_what_is_published() -> None:
    async def test(model: Model) -> None:
        full: FieldTable = {"x-max-length": 1, "x-overflow": "reject-publish"}
        await model.queue("full", full)
        await model.queue("roomy")
        await model.queue("graveyard")
        letters: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graveyard"}
        await model.queue("both", {**full, **letters, "x-overflow": "reject-publish-dlx"})
        for queue in ("full", "roomy"):
            await model.bind("amq.fanout", queue)
        assert await model.publish("amq.fanout", "", b"1", b"2") == ["routed", "refused"]
        assert await model.bodies("full") == [b"1"]
        assert await model.bodies("roomy") == [b"1", b"2"]
        assert await model.publish("", "both", b"3", b"4") == ["routed", "refused"]
        await model.server.pass_time(1)
        assert await model.bodies("graveyard") == [b"4"]
        policy = Policy("longer", "^both$", {"max-length": 0})
        await model.drive(model.vhost.set_policy(policy))
        settings = await model.drive(model.server.engine.subscription_settings("%2F/both"))
        assert (settings.length_max, settings.overflow) == (0, "reject-publish-dlx")

    with_model(test)
