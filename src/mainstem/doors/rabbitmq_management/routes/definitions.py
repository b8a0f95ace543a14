"""Definitions: export and import what is declared, of the server or of a virtual host.

Owns: `/api/definitions`. Refuses: both to all but administrators.
"""

from __future__ import annotations

import msgspec

from mainstem.amqp.errors import AmqpError
from mainstem.contract import StreamError
from mainstem.doors.rabbitmq_management import bodies
from mainstem.doors.rabbitmq_management.definitions import (
    DefinitionsImport,
    all_definitions,
    vhost_definitions,
)
from mainstem.doors.rabbitmq_management.refusals import ApiRefusal, bad_request
from mainstem.doors.rabbitmq_management.request import (
    NO_CONTENT,
    ApiAnswer,
    ManagementRequest,
    ManagementRoute,
    Tag,
)


async def get_definitions(request: ManagementRequest) -> ApiAnswer:
    """All that is declared on the server."""
    return ApiAnswer(200, all_definitions(request))


async def get_vhost_definitions(request: ManagementRequest) -> ApiAnswer:
    """All that is declared in a virtual host."""
    vhost = request.broker.vhosts.get(request.parameters["vhost"])
    if vhost is None:
        raise bad_request("vhost_not_found")
    document = vhost_definitions([vhost])
    for part in document.values():
        if isinstance(part, list):
            for item in part:
                item.pop("vhost", None)
    return ApiAnswer(200, document)


async def put_definitions(request: ManagementRequest) -> ApiAnswer:
    """Declare all of a document. With `report=true` the answer says what was taken and what was skipped, and
    with `dry_run=true` nothing is changed."""
    return await _import(request, DefinitionsImport(request, dry_run=request.is_asked("dry_run")))


async def put_vhost_definitions(request: ManagementRequest) -> ApiAnswer:
    """Declare all of a document in a virtual host."""
    return await _import(request, DefinitionsImport(request, request.vhost.name))


async def _import(request: ManagementRequest, run: DefinitionsImport) -> ApiAnswer:
    document = await request.body(bodies.LARGE_BODY_BYTES_MAX)
    if not request.is_asked("report") and not request.is_asked("dry_run"):
        await run.run(document)
        return NO_CONTENT
    try:
        await run.run(document)
    except (AmqpError, StreamError, ApiRefusal) as error:
        run.report.error = str(error)
    return ApiAnswer(200, msgspec.to_builtins(run.report))


_PATHS = {
    "/definitions": (get_definitions, put_definitions),
    "/definitions/{vhost}": (get_vhost_definitions, put_vhost_definitions),
}
ROUTES = tuple(
    ManagementRoute(
        method=method,
        path=path,
        handle=handle,
        rights=Tag.ADMINISTRATOR,
        changes=method == "POST",
        lacks="parameters of plugins" if method == "POST" else "password hashes; parameters of plugins",
    )
    for path, handlers in _PATHS.items()
    for method, handle in zip(("GET", "POST"), handlers, strict=True)
)
