"""An engine that changes nothing, in front of any other.

Owns: the one place where a read-only door is made so: below the door, so that no route can forget it.
Refuses: every call of the contract that changes anything, joining a group too, with NotAllowed. Made by
`mainstem.serve.server` and `mainstem.serve.console`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NoReturn, cast

from mainstem.contract import NO_SETTINGS, Engine, Member, NewEvent, NotAllowed, Position

READS = frozenset(
    {
        "bounds",
        "byte_ranges",
        "close",
        "cluster",
        "group",
        "groups",
        "health",
        "metric_values",
        "offset_for_time",
        "partition_files",
        "partitions",
        "preview_settings",
        "reader",
        "topic",
        "topics",
    }
)
"""What is passed on; a call that is not listed here is not there."""


def _refuse(what: str) -> NoReturn:
    raise NotAllowed(f"{what} is refused: this door is read-only")


class _RefusedChanges:
    """The calls that change something."""

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """Refused."""
        _refuse("publishing")

    async def join(
        self, group: str, topics: Sequence[str], *, start: Literal["earliest", "latest"]
    ) -> Member:
        """Refused: a member has positions."""
        _refuse("joining a group")

    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """Refused."""
        _refuse("creating a topic")

    async def add_partitions(self, name: str, total: int) -> None:
        """Refused."""
        _refuse("adding partitions")

    async def alter_topic(self, name: str, settings: Mapping[str, str | None]) -> None:
        """Refused."""
        _refuse("changing a topic")

    async def delete_topic(self, name: str) -> None:
        """Refused."""
        _refuse("deleting a topic")

    async def delete_records(self, topic: str, partition: int, before: int) -> int:
        """Refused."""
        _refuse("deleting events")

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """Refused."""
        _refuse("setting positions")

    async def delete_group(self, name: str) -> None:
        """Refused."""
        _refuse("deleting a group")


class ReadOnlyEngine(_RefusedChanges):
    """`mainstem.contract.Engine`, as far as it reads. Made by `read_only`."""

    def __init__(self, engine: Engine) -> None:
        for name in READS:
            passed_on = getattr(engine, name, None)
            if passed_on is not None:
                setattr(self, name, passed_on)


def read_only(engine: Engine) -> Engine:
    """`engine`, without its changes."""
    return cast(Engine, ReadOnlyEngine(engine))
