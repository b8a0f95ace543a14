"""The fields of `google.pubsub.v1.Topic`: what a client may ask for, and what it is shown.

Owns: ranges, what may be changed, and what needs Google's cloud. Refuses: to look anything up. Source:
google/pubsub/v1/pubsub.proto.
"""

from __future__ import annotations

from typing import Any

from mainstem.doors.pubsub.refusals import arguments, invalid_argument
from mainstem.doors.pubsub.schemas import encoding_of
from mainstem.doors.pubsub.subscription_fields import labels_of
from mainstem.pubsub.durations import milliseconds_of
from mainstem.pubsub.messages import message
from mainstem.pubsub.names import parse_name

CHANGEABLE = (
    "labels",
    "message_retention_duration",
    "message_storage_policy",
    "schema_settings",
    "ingestion_data_source_settings",
    "kms_key_name",
    "message_transforms",
    "tags",
)
"""What UpdateTopic may change."""
OUTPUT_ONLY = ("satisfies_pzs", "state")
NEEDS_GOOGLE = ("kms_key_name", "ingestion_data_source_settings", "message_transforms")
RETENTION_MIN_MS = 10 * 60_000
RETENTION_MAX_MS = 31 * 86_400_000
DELETED_SCHEMA = "_deleted-schema_"
"""In place of the schema of a topic whose schema was deleted."""


def checked_record(asked: Any) -> Any:
    """The record of a topic with the fields of a message. RpcError: a field is out of its range, or needs
    what this server does not have."""
    record = message("google.pubsub.v1.Topic")()
    record.CopyFrom(asked)
    for name in OUTPUT_ONLY:
        record.ClearField(name)
    set_fields = {field.name for field, _ in record.ListFields()}
    for name in NEEDS_GOOGLE:
        if name in set_fields:
            raise invalid_argument(f"{name} needs Google's cloud: this server does not have it")
    labels_of(record.labels)
    if "message_retention_duration" in set_fields:
        _check_retention(record.message_retention_duration)
    if "schema_settings" in set_fields:
        with arguments():
            parse_name(record.schema_settings.schema, "schemas")
        encoding_of(record.schema_settings.encoding)
    return record


def _check_retention(duration: Any) -> None:
    if not RETENTION_MIN_MS <= milliseconds_of(duration) <= RETENTION_MAX_MS:
        raise invalid_argument(
            f"Invalid message_retention_duration given (seconds={duration.seconds}): it must be from"
            f" {RETENTION_MIN_MS // 1_000} to {RETENTION_MAX_MS // 1_000} seconds."
        )


def shown(record: Any, *, has_schema: bool = True) -> Any:
    """The `google.pubsub.v1.Topic` that clients see. `has_schema`: whether the schema in its settings
    exists."""
    topic = message("google.pubsub.v1.Topic")()
    topic.CopyFrom(record)
    topic.state = topic.State.Value("ACTIVE")
    if not has_schema:
        topic.schema_settings.schema = DELETED_SCHEMA
    return topic
