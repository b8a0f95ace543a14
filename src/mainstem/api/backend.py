"""What the Python API needs of the place it is connected to.

Owns: the protocol. Refuses: to know a server from an engine in this process, or from a foreign cluster; the
difference that is left is whether there are queues.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, Protocol

from mainstem import contract
from mainstem.queue_contract import (
    Delivery,
    Outcome,
    SubscriptionSettings,
    SubscriptionTotals,
    Verdict,
)


class HasWallClock(Protocol):
    """The time that events are compared with."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC."""


class SubscriberQueues(Protocol):
    """The part of `queue_contract.Queues` that subscribers need; see there for each call."""

    async def subscription_settings(self, name: str) -> SubscriptionSettings: ...
    async def subscription_totals(self, names: Sequence[str]) -> list[SubscriptionTotals]: ...
    async def create_subscription(self, name: str, settings: SubscriptionSettings) -> None: ...
    async def alter_subscription(
        self, name: str, settings: SubscriptionSettings, *, expected: SubscriptionSettings | None = None
    ) -> None: ...
    async def delete_subscription(self, name: str) -> None: ...
    async def pull(
        self,
        name: str,
        consumer: str,
        *,
        max_events: int = 100,
        wait_ms: int = 0,
        lock_ms: int | None = None,
    ) -> list[Delivery]: ...
    async def seek(self, name: str, to: Literal["earliest", "latest"] | int) -> int: ...
    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> list[Verdict]: ...


class Backend(Protocol):
    """A place with events, connected. All calls are made in one event loop, the one that made it."""

    @property
    def engine(self) -> contract.Engine:
        """Publishes, reads and administers."""

    @property
    def queues(self) -> SubscriberQueues | None:
        """The subscriptions; None: a Kafka cluster, which has none."""

    @property
    def clock(self) -> HasWallClock:
        """The time of retries, delays and ages such as `1h`. A test's moves."""

    def search(
        self,
        query: str,
        *,
        topics: Sequence[str],
        since_ms: int | None,
        until_ms: int | None,
        limit: int,
    ) -> AsyncGenerator[contract.Event, None]:
        """The newest events that match, newest first, at most `limit`. Times are milliseconds since 1970;
        `until_ms` is exclusive. Without topics, all of them. InvalidArgument: the query is wrong, and where.
        """

    async def redrive(self, subscription: str, *, where: str, since_ms: int | None, dry_run: bool) -> int:
        """Deliver the events of the subscription's dead letters again, of all or of those that match a query
        and have this time or a later one. Returns how many there are. Only with `queues`. NoSuchSubscription,
        InvalidArgument: the query is wrong, or they are too many for one call."""

    async def close(self) -> None:
        """Finish the calls in progress and release everything. Idempotent."""
