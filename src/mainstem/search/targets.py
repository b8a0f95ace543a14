"""Resolves a search request to partitions and offset ranges.

Owns: which topics the globs select, the offsets that the request's times and the query leave, and dropping
what was deleted since an interrupted search. Refuses: to read events; it asks only for topics and offsets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from mainstem.clock import Clock
from mainstem.contract import (
    InvalidArgument,
    NotAuthorized,
    StreamError,
    TopicCatalog,
    TopicSummary,
    UnknownTopic,
)
from mainstem.search.contract import Remaining, SearchRequest, decode_resume_token, topic_is_requested
from mainstem.search.match.matcher import Matcher
from mainstem.turns import next_turn

ITEMS_PER_TURN = 200
"""Partitions processed in one turn of the event loop. 10,000 at once would block it for 0.1 s."""
WILDCARDS = frozenset("*?[")
"""Characters that make a glob fit more than one name."""
T = TypeVar("T")


async def in_turns(clock: Clock, items: Sequence[T]) -> AsyncIterator[T]:
    """Iterate over `items`, and let other tasks run after every ITEMS_PER_TURN of them."""
    for number, item in enumerate(items, 1):
        yield item
        if not number % ITEMS_PER_TURN:
            await next_turn(clock)


async def resolve(
    clock: Clock, engine: TopicCatalog, request: SearchRequest, matcher: Matcher
) -> tuple[SearchRequest, list[Remaining]]:
    """Returns the request and the offsets to search in each partition. If the request has a resume token, the
    topics, offsets and order are those of the token. Raises InvalidArgument if the token is invalid, or one
    of its topics was created again, so that the offsets of the token are those of other events. Raises
    NotAuthorized: see `SearchRequest.readable`."""
    if request.resume is not None:
        request, remaining = decode_resume_token(request)
        refuse_unreadable(request, {target.topic for target in remaining})
        remaining = await drop_deleted(clock, engine, remaining)
        await _refuse_topics_created_again(clock, engine, remaining)
    else:
        remaining = await requested_partitions(clock, engine, request, matcher.topics)
        begin, end = matcher.partition_range
        remaining = [target for target in remaining if begin is None or target.partition >= begin]
        remaining = [target for target in remaining if end is None or target.partition < end]
    if matcher.offset_range != (None, None):
        async for target in in_turns(clock, remaining):
            _clip(target, *matcher.offset_range)
    starts_ms = [time_ms for time_ms in (request.since_ms, matcher.time_range[0]) if time_ms is not None]
    async for target in in_turns(clock, remaining if starts_ms else ()):
        try:
            first = await engine.offset_for_time(target.topic, target.partition, max(0, *starts_ms))
        except StreamError:
            continue  # The scan tests the times of this partition's batches.
        target.low = min(target.high, target.high if first is None else max(target.low, first))
    return request, remaining


async def _refuse_topics_created_again(
    clock: Clock, engine: TopicCatalog, remaining: Sequence[Remaining]
) -> None:
    ids = {topic.name: topic.id for topic in await engine.topics(internal=True)}
    async for target in in_turns(clock, remaining):
        current = ids.get(target.topic, "")
        if current and target.topic_id and current != target.topic_id:
            raise InvalidArgument(
                f"resume: topic {target.topic} was deleted and created again since the search began; search"
                " from the beginning"
            )


def _clip(target: Remaining, low: int | None, high: int | None) -> None:
    """Restrict a partition's offsets to `low` and later, before `high`."""
    target.low = min(target.high, target.low if low is None else max(target.low, low))
    target.high = target.high if high is None else max(target.low, min(target.high, high))


async def requested_partitions(
    clock: Clock,
    engine: TopicCatalog,
    request: SearchRequest,
    query_globs: Sequence[str] | None = None,
) -> list[Remaining]:
    """The partitions that a request selects, with all their offsets. Without globs, internal topics are left
    out. NotAuthorized: see `SearchRequest.readable`."""
    refuse_unreadable(request, [*request.topics, *(query_globs or ())])
    topics = await engine.topics(internal=bool(request.topics))
    return await partitions_of(
        clock,
        engine,
        [
            topic
            async for topic in in_turns(clock, topics)
            if topic_is_requested(topic.name, request.topics, query_globs)
            and (request.readable is None or request.readable(topic.name))
        ],
        request.partitions,
    )


def refuse_unreadable(request: SearchRequest, globs: Iterable[str]) -> None:
    """Raise NotAuthorized if one of the globs is the name of a topic that the request may not read. It makes
    no difference whether there is such a topic."""
    if request.readable is None:
        return
    for glob in globs:
        if not WILDCARDS.intersection(glob) and not request.readable(glob):
            raise NotAuthorized(f"not authorized to READ topic {glob}")


async def partitions_of(
    clock: Clock,
    engine: TopicCatalog,
    topics: Sequence[TopicSummary],
    wanted: Container[int] | None = None,
) -> list[Remaining]:
    """The partitions of these topics with all their offsets. `wanted`: partition numbers; None: all."""
    remaining: list[Remaining] = []
    async for topic in in_turns(clock, topics):
        remaining += [
            Remaining(topic.name, partition, 0, 1 << 62, topic.id)
            for partition in range(topic.partitions)
            if wanted is None or partition in wanted
        ]
    return await drop_deleted(clock, engine, remaining)


async def drop_deleted(clock: Clock, engine: TopicCatalog, remaining: Sequence[Remaining]) -> list[Remaining]:
    """The same ranges, clipped to the offsets that the partitions have now. Ranges of deleted topics are left
    out."""
    existing = []
    async for target in in_turns(clock, remaining):
        try:
            bounds = await engine.bounds(target.topic, target.partition)
        except UnknownTopic:
            continue
        low, high = max(target.low, bounds.begin), min(target.high, bounds.end)
        existing.append(replace(target, low=low, high=max(low, high)))
    return existing
