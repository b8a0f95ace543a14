"""The errors of the contract between the engines and their users.

Owns: one class for each error, which `contract.py` has among its own names. Refuses: to be imported by others
than the contract: its users take the errors from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StreamError(Exception):
    """Base of all errors of an engine. The message says in one line what failed and where."""

    results: Sequence[Any] = ()
    """Only for a `publish` that failed: the `contract.Position` or the error of each event, in order."""


class NotReachable(StreamError):
    """The error if the server does not respond, or cannot accept the call now. A later attempt may
    succeed."""


class UnknownTopic(StreamError):
    """The error if the topic or the partition does not exist."""


def no_partition(topic: str, partition: int, count: int) -> str:
    """The text of an UnknownTopic for a partition that the topic does not have."""
    present = "only partition 0" if count == 1 else f"partitions 0 to {count - 1}"
    return f"topic {topic}: there is no partition {partition}; it has {present}"


class TopicExists(StreamError):
    """The error for creating a topic whose name another topic has."""


class UnknownGroup(StreamError):
    """The error if the consumer group does not exist."""


class GroupInUse(StreamError):
    """The error for deleting a group or setting its positions while it has members."""


class PositionOutOfRange(StreamError):
    """The error for an offset before the partition's first event or after its end."""


class EventTooLarge(StreamError):
    """The error for publishing an event larger than the topic's `max.message.bytes`."""


class InvalidArgument(StreamError):
    """The error for a name, number or setting that the server does not accept."""


class NotAllowed(StreamError):
    """The error if the caller's credentials are missing or do not permit the call, or the door is
    read-only."""


class NoSuchToken(StreamError):
    """The error if there is no API token of this id."""


class NoSuchUser(StreamError):
    """The error if there is no user of this name, or it has no verifier of the requested mechanisms."""


class NotAuthorized(NotAllowed):
    """The error if access control denies the caller this operation."""


class RelayLost(StreamError):
    """The error of an outbox's relay that has lost its connection to the database, and with it the lock that
    one relay at a time has, or that could not take it in time."""
