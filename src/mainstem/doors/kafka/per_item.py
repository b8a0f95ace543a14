"""Replies with an error code for each item.

Owns: turning the result of each item of a request, which may come later, into that item's message. Refuses:
to let one item's failure touch another's. Called by the handlers of administration and groups.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from mainstem.doors.kafka.errors import code_of, is_refusal
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise, gather

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

log = logging.getLogger("mainstem.kafka")


def reply_for(
    later: Promise[T], done: Callable[[T], Message], refused: Callable[[int, str], Message]
) -> Promise[Message]:
    """The item's message: `done(value)`, or `refused(error code, text for people)`. Never fails."""
    out: Promise[Message] = Promise()

    def finish(result: Promise[T]) -> None:
        error = result.error
        if error is None:
            try:
                message = done(result.result())
            except Exception as fault:
                error = fault
        if error is not None:
            message = refused(int(code_of(error)), error_text(error))
        out.resolve(message)

    later.then(finish)
    return out


def error_text(error: BaseException) -> str:
    """What a client is told. A fault of ours goes to the log instead."""
    if is_refusal(error):
        return str(error)
    log.error("an item of a request failed", exc_info=error)
    return "The server failed on this; its log says more."


def attempt(call: Callable[[], Promise[T]]) -> Promise[T]:
    """`call()`, an exception that it raises at once included."""
    try:
        return call()
    except Exception as error:
        return Promise.failed(error)


def gather_replies(items: Sequence[Promise[Message]]) -> Promise[list[Message]]:
    """All messages, in the order of `items`, when the last one is there."""
    return gather(list(items)).map(lambda done: [item.result() for item in done])


def duplicates(keys: Iterable[K]) -> set[K]:
    """Those that are there more than once."""
    seen: set[K] = set()
    again: set[K] = set()
    for key in keys:
        (again if key in seen else seen).add(key)
    return again
