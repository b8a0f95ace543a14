"""A client that leaves a delivery unanswered for too long loses its channel."""

from __future__ import annotations

from pathlib import Path

import pytest

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_values import FieldTable
from mainstem.amqp.policies import Policy, check_policy
from mainstem.amqp.queue_arguments import check_arguments, effective_arguments
from mainstem.amqp.topology import AmqpQueue
from mainstem.doors.amqp091 import methods, server
from mainstem.doors.amqp091.control_methods import ChannelClose, ChannelCloseOk, ChannelOpen, ChannelOpenOk
from mainstem.doors.amqp091.unanswered import DeliverySource
from mainstem.serve.server import Running
from tests.doors.amqp091.channel_rig import ChannelRig, in_loop
from tests.doors.amqp091.test_server import PERSISTENT
from tests.doors.amqp091.wire_client import WireClient, with_door

HALF_HOUR_MS = 30 * 60 * 1000


def source(**effective: int) -> DeliverySource:
    """Deliveries of a queue with these arguments in effect."""
    queue = AmqpQueue("orders", "%2F/orders", durable=True, exclusive=False, auto_delete=False, arguments={})
    queue.effective = {name.replace("_", "-"): value for name, value in effective.items()}
    return DeliverySource(queue, ())


@in_loop
async def test_the_oldest_delivery_counts_until_it_is_answered() -> None:
    consumers = ChannelRig().channel.consumers
    consumers.check_oldest(1e9, HALF_HOUR_MS)
    consumers.unanswered.add("t1", source(), 100.0)
    consumers.unanswered.add("t2", source(), 200.0)
    consumers.check_oldest(1_900.0, HALF_HOUR_MS)
    with pytest.raises(AmqpError, match=r"on channel 1 timed out\. Timeout value used: 1800000 ms") as error:
        consumers.check_oldest(1_900.1, HALF_HOUR_MS)
    assert (error.value.code, error.value.is_channel) == (406, True)
    consumers.unanswered.take(1, False)
    consumers.check_oldest(2_000.0, HALF_HOUR_MS)
    with pytest.raises(AmqpError):
        consumers.check_oldest(2_000.1, HALF_HOUR_MS)


@pytest.mark.parametrize(("own_ms", "server_ms"), [(60_000, 0), (60_000, 1_000), (60_000, HALF_HOUR_MS)])
def test_the_time_of_the_queue_goes_before_that_of_the_server(own_ms: int, server_ms: int) -> None:
    consumers = ChannelRig().channel.consumers
    consumers.unanswered.add("t1", source(consumer_timeout=own_ms), 0.0)
    consumers.check_oldest(60.0, server_ms)
    with pytest.raises(AmqpError, match="60000 ms"):
        consumers.check_oldest(60.1, server_ms)


def test_without_a_limit_a_client_has_as_long_as_it_wants() -> None:
    consumers = ChannelRig().channel.consumers
    consumers.unanswered.add("t1", source(), 0.0)
    consumers.check_oldest(1e9, 0)


def test_the_time_is_an_argument_and_a_policy_and_the_lower_counts() -> None:
    check_policy(Policy("slow", ".*", {"consumer-timeout": 5_000}), is_operator=False)
    with pytest.raises(AmqpError, match="consumer-timeout is 0 or more"):
        check_policy(Policy("slow", ".*", {"consumer-timeout": "1h"}), is_operator=False)
    with pytest.raises(AmqpError, match="invalid arg 'x-consumer-timeout'"):
        check_arguments(
            "orders", "/", {"x-consumer-timeout": -1}, durable=True, exclusive=False, auto_delete=False
        )
    in_effect = effective_arguments({"x-consumer-timeout": 9_000}, {"consumer-timeout": 5_000}, {})
    assert in_effect == {"consumer-timeout": 5_000}


def test_the_channel_is_closed_and_another_gets_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.opened(running, 1)
        arguments: FieldTable = {"x-consumer-timeout": 1, "x-queue-type": "quorum"}
        client.send(1, methods.QueueDeclare("orders", durable=True, arguments=arguments))
        await client.expect(1, methods.QueueDeclareOk)
        client.publish(1, methods.BasicPublish("", "orders"), PERSISTENT, b"1017")
        client.send(1, methods.BasicConsume("orders", "worker"))
        await client.expect(1, methods.BasicConsumeOk)
        await client.expect(1, methods.BasicDeliver)
        assert await client.body(1) == b"1017"
        closed = await client.expect(1, ChannelClose)
        assert isinstance(closed, ChannelClose)
        assert (closed.reply_code, closed.class_id, closed.method_id) == (406, 0, 0)
        assert closed.reply_text.startswith("PRECONDITION_FAILED - delivery acknowledgement on channel 1")
        client.send(1, ChannelCloseOk())
        client.send(2, ChannelOpen())
        await client.expect(2, ChannelOpenOk)
        client.send(2, methods.BasicGet("orders", no_ack=True))
        taken = await client.expect(2, methods.BasicGetOk)
        assert isinstance(taken, methods.BasicGetOk)
        assert taken.redelivered
        assert await client.body(2) == b"1017"
        await client.close()

    monkeypatch.setattr(server, "SWEEP_S", 0.05)
    with_door(tmp_path, scenario)
