"""Queues: list, look at, declare, delete, purge.

Owns: `/api/queues`. Refuses: what a client of AMQP could not do to the queue.
"""

from __future__ import annotations

from typing import Any

from mainstem.access_contract import Operation
from mainstem.amqp.topology import AmqpQueue, QueueDeclaration
from mainstem.amqp.vhost import Vhost
from mainstem.doors.rabbitmq_management import bodies
from mainstem.doors.rabbitmq_management.listing import list_answer
from mainstem.doors.rabbitmq_management.queue_json import (
    consumer_json,
    queue_identity,
    queue_json,
    queues_json,
    totals_of,
    visible_queues,
)
from mainstem.doors.rabbitmq_management.refusals import bad_request, not_in_api
from mainstem.doors.rabbitmq_management.request import (
    CREATED,
    NO_CONTENT,
    ApiAnswer,
    ManagementRequest,
    ManagementRoute,
    Tag,
)

QUEUE_PATH = "/queues/{vhost}/{queue}"


async def list_queues(request: ManagementRequest) -> ApiAnswer:
    """All queues."""
    chosen = visible_queues(request, request.visible_vhosts())
    request.context.rates.keep_only(
        queue.subscription for vhost in request.all_vhosts() for queue in vhost.queues.values()
    )
    return await _queue_list(request, chosen)


async def list_queues_of_vhost(request: ManagementRequest) -> ApiAnswer:
    """The queues of a virtual host."""
    return await _queue_list(request, visible_queues(request, [request.vhost]))


async def _queue_list(request: ManagementRequest, chosen: list[tuple[Vhost, AmqpQueue]]) -> ApiAnswer:
    async def make(part: Any) -> list[dict[str, Any]]:
        if request.is_asked("disable_stats") and not request.is_asked("enable_queue_totals"):
            return [queue_identity(vhost, queue) for vhost, queue in part]
        return await queues_json(request, part)

    clock = request.context.door.clock
    return await list_answer(request.query, clock, chosen, lambda entry: entry[1].name, make)


def _queue(request: ManagementRequest) -> AmqpQueue:
    queue = request.vhost.queues.get(request.parameters["queue"])
    if queue is None or not request.sees_queue(request.vhost.name, queue.name):
        raise not_in_api()
    return queue


async def get_queue(request: ManagementRequest) -> ApiAnswer:
    """A queue with its consumers."""
    queue = _queue(request)
    totals = await totals_of(request, [queue])
    item = await queue_json(request, request.vhost, queue, totals.get(queue.subscription))
    item["consumer_details"] = [
        consumer_json(info, consumer)
        for connection in request.broker.connections
        if (info := connection.info()).vhost == request.vhost.name
        for consumer in connection.consumers()
        if consumer.queue == queue.name
    ]
    item["deliveries"], item["incoming"] = [], []
    return ApiAnswer(200, item)


async def put_queue(request: ManagementRequest) -> ApiAnswer:
    """Declare a queue."""
    vhost, name = request.vhost, request.parameters["queue"]
    body = await request.body()
    request.require_queue(Operation.CREATE, vhost.name, name)
    arguments = bodies.table(body, "arguments")
    exchange = arguments.get("x-dead-letter-exchange")
    if isinstance(exchange, str):
        request.require_queue(Operation.READ, vhost.name, name)
        request.require_exchange(Operation.WRITE, vhost.name, exchange)
        request.require_plain("let messages be copied to a dead-letter exchange")
    is_new = name not in vhost.queues
    await vhost.declare_queue(
        QueueDeclaration(
            name=name,
            durable=bodies.boolean(body, "durable", True),
            exclusive=False,
            auto_delete=bodies.boolean(body, "auto_delete"),
            arguments=arguments,
        ),
        request,
        request.engine,
    )
    return CREATED if is_new else NO_CONTENT


async def delete_queue(request: ManagementRequest) -> ApiAnswer:
    """Delete a queue; with `if-empty` and `if-unused` only then."""
    queue = _queue(request)
    request.require_queue(Operation.DELETE, request.vhost.name, queue.name)
    await request.vhost.delete_queue(
        queue.name,
        request,
        if_unused=request.is_asked("if-unused"),
        if_empty=request.is_asked("if-empty"),
        engine=request.engine,
    )
    return NO_CONTENT


async def purge_queue(request: ManagementRequest) -> ApiAnswer:
    """Remove the messages that no consumer has."""
    queue = _queue(request)
    request.require_queue(Operation.READ, request.vhost.name, queue.name)
    if queue.kind == "stream":
        raise bad_request(
            f"queue.purge not supported by stream queues queue '{queue.name}' in vhost '{request.vhost.name}'"
        )
    await request.vhost.purge_queue(queue.name, request)
    return NO_CONTENT


async def act_on_queue(request: ManagementRequest) -> ApiAnswer:
    """Synchronise mirrors, or stop: there are none, so nothing is done."""
    _queue(request)
    action = (await request.body()).get("action")
    if action not in ("sync", "cancel_sync"):
        raise bad_request(["unknown", str(action)])
    return NO_CONTENT


ROUTES = (
    ManagementRoute(method="GET", path="/queues", handle=list_queues, rights=Tag.MANAGEMENT),
    ManagementRoute(method="GET", path="/queues/{vhost}", handle=list_queues_of_vhost, rights=Tag.MANAGEMENT),
    ManagementRoute(method="GET", path=QUEUE_PATH, handle=get_queue, rights=Tag.MANAGEMENT),
    ManagementRoute(method="PUT", path=QUEUE_PATH, handle=put_queue, rights=Tag.MANAGEMENT, changes=True),
    ManagementRoute(
        method="DELETE", path=QUEUE_PATH, handle=delete_queue, rights=Tag.MANAGEMENT, changes=True
    ),
    ManagementRoute(
        method="DELETE",
        path=QUEUE_PATH + "/contents",
        handle=purge_queue,
        rights=Tag.MANAGEMENT,
        changes=True,
    ),
    ManagementRoute(method="POST", path=QUEUE_PATH + "/actions", handle=act_on_queue, rights=Tag.MANAGEMENT),
)
