"""The services that the door has.

Owns: their list. Each is a file that declares its methods (`calls.RpcMethod`) by their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mainstem.doors.pubsub import iam, publisher, schemas, snapshots, subscriber
from mainstem.doors.pubsub.calls import RpcMethod
from mainstem.doors.pubsub.rest import RestApp

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext, HttpApp
    from mainstem.doors.pubsub.dispatcher import MethodDispatcher

SERVICES: tuple[Callable[[DoorContext], Mapping[str, RpcMethod]], ...] = (
    publisher.handlers,
    subscriber.handlers,
    snapshots.handlers,
    schemas.handlers,
    iam.handlers,
)


SMALL_BYTES_MAX = 2 << 20
"""Of a message of a method that carries no data of events."""
LARGE = ("/google.pubsub.v1.Publisher/Publish", "/google.pubsub.v1.SchemaService/ValidateMessage")
"""The methods that do."""


def all_methods(context: DoorContext) -> dict[str, RpcMethod]:
    """The methods of all services, by path."""
    methods: dict[str, RpcMethod] = {}
    for handlers in SERVICES:
        methods.update(handlers(context))
    return {
        path: method if path in LARGE else replace(method, bytes_max=SMALL_BYTES_MAX)
        for path, method in methods.items()
    }


def rest_app(context: DoorContext, dispatcher: MethodDispatcher) -> HttpApp:
    """What answers the API's requests of HTTP/1.1."""
    return RestApp(context, dispatcher)
