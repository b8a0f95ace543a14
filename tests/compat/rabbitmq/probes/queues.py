"""Queues: names, properties, arguments, purge and delete, priorities and limits."""

from __future__ import annotations

from typing import Any

from tests.compat.rabbitmq.probing import Basic, Confirm, Queue, Script, probe


def _fill(s: Script, name: str, count: int, **properties: Any) -> None:
    for i in range(count):
        s.publish("", name, f"order {i}", **properties)


@probe
def queue_names(s: Script) -> None:
    s.declare("", exclusive=True)
    s.declare("", exclusive=True)
    s.declare("queue_names\n with\r\n breaks", exclusive=True)
    s.declare("queue_names with breaks", passive=True)
    s.declare("queue/names, with: signs & ümläuts", exclusive=True)
    s.declare("queue/names, with: signs & ümläuts", passive=True)


@probe
def queue_counts(s: Script) -> None:
    name = "queue_counts"
    s.declare(name)
    _fill(s, name, 3)
    s.depth(name, 3)
    s.declare(name)
    s.get(name, no_ack=False)
    s.declare(name)
    s.consume(name)
    s.hear()
    s.hear()
    s.declare(name)
    s.call(Queue.Purge(queue=name))
    s.call(Queue.Delete(queue=name))


@probe
def queue_purge_and_delete_answer_counts(s: Script) -> None:
    name = "queue_purge"
    s.declare(name)
    _fill(s, name, 5)
    s.depth(name, 5)
    s.get(name, no_ack=False)
    s.call(Queue.Purge(queue=name))
    _fill(s, name, 2)
    s.depth(name, 2)
    s.call(Queue.Delete(queue=name))
    s.call(Queue.Delete(queue=name))


@probe
def queue_equivalent_arguments(s: Script) -> None:
    name = "queue_equivalent"
    s.declare(name, x_max_length=10, x_message_ttl=60_000, x_dead_letter_exchange="amq.fanout")
    s.declare(name, x_max_length=10, x_message_ttl=60_000, x_dead_letter_exchange="amq.fanout")
    s.declare(name, x_max_length=10, x_message_ttl=60_000, x_dead_letter_exchange="amq.direct")
    s.declare(name, x_max_length=11, x_message_ttl=60_000, x_dead_letter_exchange="amq.fanout")
    s.call(Queue.Delete(queue=name))


@probe
def queue_max_length_drops_the_head(s: Script) -> None:
    name = "queue_max_length"
    s.declare(name, x_max_length=2)
    s.call(Confirm.Select())
    _fill(s, name, 5)
    s.confirmed(5)
    s.depth(name, 2)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def queue_max_length_bytes_drops_the_head(s: Script) -> None:
    name = "queue_max_bytes"
    s.declare(name, x_max_length_bytes=20)
    s.call(Confirm.Select())
    for i in range(5):
        s.publish("", name, f"{i}" * 8)
    s.confirmed(5)
    s.depth(name, 2)
    s.drain(name)
    s.publish("", name, "x" * 30)
    s.confirmed(6, 5)
    s.depth(name, 0)
    s.call(Queue.Delete(queue=name))


@probe
def queue_max_length_counts_ready_only(s: Script) -> None:
    name = "queue_max_length_ready"
    s.declare(name, x_max_length=1)
    s.call(Confirm.Select())
    s.publish("", name, "first")
    s.confirmed(1)
    s.get(name, no_ack=False)
    s.publish("", name, "second")
    s.publish("", name, "third")
    s.confirmed(3, 1)
    s.depth(name, 1)
    s.send(Basic.Nack(1, requeue=True))
    s.depth(name, 1)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def queue_max_length_zero(s: Script) -> None:
    name = "queue_max_length_zero"
    s.declare(name, x_max_length=0)
    s.call(Confirm.Select())
    s.publish("", name)
    s.confirmed(1)
    s.depth(name, 0)
    s.call(Queue.Delete(queue=name))


@probe
def queue_reject_publish(s: Script) -> None:
    name = "queue_reject_publish"
    s.declare(name, x_max_length=2, x_overflow="reject-publish")
    s.call(Confirm.Select())
    for i in range(4):
        s.publish("", name, f"order {i}")
        s.confirmed(i + 1, i)
    s.drain(name)
    s.publish("", name, "fits again")
    s.confirmed(5, 4)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def queue_reject_publish_in_one_of_two_queues(s: Script) -> None:
    s.declare("queue_reject_one", x_max_length=1, x_overflow="reject-publish")
    s.declare("queue_reject_two")
    s.exchange("queue_reject", "fanout")
    s.bind("queue_reject_one", "queue_reject")
    s.bind("queue_reject_two", "queue_reject")
    s.call(Confirm.Select())
    for i in range(2):
        s.publish("queue_reject", "", f"order {i}")
        s.confirmed(i + 1, i)
    s.depth("queue_reject_one", 1)
    s.depth("queue_reject_two", 2)
    s.call(Queue.Delete(queue="queue_reject_one"))
    s.call(Queue.Delete(queue="queue_reject_two"))


@probe
def queue_priorities(s: Script) -> None:
    name = "queue_priorities"
    s.declare(name, x_max_priority=5)
    for i, priority in enumerate((0, 3, 5, None, 1, 9, 3)):
        s.publish("", name, f"order {i}", priority=priority)
    s.depth(name, 7)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def queue_priorities_and_requeue(s: Script) -> None:
    name = "queue_priorities_requeue"
    s.declare(name, x_max_priority=2)
    for i, priority in enumerate((1, 1, 2)):
        s.publish("", name, f"order {i}", priority=priority)
    s.depth(name, 3)
    s.get(name, no_ack=False)
    s.get(name, no_ack=False)
    s.send(Basic.Nack(2, multiple=True, requeue=True))
    s.depth(name, 3)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def queue_priorities_drop_the_lowest(s: Script) -> None:
    name = "queue_priorities_drop"
    s.declare(name, x_max_priority=2, x_max_length=2)
    s.call(Confirm.Select())
    for i, priority in enumerate((2, 0, 1)):
        s.publish("", name, f"order {i}", priority=priority)
    s.confirmed(3)
    s.depth(name, 2)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def queue_stream_over_amqp(s: Script) -> None:
    name = "queue_stream"
    s.declare(name, durable=True, x_queue_type="stream")
    s.call(Confirm.Select())
    s.publish("", name, "event 0", headers={"x-order": "7"}, message_id="m0")
    s.confirmed(1)
    s.publish("", name, "event 1", delivery_mode=2)
    s.confirmed(2, 1)
    s.consume(name, "without prefetch")
    s.call(Basic.Qos(prefetch_count=10))
    s.call(Basic.Consume(queue=name, consumer_tag="first", arguments={"x-stream-offset": "first"}))
    s.hear()
    s.hear()
    s.call(Basic.Cancel(consumer_tag="first"))
    s.call(Basic.Consume(queue=name, consumer_tag="one", arguments={"x-stream-offset": 1}))
    s.hear()
    s.call(Basic.Cancel(consumer_tag="one"))
    s.call(Basic.Consume(queue=name, consumer_tag="last", arguments={"x-stream-offset": "last"}))
    s.hear()
    s.call(Basic.Cancel(consumer_tag="last"))
    s.call(Queue.Delete(queue=name))


@probe
def queue_stream_refuses(s: Script) -> None:
    name = "queue_stream_refuses"
    s.declare(name, durable=True, x_queue_type="stream")
    s.get(name)
    s.call(Queue.Purge(queue=name))
    s.call(Basic.Qos(prefetch_count=10))
    s.consume(name, no_ack=True)
    s.call(Basic.Qos(prefetch_count=10))
    s.call(Basic.Consume(queue=name, consumer_tag="bad", arguments={"x-stream-offset": "never"}))
    s.call(Queue.Delete(queue=name))


@probe
def queue_single_active_consumer(s: Script) -> None:
    name = "queue_single_active"
    s.declare(name, x_single_active_consumer=True)
    s.consume(name, "first")
    s.consume(name, "second")
    _fill(s, name, 2)
    s.hear()
    s.hear()
    s.call(Basic.Cancel(consumer_tag="first"))
    _fill(s, name, 1)
    s.hear()
    s.send(Basic.Nack(1, requeue=True))
    s.hear()
    s.call(Queue.Delete(queue=name))


@probe
def queue_single_active_consumer_refuses_exclusive(s: Script) -> None:
    name = "queue_single_active_exclusive"
    s.declare(name, x_single_active_consumer=True)
    s.consume(name, "first", exclusive=True)
    s.consume(name, "first")
    s.get(name)
    s.call(Queue.Delete(queue=name))
