"""Queues, and their figures, as RabbitMQ's JSON.

Owns: the members of `/api/queues` that the tools read. Refuses: members about memory and disk of RabbitMQ's
own store, which have no meaning here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mainstem.doors.rabbitmq_management.properties_json import json_value
from mainstem.doors.rabbitmq_management.rates import COUNTERS, counters_of
from mainstem.queue_contract import Queues, SubscriptionTotals

if TYPE_CHECKING:
    from mainstem.amqp.connections import ChannelConsumer, ConnectionInfo
    from mainstem.amqp.topology import AmqpQueue
    from mainstem.amqp.vhost import Vhost
    from mainstem.doors.rabbitmq_management.request import ManagementRequest

NODE = "mainstem@localhost"
"""The name of the only node."""


async def totals_of(request: ManagementRequest, queues: Iterable[AmqpQueue]) -> dict[str, SubscriptionTotals]:
    """The figures of queues, by the names of their subscriptions; some may be deleted meanwhile."""
    engine = request.context.door.engine
    assert isinstance(engine, Queues)
    names = [queue.subscription for queue in queues]
    return {totals.name: totals for totals in await engine.subscription_totals(names)}


def details(value: float = 0.0) -> dict[str, float]:
    """A rate."""
    return {"rate": value}


def message_figures(totals: SubscriptionTotals | None) -> dict[str, int]:
    """How many messages are ready, with consumers, and in all."""
    if totals is None:
        return {"messages": 0, "messages_ready": 0, "messages_unacknowledged": 0}
    depth = totals.depth
    ready = depth.ready + depth.waiting + depth.parked + depth.ahead
    return {
        "messages": ready + depth.leased,
        "messages_ready": ready,
        "messages_unacknowledged": depth.leased,
    }


def message_stats(counters: Mapping[str, int], rates: Mapping[str, float]) -> dict[str, Any]:
    """Counters with their rates."""
    stats: dict[str, Any] = {}
    for name in COUNTERS:
        stats[name] = counters[name]
        stats[f"{name}_details"] = details(rates.get(name, 0.0))
    stats["deliver"], stats["deliver_details"] = stats["deliver_get"], stats["deliver_get_details"]
    return stats


def queue_identity(vhost: Vhost, queue: AmqpQueue) -> dict[str, Any]:
    """What a queue is, without its figures."""
    return {
        "name": queue.name,
        "vhost": vhost.name,
        "type": queue.kind,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "exclusive": queue.exclusive,
        "arguments": json_value(queue.arguments),
        "node": NODE,
        "state": "running",
    }


async def queue_json(
    request: ManagementRequest, vhost: Vhost, queue: AmqpQueue, totals: SubscriptionTotals | None
) -> dict[str, Any]:
    """A queue with its figures."""
    figures = message_figures(totals)
    if queue.place is not None:
        figures["messages"] = figures["messages_ready"] = await vhost.message_count(queue)
    item = {
        **queue_identity(vhost, queue),
        **figures,
        "consumers": queue.consumers,
        "policy": queue.policy or None,
        "operator_policy": queue.operator_policy or None,
        "effective_policy_definition": dict(queue.effective),
    }
    for name in ("messages", "messages_ready", "messages_unacknowledged"):
        item[f"{name}_details"] = details()
    if totals is not None:
        counters = counters_of(totals)
        rates = request.context.rates.rates(queue.subscription, counters)
        item["message_stats"] = message_stats(counters, rates)
        item["head_message_timestamp"] = totals.oldest_ms
    if queue.kind in ("quorum", "stream"):
        item |= {"leader": NODE, "members": [NODE], "online": [NODE]}
    return item


def channel_name(connection: ConnectionInfo, number: int) -> str:
    """`127.0.0.1:40112 -> 127.0.0.1:5672 (1)`."""
    return f"{connection.name} ({number})"


def consumer_json(connection: ConnectionInfo, consumer: ChannelConsumer) -> dict[str, Any]:
    """A consumer of a queue."""
    return {
        "arguments": json_value(consumer.arguments),
        "ack_required": consumer.ack_required,
        "active": consumer.is_active,
        "activity_status": "up" if consumer.is_active else "waiting",
        "channel_details": {
            "connection_name": connection.name,
            "name": channel_name(connection, consumer.channel),
            "node": NODE,
            "number": consumer.channel,
            "peer_host": connection.peer_host,
            "peer_port": connection.peer_port,
            "user": connection.user,
        },
        "consumer_tag": consumer.tag,
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch_count,
        "queue": {"name": consumer.queue, "vhost": connection.vhost},
    }


def visible_queues(request: ManagementRequest, vhosts: Iterable[Vhost]) -> list[tuple[Vhost, AmqpQueue]]:
    """The queues that the requester may see, by virtual host and name."""
    return [
        (vhost, vhost.queues[name])
        for vhost in vhosts
        for name in sorted(vhost.queues)
        if request.sees_queue(vhost.name, name)
    ]


async def queues_json(
    request: ManagementRequest, part: Sequence[tuple[Vhost, AmqpQueue]]
) -> list[dict[str, Any]]:
    """Several queues with their figures."""
    totals = await totals_of(request, (queue for _, queue in part))
    return [await queue_json(request, vhost, queue, totals.get(queue.subscription)) for vhost, queue in part]
