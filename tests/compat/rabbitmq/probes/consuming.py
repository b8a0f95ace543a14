"""Consuming: acknowledgements, requeue and its place, prefetch, priorities, cancellation."""

from __future__ import annotations

from tests.compat.rabbitmq.probing import Basic, Channel, Queue, Script, probe


def _fill(s: Script, name: str, count: int) -> None:
    for i in range(count):
        s.publish("", name, f"order {i}")
    s.depth(name, count)


@probe
def consume_and_ack(s: Script) -> None:
    name = "consume_and_ack"
    s.declare(name)
    _fill(s, name, 3)
    s.consume(name)
    for _ in range(3):
        s.hear()
    s.send(Basic.Ack(2, multiple=True))
    s.call(Basic.Cancel(consumer_tag="tag"))
    s.call(Channel.Close(200, "bye", 0, 0))
    other = s.other()
    other.depth(name, 1)
    other.drain(name)
    other.call(Queue.Delete(queue=name))


@probe
def consume_without_ack(s: Script) -> None:
    name = "consume_without_ack"
    s.declare(name, exclusive=True)
    _fill(s, name, 2)
    s.consume(name, no_ack=True)
    s.hear()
    s.hear()
    s.send(Basic.Ack(1))
    s.hear()


@probe
def consume_generated_tag(s: Script) -> None:
    s.declare("consume_generated_tag", exclusive=True)
    s.consume("consume_generated_tag", "")


@probe
def consume_cancel_unknown(s: Script) -> None:
    s.call(Basic.Cancel(consumer_tag="no such"))


@probe
def consume_cancel_keeps_unacked(s: Script) -> None:
    name = "consume_cancel_keeps"
    s.declare(name)
    _fill(s, name, 2)
    s.call(Basic.Qos(prefetch_count=1))
    s.consume(name)
    s.hear()
    s.call(Basic.Cancel(consumer_tag="tag"))
    s.depth(name, 1)
    s.send(Basic.Ack(1))
    s.barrier()
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def consume_nack_returns_to_its_place(s: Script) -> None:
    name = "consume_nack_place"
    s.declare(name)
    _fill(s, name, 5)
    for _ in range(4):
        s.get(name, no_ack=False)
    s.send(Basic.Nack(2, requeue=True))
    s.send(Basic.Nack(4, requeue=True))
    s.depth(name, 3)
    s.drain(name)
    s.send(Basic.Nack(3, multiple=True, requeue=True))
    s.depth(name, 2)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def consume_reject(s: Script) -> None:
    name = "consume_reject"
    s.declare(name)
    _fill(s, name, 2)
    s.get(name, no_ack=False)
    s.send(Basic.Reject(1, requeue=True))
    s.depth(name, 2)
    s.get(name, no_ack=False)
    s.send(Basic.Reject(2, requeue=False))
    s.depth(name, 1)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def consume_recover(s: Script) -> None:
    name = "consume_recover"
    s.declare(name)
    _fill(s, name, 2)
    s.consume(name)
    s.hear()
    s.hear()
    s.call(Basic.Recover(requeue=True))
    s.hear()
    s.hear()
    s.call(Queue.Delete(queue=name))


@probe
def consume_prefetch_of_a_consumer(s: Script) -> None:
    name = "consume_prefetch"
    s.declare(name)
    _fill(s, name, 5)
    s.call(Basic.Qos(prefetch_count=2))
    s.consume(name, "two")
    s.hear()
    s.hear()
    s.depth(name, 3)
    s.send(Basic.Ack(1))
    s.hear()
    s.call(Basic.Qos(prefetch_count=1))
    s.consume(name, "one")
    s.hear()
    s.depth(name, 1)
    s.get(name)
    s.call(Queue.Delete(queue=name))


@probe
def consume_prefetch_of_the_channel(s: Script) -> None:
    name = "consume_prefetch_channel"
    s.declare(name)
    _fill(s, name, 5)
    s.call(Basic.Qos(prefetch_count=2, global_=True))
    s.consume(name, "first")
    s.hear()
    s.hear()
    s.consume(name, "second")
    s.depth(name, 3)
    s.get(name)
    s.send(Basic.Ack(2, multiple=True))
    tags = sorted(s.peer.receive().method.consumer_tag for _ in range(2))  # type: ignore[union-attr]
    s.note(f"two more, to {len(tags)}")
    s.depth(name, 0)
    s.call(Queue.Delete(queue=name))


@probe
def consume_round_robin(s: Script) -> None:
    name = "consume_round_robin"
    s.declare(name)
    for tag in ("a", "b", "c"):
        s.consume(name, tag)
    for i in range(6):
        s.publish("", name, f"{i}")
    counts: dict[str, int] = {}
    for _ in range(6):
        tag = s.peer.receive().method.consumer_tag  # type: ignore[union-attr]
        counts[tag] = counts.get(tag, 0) + 1
    s.note(f"{sorted(counts.items())}")
    s.call(Queue.Delete(queue=name))


@probe
def consume_priorities(s: Script) -> None:
    name = "consume_priorities"
    s.declare(name)
    s.call(Basic.Qos(prefetch_count=2))
    s.call(Basic.Consume(queue=name, consumer_tag="low", arguments={"x-priority": -1}))
    s.call(Basic.Consume(queue=name, consumer_tag="high", arguments={"x-priority": 10}))
    for i in range(5):
        s.publish("", name, f"{i}")
        if i < 4:
            s.hear()
    s.send(Basic.Ack(1))
    s.hear()
    s.call(Queue.Delete(queue=name))


@probe
def consume_priority_of_another_type(s: Script) -> None:
    name = "consume_priority_type"
    s.declare(name, exclusive=True)
    s.call(Basic.Consume(queue=name, consumer_tag="c", arguments={"x-priority": "high"}))


@probe
def consume_cancelled_by_deletion(s: Script) -> None:
    name = "consume_cancelled"
    s.declare(name)
    s.consume(name)
    s.other().call(Queue.Delete(queue=name))
    s.hear()
    s.declare(name, passive=True)


@probe
def consume_closed_channel_requeues(s: Script) -> None:
    name = "consume_closed_channel"
    s.declare(name)
    _fill(s, name, 3)
    other = s.other()
    other.consume(name)
    for _ in range(3):
        other.hear()
    other.send(Basic.Ack(2))
    other.call(Channel.Close(200, "bye", 0, 0))
    s.depth(name, 2)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def consume_lost_connection_requeues(s: Script) -> None:
    name = "consume_lost_connection"
    s.declare(name)
    _fill(s, name, 2)
    other = s.other()
    other.get(name, no_ack=False)
    other.peer.close()
    s.depth(name, 2)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def consume_multiple_over_consumers(s: Script) -> None:
    s.declare("consume_multiple_1")
    s.declare("consume_multiple_2")
    for name in ("consume_multiple_1", "consume_multiple_2"):
        s.publish("", name)
        s.depth(name, 1)
        s.get(name, no_ack=False)
    s.send(Basic.Nack(0, multiple=True, requeue=True))
    for name in ("consume_multiple_1", "consume_multiple_2"):
        s.depth(name, 1)
        s.drain(name)
        s.call(Queue.Delete(queue=name))


@probe
def consume_get_says_how_many_remain(s: Script) -> None:
    name = "consume_get"
    s.declare(name, exclusive=True)
    _fill(s, name, 3)
    s.drain(name)
    s.get(name)


@probe
def consume_quorum_counts_deliveries(s: Script) -> None:
    name = "consume_quorum"
    s.declare(name, durable=True, x_queue_type="quorum")
    s.publish("", name, "order", headers={"shop": "eu"})
    s.publish("", name, "without headers")
    s.depth(name, 2)
    for tag in (1, 2):
        s.get(name, no_ack=False)
        s.send(Basic.Reject(tag, requeue=True))
        s.depth(name, 2)
    s.drain(name)
    s.call(Queue.Delete(queue=name))


@probe
def consume_no_local_is_ignored(s: Script) -> None:
    name = "consume_no_local"
    s.declare(name, exclusive=True)
    s.consume(name, no_local=True)
    s.publish("", name, "own")
    s.hear()
