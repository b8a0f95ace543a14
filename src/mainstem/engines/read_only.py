"""A read-only view of an engine.

Owns: the single place where a door is made read-only. It is below the door, so that no route can forget it.
Refuses: every call of the contract that changes something, including joining a group, with NotAllowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NoReturn, cast

from mainstem.contract import NO_SETTINGS, Engine, Member, MemberHooks, NewEvent, NotAllowed, Position
from mainstem.door_contract import OnceResult
from mainstem.queue_contract import (
    Delivery,
    Outcome,
    SnapshotInfo,
    SnapshotName,
    SubscriptionSettings,
    Verdict,
)

READS = frozenset(
    {
        "bounds",
        "browse",
        "byte_ranges",
        "close",
        "event_states",
        "cluster",
        "dead_letters",
        "group",
        "groups",
        "last_published",
        "health",
        "metric_values",
        "offset_for_time",
        "partition_files",
        "partitions",
        "preview_settings",
        "reader",
        "snapshots",
        "subscription",
        "subscription_settings",
        "subscription_totals",
        "subscriptions",
        "topic",
        "topic_id",
        "topics",
        "watch_topics",
    }
)
"""The calls that are passed on. A read-only engine has no call that is neither here nor refused below."""


def _refuse(action: str) -> NoReturn:
    raise NotAllowed(f"{action} is refused: this door is read-only")


class _RefusedChanges:
    """The calls of the contract that change something. Each raises NotAllowed, because the door is
    read-only."""

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """Refused."""
        _refuse("publishing")

    async def publish_once(
        self,
        topic: str,
        producer: str,
        events: Sequence[tuple[int, NewEvent]],
        *,
        ids_may_repeat: bool = False,
    ) -> list[OnceResult]:
        """Refused."""
        _refuse("publishing")

    async def join(
        self,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"],
        hooks: MemberHooks | None = None,
    ) -> Member:
        """Refused, because a member changes the group's state."""
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


class _RefusedWork:
    """The calls of queues that change something. Each raises NotAllowed, because the door is read-only."""

    async def create_subscription(self, name: str, settings: SubscriptionSettings) -> None:
        """Refused."""
        _refuse("creating a subscription")

    async def alter_subscription(
        self,
        name: str,
        settings: SubscriptionSettings,
        *,
        expected: SubscriptionSettings | None = None,
        dry_run: bool = False,
    ) -> None:
        """Refused."""
        _refuse("changing a subscription")

    async def delete_subscription(self, name: str) -> None:
        """Refused."""
        _refuse("deleting a subscription")

    async def pull(self, name: str, consumer: str, **limits: int | None) -> list[Delivery]:
        """Refused, because the events would be leased."""
        _refuse("pulling events")

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> list[Verdict]:
        """Refused."""
        _refuse("settling events")

    async def take_snapshot(self, name: str, snapshot: str) -> SnapshotInfo:
        """Refused."""
        _refuse("taking a snapshot")

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Refused."""
        _refuse("deleting a snapshot")

    async def seek(self, name: str, to: Literal["earliest", "latest"] | int | Position | SnapshotName) -> int:
        """Refused."""
        _refuse("seeking")

    async def wake(self, name: str, positions: Sequence[Position] | None, **options: bool) -> int:
        """Refused."""
        _refuse("waking events")

    async def cancel(self, name: str, positions: Sequence[Position] | None, **options: bool) -> int:
        """Refused."""
        _refuse("cancelling events")

    async def purge(self, name: str) -> int:
        """Refused."""
        _refuse("purging a subscription")

    async def redrive(self, name: str, positions: Sequence[Position], **options: float | None) -> int:
        """Refused."""
        _refuse("redriving events")


class ReadOnlyEngine(_RefusedChanges, _RefusedWork):
    """Wraps an engine for a read-only door: passes on the calls that read, those of its capabilities too, and
    refuses those that change something. Created by `read_only`."""

    def __init__(self, engine: Engine) -> None:
        for name in READS:
            method = getattr(engine, name, None)
            if method is not None:
                setattr(self, name, method)


def read_only(engine: Engine) -> Engine:
    """`engine` without the calls that change something."""
    return cast(Engine, ReadOnlyEngine(engine))
