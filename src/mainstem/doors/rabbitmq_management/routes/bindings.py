"""Bindings of queues and of exchanges to exchanges: list, add, remove.

Owns: `/api/bindings`, and the properties key, by which a path names a binding: its routing key, and a hash of
its arguments if it has some. Refuses: bindings to the default exchange, which all queues have by themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from mainstem.access_contract import Operation
from mainstem.amqp.topology import AmqpBinding
from mainstem.amqp.vhost import Vhost
from mainstem.base64url import encode
from mainstem.doors.rabbitmq_management import bodies
from mainstem.doors.rabbitmq_management.listing import list_answer
from mainstem.doors.rabbitmq_management.properties_json import json_value
from mainstem.doors.rabbitmq_management.refusals import not_in_api
from mainstem.doors.rabbitmq_management.request import (
    DEFAULT_EXCHANGE,
    NO_CONTENT,
    ApiAnswer,
    ManagementRequest,
    ManagementRoute,
    Tag,
)

HASH_BYTES = 4
QUEUE_BINDINGS = "/bindings/{vhost}/e/{exchange}/q/{destination}"
EXCHANGE_BINDINGS = "/bindings/{vhost}/e/{exchange}/e/{destination}"


def properties_key(binding: AmqpBinding) -> str:
    """How paths name a binding: `orders.%2A.paid`, with arguments `orders.%2A.paid~9nmLZQ`."""
    key = quote(binding.routing_key, safe="").replace("~", "%7E")
    if not binding.arguments:
        return key or "~"
    digest = hashlib.sha256(msgspec.json.encode(binding.arguments, order="deterministic", enc_hook=repr))
    return f"{key}~{encode(digest.digest()[:HASH_BYTES])}"


def binding_json(vhost: str, binding: AmqpBinding) -> dict[str, Any]:
    """A binding."""
    return {
        "source": binding.source,
        "vhost": vhost,
        "destination": binding.destination,
        "destination_type": "queue" if binding.is_to_queue else "exchange",
        "routing_key": binding.routing_key,
        "arguments": json_value(binding.arguments),
        "properties_key": properties_key(binding),
    }


def bindings_of(request: ManagementRequest, vhost: Vhost) -> Iterator[AmqpBinding]:
    """The bindings that the requester may see, with those of each queue to the default exchange first."""
    for queue in sorted(vhost.queues):
        if request.sees_queue(vhost.name, queue):
            yield AmqpBinding(source="", destination=queue, is_to_queue=True, routing_key=queue, arguments={})
    for binding in sorted(vhost.bindings(), key=_order):
        sees = request.sees_queue if binding.is_to_queue else request.sees_exchange
        if binding.source and sees(vhost.name, binding.destination):
            yield binding


def _order(binding: AmqpBinding) -> tuple[str, str, str]:
    return binding.source, binding.destination, binding.routing_key


async def _binding_list(
    request: ManagementRequest,
    vhosts: Iterable[Vhost],
    wanted: Callable[[AmqpBinding], bool] = lambda binding: True,
) -> ApiAnswer:
    known = [
        (vhost.name, binding)
        for vhost in vhosts
        for binding in bindings_of(request, vhost)
        if wanted(binding)
    ]

    async def make(part: Any) -> list[dict[str, Any]]:
        return [binding_json(vhost, binding) for vhost, binding in part]

    clock = request.context.door.clock
    return await list_answer(request.query, clock, known, lambda entry: entry[1].source, make)


async def list_bindings(request: ManagementRequest) -> ApiAnswer:
    """All bindings."""
    return await _binding_list(request, request.visible_vhosts())


async def list_bindings_of_vhost(request: ManagementRequest) -> ApiAnswer:
    """The bindings of a virtual host."""
    return await _binding_list(request, [request.vhost])


async def list_bindings_of_queue(request: ManagementRequest) -> ApiAnswer:
    """The bindings of a queue."""
    queue = request.parameters["queue"]
    if queue not in request.vhost.queues:
        raise not_in_api()
    return await _binding_list(
        request, [request.vhost], lambda binding: binding.is_to_queue and binding.destination == queue
    )


async def list_bindings_from_exchange(request: ManagementRequest) -> ApiAnswer:
    """The bindings whose source an exchange is."""
    _require_exchange(request, request.exchange)
    return await _binding_list(request, [request.vhost], lambda binding: binding.source == request.exchange)


async def list_bindings_to_exchange(request: ManagementRequest) -> ApiAnswer:
    """The bindings whose destination an exchange is."""
    _require_exchange(request, request.exchange)
    return await _binding_list(
        request,
        [request.vhost],
        lambda binding: not binding.is_to_queue and binding.destination == request.exchange,
    )


def _require_exchange(request: ManagementRequest, name: str) -> None:
    if name not in request.vhost.exchanges:
        raise not_in_api()


# --- between an exchange and a destination ----------------------------------------------------------------


def _between(request: ManagementRequest, *, is_to_queue: bool) -> list[AmqpBinding]:
    destination = request.parameters["destination"]
    return [
        binding
        for binding in bindings_of(request, request.vhost)
        if (binding.source, binding.destination, binding.is_to_queue)
        == (request.exchange, destination, is_to_queue)
    ]


def _binding(request: ManagementRequest, *, is_to_queue: bool) -> AmqpBinding:
    """The binding that the path names."""
    key = unquote(request.parameters["properties"])
    for binding in _between(request, is_to_queue=is_to_queue):
        if unquote(properties_key(binding)) == key:
            return binding
    raise not_in_api()


def _changes(request: ManagementRequest, binding: AmqpBinding) -> None:
    """ApiRefusal unless the requester may bind: WRITE of the destination, READ of the source."""
    require = request.require_queue if binding.is_to_queue else request.require_exchange
    require(Operation.WRITE, request.vhost.name, binding.destination)
    request.require_exchange(Operation.READ, request.vhost.name, binding.source)


def _list_between(*, is_to_queue: bool) -> Callable[[ManagementRequest], Any]:
    async def list_between(request: ManagementRequest) -> ApiAnswer:
        """The bindings between an exchange and a destination."""
        chosen = _between(request, is_to_queue=is_to_queue)
        return ApiAnswer(200, [binding_json(request.vhost.name, binding) for binding in chosen])

    return list_between


def _bind(*, is_to_queue: bool) -> Callable[[ManagementRequest], Any]:
    async def bind(request: ManagementRequest) -> ApiAnswer:
        """Add a binding."""
        body = await request.body()
        destination = request.parameters["destination"]
        binding = AmqpBinding(
            source=request.exchange,
            destination="" if not is_to_queue and destination == DEFAULT_EXCHANGE else destination,
            is_to_queue=is_to_queue,
            routing_key=bodies.text(body, "routing_key"),
            arguments=bodies.table(body, "arguments"),
        )
        _changes(request, binding)
        if is_to_queue and request.vhost.is_stream(destination):
            request.require_plain("let messages be copied to a stream")
        await request.vhost.bind(binding, request)
        location = f"{quote(destination, safe='')}/{quote(properties_key(binding), safe='~')}"
        return ApiAnswer(201, location=location)

    return bind


def _get_binding(*, is_to_queue: bool) -> Callable[[ManagementRequest], Any]:
    async def get_binding(request: ManagementRequest) -> ApiAnswer:
        """A binding."""
        return ApiAnswer(200, binding_json(request.vhost.name, _binding(request, is_to_queue=is_to_queue)))

    return get_binding


def _unbind(*, is_to_queue: bool) -> Callable[[ManagementRequest], Any]:
    async def unbind(request: ManagementRequest) -> ApiAnswer:
        """Remove a binding."""
        binding = _binding(request, is_to_queue=is_to_queue)
        _changes(request, binding)
        await request.vhost.unbind(binding, request)
        return NO_CONTENT

    return unbind


def _routes_between(path: str, *, is_to_queue: bool) -> tuple[ManagementRoute, ...]:
    return (
        ManagementRoute(
            method="GET", path=path, handle=_list_between(is_to_queue=is_to_queue), rights=Tag.MANAGEMENT
        ),
        ManagementRoute(
            method="POST",
            path=path,
            handle=_bind(is_to_queue=is_to_queue),
            rights=Tag.MANAGEMENT,
            changes=True,
        ),
        ManagementRoute(
            method="GET",
            path=path + "/{properties}",
            handle=_get_binding(is_to_queue=is_to_queue),
            rights=Tag.MANAGEMENT,
        ),
        ManagementRoute(
            method="DELETE",
            path=path + "/{properties}",
            handle=_unbind(is_to_queue=is_to_queue),
            rights=Tag.MANAGEMENT,
            changes=True,
        ),
    )


ROUTES = (
    ManagementRoute(method="GET", path="/bindings", handle=list_bindings, rights=Tag.MANAGEMENT),
    ManagementRoute(
        method="GET", path="/bindings/{vhost}", handle=list_bindings_of_vhost, rights=Tag.MANAGEMENT
    ),
    ManagementRoute(
        method="GET",
        path="/queues/{vhost}/{queue}/bindings",
        handle=list_bindings_of_queue,
        rights=Tag.MANAGEMENT,
    ),
    ManagementRoute(
        method="GET",
        path="/exchanges/{vhost}/{exchange}/bindings/source",
        handle=list_bindings_from_exchange,
        rights=Tag.MANAGEMENT,
    ),
    ManagementRoute(
        method="GET",
        path="/exchanges/{vhost}/{exchange}/bindings/destination",
        handle=list_bindings_to_exchange,
        rights=Tag.MANAGEMENT,
    ),
    *_routes_between(QUEUE_BINDINGS, is_to_queue=True),
    *_routes_between(EXCHANGE_BINDINGS, is_to_queue=False),
)
