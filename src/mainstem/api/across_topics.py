"""What a stream does that concerns several topics, or dead letters of a group.

Owns: searching, and delivering dead letters again. Refuses: to do either itself; the place does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mainstem.api.backend import Backend
from mainstem.api.codec import codec_of
from mainstem.api.event import Event, decode_event
from mainstem.api.points import When, point_ms


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a redrive did."""

    published: int
    """Events that are delivered to the group again."""
    left: int
    """In a dry run, events that would be."""


async def search_events(
    backend: Backend, query: str, topics: Sequence[str], since: When | None, until: When | None, limit: int
) -> AsyncGenerator[Event[Any], None]:
    """See `Stream.search`."""
    now_ms = backend.clock.wall_ms()
    codec = codec_of()
    searching = backend.search(
        query,
        topics=topics,
        since_ms=None if since is None else point_ms(since, now_ms),
        until_ms=None if until is None else point_ms(until, now_ms),
        limit=limit,
    )
    async with aclosing(searching) as events:
        async for event in events:
            yield decode_event(event, codec)


async def redrive_letters_of(
    backend: Backend, topic: str, group: str, where: str, since: When | None, dry_run: bool
) -> Redriven:
    """See `Stream.redrive`."""
    since_ms = None if since is None else point_ms(since, backend.clock.wall_ms())
    count = await backend.redrive(f"{topic}.{group}", where=where, since_ms=since_ms, dry_run=dry_run)
    return Redriven(0, count) if dry_run else Redriven(count, 0)
