"""The state machine of access control entries.

Owns: which entries there are, and their index. Refuses: entries with ANY and MATCH, which are for filters,
empty names, and to decide anything (`authorizer.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from mainstem.access_contract import (
    ANY_NAME,
    CLUSTER_NAME,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
)
from mainstem.coordinator.access.acl_index import AclIndex
from mainstem.coordinator.errors import InvalidAcl, TooManyAcls
from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise

ACLS_MAX = 100_000
ACLS_OF_WRITE_MAX = 10_000
"""Entries that one call creates or deletes at most, as in Kafka."""
NAME_CHARS_MAX = 4_096
"""Of the name of a resource, a principal, or a host."""


class AclRecord(StateRecord, frozen=True, array_like=True):
    """Base of the records of an entry."""

    resource_type: int
    name: str
    pattern: int
    principal_type: str
    principal_name: str
    host: str
    operation: int
    permission: int

    @property
    def acl(self) -> Acl:
        """The entry. ValueError: a number that this version does not know."""
        return Acl(
            ResourceType(self.resource_type),
            self.name,
            PatternType(self.pattern),
            Principal(self.principal_type, self.principal_name),
            self.host,
            Operation(self.operation),
            Permission(self.permission),
        )


class AclCreated(AclRecord, frozen=True, array_like=True, tag="acl-created"):
    """State record: there is this entry."""


class AclDeleted(AclRecord, frozen=True, array_like=True, tag="acl-deleted"):
    """State record: there is no such entry any more."""


class Acls:
    """The state machine. `runtime` is set once, before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (AclCreated, AclDeleted)
    runtime: Runtime

    def __init__(self) -> None:
        self.version = 0
        """Rises with each change, and when the state is loaded."""
        self.on_changed: list[Callable[[], None]] = []
        """Callbacks for after a change that is durable."""
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self.version += 1
        self._is_loading = True
        self._acls: dict[Acl, None] = {}
        self.index = AclIndex()

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        self.version += 1
        acl = record.acl
        if isinstance(record, AclDeleted):
            del self._acls[acl]
            self.index.remove(acl)
        elif acl not in self._acls:
            self._acls[acl] = None
            self.index.add(acl)

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        copied = list(self._acls)
        return (_record(AclCreated, acl) for acl in copied)

    # --- reading ------------------------------------------------------------------------------------------

    @property
    def is_loaded(self) -> bool:
        """Whether all entries are known. While the state is loaded again they are not, and a denial may be
        missing."""
        if self._is_loading and self.runtime.fenced is None:
            self._is_loading = False
            self.version += 1
        return not self._is_loading

    def __len__(self) -> int:
        return len(self._acls)

    def find(self, filter_: AclFilter) -> list[Acl]:
        """The entries that the filter matches, in order."""
        return sorted(acl for acl in self._acls if matches(filter_, acl))

    # --- writing ------------------------------------------------------------------------------------------

    def create(self, acls: Sequence[Acl]) -> Promise[None]:
        """Add the entries that do not exist. Done when that is durable. Fails with InvalidAcl, TooManyAcls,
        StorageError; then none is added."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            for acl in acls:
                check_acl(acl)
            new = [acl for acl in dict.fromkeys(acls) if acl not in self._acls]
            _check_count(len(new))
            if len(self._acls) + len(new) > ACLS_MAX:
                raise TooManyAcls(f"there can be {ACLS_MAX} access control entries; {len(self._acls)} exist")
            return [_record(AclCreated, acl) for acl in new], None

        return self._write(decide)

    def delete(self, acls: Sequence[Acl]) -> Promise[None]:
        """Remove the entries that exist. Done when that is durable. Fails with TooManyAcls, StorageError;
        then none is removed."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            present = [acl for acl in dict.fromkeys(acls) if acl in self._acls]
            _check_count(len(present))
            return [_record(AclDeleted, acl) for acl in present], None

        return self._write(decide)

    def _write(self, decide: Callable[[], tuple[Sequence[msgspec.Struct], None]]) -> Promise[None]:
        written = self.runtime.write(decide)
        written.then(self._after_change)
        return written

    def _after_change(self, done: Promise[None]) -> None:
        for callback in self.on_changed if done.error is None else ():
            callback()


def matches(filter_: AclFilter, acl: Acl) -> bool:
    """Whether a filter matches an entry, as Kafka's `AclBindingFilter` does."""
    return (
        filter_.resource_type in (ResourceType.ANY, acl.resource_type)
        and (filter_.name is None or _matches_name(filter_, filter_.name, acl))
        and (filter_.pattern in (PatternType.ANY, PatternType.MATCH, acl.pattern))
        and filter_.principal in (None, acl.principal)
        and filter_.host in (None, acl.host)
        and filter_.operation in (Operation.ANY, acl.operation)
        and filter_.permission in (Permission.ANY, acl.permission)
    )


def _matches_name(filter_: AclFilter, name: str, acl: Acl) -> bool:
    if filter_.pattern is not PatternType.MATCH:
        return name == acl.name
    if acl.pattern is PatternType.PREFIXED:
        return name.startswith(acl.name)
    return acl.name in (name, ANY_NAME)


def check_acl(acl: Acl) -> None:
    """InvalidAcl: the entry is none that Kafka would accept."""
    if acl.resource_type is ResourceType.ANY:
        raise InvalidAcl("an entry is about resources of one type, not of any")
    if acl.pattern not in (PatternType.LITERAL, PatternType.PREFIXED):
        raise InvalidAcl("the pattern of an entry is literal or prefixed")
    if acl.operation is Operation.ANY or acl.permission is Permission.ANY:
        raise InvalidAcl("an entry allows or denies an operation or all of them; ANY is for filters")
    if acl.resource_type is ResourceType.CLUSTER and acl.name != CLUSTER_NAME:
        raise InvalidAcl(f"the only valid name of a CLUSTER resource is {CLUSTER_NAME}")
    for text in (acl.name, acl.principal.type, acl.principal.name, acl.host):
        if not text or len(text) > NAME_CHARS_MAX:
            raise InvalidAcl(f"the names and the host of an entry have 1 to {NAME_CHARS_MAX} characters")


def _check_count(count: int) -> None:
    if count > ACLS_OF_WRITE_MAX:
        raise TooManyAcls(f"{count} access control entries at once; at most {ACLS_OF_WRITE_MAX} are possible")


def _record(record_type: type[AclRecord], acl: Acl) -> AclRecord:
    return record_type(
        int(acl.resource_type),
        acl.name,
        int(acl.pattern),
        acl.principal.type,
        acl.principal.name,
        acl.host,
        int(acl.operation),
        int(acl.permission),
    )
