"""Figures for Prometheus, under the names that RabbitMQ's own plugin gives them.

Owns: `/metrics` and `/metrics/per-object` beside `/api`. Refuses: counters of messages: their sum over queues
would fall when one is deleted; the HTTP door's `/metrics` has some that do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from mainstem.amqp.broker import BROKER_VERSION, PRODUCT
from mainstem.doors.rabbitmq_management.queue_json import (
    NODE,
    message_figures,
    totals_of,
    visible_queues,
)
from mainstem.doors.rabbitmq_management.request import ApiAnswer, ManagementRequest, ManagementRoute, Tag
from mainstem.doors.rabbitmq_management.routes.connections import visible_connections

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
DEFINITIONS: Mapping[str, tuple[str, str]] = {
    "rabbitmq_build_info": ("gauge", "Versions."),
    "rabbitmq_identity_info": ("gauge", "The name of the node."),
    "rabbitmq_connections": ("gauge", "Open connections."),
    "rabbitmq_channels": ("gauge", "Open channels."),
    "rabbitmq_consumers": ("gauge", "Consumers."),
    "rabbitmq_queues": ("gauge", "Queues."),
    "rabbitmq_connections_opened_total": ("counter", "Connections whose client has logged in."),
    "rabbitmq_connections_closed_total": ("counter", "Connections of these that have ended."),
    "rabbitmq_disk_space_available_bytes": ("gauge", "Free space of the log's disk."),
    "rabbitmq_queue_messages": ("gauge", "Messages that are ready or with consumers."),
    "rabbitmq_queue_messages_ready": ("gauge", "Messages that are ready."),
    "rabbitmq_queue_messages_unacked": ("gauge", "Messages that consumers have."),
    "rabbitmq_queue_consumers": ("gauge", "Consumers of queues."),
}
"""The metrics, with type and help. Those of queues are sums, and per object one for each queue."""
PER_QUEUE = {
    "rabbitmq_queue_messages": "messages",
    "rabbitmq_queue_messages_ready": "messages_ready",
    "rabbitmq_queue_messages_unacked": "messages_unacknowledged",
    "rabbitmq_queue_consumers": "consumers",
}


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _of_server(request: ManagementRequest) -> Iterator[tuple[str, str, float]]:
    shown = list(visible_connections(request))
    registry, door = request.broker.connections, request.context.door
    build = f'rabbitmq_version="{BROKER_VERSION}",product_name="{PRODUCT}",product_version="{door.version}"'
    yield "rabbitmq_build_info", f"{{{build}}}", 1
    yield "rabbitmq_identity_info", f'{{rabbitmq_node="{NODE}",rabbitmq_cluster="{NODE}"}}', 1
    yield "rabbitmq_connections", "", len(shown)
    yield "rabbitmq_channels", "", sum(info.channels for _, info in shown)
    yield "rabbitmq_connections_opened_total", "", registry.opened_total
    yield "rabbitmq_connections_closed_total", "", registry.closed_total
    if door.disk_usage is not None:
        yield "rabbitmq_disk_space_available_bytes", "", door.disk_usage().free_bytes


async def _of_queues(request: ManagementRequest) -> list[tuple[str, dict[str, int]]]:
    """The figures of each queue that the requester may see, by its labels."""
    queues = visible_queues(request, request.visible_vhosts())
    totals = await totals_of(request, (queue for _, queue in queues))
    return [
        (
            f'{{vhost="{_label(vhost.name)}",queue="{_label(queue.name)}"}}',
            message_figures(totals.get(queue.subscription)) | {"consumers": queue.consumers},
        )
        for vhost, queue in queues
    ]


async def metrics(request: ManagementRequest) -> ApiAnswer:
    """Figures of the server, and sums of its queues."""
    queues = await _of_queues(request)
    sums: Counter[str] = Counter()
    for _, figures in queues:
        sums.update(figures)
    samples = [
        *_of_server(request),
        ("rabbitmq_queues", "", len(queues)),
        ("rabbitmq_consumers", "", sums["consumers"]),
        *((name, "", sums[member]) for name, member in PER_QUEUE.items()),
    ]
    return _text(samples)


async def metrics_per_object(request: ManagementRequest) -> ApiAnswer:
    """Figures of the server and of each queue."""
    queues = await _of_queues(request)
    samples = [
        *_of_server(request),
        ("rabbitmq_queues", "", len(queues)),
        ("rabbitmq_consumers", "", sum(figures["consumers"] for _, figures in queues)),
        *(
            (name, labels, figures[member])
            for name, member in PER_QUEUE.items()
            for labels, figures in queues
        ),
    ]
    return _text(samples)


def _text(samples: list[tuple[str, str, float]]) -> ApiAnswer:
    lines: list[str] = []
    last = ""
    for name, labels, value in samples:
        if name != last:
            kind, text = DEFINITIONS[name]
            lines += [f"# TYPE {name} {kind}", f"# HELP {name} {text}"]
            last = name
        lines.append(f"{name}{labels} {value}")
    return ApiAnswer(200, "\n".join(lines) + "\n", media=MEDIA)


ROUTES = (
    ManagementRoute(
        method="GET",
        path="/metrics",
        handle=metrics,
        rights=Tag.MONITORING,
        lacks="counters of messages, and figures of Erlang's machine",
    ),
    ManagementRoute(
        method="GET",
        path="/metrics/per-object",
        handle=metrics_per_object,
        rights=Tag.MONITORING,
        lacks="counters of messages, and figures of Erlang's machine",
    ),
)
