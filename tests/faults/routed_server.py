"""A server whose HTTP door has two more routes, which stand for a door with exchanges: `python -m
tests.faults.routed_server serve`.

Owns: declaring the queues of a namespace, and publishing events that name their queues. Everything else is
the server of `python -m mainstem`.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from mainstem.cli import main
from mainstem.contract import NewEvent, Position
from mainstem.doors.http import endpoints
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import on_cluster
from mainstem.queue_contract import SubscriptionSettings
from mainstem.routing_contract import OffersRoutedQueues, RoutedEvent, RoutedQueues


class DeclaredQueues(msgspec.Struct):
    """Queues of a namespace, which may be there."""

    namespace: str
    queues: dict[str, dict[str, object]]


class SentEvent(msgspec.Struct):
    """An event for some queues."""

    key: str
    value: str
    queues: list[str]


class SentEvents(msgspec.Struct):
    """Events in their order."""

    namespace: str
    topic: str
    events: list[SentEvent]


def routed_of(call: Call) -> RoutedQueues:
    """The routed queues of the engine."""
    engine = call.context.engine
    assert isinstance(engine, OffersRoutedQueues)
    return engine.routed_queues


async def declare_queues(call: Call) -> Response:
    """Declare queues."""
    body, routed = await call.json_body(DeclaredQueues), routed_of(call)
    if body.namespace not in await routed.namespaces():
        await routed.create_namespace(body.namespace)
    for name, settings in body.queues.items():
        await routed.create_queue(body.namespace, name, SubscriptionSettings(**settings))  # type: ignore[arg-type]
    return json_response(None)


async def publish_routed(call: Call) -> Response:
    """Publish events to queues; 503 if one of them was not."""
    body = await call.json_body(SentEvents)
    events = [
        RoutedEvent(NewEvent(event.value.encode(), event.key.encode()), body.topic, event.queues)
        for event in body.events
    ]
    for result in await routed_of(call).publish(body.namespace, events):
        if not isinstance(result, Position):
            raise Problem("busy", str(result))
    return json_response(None)


ROUTES = tuple(
    Endpoint(
        method="POST",
        path=path,
        handle=handle,
        rights=on_cluster(),
        tag="test",
        bodies={JSON: body},
        problems=("busy",),
    )
    for path, handle, body in (
        ("/api/v1/routed:declare", declare_queues, DeclaredQueues),
        ("/api/v1/routed:publish", publish_routed, SentEvents),
    )
)

if __name__ == "__main__":
    endpoints.ENDPOINTS = (*ROUTES, *endpoints.ENDPOINTS)
    main()
