"""Scopes: what an API token is limited to, below the rights of its user.

A scope is a word. `read-only` leaves DESCRIBE, DESCRIBE_CONFIGS, and READ of topics: no pull, no commit.
`topics:PREFIX`, `groups:PREFIX` and `subscriptions:PREFIX` leave resources of that type whose name begins so;
if there is any of these, all other resources are out of reach, the cluster too. Owns: the words and their
meaning. Refuses: to grant anything; and a word that it does not know limits a token to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from mainstem.access_contract import Operation, Resource, ResourceType

READ_ONLY = "read-only"
PREFIX_CHARS_MAX = 249
SCOPES_MAX = 50
TYPES = {
    "topics": ResourceType.TOPIC,
    "groups": ResourceType.GROUP,
    "subscriptions": ResourceType.SUBSCRIPTION,
}
"""The words before the colon."""
_LOOKING = (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)


def scopes_problem(scopes: Iterable[str]) -> str | None:
    """Why these are not the scopes of a token; None: they are."""
    listed = list(scopes)
    if len(listed) > SCOPES_MAX:
        return f"there are more than {SCOPES_MAX} scopes"
    for scope in listed:
        kind, colon, prefix = scope.partition(":")
        if scope != READ_ONLY and not (colon and kind in TYPES and 0 < len(prefix) <= PREFIX_CHARS_MAX):
            words = ", ".join(f"{name}:PREFIX" for name in TYPES)
            return f"{scope[:60]!r} is not a scope; write {READ_ONLY}, or {words}"
    return None


def scopes_allow(scopes: frozenset[str], operation: Operation, resource: Resource) -> bool:
    """Whether a token with these scopes may do this, if its user may."""
    if not _operation_is_left(scopes, operation, resource.type):
        return False
    prefixes = _prefixes(scopes)
    if prefixes is None:
        return True
    return any(
        resource_type is resource.type and resource.name.startswith(prefix)
        for resource_type, prefix in prefixes
    )


def scopes_allow_any(scopes: frozenset[str], operation: Operation, resource_type: ResourceType) -> bool:
    """Whether a token with these scopes may do this to some resource of the type, if its user may."""
    prefixes = _prefixes(scopes)
    return _operation_is_left(scopes, operation, resource_type) and (
        prefixes is None or any(left is resource_type for left, _ in prefixes)
    )


def _operation_is_left(scopes: frozenset[str], operation: Operation, resource_type: ResourceType) -> bool:
    if READ_ONLY not in scopes or operation in _LOOKING:
        return True
    return operation is Operation.READ and resource_type is ResourceType.TOPIC


def _prefixes(scopes: frozenset[str]) -> list[tuple[ResourceType | None, str]] | None:
    """The types and beginnings of names that are left; None: all. A word that is not known leaves
    nothing."""
    words = [scope.partition(":") for scope in scopes if scope != READ_ONLY]
    if not words:
        return None
    return [(TYPES.get(kind) if prefix else None, prefix) for kind, _, prefix in words]
