"""Delivers the events of dead letters again, on an engine in this process.

Owns: delivering any number of them, in parts. Refuses: servers, whose HTTP door does this
itself, and Kafka clusters, which have no queues (`scheduler/cluster_redrive.py`).
"""

from __future__ import annotations

from contextlib import aclosing

from mainstem.api.event_filter import event_filter
from mainstem.contract import Engine
from mainstem.dead_letters import LetterOrigins, letter_pages
from mainstem.queue_contract import Queues

PAGE_LETTERS = 500
CHUNK_EVENTS = 10_000


async def redrive_letters(
    engine: Engine,
    queues: Queues,
    name: str,
    *,
    where: str,
    since_ms: int | None,
    now_ms: int,
    dry_run: bool,
) -> int:
    """See `Backend.redrive`. `now_ms` is the time for ages in the query."""
    wanted = event_filter(where, now_ms)
    origins = LetterOrigins(engine)
    reading = letter_pages(queues, name, since_ms=since_ms or 0, page_letters=PAGE_LETTERS)
    async with aclosing(reading) as pages:
        async for letters, _ in pages:
            await origins.add(letter for letter in letters if wanted(letter.letter))
    positions, count = sorted(origins.positions), 0
    for start in range(0, len(positions), CHUNK_EVENTS):
        count += await queues.redrive(name, positions[start : start + CHUNK_EVENTS], dry_run=dry_run)
    return count
