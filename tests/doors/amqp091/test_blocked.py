"""A client that publishes while no message can be stored."""

from __future__ import annotations

from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091.control_methods import (
    ChannelOpen,
    ConnectionBlocked,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionTuneOk,
    ConnectionUnblocked,
)
from mainstem.doors.amqp091.methods import BasicGet, BasicPublish
from tests.doors.amqp091.wire_kit import WireRig, message_frames


def test_a_client_that_publishes_is_blocked_while_nothing_can_be_stored() -> None:
    rig = WireRig()
    rig.open(1, 2)
    rig.refusal = "the disk is full"
    rig.send(BasicGet("orders"), 1)
    assert not rig.transport.is_paused  # a client that only consumes goes on
    orders = BasicPublish("", "orders")
    rig.feed(message_frames(1, orders, Properties(), b"1017") + message_frames(2, orders, Properties(), b"1"))
    assert rig.reply() == ConnectionBlocked("the disk is full")
    assert rig.transport.is_paused
    assert rig.connection.info().state == "blocked"
    rig.connection.tick(rig.clock.monotonic())
    assert rig.received() == []
    assert rig.work.handlers[1].messages == []
    rig.refusal = None
    rig.connection.tick(rig.clock.monotonic())
    assert rig.reply() == ConnectionUnblocked()
    assert not rig.transport.is_paused
    assert rig.work.handlers[1].messages == [(orders, Properties(), b"1017")]
    assert rig.work.handlers[2].messages == [(orders, Properties(), b"1")]
    assert rig.connection.info().state == "running"


def test_a_client_that_cannot_learn_that_it_is_blocked_is_not_read_all_the_same() -> None:
    rig = WireRig()
    rig.log_in()
    rig.connection.client_capabilities = frozenset()
    rig.send(ConnectionTuneOk(rig.context.limits.channel_max, rig.context.limits.frame_max, 0))
    rig.send(ConnectionOpen("/"))
    rig.send(ChannelOpen(), 1)
    rig.received()
    rig.refusal = "the disk is full"
    rig.feed(message_frames(1, BasicPublish("", "orders"), Properties(), b"1017"))
    assert rig.received() == []
    assert rig.transport.is_paused
    rig.refusal = None
    rig.connection.tick(rig.clock.monotonic())
    assert rig.received() == []
    assert len(rig.work.handlers[1].messages) == 1


def test_a_blocked_client_is_read_when_its_connection_is_closed() -> None:
    rig = WireRig()
    rig.open(1)
    rig.refusal = "the disk is full"
    rig.feed(message_frames(1, BasicPublish("", "orders"), Properties(), b"1017"))
    rig.connection.close("bye")
    assert not rig.transport.is_paused
    rig.send(ConnectionCloseOk())
    assert rig.transport.is_closed
    assert rig.work.handlers[1].messages == []
