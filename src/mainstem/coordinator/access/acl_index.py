"""The index of access control entries: which may decide about a resource.

Owns: entries by type, pattern and name, and then by principal, so that a decision looks at those of its own
principals alone, however many there are. Prefixes are looked up by the lengths that occur, of which there are
few. Refuses: what an entry means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

from mainstem.access_contract import ANY_NAME, Acl, PatternType, Principal, ResourceType

ByPrincipal: TypeAlias = dict[Principal, list[Acl]]


class AclIndex:
    """The entries, by what they are about."""

    def __init__(self) -> None:
        self._types: dict[ResourceType, _TypeIndex] = {}

    def add(self, acl: Acl) -> None:
        """Add an entry, which is not in the index."""
        self._types.setdefault(acl.resource_type, _TypeIndex()).add(acl)

    def remove(self, acl: Acl) -> None:
        """Remove an entry, which is in the index."""
        self._types[acl.resource_type].remove(acl)

    def sections(self, resource_type: ResourceType, name: str) -> Iterator[ByPrincipal]:
        """The entries about a resource, never empty ones: those of its own name, of its prefixes, the longest
        first, and of every name."""
        of_type = self._types.get(resource_type)
        return iter(()) if of_type is None else of_type.sections(name)

    def has_every_name(self, resource_type: ResourceType) -> bool:
        """Whether there is an entry about every resource of a type."""
        of_type = self._types.get(resource_type)
        return of_type is not None and of_type.has_every_name

    def of_principal(self, resource_type: ResourceType, principal: Principal) -> Iterator[Acl]:
        """All entries of a principal about resources of a type."""
        of_type = self._types.get(resource_type)
        if of_type is not None:
            yield from of_type.by_principal.get(principal, ())


class _TypeIndex:
    """The entries about resources of one type."""

    def __init__(self) -> None:
        self.by_principal: dict[Principal, dict[Acl, None]] = {}
        self._literal: dict[str, ByPrincipal] = {}
        self._prefixed: dict[str, ByPrincipal] = {}
        self._lengths: Counter[int] = Counter()
        """Length of a prefix -> number of prefixes that have it."""
        self._lengths_sorted: list[int] = []
        """The lengths, the longest first."""

    def add(self, acl: Acl) -> None:
        prefixed = acl.pattern is PatternType.PREFIXED
        names = self._prefixed if prefixed else self._literal
        if prefixed and acl.name not in names:
            self._count_length(acl.name, 1)
        names.setdefault(acl.name, {}).setdefault(acl.principal, []).append(acl)
        self.by_principal.setdefault(acl.principal, {})[acl] = None

    def remove(self, acl: Acl) -> None:
        prefixed = acl.pattern is PatternType.PREFIXED
        names = self._prefixed if prefixed else self._literal
        section = names[acl.name]
        section[acl.principal].remove(acl)
        if not section[acl.principal]:
            del section[acl.principal]
        if not section:
            del names[acl.name]
            if prefixed:
                self._count_length(acl.name, -1)
        of_principal = self.by_principal[acl.principal]
        del of_principal[acl]
        if not of_principal:
            del self.by_principal[acl.principal]

    @property
    def has_every_name(self) -> bool:
        return ANY_NAME in self._literal

    def _count_length(self, prefix: str, change: int) -> None:
        self._lengths[len(prefix)] += change
        if not self._lengths[len(prefix)]:
            del self._lengths[len(prefix)]
        self._lengths_sorted = sorted(self._lengths, reverse=True)

    def sections(self, name: str) -> Iterator[ByPrincipal]:
        if (section := self._literal.get(name)) is not None:
            yield section
        for length in self._lengths_sorted:
            if length <= len(name) and (section := self._prefixed.get(name[:length])) is not None:
                yield section
        if name != ANY_NAME and (section := self._literal.get(ANY_NAME)) is not None:
            yield section
