"""Access in front of a Kafka cluster: the cluster decides about the one account that mainstem has there.

Owns: an authorizer that allows everything, and the refusal of users, entries and masking rules. Refuses: to
pass users and access control entries on to the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.access_contract import (
    AccessDecision,
    Acl,
    AclFilter,
    Operation,
    Requester,
    Resource,
    ResourceType,
    ScramMechanism,
    ScramVerifier,
    UserInfo,
)
from mainstem.contract import NotAllowed
from mainstem.masking.mask import TopicMask
from mainstem.masking.rules import MaskRule
from mainstem.promise import Promise

NO_RULES_KEPT = "masking rules are not kept in front of a Kafka cluster"
NO_CONTROL = AccessDecision(True, reason="there is no access control in front of a Kafka cluster")


class EverythingAllowed:
    """See `access_contract.Authorizer`."""

    is_on = False
    version = 0

    def __init__(self) -> None:
        self.on_decision: Callable[[Requester, Operation, Resource, AccessDecision], None] | None = None
        self.on_change: list[Callable[[], None]] = []

    def allows(
        self, requester: Requester, operation: Operation, resource: Resource, *, is_filter: bool = False
    ) -> bool:
        """See `Authorizer`."""
        if self.on_decision is not None and not is_filter:
            self.on_decision(requester, operation, resource, NO_CONTROL)
        return True

    def decide(self, requester: Requester, operation: Operation, resource: Resource) -> AccessDecision:
        """See `Authorizer`."""
        return NO_CONTROL

    def allowed_operations(
        self, requester: Requester, operations: tuple[Operation, ...], resource: Resource
    ) -> tuple[Operation, ...]:
        """See `Authorizer`."""
        return operations

    def allows_any(self, requester: Requester, operation: Operation, resource_type: ResourceType) -> bool:
        """See `Authorizer`."""
        return True


class NoMasks:
    """Implements `masking.contract.Masks` where no rules are kept."""

    has_rules = False

    def __init__(self) -> None:
        self.on_change: list[Callable[[], None]] = []

    def mask_of(self, requester: Requester, topic: str) -> None:
        """See `Masks`."""

    def rules(self) -> Sequence[MaskRule]:
        """See `Masks`."""
        return ()

    def put_rule(self, rule: MaskRule, *, validate_only: bool = False) -> Promise[None]:
        """Fails with NotAllowed."""
        return Promise.failed(NotAllowed(NO_RULES_KEPT))

    def delete_rule(self, name: str) -> Promise[bool]:
        """Fails with NotAllowed."""
        return Promise.failed(NotAllowed(NO_RULES_KEPT))

    def preview(self, rule: MaskRule) -> TopicMask:
        """See `Masks`."""
        return TopicMask([rule], b"")


class NoUsers:
    """See `access_contract.AccessAdmin`: there are no users and no entries, and none can be made."""

    def __init__(self) -> None:
        self.on_user_deleted: list[Callable[[str], None]] = []
        self.on_credentials_changed: list[Callable[[str], None]] = []

    def users(self) -> Sequence[UserInfo]:
        """See `AccessAdmin`."""
        return ()

    def user(self, name: str) -> UserInfo | None:
        """See `AccessAdmin`."""
        return None

    def verifier(self, user: str, mechanism: ScramMechanism) -> ScramVerifier | None:
        """See `AccessAdmin`."""
        return None

    def put_verifiers(self, user: str, verifiers: Sequence[ScramVerifier]) -> Promise[None]:
        """See `AccessAdmin`. Fails with NotAllowed, as all that follow."""
        return _refused()

    def delete_verifiers(self, user: str, mechanisms: Sequence[ScramMechanism]) -> Promise[None]:
        """See `AccessAdmin`."""
        return _refused()

    def acls(self, filter_: AclFilter) -> Sequence[Acl]:
        """See `AccessAdmin`."""
        return ()

    def create_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        """See `AccessAdmin`."""
        return _refused()

    def delete_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        """See `AccessAdmin`."""
        return _refused()


def _refused() -> Promise[None]:
    return Promise.failed(
        NotAllowed("users and access control entries of a Kafka cluster are changed by its own tools")
    )
