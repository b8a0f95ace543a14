"""Delivers the events of dead letters again, on a Kafka cluster: copies of them in TOPIC.GROUP.retry, which
only the group reads.

A copy says which letter it is made of, so that no letter is redriven twice, also after a redrive that broke
off. Owns: reading both topics. Refuses: two redrives of one group at a time, which it does not see.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mainstem.api.event_filter import event_filter
from mainstem.api.scheduler.letters import REDRIVEN_HEADER, RETRY_SUFFIX, place_of_letter, redriven
from mainstem.api.subscriber import DEAD_SUFFIX
from mainstem.contract import Engine, Event, NewEvent, Position
from mainstem.queue_contract import DEAD_LETTER_SUBSCRIPTION_HEADER

CHUNK_EVENTS = 500
END_MS = 10_000


async def redrive_on_cluster(
    engine: Engine, name: str, *, where: str, since_ms: int | None, now_ms: int, dry_run: bool
) -> int:
    """As `Backend.redrive`. UnknownTopic: the subscriber has never run."""
    wanted = event_filter(where, now_ms)
    before = {
        (value or b"").decode(errors="replace")
        async for copy in _events(engine, name + RETRY_SUFFIX, None)
        for header, value in copy.headers
        if header == REDRIVEN_HEADER
    }
    count = 0
    copies: list[NewEvent] = []
    async for letter in _events(engine, name + DEAD_SUFFIX, since_ms):
        is_own = (DEAD_LETTER_SUBSCRIPTION_HEADER, name.encode()) in letter.headers
        if not is_own or place_of_letter(letter) in before or not wanted(letter):
            continue
        count += 1
        copies.append(redriven(letter))
        if len(copies) >= CHUNK_EVENTS and not dry_run:
            await engine.publish(name + RETRY_SUFFIX, copies)
            copies = []
    if not dry_run:
        await engine.publish(name + RETRY_SUFFIX, copies)
    return count


async def _events(engine: Engine, topic: str, since_ms: int | None) -> AsyncGenerator[Event, None]:
    """All events of a topic until now, partition by partition."""
    for partition in range(await engine.partitions(topic)):
        bounds = await engine.bounds(topic, partition)
        begin: int | None = bounds.begin
        if since_ms is not None:
            begin = await engine.offset_for_time(topic, partition, since_ms)
        if begin is None or begin >= bounds.end:
            continue
        reader = await engine.reader([Position(topic, partition, begin)])
        try:
            while reader.positions()[0].offset < bounds.end:
                result = await reader.read(wait_ms=END_MS)
                if not result:
                    break  # what is left are markers of transactions
                for event in result.events:
                    if event.offset < bounds.end:
                        yield event
        finally:
            await reader.close()
