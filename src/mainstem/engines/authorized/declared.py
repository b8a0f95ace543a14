"""How the calls of the authorized view declare what they need.

Owns: `needs`, the declaration, and `checked`, the calls for which it is the whole check. A test looks at
every call of the contract for one. Refuses: a call without a declaration.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

from mainstem.access_contract import CLUSTER_NAME, Operation, RequesterRights, ResourceType
from mainstem.clock import Clock
from mainstem.contract import Engine
from mainstem.masking.contract import RequesterMasks

F = TypeVar("F", bound=Callable[..., Any])


class CallRight(NamedTuple):
    """A right that a call needs, or by which its result is filtered."""

    operation: Operation
    resource_type: ResourceType


NO_RIGHT: Final[tuple[CallRight, ...]] = ()
"""For calls that everybody may make who was let in."""


def needs(*rights: CallRight) -> Callable[[F], F]:
    """Declare the rights that the body of a call checks or filters by."""

    def declare(call: F) -> F:
        call.__dict__["rights"] = rights
        return call

    return declare


def checked(name: str, right: CallRight, parameter: str = "") -> Callable[..., Awaitable[Any]]:
    """The call of this name: passed on if the requester has this right to the resource that its first
    parameter names, or to the cluster if there is none."""

    async def call(view: AuthorizedPart, *arguments: Any, **options: Any) -> Any:
        resource = CLUSTER_NAME
        if parameter:
            resource = arguments[0] if arguments else options[parameter]
        view.rights.require(right.operation, right.resource_type, resource)
        return await getattr(view.engine, name)(*arguments, **options)

    call.__name__ = name
    return needs(right)(call)


class AuthorizedPart:
    """What all parts of a view share: the engine itself, the rights and masks of the requester, and the
    clock."""

    def __init__(self, engine: Engine, rights: RequesterRights, masks: RequesterMasks, clock: Clock) -> None:
        self.engine: Any = engine
        """Typed as any, for which capabilities it has was asked when the view was made."""
        self.rights = rights
        self.masks = masks
        self.clock = clock
