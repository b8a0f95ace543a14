"""The services that the door has.

Owns: their list. Each is a file that declares its methods (`calls.RpcMethod`) by their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def all_methods(context: DoorContext) -> dict[str, RpcMethod]:
    """The methods of all services, by path."""
    methods: dict[str, RpcMethod] = {}
    for handlers in SERVICES:
        methods.update(handlers(context))
    return methods


def rest_app(context: DoorContext, dispatcher: MethodDispatcher) -> HttpApp:
    """What answers the API's requests of HTTP/1.1."""
    return RestApp(context, dispatcher)
