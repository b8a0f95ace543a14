"""Decides who may do what: the rules of Apache Kafka's StandardAuthorizer.

The scopes of an API token come first, whether access control is on or not. Super users may do everything.
Else the entries decide that are about the resource (of its name, of a prefix of it, or of every name), about
one of the requester's principals (itself, `User:*`, its roles), and about its host. A denial wins over what
allows. What no entry decides is denied, but for resources without any entry if
`allow_everyone_if_no_acl_found` is set. Owns: the decision, and the cache of decisions, which a change of an
entry or a user empties. Refuses: to allow anything to others than super users while the entries are being
loaded again, and to know what a resource is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TypeAlias

from mainstem.access_contract import (
    ANY_HOST,
    ANY_NAME,
    EVERYBODY,
    AccessDecision,
    Acl,
    Operation,
    PatternType,
    Permission,
    Principal,
    Requester,
    Resource,
    ResourceType,
)
from mainstem.coordinator.access.acl_index import ByPrincipal
from mainstem.coordinator.access.acls import Acls
from mainstem.coordinator.access.scopes import scopes_allow, scopes_allow_any
from mainstem.coordinator.access.users import Users

CACHED_MAX = 20_000
"""Decisions in the cache. The one that is there longest is dropped for a new one."""
HOSTS_MAX = 4_096
"""Addresses whose usual form is remembered: to find it costs as much as all else of a decision."""
CACHED_CHARS_MAX = 300
"""A decision about a longer name of a resource is not cached, so that the memory of the cache is bounded:
names of topics have 249 characters at most."""

IMPLY: dict[Operation, frozenset[Operation]] = {
    Operation.DESCRIBE: frozenset(
        (Operation.DESCRIBE, Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER)
    ),
    Operation.DESCRIBE_CONFIGS: frozenset((Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS)),
}
"""Operations that a permission for others includes, too -> these others, and itself."""
CHANGES = frozenset(
    (
        Operation.CREATE,
        Operation.DELETE,
        Operation.ALTER,
        Operation.ALTER_CONFIGS,
        Operation.CLUSTER_ACTION,
    )
)
"""Operations that `on_decision` learns of each time, also from the cache."""

OUT_OF_SCOPE = AccessDecision(False, reason="the scopes of the API token do not allow it")
OFF = AccessDecision(True, reason="access control is off")
SUPER_USER = AccessDecision(True, reason="a super user")
NOT_LOADED = AccessDecision(False, reason="the access control entries are being loaded again")
NO_MATCH = AccessDecision(False, reason="no entry allows it")
NO_ENTRY = AccessDecision(False, reason="there is no entry about this resource")
EVERYONE = AccessDecision(
    True, reason="there is no entry about this resource, and allow_everyone_if_no_acl_found is set"
)

Question: TypeAlias = tuple[Principal, frozenset[Principal], frozenset[str] | None, str, Operation, Resource]
OnDecision: TypeAlias = Callable[[Requester, Operation, Resource, AccessDecision], None]


class AclAuthorizer:
    """See `access_contract.Authorizer`."""

    def __init__(
        self,
        users: Users,
        acls: Acls,
        *,
        is_on: bool,
        super_users: Iterable[Principal] = (),
        allow_everyone_if_no_acl_found: bool = False,
    ) -> None:
        self._users = users
        self._acls = acls
        self.is_on = is_on
        self.super_users = frozenset(super_users)
        self._default = EVERYONE if allow_everyone_if_no_acl_found else NO_ENTRY
        self._cache: dict[Question, AccessDecision] = {}
        self._by_patterns: dict[
            tuple[object, ...], tuple[tuple[ByPrincipal, ...], tuple[Operation, ...]]
        ] = {}
        """Requester, operations and the entries about a resource (their ids, which stay theirs because the
        entries are in the value) -> the entries, and those of the operations that are allowed."""
        self._cached_version = -1
        self.on_decision: OnDecision | None = None
        """Learns of every denial, of every allowed operation of CHANGES, and of others when they are decided
        for the first time since the last change. None: nothing does. Does not raise."""
        self.on_change: list[Callable[[], None]] = []
        users.on_changed.append(self.changed)
        acls.on_changed.append(self.changed)

    @property
    def version(self) -> int:
        """See `access_contract.Authorizer`."""
        return self._users.version + self._acls.version

    def changed(self) -> None:
        """Entries or users changed, or were loaded again: call those who wait for it."""
        for callback in self.on_change:
            callback()

    def allows(
        self, requester: Requester, operation: Operation, resource: Resource, *, is_filter: bool = False
    ) -> bool:
        """See `access_contract.Authorizer`."""
        if not self.is_on and self.on_decision is None and requester.scopes is None:
            return True
        decision, is_new = self._cached(requester, operation, resource)
        report = self.on_decision
        if report and not is_filter and (is_new or not decision.allowed or operation in CHANGES):
            report(requester, operation, resource, decision)
        return decision.allowed

    def decide(self, requester: Requester, operation: Operation, resource: Resource) -> AccessDecision:
        """See `access_contract.Authorizer`."""
        return self._decide(requester, operation, resource, self._acls.is_loaded)

    def _cached(
        self, requester: Requester, operation: Operation, resource: Resource
    ) -> tuple[AccessDecision, bool]:
        """The decision, and whether it is new in the cache."""
        is_loaded = self._acls.is_loaded
        self._forget_old_decisions()
        question = (
            requester.principal,
            requester.roles,
            requester.scopes,
            requester.host,
            operation,
            resource,
        )
        decision = self._cache.get(question)
        if decision is not None:
            return decision, False
        decision = self._decide(requester, operation, resource, is_loaded)
        if len(resource.name) <= CACHED_CHARS_MAX:
            if len(self._cache) >= CACHED_MAX:
                del self._cache[next(iter(self._cache))]
            self._cache[question] = decision
        return decision, True

    def _forget_old_decisions(self) -> None:
        if self._cached_version != self.version:
            self._cache.clear()
            self._by_patterns.clear()
            self._cached_version = self.version

    def allowed_operations(
        self, requester: Requester, operations: tuple[Operation, ...], resource: Resource
    ) -> tuple[Operation, ...]:
        """See `access_contract.Authorizer`."""
        is_loaded = self._acls.is_loaded
        if not is_loaded or not self.is_on or requester.scopes is not None:
            return self._allowed_of(requester, operations, resource, is_loaded)
        self._forget_old_decisions()
        sections = tuple(self._acls.index.sections(resource.type, resource.name))
        question = (requester.principal, requester.roles, requester.host, operations, *map(id, sections))
        known = self._by_patterns.get(question)
        if known is None:
            if len(self._by_patterns) >= CACHED_MAX:
                del self._by_patterns[next(iter(self._by_patterns))]
            known = sections, self._allowed_of(requester, operations, resource, is_loaded)
            self._by_patterns[question] = known
        return known[1]

    def _allowed_of(
        self, requester: Requester, operations: tuple[Operation, ...], resource: Resource, is_loaded: bool
    ) -> tuple[Operation, ...]:
        return tuple(
            operation
            for operation in operations
            if self._decide(requester, operation, resource, is_loaded).allowed
        )

    def allows_any(self, requester: Requester, operation: Operation, resource_type: ResourceType) -> bool:
        """See `access_contract.Authorizer`. As in Kafka a denial of every name or of a prefix counts, but not
        that the names which are allowed by a prefix might all be denied one by one."""
        scopes = requester.scopes
        if scopes is not None and not scopes_allow_any(scopes, operation, resource_type):
            return False
        if not self.is_on or self.is_super_requester(requester):
            return True
        if not self._acls.is_loaded:
            return False
        allowed: list[Acl] = []
        denied: set[tuple[PatternType, str]] = set()
        for acl in self._entries_of(requester, operation, resource_type):
            if acl.permission is Permission.ALLOW:
                allowed.append(acl)
            else:
                denied.add((acl.pattern, acl.name))
        if (PatternType.LITERAL, ANY_NAME) in denied:
            return False
        if self._default.allowed and not self._acls.index.has_every_name(resource_type):
            return True  # of a name that no entry is about
        return any(not _is_covered(acl, denied) for acl in allowed)

    def is_super(self, principal: Principal) -> bool:
        """Whether the principal may do everything."""
        return principal in self.super_users

    def is_super_requester(self, requester: Requester) -> bool:
        """Whether the requester is a super user, by name or by a role."""
        return requester.principal in self.super_users or not self.super_users.isdisjoint(requester.roles)

    def _decide(
        self, requester: Requester, operation: Operation, resource: Resource, is_loaded: bool
    ) -> AccessDecision:
        if requester.scopes is not None and not scopes_allow(requester.scopes, operation, resource):
            return OUT_OF_SCOPE
        if not self.is_on:
            return OFF
        if self.is_super_requester(requester):
            return SUPER_USER
        if not is_loaded:
            return NOT_LOADED
        principals = _principals(requester)
        host = canonical_host(requester.host)
        decision = self._default
        allowed: AccessDecision | None = None
        for section in self._acls.index.sections(resource.type, resource.name):
            decision = NO_MATCH
            for principal in principals:
                for acl in section.get(principal, ()):
                    if not _is_about(acl, operation, host):
                        continue
                    if acl.permission is Permission.DENY:
                        return AccessDecision(False, acl)
                    allowed = allowed or AccessDecision(True, acl)
        return allowed or decision

    def _entries_of(
        self, requester: Requester, operation: Operation, resource_type: ResourceType
    ) -> Iterator[Acl]:
        host = canonical_host(requester.host)
        for principal in _principals(requester):
            for acl in self._acls.index.of_principal(resource_type, principal):
                if _is_about(acl, operation, host):
                    yield acl


def _principals(requester: Requester) -> tuple[Principal, ...]:
    """Those whose entries are about the requester, each once."""
    return tuple(dict.fromkeys((requester.principal, EVERYBODY, *sorted(requester.roles))))


def _is_about(acl: Acl, operation: Operation, host: str) -> bool:
    if acl.host not in (ANY_HOST, host) and canonical_host(acl.host) != host:
        return False
    if acl.operation in (Operation.ALL, operation):
        return True
    return acl.permission is Permission.ALLOW and acl.operation in IMPLY.get(operation, ())


def _is_covered(acl: Acl, denied: set[tuple[PatternType, str]]) -> bool:
    """Whether an entry that allows is without effect, because all of its names are denied."""
    if acl.pattern is PatternType.LITERAL:
        if acl.name == ANY_NAME:
            return False
        if (PatternType.LITERAL, acl.name) in denied:
            return True
    return any((PatternType.PREFIXED, acl.name[:end]) in denied for end in range(1, len(acl.name) + 1))


@lru_cache(HOSTS_MAX)
def canonical_host(host: str) -> str:
    """An IP address in its usual form, an IPv4 address in an IPv6 one as IPv4; other text as it is."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def parse_super_users(text: str) -> frozenset[Principal]:
    """The principals of Kafka's `super.users`: `User:admin;User:bob`. ValueError: one of them cannot be
    read."""
    return frozenset(Principal.parse(part.strip()) for part in text.split(";") if part.strip())
