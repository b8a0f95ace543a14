"""A channel with the real virtual host and engine, on a simulated disk and clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091 import methods
from mainstem.doors.amqp091.channel import AmqpChannel
from mainstem.doors.amqp091.channel_scope import ChannelScope
from mainstem.doors.amqp091.direct_replies import DirectReplies
from tests.amqp.model import Model, with_model
from tests.amqp.test_streams import events
from tests.doors.amqp091.channel_rig import AllowsAll, RecordingConnection


class EngineChannels:
    """Channels of one connection to a virtual host of its own."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.connection: Any = RecordingConnection()
        self._replies = DirectReplies(lambda: "id1")
        self._tags = count(1)

    def open(self, number: int = 1, owner: object = None) -> AmqpChannel:
        allow_all: Any = AllowsAll()
        scope = ChannelScope(
            number=number,
            connection=self.connection,
            vhost=self.model.vhost,
            attached=self.model.server.engine.attached,
            engine=self.model.server.engine,
            permissions=allow_all,
            replies=self._replies,
            user="guest",
            owner=owner or self,
        )
        return AmqpChannel(scope, lambda: f"amq.ctag-{next(self._tags)}")

    async def call(self, channel: AmqpChannel, *sent: Any) -> list[Any]:
        """Do methods; of those that are given with a body, it is a message. Returns what the client gets."""
        before = len(self.connection.sent)
        for item in sent:
            if isinstance(item, tuple):
                channel.on_message(item[0], Properties(), item[1])
            else:
                channel.on_method(item)
        await self.model.drive(self.connection.idle())
        await self.model.server.pass_time(0.05)
        return list(self.connection.sent[before:])

    async def get_all(self, channel: AmqpChannel, queue: str) -> list[tuple[bytes, bool]]:
        """Take all messages of a queue: (body, whether it was delivered before)."""
        bodies: list[tuple[bytes, bool]] = []
        while True:
            (reply,) = await self.call(channel, methods.BasicGet(queue, no_ack=True))
            if not isinstance(reply, tuple):
                return bodies
            bodies.append((reply[1], reply[0].redelivered))


def message(queue: str, body: bytes) -> tuple[methods.BasicPublish, bytes]:
    """A message for a queue."""
    return methods.BasicPublish("", queue), body


def with_channels(scenario: Callable[[EngineChannels], Awaitable[None]]) -> None:
    """Run a scenario."""

    async def run(model: Model) -> None:
        await scenario(EngineChannels(model))

    with_model(run)


def deliveries(sent: list[Any]) -> list[tuple[str, int, bool]]:
    """(consumer, tag, redelivered) of each delivery."""
    return [
        (item.consumer_tag, item.delivery_tag, item.redelivered)
        for item in sent
        if isinstance(item, methods.BasicDeliver)
    ]


def test_what_is_published_is_delivered_within_the_prefetch() -> None:
    async def scenario(channels: EngineChannels) -> None:
        channel = channels.open()
        await channels.call(
            channel,
            methods.QueueDeclare("orders"),
            methods.BasicQos(0, 2),
            methods.BasicConsume("orders", "c"),
        )
        sent = await channels.call(channel, *(message("orders", b"order %d" % n) for n in range(5)))
        assert deliveries(sent) == [("c", 1, False), ("c", 2, False)]
        sent = await channels.call(channel, methods.BasicAck(2, multiple=True))
        assert deliveries(sent) == [("c", 3, False), ("c", 4, False)]
        sent = await channels.call(channel, methods.BasicAck(4), methods.BasicNack(3, False, True))
        assert deliveries(sent) == [("c", 5, True), ("c", 6, False)]
        assert channel.info().unacked == 2
        await channels.model.drive(channel.close())
        assert await channels.get_all(channels.open(2), "orders") == [(b"order 2", True), (b"order 4", True)]

    with_channels(scenario)


def test_a_channel_sees_its_own_messages_at_once() -> None:
    async def scenario(channels: EngineChannels) -> None:
        channel = channels.open()
        await channels.call(channel, methods.QueueDeclare("orders"))
        sent = await channels.call(
            channel,
            message("orders", b"a"),
            message("orders", b"b"),
            methods.QueueDeclare("orders", passive=True),
        )
        assert sent == [methods.QueueDeclareOk("orders", 2, 0)]
        assert await channels.get_all(channel, "orders") == [(b"a", False), (b"b", False)]

    with_channels(scenario)


def test_a_purge_leaves_what_a_consumer_has() -> None:
    async def scenario(channels: EngineChannels) -> None:
        channel = channels.open()
        await channels.call(
            channel, methods.QueueDeclare("orders"), *(message("orders", body) for body in (b"a", b"b", b"c"))
        )
        await channels.call(channel, methods.BasicGet("orders"))
        assert await channels.call(channel, methods.QueuePurge("orders")) == [methods.QueuePurgeOk(2)]
        await channels.call(channel, methods.BasicNack(1, False, True))
        assert await channels.get_all(channel, "orders") == [(b"a", True)]

    with_channels(scenario)


def test_a_deleted_queue_cancels_its_consumers() -> None:
    async def scenario(channels: EngineChannels) -> None:
        channel, other = channels.open(), channels.open(2)
        await channels.call(channel, methods.QueueDeclare("orders"), methods.BasicConsume("orders", "c"))
        assert deliveries(await channels.call(other, message("orders", b"a"))) == [("c", 1, False)]
        sent = await channels.call(other, methods.QueueDelete("orders"))
        assert methods.QueueDeleteOk(0) in sent
        assert methods.BasicCancel("c", nowait=True) in sent
        assert channel.listed_consumers() == []
        await channels.call(channel, methods.BasicAck(1))
        assert channels.connection.failures == []

    with_channels(scenario)


def test_an_auto_delete_queue_goes_before_the_consumer_learns_it() -> None:
    async def scenario(channels: EngineChannels) -> None:
        channel = channels.open()
        await channels.call(
            channel, methods.QueueDeclare("orders", auto_delete=True), methods.BasicConsume("orders", "c")
        )
        assert "orders" in channels.model.vhost.queues
        assert await channels.call(channel, methods.BasicCancel("c")) == [methods.BasicCancelOk("c")]
        assert "orders" not in channels.model.vhost.queues

    with_channels(scenario)


def test_an_exclusive_consumer_and_a_priority() -> None:
    async def scenario(channels: EngineChannels) -> None:
        channel = channels.open()
        await channels.call(
            channel,
            methods.QueueDeclare("orders"),
            methods.BasicQos(0, 1),
            methods.BasicConsume("orders", "low"),
            methods.BasicConsume("orders", "high", arguments={"x-priority": 10}),
        )
        sent = await channels.call(channel, *(message("orders", b"%d" % n) for n in range(3)))
        assert [tag for tag, _, _ in deliveries(sent)] == ["high", "low"]
        await channels.call(channels.open(2), methods.BasicConsume("orders", "alone", exclusive=True))
        assert [error.code for error in channels.connection.failures] == [403]

    with_channels(scenario)


def test_a_transaction_is_seen_at_its_commit() -> None:
    async def scenario(channels: EngineChannels) -> None:
        channel, other = channels.open(), channels.open(2)
        await channels.call(channel, methods.QueueDeclare("orders"), methods.TxSelect())
        await channels.call(channel, message("orders", b"a"))
        assert await channels.get_all(other, "orders") == []
        await channels.call(channel, methods.TxRollback(), message("orders", b"b"), methods.TxCommit())
        assert await channels.get_all(other, "orders") == [(b"b", False)]

    with_channels(scenario)


def test_confirms_wait_for_the_log() -> None:
    async def scenario(channels: EngineChannels) -> None:
        channel = channels.open()
        await channels.call(channel, methods.QueueDeclare("orders"), methods.ConfirmSelect())
        channel.on_message(methods.BasicPublish("", "orders"), Properties(), b"a")
        for _ in range(3):
            await asyncio.sleep(0)
        assert methods.BasicAck(1, False) not in channels.connection.sent
        sent = await channels.call(channel, message("nowhere", b"b"))
        assert sent == [methods.BasicAck(1, False), methods.BasicAck(2, False)]

    with_channels(scenario)


def test_unanswered_messages_are_delivered_again_after_a_kill() -> None:
    async def scenario(channels: EngineChannels) -> None:
        channel = channels.open()
        await channels.call(
            channel,
            methods.QueueDeclare("orders", durable=True),
            *(message("orders", body) for body in (b"a", b"b", b"c")),
        )
        await channels.call(channel, methods.BasicGet("orders"), methods.BasicGet("orders"))
        await channels.call(channel, methods.BasicAck(1))
        await channels.model.crash()
        bodies = await channels.get_all(channels.open(), "orders")
        assert [body for body, _ in bodies] == [b"b", b"c"]
        assert bodies[0] == (b"b", True)  # what follows may count as delivered after a kill, too

    with_channels(scenario)


def test_messages_of_a_channel_keep_their_order_in_a_topic() -> None:
    """Also those of one turn with messages to queues or other topics."""

    async def scenario(channels: EngineChannels) -> None:
        channel, model = channels.open(), channels.model
        for topic in ("flights", "gates"):
            await model.drive(model.server.engine.create_topic(topic, partitions=1))
        await channels.call(channel, methods.QueueDeclare("orders"))

        def publish(exchange: str, key: str, body: bytes) -> None:
            channel.on_message(methods.BasicPublish(exchange, key), Properties(), body)

        for turn in range(5):
            publish("", "orders", b"order")
            if turn % 2:
                publish("kafka.gates", "B22", b"gate")
            publish("kafka.flights", "LH 454", b"first of turn %d" % turn)
            await asyncio.sleep(0)
            publish("kafka.flights", "LH 454", b"second of turn %d" % turn)
            await asyncio.sleep(0)
        await model.drive(channels.connection.idle())
        assert [event.value for event in await events(model, "flights")] == [
            b"%b of turn %d" % (word, turn) for turn in range(5) for word in (b"first", b"second")
        ]

    with_channels(scenario)
