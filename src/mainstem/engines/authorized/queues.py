"""Subscriptions for one requester.

Owns: the right that each call needs, and what descriptions leave out. Who reads through a subscription needs
the right to READ it and each of its topics; who creates or alters one needs these, and WRITE for its
dead-letter topic: a subscription opens no way to events that could not be read without it. The queue of a
namespace has no topics of its own: the right to READ it is enough. Refuses: to say that a subscription exists
to a requester that may not describe it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from mainstem.access_contract import Operation, RequesterRights, ResourceType
from mainstem.contract import Position
from mainstem.engines.authorized.declared import CallRight, checked, needs
from mainstem.engines.authorized.log import DESCRIBE_TOPIC, READ_TOPIC, WRITE_TOPIC, AuthorizedLog
from mainstem.engines.authorized.readers import WAIT_MS
from mainstem.engines.authorized.revocation import while_allowed
from mainstem.masking.contract import RequesterMasks, parsed_queries
from mainstem.queue_contract import (
    BrowsedEvent,
    DeadLetterInfo,
    Delivery,
    EventInSubscription,
    SubscriptionInfo,
    SubscriptionSettings,
    SubscriptionTotals,
)

DESCRIBE_SUBSCRIPTION = CallRight(Operation.DESCRIBE, ResourceType.SUBSCRIPTION)
READ_SUBSCRIPTION = CallRight(Operation.READ, ResourceType.SUBSCRIPTION)
CREATE_SUBSCRIPTION = CallRight(Operation.CREATE, ResourceType.SUBSCRIPTION)
ALTER_SUBSCRIPTION = CallRight(Operation.ALTER, ResourceType.SUBSCRIPTION)
DELETE_SUBSCRIPTION = CallRight(Operation.DELETE, ResourceType.SUBSCRIPTION)

HIDDEN_PROBLEM = "it has a problem with a topic that you may not describe"


def require_settings(rights: RequesterRights, masks: RequesterMasks, settings: SubscriptionSettings) -> None:
    """Raise NotAuthorized or InvalidArgument if a subscription with these settings would write to a topic
    that the requester may not write to, or reveal what is masked for them. The queue of a namespace, which
    has no topics, may get the events of any."""

    def require_plain(action: str) -> None:
        if settings.topics:
            masks.require_plain(settings.topics, action)
        else:
            masks.require_none(action)

    if settings.dead_letter_topic is not None:
        rights.require(Operation.WRITE, ResourceType.TOPIC, settings.dead_letter_topic)
        require_plain("let events be copied to a dead-letter topic")
    if settings.topics and settings.dead_letters_to_sink:
        masks.require_plain(settings.topics, "let events be copied to a dead-letter exchange")
    if settings.push is not None:
        require_plain("let events be pushed to an endpoint")
    for query in parsed_queries([settings.filter]) if settings.filter else ():
        for topic in settings.topics:
            masks.check_query(query, topic)
        if not settings.topics:
            masks.check_query_of_any(query)


class AuthorizedQueues(AuthorizedLog):
    """Implements `Queues`."""

    # --- what there is ------------------------------------------------------------------------------------

    def _sees(self, name: str) -> bool:
        return self.rights.allows(Operation.DESCRIBE, ResourceType.SUBSCRIPTION, name)

    @needs(DESCRIBE_SUBSCRIPTION)
    async def subscriptions(self) -> list[str]:
        """See the contract. Those that the requester may not describe are left out."""
        return [name for name in await self.engine.subscriptions() if self._sees(name)]

    @needs(DESCRIBE_SUBSCRIPTION, DESCRIBE_TOPIC)
    async def subscription(self, name: str) -> SubscriptionInfo:
        """See the contract. Topics that the requester may not describe are left out, and so is the oldest
        event if it is in one of them."""
        self.rights.require(Operation.DESCRIBE, ResourceType.SUBSCRIPTION, name)
        info: SubscriptionInfo = await self.engine.subscription(name)
        settings = self._visible(info.settings)
        if settings == info.settings:
            return info
        shows_oldest = info.oldest is not None and self._sees_topic(info.oldest.topic)
        return replace(
            info,
            settings=settings,
            oldest=info.oldest if shows_oldest else None,
            oldest_ms=info.oldest_ms if shows_oldest else None,
            problems=(HIDDEN_PROBLEM,) if info.problems else (),
        )

    @needs(DESCRIBE_SUBSCRIPTION, DESCRIBE_TOPIC)
    async def subscription_settings(self, name: str) -> SubscriptionSettings:
        """See the contract, and `subscription`."""
        self.rights.require(Operation.DESCRIBE, ResourceType.SUBSCRIPTION, name)
        return self._visible(await self.engine.subscription_settings(name))

    def _visible(self, settings: SubscriptionSettings) -> SubscriptionSettings:
        """The settings without topics that the requester may not describe; the same object if there are
        none."""
        topics = tuple(topic for topic in settings.topics if self._sees_topic(topic))
        dead_letter_topic = settings.dead_letter_topic
        if dead_letter_topic is not None and not self._sees_topic(dead_letter_topic):
            dead_letter_topic = None
        if topics == settings.topics and dead_letter_topic == settings.dead_letter_topic:
            return settings
        return replace(settings, topics=topics, dead_letter_topic=dead_letter_topic)

    @needs(DESCRIBE_SUBSCRIPTION, DESCRIBE_TOPIC)
    async def subscription_totals(self, names: Sequence[str] | None = None) -> list[SubscriptionTotals]:
        """See the contract, and `subscription`."""
        if names is not None:
            names = [name for name in names if self._sees(name)]
        read: list[SubscriptionTotals] = await self.engine.subscription_totals(names)
        return [await self._visible_totals(totals) for totals in read if self._sees(totals.name)]

    async def _visible_totals(self, totals: SubscriptionTotals) -> SubscriptionTotals:
        topics = tuple(topic for topic in totals.topics if self._sees_topic(topic))
        problems = totals.problems
        if problems:
            settings: SubscriptionSettings = await self.engine.subscription_settings(totals.name)
            if self._visible(settings) is not settings:
                problems = (HIDDEN_PROBLEM,)
        if topics == totals.topics and problems == totals.problems:
            return totals
        return replace(totals, topics=topics, problems=problems)

    @needs(DESCRIBE_TOPIC, DESCRIBE_SUBSCRIPTION)
    async def event_states(self, position: Position) -> list[EventInSubscription]:
        """See the contract. Subscriptions that the requester may not describe are left out."""
        self.rights.require(Operation.DESCRIBE, ResourceType.TOPIC, position.topic)
        states: list[EventInSubscription] = await self.engine.event_states(position)
        return [state for state in states if self._sees(state.subscription)]

    snapshots = checked("snapshots", DESCRIBE_SUBSCRIPTION, "name")

    # --- their management ---------------------------------------------------------------------------------

    @needs(CREATE_SUBSCRIPTION, READ_TOPIC, WRITE_TOPIC)
    async def create_subscription(self, name: str, settings: SubscriptionSettings) -> None:
        """See the contract."""
        self.rights.require(Operation.CREATE, ResourceType.SUBSCRIPTION, name)
        self._require_settings(settings)
        await self.engine.create_subscription(name, settings)

    def _require_settings(self, settings: SubscriptionSettings) -> None:
        self._require_reading(set(settings.topics))()
        require_settings(self.rights, self.masks, settings)

    @needs(ALTER_SUBSCRIPTION, READ_TOPIC, WRITE_TOPIC)
    async def alter_subscription(
        self,
        name: str,
        settings: SubscriptionSettings,
        *,
        expected: SubscriptionSettings | None = None,
        dry_run: bool = False,
    ) -> None:
        """See the contract. All rights are needed for the present settings, too: otherwise topics that the
        requester was not shown would be removed."""
        self.rights.require(Operation.ALTER, ResourceType.SUBSCRIPTION, name)
        self._require_settings(settings)
        self._require_settings(await self.engine.subscription_settings(name))
        await self.engine.alter_subscription(name, settings, expected=expected, dry_run=dry_run)

    delete_subscription = checked("delete_subscription", DELETE_SUBSCRIPTION, "name")
    take_snapshot = checked("take_snapshot", ALTER_SUBSCRIPTION, "name")
    delete_snapshot = checked("delete_snapshot", ALTER_SUBSCRIPTION, "name")
    seek = checked("seek", ALTER_SUBSCRIPTION, "name")
    purge = checked("purge", ALTER_SUBSCRIPTION, "name")
    wake = checked("wake", ALTER_SUBSCRIPTION, "name")
    cancel = checked("cancel", ALTER_SUBSCRIPTION, "name")
    redrive = checked("redrive", ALTER_SUBSCRIPTION, "name")

    # --- their events -------------------------------------------------------------------------------------

    async def _require_receiving(self, name: str) -> tuple[Callable[[], None], frozenset[str]]:
        """Raise NotAuthorized unless the requester may read through a subscription. Returns a function that
        checks it again, and its topics."""
        self.rights.require(Operation.READ, ResourceType.SUBSCRIPTION, name)
        settings: SubscriptionSettings = await self.engine.subscription_settings(name)
        require_topics = self._require_reading(set(settings.topics))

        def require() -> None:
            self.rights.require(Operation.READ, ResourceType.SUBSCRIPTION, name)
            require_topics()

        require()
        return require, frozenset(settings.topics)

    @needs(READ_SUBSCRIPTION, READ_TOPIC)
    async def pull(self, name: str, consumer: str, **limits: int | None) -> list[Delivery]:
        """See the contract. NotAuthorized also if the right is revoked while it waits."""
        require, topics = await self._require_receiving(name)
        pulling = self.engine.pull(name, consumer, **limits)
        deliveries: list[Delivery]
        if (limits.get("wait_ms") or 0) > WAIT_MS:
            deliveries = await while_allowed(self.rights, self.clock, require, pulling)
        else:
            deliveries = await pulling
        if topics:  # some may have been added meanwhile
            for topic in {delivery.event.topic for delivery in deliveries}:
                self.rights.require(Operation.READ, ResourceType.TOPIC, topic)
        if self.masks.are_any:
            visible, masked = self.masks.visible, msgspec.structs.replace
            return [masked(delivery, event=visible(delivery.event)) for delivery in deliveries]
        return deliveries

    settle = checked("settle", READ_SUBSCRIPTION, "name")

    @needs(READ_SUBSCRIPTION, READ_TOPIC)
    async def browse(self, name: str, *arguments: Any, **options: Any) -> list[BrowsedEvent]:
        """See the contract."""
        await self._require_receiving(name)
        events: list[BrowsedEvent] = await self.engine.browse(name, *arguments, **options)
        if self.masks.are_any:
            return [replace(browsed, event=self.masks.visible(browsed.event)) for browsed in events]
        return events

    @needs(READ_SUBSCRIPTION, READ_TOPIC)
    async def dead_letters(self, name: str, **options: Any) -> list[DeadLetterInfo]:
        """See the contract. The right to READ is needed for the topic where the letters are."""
        self.rights.require(Operation.READ, ResourceType.SUBSCRIPTION, name)
        settings: SubscriptionSettings = await self.engine.subscription_settings(name)
        if settings.dead_letter_topic is not None:
            self.rights.require(Operation.READ, ResourceType.TOPIC, settings.dead_letter_topic)
        letters: list[DeadLetterInfo] = await self.engine.dead_letters(name, **options)
        for topic in {letter.letter.topic for letter in letters}:  # it may be the one that it had last
            self.rights.require(Operation.READ, ResourceType.TOPIC, topic)
        if self.masks.are_any:
            return [replace(letter, letter=self.masks.visible(letter.letter)) for letter in letters]
        return letters
