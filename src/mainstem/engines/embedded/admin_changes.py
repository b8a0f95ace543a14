"""Changes of what the coordinator keeps for administrators, as doors ask for them.

Owns: that a read-only door changes nothing, and that the errors are those of the contract. Refuses: to know
what is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mainstem.contract import NotAllowed
from mainstem.engines.embedded.errors import translate
from mainstem.promise import Promise

T = TypeVar("T")


def changed_by_door(subject: str, change: Callable[[], Promise[T]], *, is_read_only: bool) -> Promise[T]:
    """What the change gives. Fails with NotAllowed, without making it, if the door is read-only; else with
    the contract's error for that of the change. `subject` begins the message."""
    if is_read_only:
        return Promise.failed(NotAllowed(f"{subject}: a change is refused: this door is read-only"))
    changed: Promise[T] = Promise()

    def on_done(done: Promise[T]) -> None:
        error = done.error
        if error is None:
            changed.resolve(done.result())
        else:
            changed.fail(translate(error, subject) if isinstance(error, Exception) else error)

    change().then(on_done)
    return changed
