"""Lifetimes: of messages, of exclusive and auto-delete queues, of unused queues."""

from __future__ import annotations

import time

from tests.compat.rabbitmq.probing import Basic, Channel, Confirm, Queue, Script, probe


def _until_deleted(s: Script, name: str) -> None:
    """Wait for the queue's end, at most 10 s."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        s.peer.send(s.channel, Queue.Declare(queue=name, passive=True))
        answer = s.peer.receive()
        if isinstance(answer.method, Channel.Close):
            s.peer.send(s.channel, Channel.CloseOk())
            s.channel += 1
            s.peer.send(s.channel, Channel.Open())
            s.peer.receive()
            s.note(f"{name} is deleted: {answer.method.reply_code}")
            return
        time.sleep(0.05)
    s.note(f"{name} is still there")


@probe
def lifetime_message_ttl(s: Script) -> None:
    name = "lifetime_message_ttl"
    s.declare(name, exclusive=True, x_message_ttl=50)
    s.call(Confirm.Select())
    s.publish("", name, "order")
    s.confirmed(1)
    s.depth(name, 0)


@probe
def lifetime_expiration_behind_a_longer_one(s: Script) -> None:
    """RabbitMQ drops at the head of the queue only."""
    name = "lifetime_expiration_behind"
    s.declare(name, exclusive=True)
    s.publish("", name, "long", expiration="60000")
    s.publish("", name, "short", expiration="50")
    s.depth(name, 2)
    time.sleep(0.3)
    s.get(name)
    s.get(name)


@probe
def lifetime_lower_of_two(s: Script) -> None:
    name = "lifetime_lower"
    s.declare(name, exclusive=True, x_message_ttl=60_000)
    s.publish("", name, "short", expiration="50")
    s.publish("", name, "long")
    time.sleep(0.3)
    s.depth(name, 1)
    s.drain(name)


@probe
def lifetime_ttl_zero(s: Script) -> None:
    name = "lifetime_ttl_zero"
    s.declare(name, exclusive=True, x_message_ttl=0)
    s.publish("", name, "dropped")
    s.depth(name, 0)
    s.consume(name)
    s.publish("", name, "delivered")
    s.hear()


@probe
def lifetime_requeued_message_expires(s: Script) -> None:
    name = "lifetime_requeued"
    s.declare(name, exclusive=True, x_message_ttl=400)
    s.publish("", name, "order")
    s.get(name, no_ack=False)
    time.sleep(0.6)
    s.send(Basic.Nack(1, requeue=True))
    s.depth(name, 0)


@probe
def lifetime_auto_delete_queue(s: Script) -> None:
    name = "lifetime_auto_delete"
    s.declare(name, auto_delete=True)
    s.declare(name, passive=True)
    s.consume(name, "a")
    s.consume(name, "b")
    s.call(Basic.Cancel(consumer_tag="a"))
    s.declare(name, passive=True)
    s.call(Basic.Cancel(consumer_tag="b"))
    _until_deleted(s, name)


@probe
def lifetime_auto_delete_by_lost_channel(s: Script) -> None:
    name = "lifetime_auto_delete_channel"
    other = s.other()
    other.declare(name, auto_delete=True)
    other.consume(name)
    other.call(Channel.Close(200, "bye", 0, 0))
    _until_deleted(s, name)


@probe
def lifetime_exclusive_queue(s: Script) -> None:
    name = "lifetime_exclusive"
    other = s.other()
    other.declare(name, exclusive=True)
    other.call(Channel.Close(200, "bye", 0, 0))
    s.declare(name, passive=True)
    other.close()
    s.declare(name, passive=True)


@probe
def lifetime_queue_expires(s: Script) -> None:
    name = "lifetime_expires"
    s.declare(name, x_expires=150)
    s.publish("", name)
    time.sleep(0.5)
    s.declare(name, passive=True)


@probe
def lifetime_queue_with_consumer_does_not_expire(s: Script) -> None:
    name = "lifetime_expires_consumer"
    s.declare(name, x_expires=150)
    s.consume(name)
    time.sleep(0.5)
    s.call(Basic.Cancel(consumer_tag="tag"))
    s.note("cancelled")
    time.sleep(0.5)
    s.declare(name, passive=True)
