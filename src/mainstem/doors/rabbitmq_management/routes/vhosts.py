"""Virtual hosts: list, look at, add, delete.

Owns: `/api/vhosts`, but not the permissions of one (`users.py`). Refuses: to keep descriptions and
tags, which are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mainstem.access_contract import Operation
from mainstem.amqp.vhost import Vhost
from mainstem.doors.rabbitmq_management.listing import plain_list
from mainstem.doors.rabbitmq_management.queue_json import NODE, details, message_figures, totals_of
from mainstem.doors.rabbitmq_management.request import (
    CREATED,
    NO_CONTENT,
    ApiAnswer,
    ManagementRequest,
    ManagementRoute,
    Tag,
)

VHOST_PATH = "/vhosts/{vhost}"


async def vhosts_json(request: ManagementRequest, vhosts: Iterable[Vhost]) -> list[dict[str, Any]]:
    """Virtual hosts with the sums of their queues."""
    items = []
    for vhost in vhosts:
        item: dict[str, Any] = {
            "name": vhost.name,
            "description": "",
            "tags": [],
            "metadata": {"description": "", "tags": []},
            "default_queue_type": "classic",
            "tracing": False,
            "cluster_state": {NODE: "running"},
            "messages": 0,
            "messages_ready": 0,
            "messages_unacknowledged": 0,
        }
        for totals in (await totals_of(request, vhost.queues.values())).values():
            for name, value in message_figures(totals).items():
                item[name] += value
        for name in ("messages", "messages_ready", "messages_unacknowledged"):
            item[f"{name}_details"] = details()
        items.append(item)
    return items


async def list_vhosts(request: ManagementRequest) -> ApiAnswer:
    """All virtual hosts."""
    items = await vhosts_json(request, request.visible_vhosts())
    return await plain_list(request.query, request.context.door.clock, items)


async def get_vhost(request: ManagementRequest) -> ApiAnswer:
    """A virtual host."""
    (item,) = await vhosts_json(request, [request.vhost])
    return ApiAnswer(200, item)


async def put_vhost(request: ManagementRequest) -> ApiAnswer:
    """Add a virtual host."""
    name = request.parameters["vhost"]
    await request.body()
    request.require_queue(Operation.CREATE, name, "")
    if request.broker.vhosts.get(name) is not None:
        return NO_CONTENT
    await request.broker.vhosts.create(name)
    return CREATED


async def delete_vhost(request: ManagementRequest) -> ApiAnswer:
    """Delete a virtual host with its queues; its connections are closed."""
    name = request.vhost.name
    request.require_queue(Operation.DELETE, name, "")
    for queue in request.vhost.queues:
        request.require_queue(Operation.DELETE, name, queue)
    for connection in request.broker.connections:
        if connection.info().vhost == name:
            connection.close(f"vhost '{name}' is deleted")
    await request.broker.vhosts.delete(name)
    return NO_CONTENT


ROUTES = (
    ManagementRoute(method="GET", path="/vhosts", handle=list_vhosts, rights=Tag.MANAGEMENT),
    ManagementRoute(method="GET", path=VHOST_PATH, handle=get_vhost, rights=Tag.MANAGEMENT),
    ManagementRoute(
        method="PUT",
        path=VHOST_PATH,
        handle=put_vhost,
        rights=Tag.MANAGEMENT,
        changes=True,
        lacks="description, tags, tracing",
    ),
    ManagementRoute(
        method="DELETE", path=VHOST_PATH, handle=delete_vhost, rights=Tag.MANAGEMENT, changes=True
    ),
)
