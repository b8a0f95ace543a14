"""The server as a whole: versions, sums, listeners, its only node.

Owns: `/api/overview`, `/api/nodes`, and the small resources that tools ask for at their start. Refuses:
figures of Erlang's machine, which is not there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mainstem.amqp.broker import BROKER_VERSION, PRODUCT
from mainstem.doors.rabbitmq_management.queue_json import (
    NODE,
    details,
    message_figures,
    message_stats,
    totals_of,
    visible_queues,
)
from mainstem.doors.rabbitmq_management.rates import COUNTERS, counters_of
from mainstem.doors.rabbitmq_management.refusals import not_in_api
from mainstem.doors.rabbitmq_management.request import ApiAnswer, ManagementRequest, ManagementRoute, Tag
from mainstem.doors.rabbitmq_management.routes.connections import visible_connections

EXCHANGE_TYPES = (
    *("direct", "fanout", "headers", "topic", "x-consistent-hash", "x-delayed-message", "x-random"),
)
PROTOCOL_OF_DOOR = {
    "amqp091": "amqp",
    "rabbitmq_stream": "stream",
    "rabbitmq_management": "http",
}
"""The doors that RabbitMQ has, too -> its words for their protocols."""


def listeners(request: ManagementRequest) -> list[dict[str, Any]]:
    """The addresses of RabbitMQ's protocols."""
    return [
        {
            "node": NODE,
            "protocol": PROTOCOL_OF_DOOR[status.name] + ("/ssl" if security.tls else ""),
            "ip_address": address.host,
            "port": address.port,
            "socket_opts": {},
        }
        for status in request.context.door.statuses()
        if status.name in PROTOCOL_OF_DOOR
        for address, security in zip(status.addresses, status.security, strict=True)
    ]


def exchange_types() -> list[dict[str, Any]]:
    """The types of exchanges."""
    return [{"name": name, "description": "", "enabled": True} for name in EXCHANGE_TYPES]


async def overview(request: ManagementRequest) -> ApiAnswer:
    """The server, with sums of what the requester may see."""
    queues = visible_queues(request, request.visible_vhosts())
    totals = await totals_of(request, (queue for _, queue in queues))
    sums = {"messages": 0, "messages_ready": 0, "messages_unacknowledged": 0}
    counters, rates = dict.fromkeys(COUNTERS, 0), dict.fromkeys(COUNTERS, 0.0)
    for name, figures in totals.items():
        its_counters = counters_of(figures)
        its_rates = request.context.rates.rates(name, its_counters)
        for counter in COUNTERS:
            counters[counter] += its_counters[counter]
            rates[counter] += its_rates.get(counter, 0.0)
        for member, value in message_figures(figures).items():
            sums[member] += value
    shown = list(visible_connections(request))
    registry = request.broker.connections
    answer: dict[str, Any] = {
        "management_version": BROKER_VERSION,
        "rates_mode": "basic",
        "exchange_types": exchange_types(),
        "product_name": PRODUCT,
        "product_version": request.context.door.version,
        "rabbitmq_version": BROKER_VERSION,
        "cluster_name": NODE,
        "erlang_version": "",
        "erlang_full_version": "",
        "disable_stats": False,
        "enable_queue_totals": False,
        "message_stats": message_stats(counters, rates),
        "churn_rates": {
            "connection_created": registry.opened_total,
            "connection_created_details": details(),
            "connection_closed": registry.closed_total,
            "connection_closed_details": details(),
        },
        "queue_totals": sums | {f"{name}_details": details() for name in sums},
        "object_totals": {
            "channels": sum(info.channels for _, info in shown),
            "connections": len(shown),
            "consumers": sum(queue.consumers for _, queue in queues),
            "exchanges": sum(len(vhost.exchanges) for vhost in request.visible_vhosts()),
            "queues": len(queues),
        },
        "statistics_db_event_queue": 0,
        "node": NODE,
    }
    if request.has(Tag.MONITORING):
        answer["listeners"] = listeners(request)
        answer["contexts"] = []
    return ApiAnswer(200, answer)


def node_json(request: ManagementRequest) -> dict[str, Any]:
    """The only node."""
    context = request.context.door
    node: dict[str, Any] = {
        "name": NODE,
        "type": "disc",
        "running": True,
        "partitions": [],
        "os_pid": str(os.getpid()),
        "processors": os.cpu_count() or 1,
        "rates_mode": "basic",
        "mem_alarm": False,
        "disk_free_alarm": context.write_refusal() is not None,
        "being_drained": False,
        "exchange_types": exchange_types(),
        "auth_mechanisms": [{"name": "PLAIN", "description": "", "enabled": True}],
        "applications": [{"name": "rabbit", "description": PRODUCT, "version": BROKER_VERSION}],
        "contexts": [],
        "config_files": [],
        "log_files": [],
        "enabled_plugins": ["rabbitmq_management"],
        "cluster_links": [],
        "net_ticktime": 60,
        "sockets_used": len(request.broker.connections),
    }
    if context.disk_usage is not None:
        node["disk_free"] = context.disk_usage().free_bytes
    return node


async def list_nodes(request: ManagementRequest) -> ApiAnswer:
    """The only node, in a list."""
    return ApiAnswer(200, [node_json(request)])


async def get_node(request: ManagementRequest) -> ApiAnswer:
    """The only node."""
    if request.parameters["node"] != NODE:
        raise not_in_api()
    return ApiAnswer(200, node_json(request))


async def cluster_name(request: ManagementRequest) -> ApiAnswer:
    """The name of the cluster."""
    return ApiAnswer(200, {"name": NODE})


async def auth_settings(request: ManagementRequest) -> ApiAnswer:
    """How the pages of the management plugin would log in: there are none."""
    return ApiAnswer(200, {"oauth_enabled": False, "enable_uaa": False, "uaa_client_id": ""})


async def no_items(request: ManagementRequest) -> ApiAnswer:
    """A list of what is not there: extensions, parameters, limits, feature flags."""
    return ApiAnswer(200, [])


async def rebalance(request: ManagementRequest) -> ApiAnswer:
    """Spread the leaders of queues over the nodes: there is a single one, so nothing is done."""
    return ApiAnswer(204)


NODE_LACKS = "figures of memory, files and Erlang's machine"
EMPTY_LISTS: Sequence[str] = (
    "/extensions",
    "/global-parameters",
    "/parameters",
    "/parameters/{component}",
    "/parameters/{component}/{vhost}",
    "/vhost-limits",
    "/vhost-limits/{vhost}",
    "/user-limits",
    "/user-limits/{user}",
    "/feature-flags",
    "/deprecated-features",
    "/deprecated-features/used",
)
ROUTES = (
    ManagementRoute(
        method="GET", path="/overview", handle=overview, rights=Tag.MANAGEMENT, lacks="rates over time"
    ),
    ManagementRoute(method="GET", path="/nodes", handle=list_nodes, rights=Tag.MONITORING, lacks=NODE_LACKS),
    ManagementRoute(
        method="GET", path="/nodes/{node}", handle=get_node, rights=Tag.MONITORING, lacks=NODE_LACKS
    ),
    ManagementRoute(method="POST", path="/rebalance/queues", handle=rebalance, rights=Tag.ADMINISTRATOR),
    ManagementRoute(method="GET", path="/cluster-name", handle=cluster_name, rights=Tag.MANAGEMENT),
    ManagementRoute(
        method="GET", path="/auth", handle=auth_settings, rights=Tag.MANAGEMENT, lacks="always no OAuth"
    ),
    *(
        ManagementRoute(method="GET", path=path, handle=no_items, rights=Tag.MANAGEMENT, lacks="always empty")
        for path in EMPTY_LISTS
    ),
)
