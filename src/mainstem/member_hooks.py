"""What a member of a consumer group says of its partitions when they change: part of the engine contract.

Owns: the types of it. Refuses: to be imported by others than the contract: its users take them from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeAlias

TopicPartition: TypeAlias = tuple[str, int]
NO_NOTES: Mapping[TopicPartition, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AssignedPartition:
    """A partition that a member is to read from now on."""

    topic: str
    partition: int
    offset: int | None
    """The position that the group has committed; None: none, so that `start` decides where the member begins.
    So it does if the events there are gone."""
    notes: str
    """What was committed with that position. Empty without one."""


class MemberHooks(Protocol):
    """What a member calls when its partitions change. Each call is awaited, inside a `read`, and the group
    waits for it: a minute at most. None is made while the member closes."""

    async def assigned(self, partitions: Sequence[AssignedPartition]) -> None:
        """These partitions are the member's, beside those that it has. Called before their first event is
        read."""

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """These partitions are to be given up: the last moment for a commit of their positions."""

    async def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """These partitions have other members already, so nothing can be committed for them."""
