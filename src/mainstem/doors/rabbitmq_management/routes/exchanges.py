"""Exchanges: list, look at, declare, delete.

Owns: `/api/exchanges`, but not publishing to one (`messages.py`). Refuses: what a client of AMQP may
not do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mainstem.access_contract import Operation
from mainstem.amqp.topology import Exchange, ExchangeDeclaration
from mainstem.amqp.vhost import Vhost
from mainstem.doors.rabbitmq_management import bodies
from mainstem.doors.rabbitmq_management.listing import list_answer
from mainstem.doors.rabbitmq_management.properties_json import json_value
from mainstem.doors.rabbitmq_management.refusals import not_in_api
from mainstem.doors.rabbitmq_management.request import (
    CREATED,
    NO_CONTENT,
    ApiAnswer,
    ManagementRequest,
    ManagementRoute,
    Tag,
)

EXCHANGE_PATH = "/exchanges/{vhost}/{exchange}"


def exchange_json(vhost: Vhost, exchange: Exchange) -> dict[str, Any]:
    """An exchange."""
    return {
        "name": exchange.name,
        "vhost": vhost.name,
        "type": exchange.kind,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": json_value(exchange.arguments),
    }


async def _exchange_list(request: ManagementRequest, vhosts: Iterable[Vhost]) -> ApiAnswer:
    known = [
        (vhost, vhost.exchanges[name])
        for vhost in vhosts
        for name in sorted(vhost.exchanges)
        if request.sees_exchange(vhost.name, name)
    ]

    async def make(part: Any) -> list[dict[str, Any]]:
        return [exchange_json(vhost, exchange) for vhost, exchange in part]

    clock = request.context.door.clock
    return await list_answer(request.query, clock, known, lambda entry: entry[1].name, make)


async def list_exchanges(request: ManagementRequest) -> ApiAnswer:
    """All exchanges."""
    return await _exchange_list(request, request.visible_vhosts())


async def list_exchanges_of_vhost(request: ManagementRequest) -> ApiAnswer:
    """The exchanges of a virtual host."""
    return await _exchange_list(request, [request.vhost])


def _exchange(request: ManagementRequest) -> Exchange:
    exchange = request.vhost.exchanges.get(request.exchange)
    if exchange is None or not request.sees_exchange(request.vhost.name, exchange.name):
        raise not_in_api()
    return exchange


async def get_exchange(request: ManagementRequest) -> ApiAnswer:
    """An exchange."""
    return ApiAnswer(200, exchange_json(request.vhost, _exchange(request)) | {"incoming": [], "outgoing": []})


async def put_exchange(request: ManagementRequest) -> ApiAnswer:
    """Declare an exchange."""
    vhost, name = request.vhost, request.exchange
    body = await request.body()
    request.require_exchange(Operation.CREATE, vhost.name, name)
    arguments = bodies.table(body, "arguments")
    alternate = arguments.get("alternate-exchange")
    if isinstance(alternate, str):
        request.require_exchange(Operation.READ, vhost.name, name)
        request.require_exchange(Operation.WRITE, vhost.name, alternate)
    is_new = name not in vhost.exchanges
    await vhost.declare_exchange(
        ExchangeDeclaration(
            name=name,
            kind=bodies.text(body, "type", "direct"),
            durable=bodies.boolean(body, "durable", True),
            auto_delete=bodies.boolean(body, "auto_delete"),
            internal=bodies.boolean(body, "internal"),
            arguments=arguments,
        )
    )
    return CREATED if is_new else NO_CONTENT


async def delete_exchange(request: ManagementRequest) -> ApiAnswer:
    """Delete an exchange; with `if-unused` only without bindings."""
    exchange = _exchange(request)
    request.require_exchange(Operation.DELETE, request.vhost.name, exchange.name)
    await request.vhost.delete_exchange(exchange.name, if_unused=request.is_asked("if-unused"))
    return NO_CONTENT


ROUTES = (
    ManagementRoute(
        method="GET",
        path="/exchanges",
        handle=list_exchanges,
        rights=Tag.MANAGEMENT,
        lacks="`message_stats`",
    ),
    ManagementRoute(
        method="GET",
        path="/exchanges/{vhost}",
        handle=list_exchanges_of_vhost,
        rights=Tag.MANAGEMENT,
        lacks="`message_stats`",
    ),
    ManagementRoute(
        method="GET",
        path=EXCHANGE_PATH,
        handle=get_exchange,
        rights=Tag.MANAGEMENT,
        lacks="`message_stats`",
    ),
    ManagementRoute(
        method="PUT", path=EXCHANGE_PATH, handle=put_exchange, rights=Tag.MANAGEMENT, changes=True
    ),
    ManagementRoute(
        method="DELETE", path=EXCHANGE_PATH, handle=delete_exchange, rights=Tag.MANAGEMENT, changes=True
    ),
)
