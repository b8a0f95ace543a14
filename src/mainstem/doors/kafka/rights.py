"""What a request of an API key needs the right to: declared beside its handler.

Owns: `Right` and its kinds, and the error for one that is missing. Refuses: to decide, which is the
authorizer's (`access_contract.Authorizer`).

As in Kafka, some rights are for the whole request: the dispatcher asks for them before the handler runs.
Others are for each topic or group that the request names, or that its reply would show: the handler asks for
them by `HandlerContext.allows`, and one name that is refused does not affect the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mainstem.access_contract import CLUSTER_NAME, Operation, Resource, ResourceType
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message

DENIALS: Final = {
    ResourceType.TOPIC: (ErrorCode.TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed."),
    ResourceType.GROUP: (ErrorCode.GROUP_AUTHORIZATION_FAILED, "Group authorization failed."),
    ResourceType.CLUSTER: (ErrorCode.CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed."),
}
"""Kafka's error code and text for a right that is missing, by the type of the resource."""

CLUSTER: Final = Resource(ResourceType.CLUSTER, CLUSTER_NAME)


@dataclass(frozen=True, slots=True, eq=False)
class Right:
    """The right to one operation on resources of one type. Each is a constant, and equal only to itself."""

    operation: Operation
    resource_type: ResourceType
    name_of: Callable[[Message], str] | None = None
    """The name of the one resource that the whole request needs the right to; None: it is needed for each
    resource that the request names."""
    or_cluster: Operation | None = None
    """The operation on the cluster that the right to will do instead, for all of them."""
    or_any: tuple[Operation, ResourceType] | None = None
    """An operation on a type: the right to it for any resource of the type will do instead."""
    when: str = ""
    """When it is needed; empty: always."""

    @property
    def code(self) -> ErrorCode:
        """Kafka's error code if the right is missing."""
        return DENIALS[self.resource_type][0]

    @property
    def text(self) -> str:
        """Kafka's text if the right is missing."""
        return DENIALS[self.resource_type][1]


@dataclass(frozen=True, slots=True)
class NoRights:
    """The declaration of a handler whose requests everybody may send who is authenticated."""

    reason: str


class RightDenied(Exception):
    """The error if the requester does not have a right."""

    def __init__(self, right: Right) -> None:
        super().__init__(right.text)
        self.code = right.code.name


def of_cluster(operation: Operation) -> Right:
    """The whole request needs the right to this operation on the cluster."""
    return Right(operation, ResourceType.CLUSTER, lambda _: CLUSTER_NAME)


def of_group(operation: Operation) -> Right:
    """The whole request needs the right to this operation on its group."""
    return Right(operation, ResourceType.GROUP, lambda body: body.group_id or "")


def of_each(
    operation: Operation, resource_type: ResourceType, *, or_cluster: Operation | None = None, when: str = ""
) -> Right:
    """Each resource of the type that the request names needs the right to this operation."""
    return Right(operation, resource_type, or_cluster=or_cluster, when=when)
