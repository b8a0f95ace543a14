"""Exchanges: routing of every type, bindings between exchanges, alternates, deletion."""

from __future__ import annotations

from typing import Any

from tests.compat.rabbitmq.probing import Confirm, Exchange, Queue, Script, probe


def _queues(s: Script, *names: str) -> None:
    for name in names:
        s.declare(name, exclusive=True)


@probe
def exchange_direct(s: Script) -> None:
    s.exchange("exchange_direct")
    _queues(s, "exchange_direct_1", "exchange_direct_2")
    s.bind("exchange_direct_1", "exchange_direct", "orders")
    s.bind("exchange_direct_2", "exchange_direct", "orders")
    s.bind("exchange_direct_2", "exchange_direct", "orders")
    s.bind("exchange_direct_2", "exchange_direct", "flights")
    for key in ("orders", "flights", "", "Orders"):
        s.publish("exchange_direct", key, key)
    s.depth("exchange_direct_1", 1)
    s.drain("exchange_direct_1")
    s.depth("exchange_direct_2", 2)
    s.drain("exchange_direct_2")
    s.call(Queue.Unbind(queue="exchange_direct_1", exchange="exchange_direct", routing_key="orders"))
    s.call(Queue.Unbind(queue="exchange_direct_1", exchange="exchange_direct", routing_key="orders"))
    s.publish("exchange_direct", "orders", "unbound")
    s.depth("exchange_direct_2", 1)
    s.depth("exchange_direct_1", 0)
    s.call(Exchange.Delete(exchange="exchange_direct"))


@probe
def exchange_topic(s: Script) -> None:
    patterns = {
        "hash": "#",
        "star": "*",
        "first": "orders.*",
        "deep": "orders.#",
        "last": "#.created",
        "both": "*.orders.#",
        "middle": "orders.*.created",
        "empty": "",
        "literal": "orders.eu.created",
        "double": "orders.#.#",
        "inner": "#.eu.#",
    }
    s.exchange("exchange_topic", "topic")
    for name, pattern in patterns.items():
        _queues(s, f"exchange_topic_{name}")
        s.bind(f"exchange_topic_{name}", "exchange_topic", pattern)
    s.call(Confirm.Select())
    keys = ["", "orders", "orders.eu", "orders.eu.created", "orders..created", ".", "eu.orders", "#", "*.*"]
    for key in keys:
        s.publish("exchange_topic", key, key)
    s.confirmed(len(keys))
    for name in patterns:
        s.drain(f"exchange_topic_{name}")
    s.call(Exchange.Delete(exchange="exchange_topic"))


@probe
def exchange_fanout(s: Script) -> None:
    s.exchange("exchange_fanout", "fanout")
    _queues(s, "exchange_fanout_1")
    s.bind("exchange_fanout_1", "exchange_fanout", "a")
    s.bind("exchange_fanout_1", "exchange_fanout", "b")
    s.publish("exchange_fanout", "anything", "once")
    s.depth("exchange_fanout_1", 1)
    s.drain("exchange_fanout_1")
    s.call(Exchange.Delete(exchange="exchange_fanout"))


@probe
def exchange_headers(s: Script) -> None:
    bindings: dict[str, dict[str, Any]] = {
        "all": {"x-match": "all", "country": "at", "express": True},
        "any": {"x-match": "any", "country": "at", "express": True},
        "default": {"country": "at"},
        "none_all": {"x-match": "all"},
        "none_any": {"x-match": "any"},
        "none": {},
        "with_x": {"x-match": "all-with-x", "x-shop": 1},
        "any_with_x": {"x-match": "any-with-x", "x-shop": 1, "country": "de"},
        "without_x": {"x-match": "all", "x-shop": 1},
        "void": {"x-match": "all", "country": None},
        "number": {"amount": 5},
    }
    s.exchange("exchange_headers", "headers")
    bound = []
    for name, arguments in bindings.items():
        _queues(s, f"exchange_headers_{name}")
        if s.bind(f"exchange_headers_{name}", "exchange_headers", "", **arguments) is None:
            _queues(s, f"exchange_headers_{name}")
        bound.append(name)
    s.call(Confirm.Select())
    messages: list[dict[str, Any]] = [
        {"country": "at", "express": True},
        {"country": "at"},
        {"country": "de"},
        {"express": False},
        {"x-shop": 1},
        {"amount": 5},
        {"amount": "5"},
        {"amount": 5.0},
        {"amount": 1 << 40},
        {},
    ]
    for i, headers in enumerate(messages):
        s.publish("exchange_headers", "", f"{i}", headers=headers)
    s.publish("exchange_headers", "", "no headers at all")
    s.confirmed(len(messages) + 1)
    for name in bound:
        s.drain(f"exchange_headers_{name}")
    s.call(Exchange.Delete(exchange="exchange_headers"))


@probe
def exchange_default(s: Script) -> None:
    _queues(s, "exchange_default")
    s.publish("", "exchange_default", "routed", mandatory=True)
    s.publish("", "exchange_default_other", "returned", mandatory=True)
    s.hear()
    s.drain("exchange_default")


@probe
def exchange_to_exchange(s: Script) -> None:
    s.exchange("exchange_source", "topic")
    s.exchange("exchange_middle", "fanout")
    s.exchange("exchange_last", "direct")
    _queues(s, "exchange_bound")
    s.call(Exchange.Bind(destination="exchange_middle", source="exchange_source", routing_key="orders.#"))
    s.call(Exchange.Bind(destination="exchange_last", source="exchange_middle", routing_key=""))
    s.call(Exchange.Bind(destination="exchange_source", source="exchange_last", routing_key="orders.eu"))
    s.bind("exchange_bound", "exchange_last", "orders.eu")
    s.bind("exchange_bound", "exchange_middle", "")
    for key in ("orders.eu", "orders.us", "flights"):
        s.publish("exchange_source", key, key, mandatory=True)
    s.hear()
    s.depth("exchange_bound", 2)
    s.drain("exchange_bound")
    s.call(Exchange.Unbind(destination="exchange_middle", source="exchange_source", routing_key="orders.#"))
    s.call(Exchange.Unbind(destination="exchange_middle", source="exchange_source", routing_key="orders.#"))
    s.publish("exchange_source", "orders.eu", "unbound", mandatory=True)
    s.hear()
    for name in ("exchange_source", "exchange_middle", "exchange_last"):
        s.call(Exchange.Delete(exchange=name))


@probe
def exchange_alternate(s: Script) -> None:
    _queues(s, "exchange_unrouted", "exchange_routed")
    s.exchange("exchange_alternate", "fanout")
    s.exchange("exchange_second", "direct", arguments={"alternate-exchange": "exchange_alternate"})
    s.exchange("exchange_first", "direct", arguments={"alternate-exchange": "exchange_second"})
    s.bind("exchange_unrouted", "exchange_alternate")
    s.bind("exchange_routed", "exchange_first", "orders")
    for key in ("orders", "other"):
        s.publish("exchange_first", key, key, mandatory=True)
    s.depth("exchange_unrouted", 1)
    s.depth("exchange_routed", 1)
    s.drain("exchange_unrouted")
    s.call(Queue.Unbind(queue="exchange_unrouted", exchange="exchange_alternate"))
    s.publish("exchange_first", "other", "returned", mandatory=True)
    s.hear()
    for name in ("exchange_first", "exchange_second", "exchange_alternate"):
        s.call(Exchange.Delete(exchange=name))


@probe
def exchange_alternate_missing(s: Script) -> None:
    s.exchange("exchange_no_alternate", arguments={"alternate-exchange": "exchange_no_such"})
    s.publish("exchange_no_alternate", "x", mandatory=True)
    s.hear()
    s.call(Exchange.Delete(exchange="exchange_no_alternate"))


@probe
def exchange_auto_delete(s: Script) -> None:
    s.exchange("exchange_auto_delete", auto_delete=True)
    s.exchange("exchange_auto_delete", passive=True)
    _queues(s, "exchange_auto_delete")
    s.bind("exchange_auto_delete", "exchange_auto_delete", "a")
    s.bind("exchange_auto_delete", "exchange_auto_delete", "b")
    s.call(Queue.Unbind(queue="exchange_auto_delete", exchange="exchange_auto_delete", routing_key="a"))
    s.exchange("exchange_auto_delete", passive=True)
    s.call(Queue.Delete(queue="exchange_auto_delete"))
    s.exchange("exchange_auto_delete", passive=True)


@probe
def exchange_consistent_hash(s: Script) -> None:
    s.exchange("exchange_hash", "x-consistent-hash")
    _queues(s, "exchange_hash_1", "exchange_hash_2")
    s.bind("exchange_hash_1", "exchange_hash", "1")
    s.bind("exchange_hash_2", "exchange_hash", "3")
    s.call(Confirm.Select())
    for i in range(40):
        s.peer.publish(s.channel, "exchange_hash", f"order-{i}", b"x", mandatory=True)
    s.confirmed(40)
    counts = []
    for name in ("exchange_hash_1", "exchange_hash_2"):
        s.peer.send(s.channel, Queue.Declare(queue=name, passive=True))
        counts.append(s.peer.receive().method.message_count)  # type: ignore[union-attr]
    s.note(f"sum {sum(counts)}, both used {all(counts)}, heavier first {counts[1] > counts[0]}")
    s.bind("exchange_hash_1", "exchange_hash", "not a number")
    s.call(Exchange.Delete(exchange="exchange_hash"))


@probe
def exchange_random(s: Script) -> None:
    s.exchange("exchange_random", "x-random")
    _queues(s, "exchange_random_1", "exchange_random_2")
    s.bind("exchange_random_1", "exchange_random")
    s.bind("exchange_random_2", "exchange_random")
    s.call(Confirm.Select())
    for _ in range(40):
        s.peer.publish(s.channel, "exchange_random", "x", b"x", mandatory=True)
    s.confirmed(40)
    counts = []
    for name in ("exchange_random_1", "exchange_random_2"):
        s.peer.send(s.channel, Queue.Declare(queue=name, passive=True))
        counts.append(s.peer.receive().method.message_count)  # type: ignore[union-attr]
    s.note(f"sum {sum(counts)}, both used {all(counts)}")
    s.call(Exchange.Delete(exchange="exchange_random"))


@probe
def exchange_names(s: Script) -> None:
    s.exchange("exchange\n_names\r")
    s.exchange("exchange_names", passive=True)
    s.call(Exchange.Delete(exchange="exchange_names"))


@probe
def exchange_predeclared(s: Script) -> None:
    for name, kind in (
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
        ("amq.rabbitmq.trace", "topic"),
    ):
        s.exchange(name, kind, passive=True)
    s.publish("amq.rabbitmq.trace", "x")
    s.barrier()


@probe
def exchange_carbon_copies(s: Script) -> None:
    _queues(s, "exchange_cc", "exchange_bcc", "exchange_to")
    s.publish(
        "",
        "exchange_to",
        "copied",
        headers={"CC": ["exchange_cc", "exchange_to"], "BCC": ["exchange_bcc"]},
        mandatory=True,
    )
    for name in ("exchange_to", "exchange_cc", "exchange_bcc"):
        s.depth(name, 1)
        s.drain(name)
