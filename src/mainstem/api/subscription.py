"""Makes the subscription of a subscriber, or alters the one that there is to what the code declares.

Owns: which settings the code decides: topic, key order, dead letters, attempts and backoff. Refuses: to touch
the others, which are the operators'; and to make a subscription anew that was deleted while it is in use.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime

from mainstem.api.subscriber import SubscriberOptions
from mainstem.contract import Engine, InvalidArgument, TopicExists, UnknownTopic
from mainstem.queue_contract import (
    NoSuchSubscription,
    Queues,
    SettingsHaveChanged,
    SubscriptionNameTaken,
    SubscriptionSettings,
)

ALTERATIONS_MAX = 10
"""How often it is tried to alter settings that others alter at the same time."""
log = logging.getLogger(__name__)


async def ensure_subscription(engine: Engine, queues: Queues, options: SubscriberOptions) -> None:
    """Make what a subscriber needs, where it is missing: its topic, the topic of its dead letters and the
    subscription. InvalidArgument: there is a subscription of this name for other topics, or that does not
    keep keys in order; and any StreamError of the calls."""
    for _ in range(ALTERATIONS_MAX):
        try:
            present = await queues.subscription_settings(options.name)
        except NoSuchSubscription:
            if await _create(engine, queues, options):
                return
            continue  # another process was faster
        if options.topic not in present.topics:
            raise InvalidArgument(
                f"subscription {options.name} exists, and delivers other topics: {', '.join(present.topics)}"
            )
        declared = _declared(options, present)
        if not present.in_key_order:
            raise InvalidArgument(
                f"subscription {options.name} exists, and does not deliver in the order of keys, which cannot"
                " be changed: give the group another name, or delete the subscription"
            )
        if declared == present:
            return
        await _ensure_topic(engine, options.dead_topic)
        try:
            await queues.alter_subscription(options.name, declared, expected=present)
        except SettingsHaveChanged:
            continue
        log.info(
            "subscription %s: altered to what the code declares: %s",
            options.name,
            _changes(present, declared),
        )
        return
    raise InvalidArgument(f"subscription {options.name}: others change its settings all the time")


async def _create(engine: Engine, queues: Queues, options: SubscriberOptions) -> bool:
    """Create the subscription. False: there is one of this name now."""
    await _ensure_topic(engine, options.topic)
    await _ensure_topic(engine, options.dead_topic)
    settings = _declared(options, SubscriptionSettings(from_latest=options.start != "earliest"))
    try:
        await queues.create_subscription(options.name, settings)
    except SubscriptionNameTaken:
        return False
    if isinstance(options.start, datetime):
        # Until here it delivers only what is new: a process that is faster gets nothing from before the time.
        await queues.seek(options.name, max(0, round(options.start.timestamp() * 1000)))
    log.info("subscription %s: created", options.name)
    return True


def _declared(options: SubscriberOptions, base: SubscriptionSettings) -> SubscriptionSettings:
    """The settings with what the code decides."""
    retry = options.retry
    return replace(
        base,
        topics=base.topics or (options.topic,),
        in_key_order=True if not base.topics else base.in_key_order,
        dead_letter_topic=options.dead_topic,
        failures_max=retry.max_attempts,
        backoff_min_ms=round(retry.initial_delay * 1000),
        backoff_max_ms=round(retry.max_delay * 1000),
        backoff_factor=float(retry.factor),
    )


def _changes(before: SubscriptionSettings, after: SubscriptionSettings) -> str:
    old, new = before.by_name(), after.by_name()
    return ", ".join(f"{name} {old[name]} -> {new[name]}" for name in new if new[name] != old[name])


async def _ensure_topic(engine: Engine, topic: str) -> None:
    try:
        await engine.partitions(topic)
    except UnknownTopic:
        try:
            await engine.create_topic(topic)
            log.info("topic %s: created", topic)
        except TopicExists:
            pass
