"""Quotas of AMQP clients, and what basic.get may take, at real sockets."""

from __future__ import annotations

from pathlib import Path

from mainstem.doors.amqp091 import consuming
from mainstem.doors.amqp091.control_methods import ChannelClose
from mainstem.doors.amqp091.methods import (
    BasicAck,
    BasicConsume,
    BasicConsumeOk,
    BasicDeliver,
    BasicGet,
    BasicGetOk,
    BasicPublish,
    ConfirmSelect,
    ConfirmSelectOk,
)
from mainstem.quota_contract import DEFAULT, QuotaEntity, QuotaKey
from mainstem.serve.server import Running
from tests.doors.amqp091.test_server import PERSISTENT, declare
from tests.doors.amqp091.wire_client import WireClient, with_door

MESSAGES = 8
BODY = bytes(150_000)


def test_a_client_beyond_its_quotas_gets_everything_later(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        quotas = running.node.quotas
        limits = {QuotaKey.PRODUCE: 100_000.0, QuotaKey.FETCH: 100_000.0}
        await quotas.alter(QuotaEntity(user=DEFAULT), limits)
        client = await WireClient.opened(running, 1)
        await declare(client, "orders")
        client.send(1, ConfirmSelect())
        await client.expect(1, ConfirmSelectOk)
        for _ in range(MESSAGES):
            client.publish(1, BasicPublish("", "orders"), PERSISTENT, BODY)
        confirmed = 0
        while confirmed < MESSAGES:
            ack = await client.expect(1, BasicAck)
            assert isinstance(ack, BasicAck)
            confirmed = ack.delivery_tag
        client.send(1, BasicConsume("orders", "worker", no_ack=True))
        await client.expect(1, BasicConsumeOk)
        for _ in range(MESSAGES):
            await client.expect(1, BasicDeliver)
            assert await client.body(1) == BODY
        used = dict(quotas.use())
        assert used[QuotaKey.PRODUCE].throttled
        assert used[QuotaKey.FETCH].throttled
        await client.close()

    with_door(tmp_path, scenario)


def test_a_channel_takes_a_bounded_number_of_messages_without_an_answer(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.opened(running, 1)
        await declare(client, "orders")
        for _ in range(4):
            client.publish(1, BasicPublish("", "orders"), PERSISTENT, b"1017")
        for _ in range(2):
            client.send(1, BasicGet("orders"))
            await client.expect(1, BasicGetOk)
            await client.body(1)
        client.send(1, BasicAck(1))
        client.send(1, BasicGet("orders"))
        await client.expect(1, BasicGetOk)
        await client.body(1)
        client.send(1, BasicGet("orders", no_ack=True))
        await client.expect(1, BasicGetOk)
        await client.body(1)
        client.send(1, BasicGet("orders"))
        closed = await client.expect(1, ChannelClose)
        assert isinstance(closed, ChannelClose)
        assert (closed.reply_code, closed.reply_text.split(" - ")[0]) == (406, "PRECONDITION_FAILED")
        await client.close()

    before, consuming.GETS_MAX = consuming.GETS_MAX, 2
    try:
        with_door(tmp_path, scenario)
    finally:
        consuming.GETS_MAX = before
