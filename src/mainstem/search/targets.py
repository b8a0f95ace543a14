"""Which partitions a search goes through, and from where to where.

Owns: topics by glob, bounds, what is too old as a whole, and what of an interrupted search is still there.
Used by both kinds of search.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Generator, Sequence
from types import coroutine
from typing import Protocol, TypeVar

from mainstem.contract import Bounds, StreamError, TopicSummary, UnknownTopic
from mainstem.search.contract import Left, SearchRequest, resumed, wanted_topic
from mainstem.search.match.matcher import Matcher

TURN = 200
"""So many partitions are gone through in one turn of the loop: 10,000 would take a tenth of a second."""
T = TypeVar("T")


class Places(Protocol):
    """What it needs of an engine."""

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]: ...

    async def bounds(self, topic: str, partition: int) -> Bounds: ...

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None: ...


@coroutine
def turn() -> Generator[None, None, None]:
    """Let everything else on the loop have its turn."""
    yield


async def in_turns(items: Sequence[T]) -> AsyncIterator[T]:
    """All of them, and after each TURN everything else on the loop has its turn."""
    for at, item in enumerate(items, 1):
        yield item
        if not at % TURN:
            await turn()


async def find(engine: Places, request: SearchRequest, matcher: Matcher) -> tuple[SearchRequest, list[Left]]:
    """The request in the order in which it goes on, and all that is to be searched. Invalid: `resume`."""
    if request.resume is not None:
        request, left = resumed(request)
        left = await still_there(engine, left)
    else:
        left = await partitions(engine, request, matcher.topics)
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


def _clip(left: Left, low: int | None, high: int | None) -> None:
    """Leave out what is before `low`, and from `high` on."""
    left.low = min(left.high, left.low if low is None else max(left.low, low))
    left.high = left.high if high is None else max(left.low, min(left.high, high))


async def partitions(
    engine: Places, request: SearchRequest, demanded: Sequence[str] | None = None
) -> list[Left]:
    """The partitions that are asked for, whole. Internal topics only if a glob is given that fits them."""
    topics = await engine.topics(internal=bool(request.topics))
    return await of_topics(
        engine,
        [topic async for topic in in_turns(topics) if wanted_topic(topic.name, request.topics, demanded)],
        request.partitions,
    )


async def of_topics(
    engine: Places, topics: Sequence[TopicSummary], wanted: Container[int] | None = None
) -> list[Left]:
    """These topics' partitions (`wanted`: only those of these numbers), whole."""
    left: list[Left] = []
    async for topic in in_turns(topics):
        left += [
            Left(topic.name, partition, 0, 1 << 62)
            for partition in range(topic.partitions)
            if wanted is None or partition in wanted
        ]
    return await still_there(engine, left)


async def still_there(engine: Places, left: Sequence[Left]) -> list[Left]:
    """What of them was not deleted meanwhile."""
    kept = []
    async for each in in_turns(left):
        try:
            bounds = await engine.bounds(each.topic, each.partition)
        except UnknownTopic:
            continue
        low, high = max(each.low, bounds.begin), min(each.high, bounds.end)
        kept.append(Left(each.topic, each.partition, low, max(low, high)))
    return kept
