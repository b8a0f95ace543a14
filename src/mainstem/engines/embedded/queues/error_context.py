"""Converts errors of the log and the coordinator to errors of the contract of queues.

Owns: the context in which calls of the engine do their work. Refuses: errors that it does not know, which are
bugs.
"""

from __future__ import annotations

from mainstem.contract import StreamError
from mainstem.coordinator import errors as coordinator
from mainstem.engines.embedded.errors import translate
from mainstem.queue_contract import (
    NoSuchSnapshot,
    NoSuchSubscription,
    SettingsHaveChanged,
    SnapshotNameTaken,
    SubscriptionNameTaken,
)


class about:  # noqa: N801  (reads as a word at each use; a generator would cost each call 2 µs)
    """Convert errors of the log and the coordinator to errors of the contract."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, StreamError):
            raise _converted(error, self._name) from None


def _converted(error: Exception, name: str) -> Exception:
    subject = f"subscription {name}"
    match error:
        case coordinator.UnknownSubscription():
            return NoSuchSubscription(f"{subject}: there is no such subscription")
        case coordinator.SubscriptionExists():
            return SubscriptionNameTaken(f"{subject}: another one has this name")
        case coordinator.SubscriptionChanged():
            return SettingsHaveChanged(f"{subject}: {error}")
        case coordinator.UnknownSnapshot():
            return NoSuchSnapshot(str(error))
        case coordinator.SnapshotNameInUse():
            return SnapshotNameTaken(f"{subject}: {error}")
    return translate(error, subject)
