"""An authorizer whose rules a test sets."""

from __future__ import annotations

from collections.abc import Callable

from mainstem.access_contract import (
    ANY_NAME,
    CLUSTER_NAME,
    AccessDecision,
    Operation,
    Requester,
    Resource,
    ResourceType,
)
from mainstem.coordinator.access.scopes import scopes_allow

_INCLUDING = {
    Operation.DESCRIBE: {Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER},
    Operation.DESCRIBE_CONFIGS: {Operation.ALTER_CONFIGS},
}


class RuleAuthorizer:
    """Implements `Authorizer`: everybody may do what `allow` was called with, and a requester of `users` what
    it lists. Off until the first rule."""

    def __init__(self, *, is_on: bool = False) -> None:
        self.is_on = is_on
        self.version = 0
        self.on_decision: Callable[[Requester, Operation, Resource, AccessDecision], None] | None = None
        self.on_change: list[Callable[[], None]] = []
        self._rules: set[tuple[str, Operation, ResourceType, str]] = set()
        self.asked: list[tuple[Operation, Resource]] = []

    def allow(
        self,
        resource_type: ResourceType,
        name: str,
        *operations: Operation,
        user: str = ANY_NAME,
    ) -> None:
        """Add rules. A name that ends with a star: all that begin so."""
        self.is_on = True
        self._rules |= {(user, operation, resource_type, name) for operation in operations}
        self._changed()

    def allow_cluster(self, *operations: Operation, user: str = ANY_NAME) -> None:
        """Add rules of the cluster."""
        self.allow(ResourceType.CLUSTER, CLUSTER_NAME, *operations, user=user)

    def forbid(self, resource_type: ResourceType, name: str) -> None:
        """Remove all rules of this name."""
        self._rules = {rule for rule in self._rules if rule[2:] != (resource_type, name)}
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        for callback in self.on_change:
            callback()

    def allows(
        self,
        requester: Requester,
        operation: Operation,
        resource: Resource,
        *,
        is_filter: bool = False,
    ) -> bool:
        self.asked.append((operation, resource))
        if requester.scopes is not None and not scopes_allow(requester.scopes, operation, resource):
            return False
        if not self.is_on:
            return True
        sufficient = {operation, Operation.ALL} | _INCLUDING.get(operation, set())
        return any(
            user in (ANY_NAME, requester.principal.name)
            and allowed in sufficient
            and resource_type is resource.type
            and (resource.name.startswith(name[:-1]) if name.endswith("*") else resource.name == name)
            for user, allowed, resource_type, name in self._rules
        )

    def decide(self, requester: Requester, operation: Operation, resource: Resource) -> AccessDecision:
        return AccessDecision(self.allows(requester, operation, resource))

    def allowed_operations(
        self, requester: Requester, operations: tuple[Operation, ...], resource: Resource
    ) -> tuple[Operation, ...]:
        return tuple(item for item in operations if self.allows(requester, item, resource, is_filter=True))

    def allows_any(self, requester: Requester, operation: Operation, resource_type: ResourceType) -> bool:
        return not self.is_on or any(
            allowed is operation and type_ is resource_type for _, allowed, type_, _ in self._rules
        )
