"""The bit fields in which replies list the operations that the client may do.

Owns: which operations the resources of each type support (Kafka: AclEntry.supportedOperations), and the bit
fields. Refuses: to decide, which is the authorizer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from mainstem.access_contract import CLUSTER_NAME, Operation, Resource, ResourceType
from mainstem.doors.kafka.rights import CLUSTER, of_each

if TYPE_CHECKING:
    from mainstem.doors.kafka.handler import HandlerContext, Request

NOT_REQUESTED: Final = -(1 << 31)
"""The client did not ask for the operations."""

SUPPORTED: Final[Mapping[ResourceType, tuple[Operation, ...]]] = {
    ResourceType.TOPIC: (
        Operation.READ,
        Operation.WRITE,
        Operation.CREATE,
        Operation.DELETE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.GROUP: (
        Operation.READ,
        Operation.DELETE,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.CLUSTER: (
        Operation.CREATE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.CLUSTER_ACTION,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
        Operation.IDEMPOTENT_WRITE,
    ),
}
"""The operations that a resource of each type supports."""

DESCRIBE_CLUSTER: Final = of_each(
    Operation.DESCRIBE, ResourceType.CLUSTER, when="for the operations on the cluster"
)


def authorized_operations(context: HandlerContext, request: Request, resource: Resource) -> int:
    """The bit field of the operations that the requester may do to a resource."""
    authorizer, requester = context.access.authorizer, request.requester
    if not authorizer.is_on and requester.scopes is None:
        return ALL_OPERATIONS[resource.type]
    return _bit_field(authorizer.allowed_operations(requester, SUPPORTED[resource.type], resource))


def cluster_operations(context: HandlerContext, request: Request) -> int:
    """The operations on the cluster that the requester may do, if the request asks for them: none if the
    requester may not describe the cluster."""
    if not request.body.include_cluster_authorized_operations:
        return NOT_REQUESTED
    if not context.allows(request, DESCRIBE_CLUSTER, CLUSTER_NAME, is_filter=True):
        return 0
    return authorized_operations(context, request, CLUSTER)


@lru_cache(1_000)
def _bit_field(operations: tuple[Operation, ...]) -> int:
    return sum(1 << operation for operation in operations)


ALL_OPERATIONS: Final = {kind: _bit_field(operations) for kind, operations in SUPPORTED.items()}
"""The bit field of all operations that a resource of each type supports."""
