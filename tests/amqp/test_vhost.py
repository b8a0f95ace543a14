"""A virtual host: exchanges, queues and bindings, what outlives a restart, and RabbitMQ's errors."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_values import Int64
from mainstem.amqp.messages import AmqpMessage
from mainstem.amqp.policies import Policy
from mainstem.amqp.properties import Properties
from mainstem.amqp.topology import AmqpBinding, QueueDeclaration
from mainstem.contract import InvalidArgument, NewEvent
from mainstem.coordinator.errors import OnlyExchange
from mainstem.doors.kafka.errors import ErrorCode, code_of
from mainstem.log.storage.record_batch import build
from mainstem.queue_contract import SubscriptionSettings
from tests.amqp.model import Model, with_model


async def refused(model: Model, call: Awaitable[object], code: int, text: str) -> None:
    with pytest.raises(AmqpError) as error:
        await model.drive(call)
    assert (error.value.code, error.value.is_channel) == (code, code in (403, 404, 405, 406))
    assert text in error.value.text


def test_what_is_durable_outlives_a_kill_and_what_is_not_ends() -> None:
    async def test(model: Model) -> None:
        await model.exchange("orders", "topic", arguments={"alternate-exchange": "unrouted"})
        await model.exchange("unrouted", "fanout")
        await model.exchange("scratch", durable=False)
        await model.queue("billing", {"x-message-ttl": 60_000, "x-max-priority": 5})
        await model.queue("passing", durable=False)
        await model.queue("mine", owner="connection", exclusive=True)
        await model.bind("orders", "billing", "order.*.paid")
        await model.bind("orders", "billing", "order.*.paid")
        await model.bind("orders", "unrouted", "#", is_to_queue=False)
        await model.bind("orders", "passing", "#")
        await model.bind("scratch", "billing", "x")
        policy = Policy("limits", "^bill", {"expires": 500_000}, 1, "queues")
        await model.drive(model.vhost.set_policy(policy))
        assert await model.publish("orders", "order.7.paid", b"7") == ["routed"]
        for power in (False, True):
            await model.crash(power=power)
            vhost = model.vhost
            assert set(vhost.queues) == {"billing"}
            assert vhost.queues["billing"].arguments == {"x-message-ttl": 60_000, "x-max-priority": 5}
            assert vhost.queues["billing"].effective == {"message-ttl": 60_000, "expires": 500_000}
            assert vhost.exchanges["orders"].alternate == "unrouted"
            assert "scratch" not in vhost.exchanges
            assert {(item.source, item.destination) for item in vhost.router.bindings()} == {
                ("orders", "billing"),
                ("orders", "unrouted"),
            }
            assert await model.server.drive(model.server.engine.routed_queues.queues_of("/")) == ["billing"]
        (delivery,) = await model.pull("billing")
        message = model.vhost.from_event(delivery.event, vhost.queue("billing"))
        assert (message.exchange, message.routing_key, message.body) == ("orders", "order.7.paid", b"7")

    with_model(test)


def test_messages_go_where_the_bindings_lead() -> None:
    async def test(model: Model) -> None:
        for queue in ("a", "b", "c"):
            await model.queue(queue)
        await model.exchange("all", "fanout")
        await model.exchange("some", "direct")
        await model.bind("all", "a")
        await model.bind("all", "some", is_to_queue=False)
        await model.bind("some", "b", "b")
        assert await model.publish("all", "b", b"1", b"2") == ["routed", "routed"]
        assert await model.publish("", "c", b"3") == ["routed"]
        assert await model.publish("some", "nowhere", b"4") == ["unrouted"]
        cc = Properties(headers={"CC": ["b"], "BCC": ["a"]})
        assert await model.publish("", "c", b"5", properties=cc) == ["routed"]
        assert await model.bodies("a") == [b"1", b"2", b"5"]
        assert await model.bodies("b") == [b"1", b"2", b"5"]
        deliveries = await model.pull("c")
        assert [delivery.event.value for delivery in deliveries] == [b"3", b"5"]
        message = model.vhost.from_event(deliveries[1].event, model.vhost.queue("c"))
        assert (message.exchange, message.routing_key) == ("", "c")
        assert b"BCC" not in message.properties_raw
        assert b"CC" in message.properties_raw

    with_model(test)


def test_calls_of_one_turn_keep_their_order_over_exchanges() -> None:
    async def test(model: Model) -> None:
        await model.queue("q")
        await model.exchange("x")
        await model.bind("x", "q", "k")
        calls = [
            model.vhost.publish([AmqpMessage(exchange, key, Properties(), b"%d" % number)])
            for number, (exchange, key) in enumerate([("x", "k"), ("", "q"), ("x", "k"), ("", "q")])
        ]
        for call in calls:
            assert await model.drive(call) == ["routed"]
        assert await model.bodies("q") == [b"0", b"1", b"2", b"3"]

    with_model(test)


def test_declarations_that_differ_are_refused() -> None:
    async def test(model: Model) -> None:
        vhost = model.vhost
        await model.exchange("orders", "topic")
        await model.queue("billing", {"x-message-ttl": 60_000})
        await model.queue("billing", {"x-message-ttl": Int64(60_000), "x-nonsense": 1})
        await refused(
            model,
            model.queue("billing", {"x-message-ttl": 1}),
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'billing' in vhost '/': "
            "received '1' but current is '60000'",
        )
        await refused(model, model.queue("billing"), 406, "received none but current is the value '60000'")
        await refused(
            model,
            model.queue("billing", {"x-message-ttl": 60_000}, durable=False),
            406,
            "arg 'durable' for queue 'billing' in vhost '/': received 'false' but current is 'true'",
        )
        await refused(
            model,
            model.exchange("orders", "direct"),
            406,
            "arg 'type' for exchange 'orders' in vhost '/': received 'direct' but current is 'topic'",
        )
        await refused(model, model.exchange("x", "magic"), 406, "unknown exchange type 'magic'")
        await refused(model, model.exchange("amq.mine"), 403, "contains reserved prefix 'amq.*'")
        await refused(model, model.queue("amq.mine"), 403, "queue name 'amq.mine' contains reserved prefix")
        await refused(model, model.queue("q", {"x-message-ttl": "1"}), 406, '"expected integer, got longstr"')
        await refused(model, model.queue("q", {"x-max-length": -1}), 406, "{value_negative,-1}")
        await refused(
            model, model.queue("q", {"x-queue-type": "quorum"}, durable=False), 406, "property 'non-durable'"
        )
        await refused(
            model, vhost.bind(AmqpBinding("orders", "nowhere")), 404, "no queue 'nowhere' in vhost '/'"
        )
        await refused(model, vhost.bind(AmqpBinding("", "billing")), 403, "the default exchange")
        await refused(model, vhost.bind(AmqpBinding("none", "billing")), 404, "no exchange 'none'")
        bad = AmqpBinding("amq.headers", "billing", arguments={"x-match": "most"})
        await refused(model, vhost.bind(bad), 406, "x-match")
        await refused(
            model, model.queue("q", {"x-queue-type": "quorum"}, auto_delete=True), 406, "auto-delete"
        )
        for missing in (AmqpBinding("orders", "nowhere"), AmqpBinding("none", "billing")):
            await model.drive(vhost.unbind(missing))
        await refused(model, vhost.unbind(AmqpBinding("", "billing")), 403, "the default exchange")
        with pytest.raises(AmqpError, match="no exchange 'none'"):
            vhost.check_publish("none")
        with pytest.raises(AmqpError, match="publish to internal exchange"):
            vhost.check_publish("amq.rabbitmq.trace")
        assert "q" not in vhost.queues

    with_model(test)


def test_an_exclusive_queue_is_its_connections_and_ends_with_it() -> None:
    async def test(model: Model) -> None:
        mine, other = object(), object()
        figures = await model.queue("", owner=mine, exclusive=True, durable=False)
        assert figures.name.startswith("amq.gen-")
        await model.queue("reply", owner=mine, exclusive=True)
        vhost = model.vhost
        await refused(model, model.queue("reply", {"x-expires": 0}, owner=other), 405, "RESOURCE_LOCKED - ")
        await refused(model, vhost.purge_queue("reply", other), 405, "locked queue 'reply'")
        await refused(model, vhost.bind(AmqpBinding("amq.direct", "reply"), other), 405, "locked queue")
        await model.drive(vhost.bind(AmqpBinding("amq.direct", "reply", routing_key="k"), mine))
        await model.drive(vhost.connection_closed(mine))
        assert not vhost.queues
        assert not vhost.router.bindings_of("amq.direct")
        await model.queue("reply", owner=other, exclusive=True)
        assert await model.publish("amq.direct", "k", b"1") == ["unrouted"]

    with_model(test)


def test_queues_and_exchanges_go_with_their_last_user() -> None:
    async def test(model: Model) -> None:
        vhost = model.vhost
        await model.exchange("events", "fanout", auto_delete=True)
        await model.queue("work", auto_delete=True)
        await model.bind("events", "work")
        queue = vhost.queue("work")
        vhost.consumer_added(queue)
        vhost.consumer_added(queue)
        await model.drive(vhost.consumer_removed(queue))
        assert "work" in vhost.queues
        await refused(model, vhost.delete_queue("work", if_unused=True), 406, "in use")
        await model.drive(vhost.consumer_removed(queue))
        assert "work" not in vhost.queues
        assert "events" not in vhost.exchanges
        assert await model.drive(vhost.delete_queue("work")) == 0

    with_model(test)


def test_a_queue_that_is_not_used_expires() -> None:
    async def test(model: Model) -> None:
        await model.queue("idle", {"x-expires": 2_000})
        await model.server.pass_time(1.5)
        model.vhost.note_get(model.vhost.queue("idle"))
        await model.server.pass_time(1.5)
        assert "idle" in model.vhost.queues
        model.vhost.consumer_added(model.vhost.queue("idle"))
        await model.server.pass_time(5)
        assert "idle" in model.vhost.queues
        await model.drive(model.vhost.consumer_removed(model.vhost.queue("idle")))
        await model.server.pass_time(2.5)
        assert "idle" not in model.vhost.queues

    with_model(test)


def test_messages_expire_when_they_say_so_and_wait_when_the_exchange_delays() -> None:
    async def test(model: Model) -> None:
        await model.queue("q")
        await model.exchange("later", "x-delayed-message", arguments={"x-delayed-type": "fanout"})
        await model.bind("later", "q")
        await model.publish("", "q", b"short", properties=Properties(expiration="100"))
        await model.publish("", "q", b"long", properties=Properties(expiration="60000"))
        await model.publish("later", "", b"delayed", properties=Properties(headers={"x-delay": 5_000}))
        await model.server.pass_time(0.5)
        assert await model.bodies("q") == [b"long"]
        await model.server.pass_time(5)
        (delivery,) = await model.pull("q")
        assert delivery.event.value == b"delayed"
        assert b"x-delay" in model.vhost.from_event(delivery.event, model.vhost.queue("q")).properties_raw

    with_model(test)


def test_a_policy_sets_what_arguments_leave_open_and_the_lowest_number_counts() -> None:
    async def test(model: Model) -> None:
        vhost = model.vhost
        await model.queue("orders.eu", {"x-message-ttl": 60_000})
        await model.queue("orders.us")
        await model.drive(vhost.set_policy(Policy("a", "^orders", {"message-ttl": 5_000}, 0, "queues")))
        await model.drive(vhost.set_policy(Policy("b", "us$", {"message-ttl": 90_000}, 7)))
        await model.drive(
            vhost.set_policy(
                Policy("cap", ".", {"message-ttl": 80_000}, 0, "classic_queues"), is_operator=True
            )
        )
        assert vhost.queues["orders.eu"].effective == {"message-ttl": 5_000}
        assert vhost.queues["orders.us"].effective == {"message-ttl": 80_000}
        settings = await model.drive(model.server.engine.subscription_settings("%2F/orders.us"))
        assert settings.ttl_ms == 80_000
        assert await model.drive(vhost.clear_policy("a"))
        assert not await model.drive(vhost.clear_policy("a"))
        assert vhost.queues["orders.eu"].effective == {"message-ttl": 60_000}
        for wrong in ({"message-ttl": "1"}, {"magic": 1}, {}, {"expires": 0}):
            await refused(model, vhost.set_policy(Policy("c", "x", wrong)), 406, "policy 'c'")
        await refused(model, vhost.set_policy(Policy("c", "(", {"expires": 1})), 406, "regular expression")
        await model.exchange("events", "topic")
        await model.drive(vhost.set_policy(Policy("ae", "^events$", {"alternate-exchange": "amq.fanout"})))
        await model.bind("amq.fanout", "orders.eu")
        assert await model.publish("events", "k", b"1") == ["routed"]

    with_model(test)


def test_a_time_to_live_of_zero_is_for_consumers_that_are_there() -> None:
    async def test(model: Model) -> None:
        await model.queue("q", {"x-message-ttl": 0})
        assert await model.publish("", "q", b"1") == ["routed"]
        assert (await model.drive(model.vhost.queue_figures("q"))).messages == 0
        model.vhost.consumer_added(model.vhost.queue("q"))
        assert await model.publish("", "q", b"2") == ["routed"]
        assert await model.bodies("q") == [b"2"]
        own = Properties(expiration="0")
        await model.queue("other")
        await model.publish("", "other", b"3", properties=own)
        assert await model.bodies("other") == []
        model.vhost.consumer_added(model.vhost.queue("other"))
        await model.publish("", "other", b"4", properties=own)
        assert await model.bodies("other") == [b"4"]

    with_model(test)


def test_exchanges_that_do_not_last_share_a_topic() -> None:
    async def test(model: Model) -> None:
        await model.queue("q")
        await model.exchange("transient", "fanout")
        await model.bind("transient", "q")
        for number in range(3):
            name = f"session-{number}"
            await model.exchange(name, "fanout", durable=number == 0, auto_delete=True)
            await model.bind(name, "q")
        for name in ("session-0", "transient", "session-1", "session-2"):
            await model.publish(name, "k", name.encode())
        topics = {topic.name for topic in await model.drive(model.server.engine.topics())}
        assert topics == {"amqp.transient", model.vhost.publisher.topics["transient"]}
        await model.crash()
        deliveries = await model.pull("q")
        messages = [model.vhost.from_event(delivery.event, model.vhost.queue("q")) for delivery in deliveries]
        assert [message.exchange.encode() for message in messages] == [message.body for message in messages]
        assert len(messages) == 4

    with_model(test)


def test_a_message_may_have_megabytes() -> None:
    async def test(model: Model) -> None:
        await model.queue("q")
        assert await model.publish("", "q", bytes(16 << 20), b"2") == ["routed", "routed"]
        bodies = [*await model.bodies("q"), *await model.bodies("q")]  # a pull has 4 MB, or one event
        assert [len(body or b"") for body in bodies] == [16 << 20, 1]

    with_model(test)


def test_a_queue_is_purged_of_what_no_consumer_has() -> None:
    async def test(model: Model) -> None:
        vhost = model.vhost
        await model.queue("q")
        await model.publish("", "q", b"1", b"2", b"3")
        taken = model.server.engine.attached.take(vhost.queue("q").subscription, "c")
        assert await model.drive(taken) is not None
        figures = await model.drive(vhost.queue_figures("q"))
        assert (figures.messages, figures.consumers) == (2, 0)
        await refused(model, vhost.delete_queue("q", if_empty=True), 406, "queue 'q' in vhost '/' not empty")
        assert await model.drive(vhost.purge_queue("q")) == 2
        assert (await model.queue("q")).messages == 0
        await model.publish("", "q", b"4")
        assert await model.drive(vhost.delete_queue("q")) == 1
        await refused(model, vhost.purge_queue("q"), 404, "no queue 'q' in vhost '/'")

    with_model(test)


def test_virtual_hosts_are_apart() -> None:
    async def test(model: Model) -> None:
        shop = await model.drive(model.vhosts.create("shop"))
        assert await model.drive(model.vhosts.create("shop")) is shop
        await model.drive(shop.declare_queue(QueueDeclaration("q", durable=True)))
        assert "q" not in model.vhost.queues
        assert model.vhosts.names() == ["/", "shop"]
        assert model.vhosts.of_subscription("shop/q") == (shop, "q")
        assert model.vhosts.of_subscription("%2F/q") == (model.vhost, "q")
        await model.crash()
        assert model.vhosts.names() == ["/", "shop"]
        routed = model.server.engine.routed_queues
        await model.drive(routed.create_namespace("solace"))
        await model.drive(routed.create_queue("solace", "q", SubscriptionSettings()))
        await model.crash()
        assert model.vhosts.names() == ["/", "shop"]
        assert await model.drive(model.server.engine.routed_queues.queues_of("solace")) == ["q"]
        await refused(model, model.vhosts.create("solace"), 406, "is no virtual host")
        await model.drive(model.server.engine.routed_queues.create_namespace("schemas"))
        await model.drive(model.server.engine.routed_queues.set_note("schemas", "schema flight", b"{}"))
        await refused(model, model.vhosts.create("schemas"), 406, "is no virtual host")
        await model.drive(model.vhosts.delete("shop"))
        await refused(model, model.vhosts.delete("shop"), 404, "no vhost 'shop'")
        await model.crash()
        assert model.vhosts.names() == ["/"]

    with_model(test)


def test_only_the_exchange_publishes_to_its_topic() -> None:
    async def test(model: Model) -> None:
        await model.queue("billing")
        await model.publish("", "billing", b"1")
        engine, node = model.server.engine, model.server.node
        for call in (
            engine.publish("amqp.default", [NewEvent(b"2", b"billing")]),
            engine.publish_once("amqp.default", "shop", [(1, NewEvent(b"2", b"billing"))]),
        ):
            with pytest.raises(InvalidArgument, match="only clients of that publish to it"):
                await model.drive(call)
        topic = node.topics.get("amqp.default")
        assert topic is not None
        with pytest.raises(OnlyExchange) as error:
            node.append_from_client(topic, 0, memoryview(build([(b"billing", b"2", [], 0)])))
        assert code_of(error.value) == ErrorCode.POLICY_VIOLATION
        await model.drive(engine.alter_topic("amqp.default", {"mainstem.publishers": None}))
        await model.drive(engine.publish("amqp.default", [NewEvent(b"2", b"billing")]))
        assert await model.bodies("billing") == [b"1"]

    with_model(test)
