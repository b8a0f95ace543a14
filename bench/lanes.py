"""The rate of an empty handler on a Kafka cluster: `python -m bench.lanes [EVENTS]`.

The lanes, the commits and the loop of `mainstem.api.scheduler`, with decoding, over a member in memory: what
the cluster and its client library cost comes on top. CPU time of the process, the median of the runs.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mainstem.api.codec import codec_of
from mainstem.api.handler import HandlerCall
from mainstem.api.scheduler.cluster_work import ClusterWork
from mainstem.api.subscriber import declared, options_of
from mainstem.api.subscriber_state import SubscriberCounts
from mainstem.clock import LoopClock
from mainstem.contract import (
    NO_NOTES,
    AssignedPartition,
    Bounds,
    Event,
    MemberHooks,
    Position,
    ReadResult,
    TopicPartition,
)

RUNS = 5
KEYS = 5_000
BARS = {1: 150_000, 32: 100_000}
"""Concurrency -> events per second."""


class MadeEvents:
    """An engine with one topic in memory, and its only member."""

    def __init__(self, count: int) -> None:
        self._events = [
            Event(
                "orders",
                0,
                offset,
                1_700_000_000_000,
                b"key-%d" % (offset * 7919 % KEYS),
                b'{"id":%d}' % offset,
            )
            for offset in range(count)
        ]
        self._next = 0
        self.committed = 0

    async def partitions(self, topic: str) -> int:
        return 1

    async def topic_id(self, topic: str) -> str:
        return "id"

    async def bounds(self, topic: str, partition: int) -> Bounds:
        return Bounds(0, len(self._events))

    async def join(self, group: str, topics: Sequence[str], *, start: str, hooks: MemberHooks) -> MadeEvents:
        await hooks.assigned([AssignedPartition("orders", 0, None, "")])
        return self

    async def read(self, *, max_events: int, wait_ms: int) -> ReadResult:
        events = self._events[self._next : self._next + max_events]
        self._next += len(events)
        await asyncio.sleep(0 if events else 0.001)
        return ReadResult(events)

    async def commit(
        self, positions: Sequence[Position] | None = None, notes: Mapping[TopicPartition, str] = NO_NOTES
    ) -> None:
        for position in positions or ():
            self.committed = position.offset

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """There is nothing to pause."""

    resume = pause

    async def close(self) -> None:
        """There is nothing to close."""


class OnlyEngine:
    """A backend that has an engine and a clock."""

    queues = None

    def __init__(self, engine: Any, clock: LoopClock) -> None:
        self.engine = engine
        self.clock = clock


async def rate(concurrency: int, count: int) -> float:
    """Events per second of CPU time."""

    async def handle(order: dict[str, object]) -> None:
        pass

    made = MadeEvents(count)
    backend: Any = OnlyEngine(made, LoopClock(asyncio.get_running_loop()))
    subscriber = declared(handle, options_of("orders", "bench", concurrency=concurrency), codec_of(None))
    counts = SubscriberCounts()
    work = ClusterWork(subscriber, backend, HandlerCall(subscriber), counts)
    before = time.process_time()
    await work.start()
    while counts.done < count:
        await asyncio.sleep(0.005)
    used_s = time.process_time() - before
    await work.stop(1)
    assert made.committed == count
    return count / used_s


def rates(count: int) -> dict[int, float]:
    """Concurrency -> the median rate."""
    return {
        concurrency: statistics.median(asyncio.run(rate(concurrency, count)) for _ in range(RUNS))
        for concurrency in BARS
    }


def main() -> None:
    """Print the rates beside their bars."""
    for concurrency, figure in rates(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000).items():
        print(f"concurrency {concurrency}: {figure:,.0f} events/s (bar {BARS[concurrency]:,})")


if __name__ == "__main__":
    main()
