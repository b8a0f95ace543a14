"""Which partitions a search goes through, and from where to where.

Owns: topics by glob, bounds, what is too old as a whole, and what of an interrupted search is still there.
Used by both kinds of search.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Generator, Sequence
from types import coroutine
from typing import TypeVar

from mainstem.contract import StreamError, TopicCatalog, TopicSummary, UnknownTopic
from mainstem.search.contract import Remaining, SearchRequest, decode_resume_token, topic_is_requested
from mainstem.search.match.matcher import Matcher

ITEMS_PER_TURN = 200
"""So many partitions are gone through in one turn of the loop: 10,000 would take a tenth of a second."""
T = TypeVar("T")


@coroutine
def yield_to_loop() -> Generator[None, None, None]:
    """Let everything else on the loop have its turn."""
    yield


async def in_turns(items: Sequence[T]) -> AsyncIterator[T]:
    """All of them, and after each ITEMS_PER_TURN everything else on the loop has its turn."""
    for at, item in enumerate(items, 1):
        yield item
        if not at % ITEMS_PER_TURN:
            await yield_to_loop()


async def resolve(
    engine: TopicCatalog, request: SearchRequest, matcher: Matcher
) -> tuple[SearchRequest, list[Remaining]]:
    """The request in the order in which it goes on, and all that is to be searched. InvalidArgument:
    `resume`."""
    if request.resume is not None:
        request, left = decode_resume_token(request)
        left = await drop_deleted(engine, left)
    else:
        left = await requested_partitions(engine, request, matcher.topics)
        first, end = matcher.partition_range
        left = [each for each in left if (first is None or each.partition >= first)]
        left = [each for each in left if (end is None or each.partition < end)]
    if matcher.offset_range != (None, None):
        async for each in in_turns(left):
            _clip(each, *matcher.offset_range)
    times = [each for each in (request.since_ms, matcher.time_range[0]) if each is not None]
    async for each in in_turns(left if times else ()):
        try:
            first = await engine.offset_for_time(each.topic, each.partition, max(0, *times))
        except StreamError:
            continue  # then the scan decides
        each.low = min(each.high, each.high if first is None else max(each.low, first))
    return request, left


def _clip(left: Remaining, low: int | None, high: int | None) -> None:
    """Leave out what is before `low`, and from `high` on."""
    left.low = min(left.high, left.low if low is None else max(left.low, low))
    left.high = left.high if high is None else max(left.low, min(left.high, high))


async def requested_partitions(
    engine: TopicCatalog, request: SearchRequest, demanded: Sequence[str] | None = None
) -> list[Remaining]:
    """The partitions that are asked for, whole. Internal topics only if a glob is given that fits them."""
    topics = await engine.topics(internal=bool(request.topics))
    return await partitions_of(
        engine,
        [
            topic
            async for topic in in_turns(topics)
            if topic_is_requested(topic.name, request.topics, demanded)
        ],
        request.partitions,
    )


async def partitions_of(
    engine: TopicCatalog, topics: Sequence[TopicSummary], wanted: Container[int] | None = None
) -> list[Remaining]:
    """These topics' partitions (`wanted`: only those of these numbers), whole."""
    left: list[Remaining] = []
    async for topic in in_turns(topics):
        left += [
            Remaining(topic.name, partition, 0, 1 << 62)
            for partition in range(topic.partitions)
            if wanted is None or partition in wanted
        ]
    return await drop_deleted(engine, left)


async def drop_deleted(engine: TopicCatalog, left: Sequence[Remaining]) -> list[Remaining]:
    """What of them was not deleted meanwhile."""
    kept = []
    async for each in in_turns(left):
        try:
            bounds = await engine.bounds(each.topic, each.partition)
        except UnknownTopic:
            continue
        low, high = max(each.low, bounds.begin), min(each.high, bounds.end)
        kept.append(Remaining(each.topic, each.partition, low, max(low, high)))
    return kept
