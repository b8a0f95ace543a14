"""What a topic is, what its records are, and which names it may have.

Owns: the values that `topics.py` keeps and gives out. Refuses: behaviour. Imported through `topics.py`.
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
RESERVED = "__mainstem"
"""Names that begin so are the server's own."""
INTERNAL = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})
"""Kafka's own internal topics, shown as such if a client makes one."""

_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)

TopicStatus = Literal["live", "deleted", "unknown"]


@dataclass(frozen=True, slots=True)
class TopicMetadata:
    """One topic, as it is now."""

    name: str
    id: UUID
    partitions: int
    config: Mapping[str, str]
    """Only what was set."""
    internal: bool = False


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One step of an incremental change. `value` None is for delete only."""

    name: str
    op: Literal["set", "delete", "append", "subtract"]
    value: str | None = None


class TopicCreated(StateRecord, frozen=True, array_like=True, tag="topic-created"):
    """A topic is there."""

    id: UUID
    name: str
    partitions: int
    config: dict[str, str]


class PartitionsAdded(StateRecord, frozen=True, array_like=True, tag="topic-grown"):
    """It has `partitions` partitions now."""

    id: UUID
    partitions: int


class TopicConfigured(StateRecord, frozen=True, array_like=True, tag="topic-configured"):
    """These, and no others, are its settings."""

    id: UUID
    config: dict[str, str]


class TopicDeleted(StateRecord, frozen=True, array_like=True, tag="topic-deleted"):
    """The topic is gone; its id stays known until the log has forgotten it."""

    id: UUID
    name: str


class TopicPurged(StateRecord, frozen=True, array_like=True, tag="topic-forgotten"):
    """Nothing on disk refers to the id any more."""

    id: UUID


def check_name(name: str) -> None:
    """Kafka's rule for names (`org.apache.kafka.common.internals.Topic`), and ours. InvalidTopicName."""
    if not name:
        raise InvalidTopicName("Topic name is invalid: the empty string is not allowed")
    if name in (".", ".."):
        raise InvalidTopicName(f"Topic name is invalid: '{name}' is not allowed")
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidTopicName(
            f"Topic name is invalid: the length of '{name[:NAME_LENGTH_MAX]}…' is longer than the max"
            " allowed length"
            f" {NAME_LENGTH_MAX}"
        )
    if not _NAME.fullmatch(name):
        raise InvalidTopicName(
            f"Topic name is invalid: '{name}' contains one or more characters other than ASCII"
            " alphanumerics, '.', '_'"
            " and '-'"
        )
    if name.startswith(RESERVED):
        raise InvalidTopicName(
            f"Topic name is invalid: '{name}' begins with '{RESERVED}', which is the server's own"
        )


def unknown_topic_error(name: str) -> CoordinatorError:
    """The refusal for a name that no topic has, InvalidTopicName if none could."""
    try:
        check_name(name)
    except InvalidTopicName as error:
        return error
    return UnknownTopicOrPartition(f"This server does not host this topic: '{name}'.")
