"""The order of a channel's methods, its modes, and its errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091 import control_methods, methods
from mainstem.queue_answers import Ack, Nack, Reject
from mainstem.queue_contract import NoSuchSubscription
from tests.doors.amqp091.channel_rig import ChannelRig, in_loop


def names(sent: list[Any]) -> list[str]:
    """The names of methods that were sent."""
    return [(item[0] if isinstance(item, tuple) else item).NAME for item in sent]


def refusal(rig: ChannelRig, method: Any) -> tuple[int, bool, str]:
    """The error of a method that is done at once."""
    with pytest.raises(AmqpError) as error:
        rig.channel.on_method(method)
    return error.value.code, error.value.is_channel, error.value.text


@in_loop
async def test_what_arrives_while_a_method_waits_is_done_in_its_turn() -> None:
    rig = ChannelRig()
    rig.vhost.gate.clear()
    rig.channel.on_method(methods.QueueDeclare("orders"))
    rig.publish("orders", b"order 1")
    rig.channel.on_method(methods.BasicQos(0, 10))
    rig.channel.on_method(methods.QueueDeclare("", passive=True))
    await asyncio.sleep(0)
    assert rig.connection.sent == []
    assert rig.connection.waiting_bytes > 0
    rig.vhost.gate.set()
    await rig.connection.idle()
    assert rig.connection.sent == [
        methods.QueueDeclareOk("orders", 0, 0),
        methods.BasicQosOk(),
        methods.QueueDeclareOk("orders", 1, 0),
    ]
    assert rig.connection.waiting_bytes == 0


@in_loop
async def test_nothing_behind_an_error_is_done() -> None:
    rig = ChannelRig()
    sent = await rig.call(
        methods.QueueDeclare("flights", passive=True), methods.QueueDeclare("orders"), methods.BasicQos()
    )
    assert sent == []
    assert [error.text for error in rig.connection.failures] == [
        "NOT_FOUND - no queue 'flights' in vhost '/'"
    ]
    assert rig.vhost.bodies == {}
    assert rig.connection.waiting_bytes == 0


@in_loop
async def test_messages_of_a_turn_are_published_by_a_single_call() -> None:
    rig = ChannelRig()
    await rig.call(methods.QueueDeclare("orders"), methods.ConfirmSelect())
    for number in range(3):
        rig.publish("orders", b"order %d" % number)
    await rig.connection.idle()
    assert rig.vhost.calls == [3]
    assert rig.connection.sent[-1] == methods.BasicAck(3, True)
    assert rig.vhost.bodies["orders"] == [b"order 0", b"order 1", b"order 2"]
    assert rig.connection.waiting_bytes == 0


@in_loop
async def test_a_return_comes_before_its_confirmation_and_a_refusal_is_a_nack() -> None:
    rig = ChannelRig()
    await rig.call(methods.ConfirmSelect())
    rig.publish("nowhere", b"order 1", mandatory=True)
    rig.publish("full", b"order 2")
    await rig.connection.idle()
    assert rig.connection.sent[1:] == [
        (methods.BasicReturn(312, "NO_ROUTE", "", "nowhere"), b"order 1"),
        methods.BasicAck(1, False),
        methods.BasicNack(2, False, False),
    ]


@in_loop
async def test_modes_do_not_mix() -> None:
    rig = ChannelRig()
    assert refusal(rig, methods.TxRollback())[2] == "PRECONDITION_FAILED - channel is not transactional"
    await rig.call(methods.TxCommit())
    assert rig.connection.failures[0].code == 406
    confirming, transactional = ChannelRig(), ChannelRig()
    await confirming.call(methods.ConfirmSelect(), methods.ConfirmSelect())
    await transactional.call(methods.TxSelect(), methods.TxSelect())
    text = "PRECONDITION_FAILED - cannot switch from {} mode"
    assert refusal(confirming, methods.TxSelect())[2] == text.format("confirm to tx")
    assert refusal(transactional, methods.ConfirmSelect())[2] == text.format("tx to confirm")


@in_loop
async def test_what_is_not_implemented_ends_the_connection() -> None:
    rig = ChannelRig()
    for method in (
        methods.BasicQos(prefetch_size=1),
        methods.BasicRecover(requeue=False),
        control_methods.ChannelFlow(False),
    ):
        assert refusal(rig, method)[:2] == (540, False)
    with pytest.raises(AmqpError, match="immediate=true"):
        rig.channel.on_message(methods.BasicPublish(immediate=True), Properties(), b"")
    assert refusal(rig, methods.BasicGetEmpty())[:2] == (503, False)
    assert await rig.call(control_methods.ChannelFlow(True)) == [control_methods.ChannelFlowOk(True)]
    assert await rig.call(control_methods.AccessRequest("/data")) == [control_methods.AccessRequestOk(1)]


# --- consumers --------------------------------------------------------------------------------------------


async def consuming(**more: Any) -> ChannelRig:
    """A channel with a consumer `c` of `orders`."""
    rig = ChannelRig()
    await rig.call(methods.QueueDeclare("orders"), methods.BasicConsume("orders", "c", **more))
    assert rig.connection.sent[-1] == methods.BasicConsumeOk("c")
    return rig


def add_unanswered(rig: ChannelRig, count: int) -> None:
    """Let the consumer have deliveries, with the tokens t1, t2 …"""
    source = rig.channel.consumers.by_tag["c"].source
    for number in range(1, count + 1):
        rig.channel.consumers.unanswered.add(f"t{number}", source, 0.0)
        for window in source.windows:
            window.take(1)


@in_loop
async def test_prefetch_is_of_later_consumers_or_of_the_whole_channel() -> None:
    rig = await consuming()
    await rig.call(
        methods.BasicQos(0, 5), methods.BasicConsume("orders", "d"), methods.BasicQos(0, 3, global_=True)
    )
    own = [attachment.request.windows[0] for attachment in rig.attached.attachments]
    shared = {attachment.request.windows[1] for attachment in rig.attached.attachments}
    assert [window.limit for window in own] == [0, 5]
    assert [window.limit for window in shared] == [3]


@in_loop
async def test_answers_free_their_windows() -> None:
    rig = await consuming()
    add_unanswered(rig, 6)
    window = rig.channel.consumers.by_tag["c"].source.windows[0]
    await rig.call(
        methods.BasicAck(2, multiple=True),
        methods.BasicNack(3, False, True),
        methods.BasicReject(4, True),
        methods.BasicReject(5, False),
    )
    assert [outcome for _, outcome in rig.attached.outcomes] == [
        Ack("t1"),
        Ack("t2"),
        Nack("t3", counts=False),
        Nack("t4"),
        Reject("t5"),
    ]
    assert window.taken == 1
    assert await rig.call(methods.BasicRecover(requeue=True)) == [methods.BasicRecoverOk()]
    assert rig.attached.outcomes[-1] == ("%2F/orders", Nack("t6", counts=False))
    assert window.taken == 0


@in_loop
async def test_a_transaction_keeps_messages_and_answers_until_its_commit() -> None:
    rig = await consuming()
    await rig.call(methods.TxSelect())
    add_unanswered(rig, 2)
    rig.publish("orders", b"order 1")
    await rig.call(methods.BasicAck(1))
    assert (rig.vhost.calls, rig.attached.outcomes) == ([], [])
    assert await rig.call(methods.TxRollback()) == [methods.TxRollbackOk()]
    rig.publish("orders", b"order 2")
    await rig.call(methods.BasicAck(2, multiple=True))
    assert await rig.call(methods.TxCommit()) == [methods.TxCommitOk()]
    assert rig.vhost.bodies["orders"] == [b"order 2"]
    assert [outcome for _, outcome in rig.attached.outcomes] == [Ack("t1"), Ack("t2")]
    rig.publish("full", b"order 3")
    await rig.call(methods.TxCommit())
    assert rig.connection.failures[0].text == "PRECONDITION_FAILED - partial tx completion"


@in_loop
async def test_a_closed_channel_gives_back_what_is_not_answered() -> None:
    rig = await consuming()
    await rig.call(methods.TxSelect())
    add_unanswered(rig, 3)
    await rig.call(methods.BasicAck(2))
    await rig.channel.close()
    assert [outcome for _, outcome in rig.attached.outcomes] == [Nack("t1"), Nack("t2"), Nack("t3")]
    assert rig.attached.attachments[0].is_detached
    assert rig.vhost.removed_consumers == ["orders"]


@in_loop
async def test_a_channel_that_closes_waits_for_what_it_published() -> None:
    rig = ChannelRig()
    await rig.call(methods.QueueDeclare("orders"))
    rig.vhost.gate.clear()
    rig.publish("orders", b"order 1")
    closing = asyncio.create_task(rig.channel.close())
    await asyncio.sleep(0)
    assert not closing.done()
    rig.vhost.gate.set()
    await closing
    assert rig.vhost.bodies["orders"] == [b"order 1"]


@in_loop
async def test_a_consumer_tag_is_used_once_and_cancelled_once() -> None:
    rig = await consuming()
    await rig.call(methods.BasicConsume("orders", "c"))
    assert rig.connection.failures[0].text == "NOT_ALLOWED - attempt to reuse consumer tag 'c'"
    assert not rig.connection.failures[0].is_channel
    rig = await consuming()
    assert await rig.call(methods.BasicCancel("c"), methods.BasicCancel("c")) == [
        methods.BasicCancelOk("c"),
        methods.BasicCancelOk("c"),
    ]
    assert rig.vhost.removed_consumers == ["orders"]
    assert await rig.call(methods.BasicConsume("orders")) == [methods.BasicConsumeOk("amq.ctag-1")]


@in_loop
async def test_an_exclusive_consumer_is_alone() -> None:
    rig = await consuming(exclusive=True)
    await rig.call(methods.BasicConsume("orders", "d"))
    assert rig.connection.failures[0].text == (
        "ACCESS_REFUSED - queue 'orders' in vhost '/' in exclusive use"
    )


@in_loop
async def test_the_client_learns_that_its_queue_is_gone() -> None:
    rig = await consuming()
    rig.attached.attachments[0].ended(NoSuchSubscription("%2F/orders"))
    assert rig.connection.sent[-1] == methods.BasicCancel("c", nowait=True)
    assert rig.channel.consumers.by_tag == {}
    rig = await consuming()
    rig.connection.client_capabilities = frozenset()
    rig.attached.attachments[0].ended(NoSuchSubscription("%2F/orders"))
    assert rig.connection.sent[-1] == methods.BasicConsumeOk("c")


@in_loop
async def test_a_consumer_of_a_socket_that_is_full_is_paused() -> None:
    rig = ChannelRig()
    rig.connection.is_sending_blocked = True
    await rig.call(methods.QueueDeclare("orders"), methods.BasicConsume("orders", "c"))
    assert rig.attached.attachments[0].is_paused
    rig.channel.consumers.resume()
    assert not rig.attached.attachments[0].is_paused


@in_loop
async def test_no_queue_was_declared_before() -> None:
    for method in (methods.BasicConsume(), methods.BasicGet(), methods.QueuePurge(), methods.QueueDelete()):
        rig = ChannelRig()
        await rig.call(method)
        assert rig.connection.failures[0].text == "NOT_FOUND - no previously declared queue"


# --- direct replies ---------------------------------------------------------------------------------------


@in_loop
async def test_a_request_carries_the_address_of_its_channel() -> None:
    rig = ChannelRig()
    reply_to = "amq.rabbitmq.reply-to"
    await rig.call(
        methods.QueueDeclare("rpc"),
        methods.BasicConsume(reply_to, "replies", no_ack=True),
        methods.QueueDeclare(f"{reply_to}.id1", passive=True),
    )
    assert rig.connection.sent[-1] == methods.QueueDeclareOk(f"{reply_to}.id1", 0, 1)
    assert rig.channel.publisher.reply_address == f"{reply_to}.id1"
    server = rig.new_channel()
    server.on_message(methods.BasicPublish("", f"{reply_to}.id1"), Properties(correlation_id="7"), b"42")
    await rig.connection.idle()
    assert rig.connection.sent[-1] == (
        methods.BasicDeliver("replies", 1, False, "", f"{reply_to}.id1"),
        b"42",
    )
    assert rig.vhost.calls == []
    await rig.call(methods.BasicCancel("replies"))
    await rig.call(methods.QueueDeclare(f"{reply_to}.id1", passive=True))
    assert rig.connection.failures[0].code == 404


@in_loop
async def test_what_direct_replies_refuse() -> None:
    reply_to = "amq.rabbitmq.reply-to"
    cases: list[tuple[list[Any], str]] = [
        ([methods.BasicConsume(reply_to, "a")], "reply consumer cannot acknowledge"),
        (
            [
                methods.BasicConsume(reply_to, "a", no_ack=True),
                methods.BasicConsume(reply_to, "b", no_ack=True),
            ],
            "reply consumer already set",
        ),
    ]
    for calls, text in cases:
        rig = ChannelRig()
        await rig.call(*calls)
        assert [error.text for error in rig.connection.failures] == [f"PRECONDITION_FAILED - {text}"]
    rig = ChannelRig()
    with pytest.raises(AmqpError, match="fast reply consumer does not exist"):
        rig.publish("rpc", b"", reply_to=reply_to)
    await rig.call(methods.QueueBind(reply_to, "amq.direct", "key"))
    assert rig.connection.failures[0].code == 403
