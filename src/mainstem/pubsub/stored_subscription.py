"""What a subscription of Pub/Sub is beyond a subscription of the log: its record, and the settings it means.

The record is JSON in the setting `door_settings` of the subscription, so that both change together.

Owns: the record, and the settings of the engine that follow from it. Refuses: checks of what a client asks
for, and protobuf messages, which the door has. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from mainstem.pubsub import filters
from mainstem.pubsub.events import stored_attribute_name
from mainstem.queues.push_settings import DEADLINE_MS, PushSettings
from mainstem.queues.settings import DAY_MS, SubscriptionSettings

ACK_DEADLINE_MS = 10_000
RETENTION_MS = 7 * DAY_MS
EXPIRATION_MS = 31 * DAY_MS
BACKOFF_MIN_MS, BACKOFF_MAX_MS = 10_000, 600_000
"""The defaults that Pub/Sub documents."""
DELETED_TOPIC = "_deleted-topic_"
"""What a subscription says is its topic when that was deleted."""


class StoredDeadLetters(msgspec.Struct, frozen=True):
    """A dead-letter policy."""

    topic: str
    """The full name, `projects/P/topics/T`."""
    stored_topic: str
    """The name of the topic in the log."""
    attempts: int


class StoredSubscription(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The record of a subscription."""

    project: str
    id: str
    topic: str
    """The full name; DELETED_TOPIC after its deletion."""
    stored_topic: str
    """The name of the topic in the log."""
    topic_uid: str
    """The id of the topic in the log: another one may have its name later."""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    filter: str = ""
    """In the language of Pub/Sub."""
    ack_deadline_ms: int = ACK_DEADLINE_MS
    retention_ms: int = RETENTION_MS
    retains_acked: bool = False
    expiration_ms: int = EXPIRATION_MS
    """After how long without a client it is deleted; 0: never."""
    is_ordered: bool = False
    is_exactly_once: bool = False
    dead_letters: StoredDeadLetters | None = None
    backoff_ms: tuple[int, int] | None = None
    """The least and the most; None: what is given back is delivered again at once."""
    is_detached: bool = False
    push: dict[str, Any] | None = None
    """The push configuration, as JSON of its message; None: clients pull."""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    discard_until_ms: int = 0
    """After a seek into the future: messages published before this time are not delivered."""

    @property
    def name(self) -> str:
        """The full name."""
        return f"projects/{self.project}/subscriptions/{self.id}"

    @property
    def is_topic_deleted(self) -> bool:
        """Whether its topic was deleted."""
        return self.topic == DELETED_TOPIC


def stored_of(settings: SubscriptionSettings) -> StoredSubscription | None:
    """The record in the settings of a subscription; None: it is not of this door."""
    if not settings.door_settings.startswith('{"project":'):
        return None
    try:
        return msgspec.json.decode(settings.door_settings, type=StoredSubscription)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None


def with_stored(settings: SubscriptionSettings, stored: StoredSubscription) -> SubscriptionSettings:
    """The settings with another record, and what follows from it. FilterError: its filter is none."""
    letters, backoff = stored.dead_letters, stored.backoff_ms or (0, BACKOFF_MAX_MS)
    changes: Mapping[str, Any] = {
        "topics": () if stored.is_topic_deleted or stored.is_detached else (stored.stored_topic,),
        "filter": filters.parse(stored.filter).query(stored_attribute_name) if stored.filter else "",
        "lock_ms": stored.ack_deadline_ms,
        "failures_max": letters.attempts if letters is not None else 0,
        "dead_letter_topic": letters.stored_topic if letters is not None else None,
        "backoff_min_ms": backoff[0],
        "backoff_max_ms": max(backoff),
        "in_key_order": stored.is_ordered,
        "accepts_late_acks": not stored.is_exactly_once,
        "durable_leases": stored.is_exactly_once and not stored.is_ordered,
        "pin_ms": stored.retention_ms,
        # What has expired would become a dead letter, which it is not with Pub/Sub.
        "ttl_ms": stored.retention_ms if letters is None else 0,
        "push": _push_settings(stored),
        "door_settings": msgspec.json.encode(stored).decode(),
    }
    return replace(settings, **changes)


def _push_settings(stored: StoredSubscription) -> PushSettings | None:
    config = stored.push
    if config is None or stored.is_detached or not config.get("push_endpoint"):
        return None
    endpoint, token = config["push_endpoint"], config.get("oidc_token")
    return PushSettings(
        endpoint=endpoint,
        token_audience=token.get("audience") or endpoint if token is not None else "",
        deadline_ms=min(stored.ack_deadline_ms, DEADLINE_MS[1]),
        payload="pubsub-unwrapped" if "no_wrapper" in config else "pubsub-wrapped",
    )
