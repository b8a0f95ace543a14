"""Dead letters: for each reason, with all their headers; cycles, carbon copies, missing exchanges."""

from __future__ import annotations

from typing import Any

from tests.compat.rabbitmq.probing import Basic, Confirm, Exchange, Queue, Script, probe


def _source(s: Script, name: str, **arguments: Any) -> None:
    """A queue NAME whose dead letters go to the queue NAME_dead by the default exchange."""
    durable = arguments.pop("durable", False)
    s.declare(f"{name}_dead", exclusive=not durable, durable=durable)
    s.declare(
        name,
        durable=durable,
        x_dead_letter_exchange="",
        x_dead_letter_routing_key=f"{name}_dead",
        **arguments,
    )


@probe
def dead_letter_rejected(s: Script) -> None:
    name = "dead_rejected"
    _source(s, name)
    s.publish("", name, "order", message_id="m-1", headers={"shop": "eu"}, delivery_mode=2)
    s.depth(name, 1)
    s.get(name, no_ack=False)
    s.send(Basic.Reject(1, requeue=False))
    s.get_soon(f"{name}_dead")
    s.publish("", name, "no headers")
    s.depth(name, 1)
    s.get(name, no_ack=False)
    s.send(Basic.Nack(3, requeue=False))
    s.get_soon(f"{name}_dead")
    s.call(Queue.Delete(queue=name))


@probe
def dead_letter_nacked_many(s: Script) -> None:
    name = "dead_nacked"
    _source(s, name)
    for i in range(3):
        s.publish("", name, f"{i}")
    s.depth(name, 3)
    for _ in range(3):
        s.get(name, no_ack=False)
    s.send(Basic.Nack(3, multiple=True, requeue=False))
    s.depth(f"{name}_dead", 3)
    s.drain(f"{name}_dead")
    s.call(Queue.Delete(queue=name))


@probe
def dead_letter_expired_in_queue(s: Script) -> None:
    name = "dead_expired"
    _source(s, name, x_message_ttl=50)
    s.publish("", name, "order", correlation_id="c")
    s.get_soon(f"{name}_dead")
    s.call(Queue.Delete(queue=name))


@probe
def dead_letter_expired_by_itself(s: Script) -> None:
    name = "dead_expiration"
    _source(s, name)
    s.publish("", name, "order", expiration="50", headers={"a": 1})
    s.get_soon(f"{name}_dead")
    s.publish("", name, "at once", expiration="0")
    s.get_soon(f"{name}_dead")
    s.call(Queue.Delete(queue=name))


@probe
def dead_letter_max_length(s: Script) -> None:
    name = "dead_max_length"
    _source(s, name, x_max_length=1)
    s.publish("", name, "first", expiration="600000")
    s.publish("", name, "second")
    s.get_soon(f"{name}_dead")
    s.get(name)
    s.call(Queue.Delete(queue=name))


@probe
def dead_letter_reject_publish_dlx(s: Script) -> None:
    name = "dead_reject_publish"
    _source(s, name, x_max_length=1, x_overflow="reject-publish-dlx")
    s.call(Confirm.Select())
    s.publish("", name, "first")
    s.publish("", name, "second")
    s.confirmed(2)
    s.get_soon(f"{name}_dead")
    s.get(name)
    s.call(Queue.Delete(queue=name))


@probe
def dead_letter_delivery_limit(s: Script) -> None:
    name = "dead_delivery_limit"
    _source(s, name, durable=True, x_queue_type="quorum", x_delivery_limit=1)
    s.publish("", name, "order")
    s.depth(name, 1)
    s.get(name, no_ack=False)
    s.send(Basic.Reject(1, requeue=True))
    s.depth(name, 1)
    s.get(name, no_ack=False)
    s.send(Basic.Reject(2, requeue=True))
    s.get_soon(f"{name}_dead")
    s.call(Queue.Delete(queue=name))
    s.call(Queue.Delete(queue=f"{name}_dead"))


@probe
def dead_letter_own_routing_key(s: Script) -> None:
    s.exchange("dead_own_key", "topic")
    s.exchange("dead_own_key_in", "direct")
    s.declare("dead_own_key_dead", exclusive=True)
    s.declare("dead_own_key", exclusive=True, x_dead_letter_exchange="dead_own_key")
    s.bind("dead_own_key_dead", "dead_own_key", "orders.#")
    s.bind("dead_own_key", "dead_own_key_in", "orders.eu")
    s.publish("dead_own_key_in", "orders.eu", "order")
    s.depth("dead_own_key", 1)
    s.get("dead_own_key", no_ack=False)
    s.send(Basic.Reject(1, requeue=False))
    s.get_soon("dead_own_key_dead")
    s.call(Exchange.Delete(exchange="dead_own_key"))
    s.call(Exchange.Delete(exchange="dead_own_key_in"))


@probe
def dead_letter_carbon_copies(s: Script) -> None:
    s.exchange("dead_cc", "fanout")
    s.declare("dead_cc_dead", exclusive=True)
    s.bind("dead_cc_dead", "dead_cc")
    s.declare("dead_cc", exclusive=True, x_dead_letter_exchange="dead_cc")
    s.declare(
        "dead_cc_keyed", exclusive=True, x_dead_letter_exchange="dead_cc", x_dead_letter_routing_key="k"
    )
    for i, name in enumerate(("dead_cc", "dead_cc_keyed")):
        s.publish("", name, "order", headers={"CC": ["dead_other"], "BCC": ["dead_hidden"]})
        s.depth(name, 1)
        s.get(name, no_ack=False)
        s.send(Basic.Reject(1 + 2 * i, requeue=False))
        s.get_soon("dead_cc_dead")
    s.call(Exchange.Delete(exchange="dead_cc"))


@probe
def dead_letter_twice(s: Script) -> None:
    name = "dead_twice"
    s.declare(f"{name}_2", exclusive=True, x_dead_letter_exchange="", x_dead_letter_routing_key=f"{name}_3")
    s.declare(f"{name}_3", exclusive=True)
    s.declare(
        f"{name}_1",
        exclusive=True,
        x_message_ttl=20,
        x_dead_letter_exchange="",
        x_dead_letter_routing_key=f"{name}_2",
    )
    s.publish("", f"{name}_1", "order")
    s.depth(f"{name}_2", 1)
    s.get(f"{name}_2", no_ack=False)
    s.send(Basic.Reject(1, requeue=False))
    s.get_soon(f"{name}_3")


@probe
def dead_letter_count_rises(s: Script) -> None:
    name = "dead_count"
    s.declare(f"{name}_wait", exclusive=True, x_dead_letter_exchange="", x_dead_letter_routing_key=name)
    s.declare(name, exclusive=True, x_dead_letter_exchange="", x_dead_letter_routing_key=f"{name}_wait")
    s.publish("", name, "order")
    tag = 0
    for _ in range(2):
        for queue in (name, f"{name}_wait"):
            s.depth(queue, 1)
            s.get(queue, no_ack=False)
            tag += 1
            s.send(Basic.Reject(tag, requeue=False))
    s.depth(name, 1)
    s.get(name)


@probe
def dead_letter_cycle_is_broken(s: Script) -> None:
    name = "dead_cycle"
    s.declare(name, exclusive=True, x_message_ttl=20, x_dead_letter_exchange="")
    s.call(Confirm.Select())
    s.publish("", name, "order")
    s.confirmed(1)
    s.depth(name, 0)
    s.get(name)


@probe
def dead_letter_missing_exchange(s: Script) -> None:
    name = "dead_missing_exchange"
    s.declare(name, exclusive=True, x_dead_letter_exchange="dead_no_such_exchange")
    s.publish("", name, "order")
    s.depth(name, 1)
    s.get(name, no_ack=False)
    s.send(Basic.Reject(1, requeue=False))
    s.depth(name, 0)


@probe
def dead_letter_client_headers(s: Script) -> None:
    """What a client republishes with the headers of a dead letter."""
    name = "dead_client"
    _source(s, name)
    past = [
        {
            "count": 2,
            "reason": "rejected",
            "queue": name,
            "exchange": "",
            "routing-keys": [name],
        }
    ]
    s.publish("", name, "again", headers={"x-death": past, "x-first-death-queue": name})
    s.depth(name, 1)
    s.get(name, no_ack=False)
    s.send(Basic.Reject(1, requeue=False))
    s.get_soon(f"{name}_dead")
    s.call(Queue.Delete(queue=name))


@probe
def dead_letter_of_purge_and_deletion(s: Script) -> None:
    name = "dead_purge"
    _source(s, name)
    s.publish("", name, "purged")
    s.depth(name, 1)
    s.call(Queue.Purge(queue=name))
    s.publish("", name, "deleted")
    s.depth(name, 1)
    s.call(Queue.Delete(queue=name))
    s.get(f"{name}_dead")
