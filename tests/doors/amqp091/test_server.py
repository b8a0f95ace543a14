"""The door at real sockets: messages, heartbeats, clients that vanish, and the end of the server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.control_methods import (
    ConnectionBlocked,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionUnblocked,
)
from mainstem.doors.amqp091.methods import (
    BasicAck,
    BasicConsume,
    BasicConsumeOk,
    BasicDeliver,
    BasicPublish,
    ConfirmSelect,
    ConfirmSelectOk,
    QueueDeclare,
    QueueDeclareOk,
)
from mainstem.serve.server import Running
from tests.doors.amqp091.wire_client import WireClient, with_door

PERSISTENT = Properties(delivery_mode=2)


async def declare(client: WireClient, name: str, *, exclusive: bool = False) -> QueueDeclareOk:
    """Declare a durable queue on channel 1."""
    client.send(1, QueueDeclare(name, durable=True, exclusive=exclusive))
    method = await client.expect(1, QueueDeclareOk)
    assert isinstance(method, QueueDeclareOk)
    return method


def test_a_message_goes_in_and_out_whatever_its_size(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.opened(running, 1)
        await declare(client, "orders")
        client.send(1, ConfirmSelect())
        await client.expect(1, ConfirmSelectOk)
        bodies = [b'{"order": 1017}', b"", bytes(300_000)]
        for body in bodies:
            client.publish(1, BasicPublish("", "orders"), PERSISTENT, body)
        confirmed = 0
        while confirmed < len(bodies):
            ack = await client.expect(1, BasicAck)
            assert isinstance(ack, BasicAck)
            confirmed = ack.delivery_tag
        client.send(1, BasicConsume("orders", "worker"))
        await client.expect(1, BasicConsumeOk)
        for tag, body in enumerate(bodies, 1):
            deliver = await client.expect(1, BasicDeliver)
            assert deliver == BasicDeliver("worker", tag, False, "", "orders")
            assert await client.body(1) == body
        client.send(1, BasicAck(0, True))
        client.send(0, ConnectionClose(200, "bye"))
        await client.expect(0, ConnectionCloseOk)
        assert await client.is_at_end()
        await client.close()

    with_door(tmp_path, scenario)


def test_what_a_client_that_vanishes_had_is_delivered_to_another(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        first = await WireClient.opened(running, 1)
        await declare(first, "orders")
        await declare(first, "mine", exclusive=True)
        first.publish(1, BasicPublish("", "orders"), PERSISTENT, b"1017")
        first.send(1, BasicConsume("orders", "worker"))
        await first.expect(1, BasicConsumeOk)
        await first.expect(1, BasicDeliver)
        assert await first.body(1) == b"1017"
        first.writer.transport.abort()
        second = await WireClient.opened(running, 1)
        second.send(1, BasicConsume("orders", "worker"))
        await second.expect(1, BasicConsumeOk)
        again = await second.expect(1, BasicDeliver)
        assert again == BasicDeliver("worker", 1, True, "", "orders")
        assert await second.body(1) == b"1017"
        await declare(second, "mine", exclusive=True)  # the exclusive queue of the other is no more
        await second.close()

    with_door(tmp_path, scenario)


def test_heartbeats_come_and_a_silent_client_is_closed(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.opened(running, heartbeat_s=1)
        assert await client.frame() == (frames.HEARTBEAT, 0, b"")
        rest = await client.reader.read()  # to the end
        assert rest == frames.HEARTBEAT_FRAME * (len(rest) // len(frames.HEARTBEAT_FRAME))
        await client.close()

    with_door(tmp_path, scenario)


def test_a_server_that_stops_says_so(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.opened(running, 1)
        closing = asyncio.create_task(running.close())
        close = await client.expect(0, ConnectionClose)
        assert isinstance(close, ConnectionClose)
        assert (close.reply_code, close.reply_text[:19]) == (320, "CONNECTION_FORCED -")
        client.send(0, ConnectionCloseOk())
        assert await client.is_at_end()
        await closing
        await client.close()

    with_door(tmp_path, scenario)


def test_clients_that_go_on_after_an_error_learn_of_it(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.opened(running, 1)
        client.writer.write(frames.head.pack(frames.BODY, 1, 1 << 30) + bytes(2 << 20))
        close = await client.expect(0, ConnectionClose)
        assert isinstance(close, ConnectionClose)
        assert close.reply_code == 501
        client.writer.write(bytes(1 << 20))
        client.send(0, ConnectionCloseOk())
        assert await client.is_at_end()
        await client.close()

    with_door(tmp_path, scenario)


def test_metrics_and_the_registry_know_of_connections(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.opened(running, 1)
        broker = await running.broker()
        (listed,) = broker.connections
        assert listed.info().protocol == "AMQP 0-9-1"
        assert [channel.number for channel in listed.channels()] == [1]
        (status,) = [status for status in running.statuses() if status.name == "amqp091"]
        assert ("mainstem_amqp091_connections", (), 1) in status.samples
        listed.close("Closed via management plugin")
        await client.expect(0, ConnectionClose)
        client.send(0, ConnectionCloseOk())
        assert await client.is_at_end()
        assert len(broker.connections) == 0
        await client.close()

    with_door(tmp_path, scenario)


def test_a_login_that_fails_where_logins_are_needed(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.connect(running)
        client.writer.write(frames.PROTOCOL_HEADER)
        await client.expect(0, ConnectionStart)
        client.send(0, ConnectionStartOk({}, "PLAIN", b"\0alice\0wrong"))
        assert await client.is_at_end()
        await client.close()

    with_door(tmp_path, scenario, security_protocol="SASL_PLAINTEXT", sasl_enabled_mechanisms="PLAIN")


def test_publishers_are_blocked_while_the_disk_is_full_and_consumers_are_not(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        publisher, consumer = await WireClient.opened(running, 1), await WireClient.opened(running, 1)
        await declare(publisher, "orders")
        publisher.send(1, ConfirmSelect())
        await publisher.expect(1, ConfirmSelectOk)
        publisher.publish(1, BasicPublish("", "orders"), PERSISTENT, b"1017")
        await publisher.expect(1, BasicAck)
        guard = running.node.space_guard
        guard.stop()
        guard.rejection_reason = "the disk is full"
        publisher.publish(1, BasicPublish("", "orders"), PERSISTENT, b"1018")
        assert await publisher.expect(0, ConnectionBlocked) == ConnectionBlocked("the disk is full")
        consumer.send(1, BasicConsume("orders", "worker"))
        await consumer.expect(1, BasicConsumeOk)
        await consumer.expect(1, BasicDeliver)
        assert await consumer.body(1) == b"1017"
        consumer.send(1, BasicAck(1))
        guard.rejection_reason = None
        await publisher.expect(0, ConnectionUnblocked)
        await publisher.expect(1, BasicAck)
        await consumer.expect(1, BasicDeliver)
        assert await consumer.body(1) == b"1018"
        await publisher.close()
        await consumer.close()

    with_door(tmp_path, scenario)
