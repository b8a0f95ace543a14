"""Queues through the engine, durable: rows of `python -m bench.queues`.

Over a node with a real disk in a temporary folder, by the calls that doors make. Consumers are tasks of this
process, so that its CPU time has their part too. Acknowledgements are on the disk when they are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import selectors
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path

from bench.queue_scan import BATCH, append
from mainstem.clock import LoopClock
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.real_disk import RealDisk
from mainstem.node import Node
from mainstem.queue_contract import Ack, SubscriptionSettings, Verdict
from mainstem.settings import Settings

Row = tuple[str, str, float, str]
"""(what, unit, figure, bar)"""
CONSUMERS = 100
RUNS = 3
NEAR_EVENTS, NEAR_MS = 2_000, 20_000
HOUR_MS, WEEK_MS = 3_600_000, 604_800_000


class CpuTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the CPU time of the process: what else the machine does takes none. Where
    nothing is ready, it goes on at once at the time of the next timer, or waits, without that time passes,
    while `is_waiting` says that something else is at work."""

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        self.is_waiting: Callable[[], bool] = lambda: True
        self.skipped_s = 0.0
        select = selector.select

        def select_or_skip(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            ready = select(0)
            if ready or timeout == 0:
                return ready
            if timeout is None or self.is_waiting():
                return select(timeout if timeout is None else min(timeout, 0.001))
            self.skipped_s += timeout
            return []

        selector.select = select_or_skip  # type: ignore[method-assign]

    def time(self) -> float:
        """Seconds of CPU time, and those that were skipped."""
        return time.process_time() + self.skipped_s


class CpuTimeClock(LoopClock):
    """The clock of such a loop. Its wall time can be set ahead."""

    def __init__(self, loop: CpuTimeLoop) -> None:
        super().__init__(loop)
        self._cpu_time_loop = loop
        self.shift_ms = time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """See `Clock`."""
        return self._cpu_time_loop.time()

    def wall_ms(self) -> int:
        """See `Clock`."""
        return self.shift_ms + int(self._cpu_time_loop.time() * 1e3)


@contextlib.asynccontextmanager
async def serving(
    folder: Path, events: int, clock: LoopClock | None = None
) -> AsyncIterator[tuple[EmbeddedEngine, Node]]:
    """A node with a topic `t` of this many events, and a subscription `s` of it."""
    loop = asyncio.get_running_loop()
    settings = Settings(data=str(folder), durability="disk")
    disk = RealDisk(folder, loop)
    node = await Node.open(settings, disk, clock or LoopClock(loop), random.Random(7))
    engine = EmbeddedEngine(node)
    try:
        await engine.create_topic("t", partitions=1)
        await engine.create_subscription("s", SubscriptionSettings(topics=("t",)))
        topic = node.topics.get("t")
        assert topic is not None
        await append(node.partition(topic, 0), 0, events // BATCH)
        yield engine, node
    finally:
        await engine.close()
        await node.close()


async def acknowledge(engine: EmbeddedEngine, tokens: Iterator[str]) -> int:
    """Acknowledge one by one, each when the one before is durable."""
    count = 0
    for token in tokens:
        assert await engine.settle("s", [Ack(token)]) == ["done"]
        count += 1
    return count


async def singles(events: int, consumers: int, at_once: int) -> tuple[float, float]:
    """Acknowledgements a second of CPU time, and a second by the clock, of events that consumers have
    already, each an equal part; each has `at_once` calls under way."""
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), events) as (engine, _):
            workers = []
            for number in range(consumers):
                tokens: list[str] = []
                while len(tokens) < events // consumers:
                    wanted = min(BATCH, events // consumers - len(tokens))
                    pulled = await engine.pull("s", f"c{number}", max_events=wanted)
                    tokens += [delivery.token for delivery in pulled]
                workers += [(engine, iter(tokens[first::at_once])) for first in range(at_once)]
            gc.collect()
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            counts = await asyncio.gather(*(acknowledge(*worker) for worker in workers))
            wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
            assert sum(counts) == events
    return events / cpu_s, events / wall_s


async def work(engine: EmbeddedEngine, consumer: str) -> int:
    """Pull one and acknowledge it, until there is nothing more."""
    count = 0
    while pulled := await engine.pull("s", consumer, max_events=1):
        count += await acknowledge(engine, (delivery.token for delivery in pulled))
    return count


async def pulls(events: int, consumers: int) -> tuple[float, float]:
    """As `singles`, of consumers that pull one and acknowledge it."""
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), events) as (engine, _):
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            counts = await asyncio.gather(*(work(engine, f"c{number}") for number in range(consumers)))
            wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
            assert sum(counts) == events
    return events / cpu_s, events / wall_s


def _rows(
    what: str, bar: str, measure: Callable[[], Coroutine[object, object, tuple[float, float]]]
) -> Iterator[Row]:
    figures = [asyncio.run(measure()) for _ in range(RUNS)]
    by_cpu, by_clock = (statistics.median(column) for column in zip(*figures, strict=True))
    yield what, "k/s of CPU", by_cpu / 1e3, bar
    yield "the same by the clock", "k/s", by_clock / 1e3, ""


def acknowledgements(scale: float, factor: float) -> Iterator[Row]:
    """Single acknowledgements, each a call that waits until it is durable. `factor`: of this machine, for the
    bar."""
    events = max(10_000, round(60_000 * scale) // 1_000 * 1_000)
    what, bar = "durable single acknowledgements, 100 consumers", f"≥ {60 * factor:.3g}"
    yield from _rows(what, bar, lambda: singles(events, CONSUMERS, 1))
    yield from _rows(f"{what}, 10 calls at once each", bar, lambda: singles(events, CONSUMERS, 10))
    yield from _rows(
        "pull 1 and acknowledge it, 100 consumers", "", lambda: pulls(events // 5 // BATCH * BATCH, CONSUMERS)
    )


async def _all_wait(node: Node, events: int, first_ms: int) -> dict[int, int]:
    """Let the events wait: `NEAR_EVENTS` of them, anywhere, are due in the `NEAR_MS` after a time, the others
    in the week after the hour that begins then. Offset -> due time of the first."""
    chance = random.Random(16)
    near = {
        offset: first_ms + chance.randrange(NEAR_MS)
        for offset in chance.sample(range(events), min(NEAR_EVENTS, events // 10))
    }
    (view,) = node.subscriptions.views.all()
    for first in range(view.sequence.scanned, events, BATCH):
        offsets = range(first, min(first + BATCH, events))
        far_ms = first_ms + HOUR_MS
        due_ms = {offset: near.get(offset) or far_ms + chance.randrange(WEEK_MS) for offset in offsets}
        view.sequence.scan(offsets.stop, due_ms=due_ms)
        if not first % (20 * BATCH):
            await asyncio.sleep(0)
    assert view.sequence.counts().waiting == events
    view.sequence.freeze()
    return near


async def lateness(events: int) -> list[int]:
    """How many ms after their time events reach a consumer that waits for them, ascending: of the CPU time
    of this process, so that it is the same on a busy machine."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CpuTimeLoop)
    clock = CpuTimeClock(loop)
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), 0, clock) as (engine, node):
            await engine.pull("s", "c")  # the view begins
            topic = node.topics.get("t")
            assert topic is not None
            await append(node.partition(topic, 0), 0, events // BATCH)
            first_ms = clock.wall_ms() + HOUR_MS
            near = await _all_wait(node, events, first_ms)
            gc.collect()
            gc.freeze()  # as the server does
            clock.shift_ms += first_ms - clock.wall_ms() - 2_000
            loop.is_waiting = lambda: not node.queue_runtime.all_durable
            await engine.pull("s", "c")  # the service looks at the clock
            late_ms: list[int] = []
            answers: list[asyncio.Task[list[Verdict]]] = []
            while len(late_ms) < len(near):
                pulled = await engine.pull("s", "c", wait_ms=10_000)
                assert pulled, "they are due"
                now_ms = clock.wall_ms()
                late_ms += [now_ms - near[delivery.event.offset] for delivery in pulled]
                settling = engine.settle("s", [Ack(delivery.token) for delivery in pulled])
                answers.append(asyncio.ensure_future(settling))
            await asyncio.gather(*answers)
            loop.is_waiting = lambda: True
            gc.unfreeze()
            assert min(late_ms) >= 0
    return sorted(late_ms)


def delay_errors(scale: float) -> Iterator[Row]:
    """How late a waiting event reaches a consumer."""
    events = max(100_000, round(5_000_000 * scale) // BATCH * BATCH)
    with asyncio.Runner(loop_factory=CpuTimeLoop) as runner:
        late_ms = runner.run(lateness(events))
    what = f"{len(late_ms):,} events due in 20 s, {events / 1e6:g} M wait for 7 days: late"
    yield f"{what}, p50", "ms of CPU", late_ms[len(late_ms) // 2], ""
    yield "the same, p99", "ms of CPU", late_ms[len(late_ms) * 99 // 100], "≤ 50"
    yield "the same, at most", "ms of CPU", late_ms[-1], ""
