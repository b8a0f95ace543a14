"""Reads which events the letters of a dead-letter topic are copies of.

Owns: finding the letters of a single subscription, in slices. Refuses: to redrive, which the route does. Its
cost is that of reading the topic from the given time on.
"""

from __future__ import annotations

from mainstem.contract import Event, Position
from mainstem.doors.http.endpoint import Call
from mainstem.doors.http.page_reader import open_page, page_slices
from mainstem.doors.http.problem import Problem
from mainstem.http_api.subscriptions import REDRIVEN_POSITIONS_MAX
from mainstem.queue_contract import (
    DEAD_LETTER_FROM_HEADER,
    DEAD_LETTER_SUBSCRIPTION_HEADER,
    SubscriptionInfo,
)

PAGE_EVENTS = 10_000
PAGE_BYTES = 4 << 20


async def dead_letter_origins(call: Call, info: SubscriptionInfo, since_ms: int) -> list[Position]:
    """Where the events are that the subscription has given up: those whose letters are in its dead-letter
    topic and have this time or a later one, sorted. Raises Problem if it has no such topic, or if there are
    more than REDRIVEN_POSITIONS_MAX."""
    topic = info.settings.dead_letter_topic
    if topic is None:
        raise Problem(
            "unfit",
            f"subscription {info.name} has no dead-letter topic",
            fix="Name the events in `positions`.",
        )
    origins: set[Position] = set()
    for partition in range(await call.engine.partitions(topic)):
        start = await call.engine.offset_for_time(topic, partition, since_ms) if since_ms else 0
        if start is not None:
            await _collect(call, info, topic, partition, start, origins)
    return sorted(origins)


async def _collect(
    call: Call, info: SubscriptionInfo, topic: str, partition: int, start: int, origins: set[Position]
) -> None:
    """Add the origins of the letters of one partition."""
    page = await open_page(call, topic, partition, start)
    page.next_offset = max(start, page.begin)
    before = -1
    while before < page.next_offset < page.end:
        before = page.next_offset
        slices = page_slices(call, topic, partition, page, limit=PAGE_EVENTS, max_bytes=PAGE_BYTES)
        async for events in slices:
            origins.update(origin for event in events if (origin := origin_of(event, info.name)) is not None)
            if len(origins) > REDRIVEN_POSITIONS_MAX:
                raise Problem(
                    "unfit",
                    f"there are more than {REDRIVEN_POSITIONS_MAX:,} dead letters",
                    fix="Redrive them in parts: give `since_ms`, or the events in `positions`.",
                )


def origin_of(letter: Event, subscription: str) -> Position | None:
    """Where the event is of which this is the dead letter; None: it is not one of this subscription. Headers
    come from anyone who may write to the topic, so a letter is believed only if its origin can be read, and
    redriving ignores positions that are not done."""
    headers = dict(letter.headers)
    if headers.get(DEAD_LETTER_SUBSCRIPTION_HEADER) != subscription.encode():
        return None
    try:
        topic, partition, offset = (headers.get(DEAD_LETTER_FROM_HEADER) or b"").decode().split("/")
        position = Position(topic, int(partition), int(offset))
    except ValueError:  # also UnicodeDecodeError, which is a subclass
        return None
    return position if 0 <= position.partition < 2**31 and 0 <= position.offset < 2**63 else None
