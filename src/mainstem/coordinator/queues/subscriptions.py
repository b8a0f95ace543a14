"""The state machine of subscriptions: their names, ids and settings.

Owns: which subscriptions exist. A subscription gets an id that none had before, so what is recorded of a
deleted one never counts for a new one of its name. Refuses: events and what consumers have received.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import SubscriptionExists, TooManySubscriptions, UnknownSubscription
from mainstem.coordinator.queues.types import (
    QueueIds,
    SubscriptionConfigured,
    SubscriptionCreated,
    SubscriptionDeleted,
    SubscriptionMetadata,
    changed_settings,
    check_subscription_name,
)
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise
from mainstem.queues.settings import SubscriptionSettings

SUBSCRIPTIONS_MAX = 100_000


class Subscriptions:
    """The state machine of subscriptions. `runtime`, that of the state log of queues, is set once, before the
    first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (
        QueueIds,
        SubscriptionCreated,
        SubscriptionConfigured,
        SubscriptionDeleted,
    )
    runtime: Runtime

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self._by_name: dict[str, SubscriptionMetadata] = {}
        self._by_id: dict[int, SubscriptionMetadata] = {}
        self._next_id = 1

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        match record:
            case QueueIds(next_id=next_id):
                self._next_id = max(self._next_id, next_id)
            case SubscriptionCreated(id=id_, name=name, settings=settings, created_ms=created_ms):
                assert name not in self._by_name, "a name is that of one subscription"
                self._put(SubscriptionMetadata(id_, name, settings, created_ms))
                self._next_id = max(self._next_id, id_ + 1)
            case SubscriptionConfigured(id=id_, settings=settings):
                old = self._by_id[id_]
                self._put(SubscriptionMetadata(id_, old.name, settings, old.created_ms))
            case SubscriptionDeleted(id=id_):
                del self._by_name[self._by_id.pop(id_).name]

    def _put(self, subscription: SubscriptionMetadata) -> None:
        self._by_id[subscription.id] = self._by_name[subscription.name] = subscription

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        if self._next_id == 1:
            return ()
        created = (
            SubscriptionCreated(known.id, known.name, known.settings, known.created_ms)
            for known in list(self._by_id.values())
        )
        return chain((QueueIds(self._next_id),), created)

    # --- reading ------------------------------------------------------------------------------------------

    def get(self, name: str) -> SubscriptionMetadata:
        """The subscription of that name, which may not be durable yet: a reply to a client has to wait for
        `runtime.read`. UnknownSubscription."""
        subscription = self._by_name.get(name)
        if subscription is None:
            raise UnknownSubscription(f"there is no subscription '{name}'")
        return subscription

    def all(self) -> list[SubscriptionMetadata]:
        """All subscriptions, sorted by name. See `get`."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    # --- writing ------------------------------------------------------------------------------------------

    def create(
        self, name: str, settings: Mapping[str, Any] | None = None, *, validate_only: bool = False
    ) -> Promise[SubscriptionMetadata]:
        """Create a subscription. `settings` by name, see `types.RANGES`; the others have their defaults. Done
        when it is durable.

        Fails with InvalidSubscriptionName, InvalidSubscriptionSetting, SubscriptionExists,
        TooManySubscriptions, StorageError.
        """

        def decide() -> tuple[Sequence[msgspec.Struct], SubscriptionMetadata]:
            check_subscription_name(name)
            if name in self._by_name:
                raise SubscriptionExists(f"there is a subscription '{name}' already")
            chosen = changed_settings(SubscriptionSettings(), settings or {})
            if len(self._by_id) >= SUBSCRIPTIONS_MAX:
                raise TooManySubscriptions(f"there are {SUBSCRIPTIONS_MAX:,} subscriptions already")
            record = SubscriptionCreated(self._next_id, name, chosen, self._clock.wall_ms())
            made = SubscriptionMetadata(record.id, name, chosen, record.created_ms)
            return ((), made) if validate_only else ((record,), made)

        return self.runtime.write(decide)

    def alter(self, name: str, changes: Mapping[str, Any]) -> Promise[SubscriptionMetadata]:
        """Change some settings of a subscription. Done when that is durable. Fails with UnknownSubscription,
        InvalidSubscriptionSetting, StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], SubscriptionMetadata]:
            old = self.get(name)
            settings = changed_settings(old.settings, changes)
            if settings == old.settings:
                return (), old
            changed = SubscriptionMetadata(old.id, name, settings, old.created_ms)
            return (SubscriptionConfigured(old.id, settings),), changed

        return self.runtime.write(decide)

    def delete(self, name: str) -> Promise[SubscriptionMetadata]:
        """Delete a subscription, with everything that it knows; no event of a topic is deleted. The value is
        what it was. Fails with UnknownSubscription, StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], SubscriptionMetadata]:
            old = self.get(name)
            return (SubscriptionDeleted(old.id),), old

        return self.runtime.write(decide)
