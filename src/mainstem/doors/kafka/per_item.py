"""Builds replies whose items (topics, partitions, groups) each have an error code.

Owns: the conversion of an item's result, which may be known only later, to that item's message. Refuses: to
let the failure of one item affect another.
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
    result: Promise[T], on_success: Callable[[T], Message], on_refusal: Callable[[int, str], Message]
) -> Promise[Message]:
    """The message of one item of a reply: `on_success(value)`, or `on_refusal(error code, text for people)`.
    Never fails."""
    reply: Promise[Message] = Promise()

    def finish(result: Promise[T]) -> None:
        error = result.error
        if error is None:
            try:
                message = on_success(result.result())
            except Exception as fault:
                error = fault
        if error is not None:
            message = on_refusal(int(code_of(error)), error_text(error))
        reply.resolve(message)

    result.then(finish)
    return reply


def error_text(error: BaseException) -> str:
    """The text of an error for the client. A fault of the server is logged, and the client gets no
    details."""
    if is_refusal(error):
        return str(error)
    log.error("one item of a request failed; the others are not affected", exc_info=error)
    return "The server failed to do this; see the error in its log."


def attempt(call: Callable[[], Promise[T]]) -> Promise[T]:
    """The promise that `call` returns; if `call` raises an exception, a promise that has failed with it."""
    try:
        return call()
    except Exception as error:
        return Promise.failed(error)


def gather_replies(items: Sequence[Promise[Message]]) -> Promise[list[Message]]:
    """A promise of all messages, in the order of `items`. It is done when the last item is."""
    return gather(list(items)).map(lambda messages: [message.result() for message in messages])


def duplicates(keys: Iterable[K]) -> set[K]:
    """The keys that occur more than once."""
    seen: set[K] = set()
    repeated: set[K] = set()
    for key in keys:
        (repeated if key in seen else seen).add(key)
    return repeated
