"""The events that a subscriber on a Kafka cluster publishes itself: dead letters, and copies to be handled
later.

Dead letters have the headers of the queue engine's, so that the same tools read both. A copy that is to be
handled later goes to the topic TOPIC.GROUP.retry, which only this group reads; it says how often it was tried
and where its event is.

Owns: their headers. Refuses: to publish.
"""

from __future__ import annotations

from mainstem.api.handler import place_of
from mainstem.contract import Event, NewEvent
from mainstem.queue_contract import (
    DEAD_LETTER_ATTEMPTS_HEADER,
    DEAD_LETTER_DETAIL_HEADER,
    DEAD_LETTER_EVENT_TIME_HEADER,
    DEAD_LETTER_FROM_HEADER,
    DEAD_LETTER_REASON_HEADER,
    DEAD_LETTER_SUBSCRIPTION_HEADER,
    DEAD_LETTER_TIME_HEADER,
    DEAD_LETTER_TOPIC_ID_HEADER,
)
from mainstem.queues.event_headers import NOT_BEFORE_HEADER

RETRY_SUFFIX = ".retry"
ATTEMPTS_HEADER = "mainstem-retry-attempts"
"""Of a copy to be handled later: how often its event was tried before."""
REDRIVEN_HEADER = "mainstem-redriven-letter"
"""Of a copy that was made of a dead letter: `partition/offset` of the letter."""
_OWN = frozenset(
    {
        ATTEMPTS_HEADER,
        DEAD_LETTER_ATTEMPTS_HEADER,
        DEAD_LETTER_DETAIL_HEADER,
        DEAD_LETTER_EVENT_TIME_HEADER,
        DEAD_LETTER_FROM_HEADER,
        DEAD_LETTER_REASON_HEADER,
        DEAD_LETTER_SUBSCRIPTION_HEADER,
        DEAD_LETTER_TIME_HEADER,
        DEAD_LETTER_TOPIC_ID_HEADER,
        NOT_BEFORE_HEADER,
        REDRIVEN_HEADER,
    }
)


def attempts_before(event: Event) -> int:
    """How often the event of a copy was tried before it was put off."""
    for name, value in event.headers:
        if name == ATTEMPTS_HEADER and value is not None and value.isdigit() and len(value) < 8:
            return int(value)
    return 0


def put_off(event: Event, attempts: int, not_before_ms: int, *, is_copy: bool) -> NewEvent:
    """The copy of an event that is to be handled at this time, after this number of attempts. `is_copy`: the
    event is a copy itself."""
    headers = {
        DEAD_LETTER_FROM_HEADER: _origin(event, is_copy=is_copy),
        ATTEMPTS_HEADER: str(attempts),
        NOT_BEFORE_HEADER: str(not_before_ms),
    }
    return NewEvent(event.value, event.key, _with(event, headers))


def dead_letter(
    event: Event,
    subscription: str,
    *,
    is_copy: bool,
    reason: str,
    detail: str,
    attempts: int,
    topic_id: str,
    now_ms: int,
) -> NewEvent:
    """The dead letter of an event."""
    headers = {
        DEAD_LETTER_REASON_HEADER: reason,
        DEAD_LETTER_DETAIL_HEADER: detail,
        DEAD_LETTER_ATTEMPTS_HEADER: str(attempts),
        DEAD_LETTER_SUBSCRIPTION_HEADER: subscription,
        DEAD_LETTER_FROM_HEADER: _origin(event, is_copy=is_copy),
        DEAD_LETTER_TOPIC_ID_HEADER: topic_id,
        DEAD_LETTER_EVENT_TIME_HEADER: str(event.timestamp_ms),
        DEAD_LETTER_TIME_HEADER: str(now_ms),
    }
    return NewEvent(event.value, event.key, _with(event, headers))


def redriven(letter: Event) -> NewEvent:
    """The copy of a dead letter that is to be handled again, as if for the first time."""
    headers = {
        DEAD_LETTER_FROM_HEADER: _origin(letter, is_copy=True),
        REDRIVEN_HEADER: place_of_letter(letter),
    }
    return NewEvent(letter.value, letter.key, _with(letter, headers))


def place_of_letter(letter: Event) -> str:
    """The value of REDRIVEN_HEADER."""
    return f"{letter.partition}/{letter.offset}"


def _origin(event: Event, *, is_copy: bool) -> str:
    if is_copy:
        for name, value in event.headers:
            if name == DEAD_LETTER_FROM_HEADER and value:
                return value.decode(errors="replace")
    return place_of(event)


def _with(event: Event, headers: dict[str, str]) -> tuple[tuple[str, bytes | None], ...]:
    users = [(name, value) for name, value in event.headers if name not in _OWN]
    return (*users, *((name, text.encode()) for name, text in headers.items() if text))
