"""What a route needs of who asks: nothing, a login, or rights.

Owns: the declarations, which every route has, and their check before the function of the route is called.
Refuses: the checks of what a path does not name, such as the topics in a body: the engine and the search of
the call (`Call.engine`, `Call.search`) make these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from starlette.requests import Request

from mainstem.access_contract import CLUSTER_NAME, Operation, RequesterRights, ResourceType


class PathRight(NamedTuple):
    """A right to the resource that a path names."""

    operation: Operation
    resource_type: ResourceType
    parameter: str
    """The part of the path that names the resource; empty: it is the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRights:
    """What a route needs."""

    login: bool = True
    """Whether a login is needed, on listeners that authenticate."""
    of_path: tuple[PathRight, ...] = ()
    """Rights that are checked before the function of the route is called."""
    of_any: tuple[tuple[Operation, ResourceType], ...] = ()
    """Rights to some resource without which no request of the route can succeed. The engine or the search of
    the call checks them, for the resource that the request is about."""
    are_metrics: bool = False
    """Whether it shows metrics, which a setting opens for everybody."""
    also: str = ""
    """What the engine or the search of the call checks or leaves out beyond these, for people."""

    def check(self, rights: RequesterRights, request: Request) -> None:
        """Raise NotAuthorized unless the requester has the rights to what the path names."""
        for operation, resource_type, parameter in self.of_path:
            name = str(request.path_params[parameter]) if parameter else CLUSTER_NAME
            rights.require(operation, resource_type, name)

    def is_open(self, open_metrics: bool) -> bool:
        """Whether it is for everybody."""
        return self.are_metrics and open_metrics

    @property
    def writes_events(self) -> bool:
        """Whether the route publishes: it needs WRITE on a topic."""
        return any(right[:2] == (Operation.WRITE, ResourceType.TOPIC) for right in self.of_path)

    @property
    def reads_events(self) -> bool:
        """Whether the route reads events: it needs READ on something."""
        return any(right.operation is Operation.READ for right in self.of_path) or "READ" in self.also

    @property
    def text(self) -> str:
        """All of it, for people; empty: nothing but a login."""
        if not self.login:
            return self.also or "no login"
        parts = [
            f"{right.operation.name} on the {right.resource_type.name.lower()}" for right in self.of_path
        ]
        return "; ".join([*parts, *([self.also] if self.also else [])])


LOGIN = RouteRights()
"""For routes that show nothing of topics, groups and subscriptions."""
OPEN = RouteRights(login=False)


def inside(also: str, *of_any: tuple[Operation, ResourceType]) -> RouteRights:
    """Rights to what the path does not name, which the engine or the search of the call checks."""
    return RouteRights(also=also, of_any=of_any)


def _on(resource_type: ResourceType, operations: tuple[Operation, ...], also: str, name: str) -> RouteRights:
    rights = tuple(PathRight(operation, resource_type, name) for operation in operations)
    return RouteRights(of_path=rights, also=also)


def on_topic(*operations: Operation, also: str = "") -> RouteRights:
    """Rights to the topic in the path."""
    return _on(ResourceType.TOPIC, operations, also, "topic")


def on_group(*operations: Operation, also: str = "") -> RouteRights:
    """Rights to the group in the path."""
    return _on(ResourceType.GROUP, operations, also, "group")


def on_subscription(*operations: Operation, also: str = "") -> RouteRights:
    """Rights to the subscription in the path."""
    return _on(ResourceType.SUBSCRIPTION, operations, also, "subscription")


def on_cluster(*operations: Operation, also: str = "") -> RouteRights:
    """Rights to the cluster."""
    return _on(ResourceType.CLUSTER, operations, also, "")


def of_metrics(also: str) -> RouteRights:
    """The right to describe the cluster, or none if the metrics are open for everybody."""
    rights = (PathRight(Operation.DESCRIBE, ResourceType.CLUSTER, ""),)
    return RouteRights(of_path=rights, are_metrics=True, also=also)


READ_TOPIC = (Operation.READ, ResourceType.TOPIC)
SEARCHED = inside("READ on topics that are named; others are searched if one may READ them", READ_TOPIC)
RECEIVED = on_subscription(Operation.READ, also="READ on its topics")
