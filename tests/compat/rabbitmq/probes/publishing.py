"""Publishing: properties that come back as they were, returns, confirms, transactions, direct reply-to."""

from __future__ import annotations

import datetime
import decimal

from tests.compat.rabbitmq.probing import Basic, Channel, Confirm, Queue, Script, Tx, probe

ALL_PROPERTIES = {
    "content_type": "application/json",
    "content_encoding": "gzip",
    "delivery_mode": 2,
    "priority": 3,
    "correlation_id": "c-1",
    "reply_to": "replies",
    "message_id": "m-1",
    "timestamp": datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
    "message_type": "order.created",
    "user_id": "guest",
    "app_id": "shop",
}
HEADERS = {
    "text": "grüße",
    "bytes": bytearray(b"\x00\xff"),
    "small": 5,
    "large": 1 << 40,
    "negative": -3,
    "float": 1.5,
    "true": True,
    "nothing": None,
    "when": datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
    "price": decimal.Decimal("12.34"),
    "list": ["a", 1, [True], {"deep": None}],
    "table": {"nested": {"again": "x"}},
}


@probe
def publish_properties_come_back(s: Script) -> None:
    name = "publish_properties"
    s.declare(name, exclusive=True)
    s.publish("", name, "all", **ALL_PROPERTIES)  # type: ignore[arg-type]
    s.publish("", name, "headers", headers=HEADERS)
    s.publish("", name, "empty headers", headers={})
    s.publish("", name, "none")
    s.publish("", name, "zero", priority=0, delivery_mode=1)
    s.publish("", name, b"")
    s.depth(name, 6)
    s.drain(name)


@probe
def publish_other_delivery_mode(s: Script) -> None:
    s.publish("", "publish_other_mode", delivery_mode=7)
    s.barrier()
    s.publish("", "publish_other_mode", delivery_mode=0)
    s.barrier()


@probe
def publish_bodies(s: Script) -> None:
    name = "publish_bodies"
    s.declare(name, exclusive=True)
    for size in (1, 131_064, 131_065, 300_000):
        s.publish("", name, b"x" * size)
    s.depth(name, 4)
    s.drain(name)


@probe
def publish_long_keys(s: Script) -> None:
    name = "k" * 255
    s.declare(name, exclusive=True)
    s.publish("", name, "long")
    s.depth(name, 1)
    s.drain(name)


@probe
def publish_mandatory(s: Script) -> None:
    s.publish("", "publish_no_such_queue", "returned", mandatory=True, message_id="m-1", headers={"a": 1})
    s.hear()
    s.publish("amq.fanout", "publish_no_such_queue", "returned", mandatory=True)
    s.hear()
    s.publish("", "publish_no_such_queue", "dropped")
    s.barrier()


@probe
def publish_return_before_confirm(s: Script) -> None:
    s.call(Confirm.Select())
    s.publish("", "publish_no_such_queue", "returned", mandatory=True)
    s.hear()
    s.hear()
    s.publish("", "publish_no_such_queue", "dropped")
    s.hear()


@probe
def publish_confirms(s: Script) -> None:
    name = "publish_confirms"
    s.declare(name)
    s.call(Confirm.Select())
    for i in range(10):
        s.publish("", name, f"{i}", delivery_mode=2)
    s.confirmed(10)
    s.call(Confirm.Select())
    s.publish("", name, "10")
    s.confirmed(11, 10)
    s.call(Queue.Delete(queue=name))


@probe
def publish_confirms_nowait(s: Script) -> None:
    s.send(Confirm.Select(nowait=True))
    s.publish("", "publish_no_such_queue")
    s.hear()


@probe
def publish_order(s: Script) -> None:
    name = "publish_order"
    s.declare(name, exclusive=True)
    for i in range(20):
        s.publish("", name, f"{i}", delivery_mode=1 + i % 2)
    s.depth(name, 20)
    s.drain(name)


@probe
def tx_commit_and_rollback(s: Script) -> None:
    name = "tx_commit"
    s.declare(name)
    s.call(Tx.Select())
    s.publish("", name, "one")
    s.publish("", name, "two")
    s.depth(name, 0)
    s.call(Tx.Commit())
    s.depth(name, 2)
    s.publish("", name, "never")
    s.call(Tx.Rollback())
    s.depth(name, 2)
    s.get(name, no_ack=False)
    s.send(Basic.Ack(1))
    s.call(Tx.Rollback())
    s.send(Basic.Ack(1))
    s.call(Tx.Commit())
    s.get(name, no_ack=False)
    s.send(Basic.Nack(2, requeue=True))
    s.call(Tx.Commit())
    s.get(name, no_ack=False)
    s.call(Queue.Delete(queue=name))


@probe
def tx_returns_at_commit(s: Script) -> None:
    s.call(Tx.Select())
    s.publish("", "tx_no_such_queue", "returned", mandatory=True)
    s.call(Tx.Commit())


@probe
def tx_missing_exchange(s: Script) -> None:
    s.call(Tx.Select())
    s.publish("tx_no_such_exchange", "x")
    s.hear()


@probe
def tx_closed_channel_rolls_back(s: Script) -> None:
    name = "tx_closed_channel"
    s.declare(name)
    other = s.other()
    other.call(Tx.Select())
    other.publish("", name, "never")
    other.call(Channel.Close(200, "bye", 0, 0))
    s.depth(name, 0)
    s.call(Queue.Delete(queue=name))


@probe
def reply_to_request_and_answer(s: Script) -> None:
    name, pseudo = "reply_to_server", "amq.rabbitmq.reply-to"
    s.declare(name, exclusive=True)
    s.consume(pseudo, "replies", no_ack=True)
    s.publish("", name, "request", reply_to=pseudo, correlation_id="1")
    s.depth(name, 1)
    s.peer.send(s.channel, Basic.Get(queue=name, no_ack=True))
    request = s.peer.receive()
    start = request.properties.index(b"amq.rabbitmq.reply-to.")
    address = request.properties[start : start + request.properties[start - 1]].decode()
    s.note(f"rewritten {address.startswith(pseudo + '.')}")
    other = s.other()
    other.call(Queue.Declare(queue=address, passive=True))
    other.peer.publish(other.channel, "", address, b"answer", correlation_id="1")
    received = s.peer.receive()
    s.note(f"{received.method.name} {received.body!r}")  # type: ignore[union-attr]
    s.call(Basic.Cancel(consumer_tag="replies"))
    other.peer.publish(other.channel, "", address, b"late", mandatory=True)
    s.note(f"late: {other.peer.receive().method.name}")  # type: ignore[union-attr]
