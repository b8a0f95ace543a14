"""The value types of topics, the records of their state machine, and the rules for names.

Owns: Kafka's rule for topic names, and the prefix that is reserved for the server. Refuses: state and input
or output; `topics.py` has the state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from mainstem.coordinator.errors import CoordinatorError, InvalidTopicName, UnknownTopicOrPartition
from mainstem.coordinator.runtime.records import StateRecord

NAME_LENGTH_MAX = 249
RESERVED_PREFIX = "__mainstem"
"""Topic names with this prefix are reserved for the server."""
AUDIT_TOPIC = "__mainstem_audit"
"""The topic of who did what; only the server writes to it."""
INTERNAL = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})
"""Kafka's internal topics. A topic with such a name, if a client creates one, is shown as internal."""

_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)

TopicStatus = Literal["live", "deleted", "unknown"]


@dataclass(frozen=True, slots=True)
class TopicMetadata:
    """A topic: its id, number of partitions and settings."""

    name: str
    id: UUID
    partitions: int
    config: Mapping[str, str]
    """Only the settings that are not left at their default."""
    internal: bool = False


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One requested change of a setting of a topic or group: set, delete (`value` is None), append to or
    subtract from a list."""

    name: str
    op: Literal["set", "delete", "append", "subtract"]
    value: str | None = None


class TopicCreated(StateRecord, frozen=True, array_like=True, tag="topic-created"):
    """State record: a topic was created."""

    id: UUID
    name: str
    partitions: int
    config: dict[str, str]


class PartitionsAdded(StateRecord, frozen=True, array_like=True, tag="topic-grown"):
    """State record: partitions were added to a topic, which has `partitions` of them now."""

    id: UUID
    partitions: int


class TopicConfigured(StateRecord, frozen=True, array_like=True, tag="topic-configured"):
    """State record: all settings of a topic were replaced by `config`."""

    id: UUID
    config: dict[str, str]


class TopicDeleted(StateRecord, frozen=True, array_like=True, tag="topic-deleted"):
    """State record: a topic was deleted. Its id is kept as a tombstone until the log has deleted its
    files."""

    id: UUID
    name: str


class TopicPurged(StateRecord, frozen=True, array_like=True, tag="topic-forgotten"):
    """State record: the log has deleted the files of a deleted topic, so its tombstone is dropped."""

    id: UUID


def is_internal(name: str) -> bool:
    """Whether a topic of that name is shown as internal, and takes no events from clients."""
    return name in INTERNAL or name.startswith(RESERVED_PREFIX)


def check_name(name: str) -> None:
    """Check Kafka's rule for names (`org.apache.kafka.common.internals.Topic`) and the reserved prefix.
    InvalidTopicName."""
    problem = name_problem(name)
    if problem is not None:
        raise InvalidTopicName(f"Topic name is invalid: {problem}")


def name_problem(name: str) -> str | None:
    """What is wrong with a name by the rules for topics, as text for people; None if it is valid."""
    if not name:
        return "the empty string is not allowed"
    if name in (".", ".."):
        return f"'{name}' is not allowed"
    if len(name) > NAME_LENGTH_MAX:
        return (
            f"the length of '{name[:NAME_LENGTH_MAX]}…' is longer than the max allowed length"
            f" {NAME_LENGTH_MAX}"
        )
    if not _NAME.fullmatch(name):
        return f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    if name.startswith(RESERVED_PREFIX):
        return f"'{name}' begins with '{RESERVED_PREFIX}', which is reserved for the server"
    return None


def unknown_topic_error(name: str) -> CoordinatorError:
    """The error for a name that no topic has: InvalidTopicName if no topic can have it."""
    try:
        check_name(name)
    except InvalidTopicName as error:
        return error
    return UnknownTopicOrPartition(f"This server does not host this topic: '{name}'.")
