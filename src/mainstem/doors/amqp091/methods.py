"""The methods of the classes exchange, queue, basic, confirm and tx: the work that a channel does."""

from __future__ import annotations

import msgspec

from mainstem.amqp.field_values import FieldTable
from mainstem.doors.amqp091.method import Long, LongLong, Method, Short, ShortStr

# --- exchange


class ExchangeDeclare(Method):
    """exchange.declare: create an exchange, or check that it is as described."""

    NAME, CLASS_ID, METHOD_ID = "exchange.declare", 40, 10
    LEADING = ("Short",)
    exchange: ShortStr = ""
    type: ShortStr = ""
    passive: bool = False
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    nowait: bool = False
    arguments: FieldTable = msgspec.field(default_factory=dict)


class ExchangeDeclareOk(Method):
    """exchange.declare-ok."""

    NAME, CLASS_ID, METHOD_ID = "exchange.declare-ok", 40, 11


class ExchangeDelete(Method):
    """exchange.delete."""

    NAME, CLASS_ID, METHOD_ID = "exchange.delete", 40, 20
    LEADING = ("Short",)
    exchange: ShortStr = ""
    if_unused: bool = False
    nowait: bool = False


class ExchangeDeleteOk(Method):
    """exchange.delete-ok."""

    NAME, CLASS_ID, METHOD_ID = "exchange.delete-ok", 40, 21


class ExchangeBind(Method):
    """exchange.bind: bind an exchange to another (RabbitMQ)."""

    NAME, CLASS_ID, METHOD_ID = "exchange.bind", 40, 30
    LEADING = ("Short",)
    destination: ShortStr = ""
    source: ShortStr = ""
    routing_key: ShortStr = ""
    nowait: bool = False
    arguments: FieldTable = msgspec.field(default_factory=dict)


class ExchangeBindOk(Method):
    """exchange.bind-ok."""

    NAME, CLASS_ID, METHOD_ID = "exchange.bind-ok", 40, 31


class ExchangeUnbind(Method):
    """exchange.unbind: remove such a binding (RabbitMQ)."""

    NAME, CLASS_ID, METHOD_ID = "exchange.unbind", 40, 40
    LEADING = ("Short",)
    destination: ShortStr = ""
    source: ShortStr = ""
    routing_key: ShortStr = ""
    nowait: bool = False
    arguments: FieldTable = msgspec.field(default_factory=dict)


class ExchangeUnbindOk(Method):
    """exchange.unbind-ok."""

    NAME, CLASS_ID, METHOD_ID = "exchange.unbind-ok", 40, 51


# --- queue


class QueueDeclare(Method):
    """queue.declare: create a queue, or check that it is as described."""

    NAME, CLASS_ID, METHOD_ID = "queue.declare", 50, 10
    LEADING = ("Short",)
    queue: ShortStr = ""
    passive: bool = False
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    nowait: bool = False
    arguments: FieldTable = msgspec.field(default_factory=dict)


class QueueDeclareOk(Method):
    """queue.declare-ok."""

    NAME, CLASS_ID, METHOD_ID = "queue.declare-ok", 50, 11
    queue: ShortStr = ""
    message_count: Long = 0
    consumer_count: Long = 0


class QueueBind(Method):
    """queue.bind."""

    NAME, CLASS_ID, METHOD_ID = "queue.bind", 50, 20
    LEADING = ("Short",)
    queue: ShortStr = ""
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    nowait: bool = False
    arguments: FieldTable = msgspec.field(default_factory=dict)


class QueueBindOk(Method):
    """queue.bind-ok."""

    NAME, CLASS_ID, METHOD_ID = "queue.bind-ok", 50, 21


class QueuePurge(Method):
    """queue.purge."""

    NAME, CLASS_ID, METHOD_ID = "queue.purge", 50, 30
    LEADING = ("Short",)
    queue: ShortStr = ""
    nowait: bool = False


class QueuePurgeOk(Method):
    """queue.purge-ok."""

    NAME, CLASS_ID, METHOD_ID = "queue.purge-ok", 50, 31
    message_count: Long = 0


class QueueDelete(Method):
    """queue.delete."""

    NAME, CLASS_ID, METHOD_ID = "queue.delete", 50, 40
    LEADING = ("Short",)
    queue: ShortStr = ""
    if_unused: bool = False
    if_empty: bool = False
    nowait: bool = False


class QueueDeleteOk(Method):
    """queue.delete-ok."""

    NAME, CLASS_ID, METHOD_ID = "queue.delete-ok", 50, 41
    message_count: Long = 0


class QueueUnbind(Method):
    """queue.unbind."""

    NAME, CLASS_ID, METHOD_ID = "queue.unbind", 50, 50
    LEADING = ("Short",)
    queue: ShortStr = ""
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    arguments: FieldTable = msgspec.field(default_factory=dict)


class QueueUnbindOk(Method):
    """queue.unbind-ok."""

    NAME, CLASS_ID, METHOD_ID = "queue.unbind-ok", 50, 51


# --- basic


class BasicQos(Method):
    """basic.qos: limit what is delivered and not acknowledged."""

    NAME, CLASS_ID, METHOD_ID = "basic.qos", 60, 10
    prefetch_size: Long = 0
    prefetch_count: Short = 0
    global_: bool = False


class BasicQosOk(Method):
    """basic.qos-ok."""

    NAME, CLASS_ID, METHOD_ID = "basic.qos-ok", 60, 11


class BasicConsume(Method):
    """basic.consume: start a consumer."""

    NAME, CLASS_ID, METHOD_ID = "basic.consume", 60, 20
    LEADING = ("Short",)
    queue: ShortStr = ""
    consumer_tag: ShortStr = ""
    no_local: bool = False
    no_ack: bool = False
    exclusive: bool = False
    nowait: bool = False
    arguments: FieldTable = msgspec.field(default_factory=dict)


class BasicConsumeOk(Method):
    """basic.consume-ok."""

    NAME, CLASS_ID, METHOD_ID = "basic.consume-ok", 60, 21
    consumer_tag: ShortStr = ""


class BasicCancel(Method):
    """basic.cancel: end a consumer; the server sends it when the queue is deleted."""

    NAME, CLASS_ID, METHOD_ID = "basic.cancel", 60, 30
    consumer_tag: ShortStr = ""
    nowait: bool = False


class BasicCancelOk(Method):
    """basic.cancel-ok."""

    NAME, CLASS_ID, METHOD_ID = "basic.cancel-ok", 60, 31
    consumer_tag: ShortStr = ""


class BasicPublish(Method):
    """basic.publish: publish a message, whose header and body follow."""

    NAME, CLASS_ID, METHOD_ID = "basic.publish", 60, 40
    LEADING = ("Short",)
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    mandatory: bool = False
    immediate: bool = False


class BasicReturn(Method):
    """basic.return: a message that could not be routed; header and body follow."""

    NAME, CLASS_ID, METHOD_ID = "basic.return", 60, 50
    reply_code: Short = 0
    reply_text: ShortStr = ""
    exchange: ShortStr = ""
    routing_key: ShortStr = ""


class BasicDeliver(Method):
    """basic.deliver: a message for a consumer; header and body follow."""

    NAME, CLASS_ID, METHOD_ID = "basic.deliver", 60, 60
    consumer_tag: ShortStr = ""
    delivery_tag: LongLong = 0
    redelivered: bool = False
    exchange: ShortStr = ""
    routing_key: ShortStr = ""


class BasicGet(Method):
    """basic.get: take one message."""

    NAME, CLASS_ID, METHOD_ID = "basic.get", 60, 70
    LEADING = ("Short",)
    queue: ShortStr = ""
    no_ack: bool = False


class BasicGetOk(Method):
    """basic.get-ok: the message; header and body follow."""

    NAME, CLASS_ID, METHOD_ID = "basic.get-ok", 60, 71
    delivery_tag: LongLong = 0
    redelivered: bool = False
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    message_count: Long = 0


class BasicGetEmpty(Method):
    """basic.get-empty: there is none."""

    NAME, CLASS_ID, METHOD_ID = "basic.get-empty", 60, 72
    LEADING = ("ShortStr",)


class BasicAck(Method):
    """basic.ack: messages are done; from the server: they are confirmed."""

    NAME, CLASS_ID, METHOD_ID = "basic.ack", 60, 80
    delivery_tag: LongLong = 0
    multiple: bool = False


class BasicReject(Method):
    """basic.reject: one message is given back, or dropped."""

    NAME, CLASS_ID, METHOD_ID = "basic.reject", 60, 90
    delivery_tag: LongLong = 0
    requeue: bool = False


class BasicRecoverAsync(Method):
    """basic.recover-async: as basic.recover, without a reply."""

    NAME, CLASS_ID, METHOD_ID = "basic.recover-async", 60, 100
    requeue: bool = False


class BasicRecover(Method):
    """basic.recover: deliver anew what is not acknowledged."""

    NAME, CLASS_ID, METHOD_ID = "basic.recover", 60, 110
    requeue: bool = False


class BasicRecoverOk(Method):
    """basic.recover-ok."""

    NAME, CLASS_ID, METHOD_ID = "basic.recover-ok", 60, 111


class BasicNack(Method):
    """basic.nack: messages are given back, or dropped; from the server: they are not stored (RabbitMQ)."""

    NAME, CLASS_ID, METHOD_ID = "basic.nack", 60, 120
    delivery_tag: LongLong = 0
    multiple: bool = False
    requeue: bool = False


# --- confirm


class ConfirmSelect(Method):
    """confirm.select: confirm the messages that are published on the channel from now on (RabbitMQ)."""

    NAME, CLASS_ID, METHOD_ID = "confirm.select", 85, 10
    nowait: bool = False


class ConfirmSelectOk(Method):
    """confirm.select-ok."""

    NAME, CLASS_ID, METHOD_ID = "confirm.select-ok", 85, 11


# --- tx


class TxSelect(Method):
    """tx.select: use transactions on the channel."""

    NAME, CLASS_ID, METHOD_ID = "tx.select", 90, 10


class TxSelectOk(Method):
    """tx.select-ok."""

    NAME, CLASS_ID, METHOD_ID = "tx.select-ok", 90, 11


class TxCommit(Method):
    """tx.commit."""

    NAME, CLASS_ID, METHOD_ID = "tx.commit", 90, 20


class TxCommitOk(Method):
    """tx.commit-ok."""

    NAME, CLASS_ID, METHOD_ID = "tx.commit-ok", 90, 21


class TxRollback(Method):
    """tx.rollback."""

    NAME, CLASS_ID, METHOD_ID = "tx.rollback", 90, 30


class TxRollbackOk(Method):
    """tx.rollback-ok."""

    NAME, CLASS_ID, METHOD_ID = "tx.rollback-ok", 90, 31
