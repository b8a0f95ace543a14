"""Sends the replies of decisions about groups, and translates failures of the disk for clients.

Owns: nothing. Refuses: rules of groups.
"""

from __future__ import annotations

from typing import Any, TypeVar

from mainstem.coordinator.errors import CoordinatorError, NotCoordinator
from mainstem.coordinator.groups.members import Decision
from mainstem.promise import Promise

T = TypeVar("T")


def not_coordinator(reason: str) -> NotCoordinator:
    """The error on which every client finds the coordinator and retries."""
    return NotCoordinator(f"look for the coordinator again: {reason}")


def send_replies(decision: Decision, failure: CoordinatorError | None) -> None:
    """Send the replies of a decision, or `failure` to all of its clients."""
    replies, decision.replies = decision.replies, []
    for reply in replies:
        reply.send(failure)


def fail_if_waiting(reply: Promise[Any], error: BaseException | None) -> None:
    """Fail a request whose decision did not become durable, unless it has failed already because its group
    was dropped."""
    if error is not None and not reply.done:
        reply.fail(error)


def with_retriable_error(written: Promise[T]) -> Promise[T]:
    """`written`, with NotCoordinator in place of an error of the disk: clients find the coordinator and
    retry."""
    if written.done and (written.error is None or isinstance(written.error, CoordinatorError)):
        return written
    translated: Promise[T] = Promise()

    def on_done(done: Promise[T]) -> None:
        if done.error is None or isinstance(done.error, CoordinatorError):
            translated.copy_result(done)
        else:
            translated.fail(not_coordinator(str(done.error)))

    written.then(on_done)
    return translated
