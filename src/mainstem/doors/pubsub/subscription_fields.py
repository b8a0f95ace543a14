"""The fields of `google.pubsub.v1.Subscription`: what a client may ask for, and what it is shown.

Owns: ranges and defaults, and the conversion between the message and the record of a subscription. Refuses:
to look anything up. Source: google/pubsub/v1/pubsub.proto.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import json_format

from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.pubsub import filters
from mainstem.pubsub.durations import milliseconds_of, set_milliseconds
from mainstem.pubsub.messages import message
from mainstem.pubsub.stored_subscription import (
    ACK_DEADLINE_MS,
    BACKOFF_MAX_MS,
    BACKOFF_MIN_MS,
    EXPIRATION_MS,
    RETENTION_MS,
    StoredDeadLetters,
    StoredSubscription,
)
from mainstem.queues.settings import DAY_MS

RETENTION_RANGE_MS = 10 * 60_000, 31 * DAY_MS
EXPIRATION_MS_MIN = DAY_MS
EXPIRATION_MS_MAX = 366 * DAY_MS
ACK_DEADLINE_RANGE_S = 10, 600
ATTEMPTS_RANGE = 5, 100
BACKOFF_MS_MAX = 600_000
LABELS_MAX = 64
_LABEL_NAME = re.compile(r"[\w-]{1,63}")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}")
CHANGEABLE = (
    "ack_deadline_seconds", "dead_letter_policy", "enable_exactly_once_delivery", "expiration_policy",
    "labels", "message_retention_duration", "push_config", "retain_acked_messages", "retry_policy",
)  # fmt: skip
"""What UpdateSubscription may change."""
FIXED = ("topic", "filter", "enable_message_ordering")
"""What it may name as long as that is what there is."""
NEEDS_GOOGLE = ("bigquery_config", "cloud_storage_config", "bigtable_config")


def invalid(text: str) -> RpcError:
    """The error for an argument."""
    return RpcError(Code.INVALID_ARGUMENT, text)


def check_offered(asked: Any) -> None:
    """RpcError if a subscription asks for what this server does not have."""
    fields = asked.DESCRIPTOR.fields_by_name
    for name in NEEDS_GOOGLE:
        if name in fields and asked.HasField(name):
            raise invalid(f"{name} needs Google's cloud: this server does not have it")
    if "message_transforms" in fields and asked.message_transforms:
        raise invalid("message_transforms are not offered by this server")


def record_of(
    asked: Any, project: str, id_: str, stored_topic: str, topic_uid: str, stored_dead_letter_topic: str
) -> StoredSubscription:
    """The record of a subscription with the fields of a message, in which those that are missing have their
    defaults. RpcError: a field is out of its range."""
    check_offered(asked)
    if asked.filter:
        try:
            filters.parse(asked.filter)
        except filters.FilterError as error:
            raise invalid(f"Invalid filter given (filter={asked.filter[:256]}): {error}") from None
    return StoredSubscription(
        project=project,
        id=id_,
        topic=asked.topic,
        stored_topic=stored_topic,
        topic_uid=topic_uid,
        labels=labels_of(asked.labels),
        filter=asked.filter,
        ack_deadline_ms=_ack_deadline_ms(asked.ack_deadline_seconds),
        retention_ms=_retention_ms(asked),
        retains_acked=asked.retain_acked_messages,
        expiration_ms=_expiration_ms(asked),
        is_ordered=asked.enable_message_ordering,
        is_exactly_once=asked.enable_exactly_once_delivery,
        dead_letters=_dead_letters(asked, stored_dead_letter_topic),
        backoff_ms=_backoff_ms(asked),
        push=push_of(asked),
        tags=dict(asked.tags) if "tags" in asked.DESCRIPTOR.fields_by_name else {},
    )


def push_of(asked: Any) -> dict[str, Any] | None:
    """The push configuration as JSON; None: clients pull."""
    if not asked.HasField("push_config") or not asked.push_config.push_endpoint:
        return None
    config: dict[str, Any] = json_format.MessageToDict(asked.push_config, preserving_proto_field_name=True)
    return config


def labels_of(labels: Any) -> dict[str, str]:
    """The labels of a resource. RpcError."""
    if len(labels) > LABELS_MAX:
        raise invalid(f"a resource has at most {LABELS_MAX} labels")
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            raise invalid(f"Invalid label given (key={name[:63]}): 1 to 63 letters, digits, _ and -")
    return dict(labels)


def _ack_deadline_ms(seconds: int) -> int:
    least, most = ACK_DEADLINE_RANGE_S
    if seconds and not least <= seconds <= most:
        raise invalid(
            f"Invalid ack deadline given (seconds={seconds}): it must be from {least} to {most} seconds."
        )
    return seconds * 1000 or ACK_DEADLINE_MS


def _retention_ms(asked: Any) -> int:
    if not asked.HasField("message_retention_duration"):
        return RETENTION_MS
    duration_ms = milliseconds_of(asked.message_retention_duration)
    least, most = RETENTION_RANGE_MS
    if not least <= duration_ms <= most:
        raise invalid(
            f"Invalid message_retention_duration given (seconds={duration_ms // 1000}):"
            f" it must be from {least // 1000} to {most // 1000} seconds."
        )
    return duration_ms


def _expiration_ms(asked: Any) -> int:
    if not asked.HasField("expiration_policy"):
        return EXPIRATION_MS
    if not asked.expiration_policy.HasField("ttl"):
        return 0
    ttl_ms = milliseconds_of(asked.expiration_policy.ttl)
    if not EXPIRATION_MS_MIN <= ttl_ms <= EXPIRATION_MS_MAX:
        raise invalid(f"Invalid expiration_policy.ttl given (seconds={ttl_ms // 1000}): at least a day.")
    return ttl_ms


def _dead_letters(asked: Any, stored_topic: str) -> StoredDeadLetters | None:
    policy = asked.dead_letter_policy
    if not asked.HasField("dead_letter_policy") or not policy.dead_letter_topic:
        return None
    attempts, (least, most) = policy.max_delivery_attempts, ATTEMPTS_RANGE
    if attempts and not least <= attempts <= most:
        raise invalid(
            f"Invalid max_delivery_attempts given (value={attempts}): it must be from {least} to {most}."
        )
    return StoredDeadLetters(policy.dead_letter_topic, stored_topic, attempts or least)


def _backoff_ms(asked: Any) -> tuple[int, int] | None:
    if not asked.HasField("retry_policy"):
        return None
    policy = asked.retry_policy
    least = milliseconds_of(policy.minimum_backoff) if policy.HasField("minimum_backoff") else BACKOFF_MIN_MS
    most = milliseconds_of(policy.maximum_backoff) if policy.HasField("maximum_backoff") else BACKOFF_MAX_MS
    if not 0 <= least <= BACKOFF_MS_MAX or not 0 <= most <= BACKOFF_MS_MAX:
        raise invalid("Invalid retry_policy given: a backoff must be from 0 to 600 seconds.")
    if least > most:
        raise invalid("Invalid retry_policy given: minimum_backoff is more than maximum_backoff.")
    return least, most


def subscription_message(stored: StoredSubscription) -> Any:
    """The `google.pubsub.v1.Subscription` of a record."""
    shown = message("google.pubsub.v1.Subscription")(
        name=stored.name,
        topic=stored.topic,
        ack_deadline_seconds=stored.ack_deadline_ms // 1000,
        retain_acked_messages=stored.retains_acked,
        labels=stored.labels,
        enable_message_ordering=stored.is_ordered,
        filter=stored.filter,
        detached=stored.is_detached,
        enable_exactly_once_delivery=stored.is_exactly_once,
    )
    if "tags" in shown.DESCRIPTOR.fields_by_name:
        shown.tags.update(stored.tags)
    shown.state = shown.State.Value("ACTIVE")
    shown.push_config.SetInParent()
    if stored.push is not None:
        json_format.ParseDict(stored.push, shown.push_config, ignore_unknown_fields=True)
    set_milliseconds(shown.message_retention_duration, stored.retention_ms)
    shown.expiration_policy.SetInParent()
    if stored.expiration_ms:
        set_milliseconds(shown.expiration_policy.ttl, stored.expiration_ms)
    if stored.dead_letters is not None:
        shown.dead_letter_policy.dead_letter_topic = stored.dead_letters.topic
        shown.dead_letter_policy.max_delivery_attempts = stored.dead_letters.attempts
    if stored.backoff_ms is not None:
        set_milliseconds(shown.retry_policy.minimum_backoff, stored.backoff_ms[0])
        set_milliseconds(shown.retry_policy.maximum_backoff, stored.backoff_ms[1])
    return shown
