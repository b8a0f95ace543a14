"""How fast and how small the state of a queue is: `python -m bench.queues [--scale X]`.

In memory and in this process: `mainstem.queues` has no disk and no socket. Rates are per second of the
process's CPU time, medians of several runs; what else the machine does matters little. The bars are those of
a core that runs `calibration` at `CALIBRATION_BAR` loops a second, and scale with it. Sizes are the sums of
`sys.getsizeof` over all objects that a view refers to.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType

from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run
from mainstem.queues.view import SequenceView

CALIBRATION_BAR = 40_000_000
"""Iterations of an empty loop a second, of the core that the rates below are for."""
RUNS = 5
Row = tuple[str, str, float, str]
"""(what, unit, figure, bar)"""
FETCH = 500
"""Events of an acquisition, as a consumer's poll has."""


def calibration() -> float:
    """Iterations of a loop with an addition, in a second of CPU time."""
    total, count, begin = 0, 2_000_000, time.process_time()
    for number in range(count):
        total += number
    return count / (time.process_time() - begin)


def rate(work: Callable[[], int], runs: int | None = None) -> float:
    """Events in a second of CPU time: `work` returns how many it had. The median."""
    rates = []
    for _ in range(runs or RUNS):
        gc.collect()
        begin = time.process_time()
        events = work()
        rates.append(events / (time.process_time() - begin))
    return statistics.median(rates)


def size_of(root: object) -> int:
    """The bytes of an object and of all that it refers to, without classes, functions and modules."""
    seen: set[int] = set()
    total = 0
    todo: list[object] = [root]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type | FunctionType | ModuleType):
            continue
        seen.add(id(item))
        total += item.__sizeof__() + (16 if gc.is_tracked(item) else 0)
        todo += gc.get_referents(item)
    return total


def ranges(events: int) -> int:
    """Acquire 500 and acknowledge the range, over a backlog."""
    view = SequenceView(DeliveryRules(), 0)
    view.scan(events)
    while (lease := view.acquire("worker", FETCH, 0)) is not None:
        view.apply_acked(view.ackable(lease.id, lease.runs))
    assert view.counts().outstanding == 0
    return events


def singles(events: int, together: bool) -> int:
    """Acquire 500 and acknowledge them as single positions: all with a call, or each with its own."""
    view = SequenceView(DeliveryRules(), 0)
    view.scan(events)
    while (lease := view.acquire("worker", FETCH, 0)) is not None:
        positions = [position for first, end in lease.runs for position in range(first, end)]
        if together:
            view.apply_acked(view.ackable(lease.id, [(position, position + 1) for position in positions]))
            continue
        for position in positions:
            view.apply_acked(view.ackable(lease.id, [(position, position + 1)]))
    assert view.counts().outstanding == 0
    return events


def one_by_one(events: int) -> int:
    """Acquire 1 and acknowledge it."""
    view = SequenceView(DeliveryRules(), 0)
    view.scan(events)
    while (lease := view.acquire("worker", 1, 0)) is not None:
        view.apply_acked(view.ackable(lease.id, lease.runs))
    return events


def replay(events: int) -> int:
    """A start: records of 500 single acknowledgements each, applied to a view whose scan is behind."""
    view = SequenceView(DeliveryRules(), 0)
    for base in range(0, events, 10 * FETCH):
        for low in range(10):
            last = min(base + 10 * FETCH, events)
            view.apply_acked([(position, position + 1) for position in range(base + low, last, 10)])
    return events


def nacks(events: int) -> int:
    """Acquire 500; every tenth position fails, waits, and is delivered again; the others are acknowledged as
    singles. Deliveries."""
    view = SequenceView(DeliveryRules(backoff_min_ms=50), 0)
    view.scan(events)
    now_ms = deliveries = 0
    failures: set[int] = set()
    while view.counts().outstanding:
        now_ms += 1
        view.wake_due(now_ms)
        lease = view.acquire("worker", FETCH, now_ms)
        if lease is None:
            now_ms += 50
            continue
        deliveries += lease.left
        acked: list[Run] = []
        failed: list[Run] = []
        for first, end in lease.runs:
            for position in range(first, end):
                fails = position % 10 == 3 and position not in failures
                (failed if fails else acked).append((position, position + 1))
        failures.update(position for position, _ in failed)
        view.apply_acked(view.ackable(lease.id, acked))
        plan = view.plan_release(view.releasable(lease.id, failed), True, now_ms)
        for runs, due_ms in plan.released:
            view.apply_released(runs, True, due_ms)
    return deliveries


def all_leased(events: int) -> SequenceView:
    """A view with everything in flight, in acquisitions of 500."""
    view = SequenceView(DeliveryRules(in_flight_max=events), 0)
    view.scan(events)
    while view.acquire("worker", FETCH, 0) is not None:
        pass
    return view


def with_holes(events: int, apart: int, fails: bool = False) -> SequenceView:
    """An idle view all of whose events are done, but for every `apart`-th, which is ready; it may have
    failed."""
    view = SequenceView(DeliveryRules(), 0)
    view.scan(events)
    for first in range(0, events, apart << 7):
        end = min(first + (apart << 7), events)
        view.apply_acked([(p + 1, min(p + apart, end)) for p in range(first, end, apart) if p + 1 < end])
        if fails:
            view.apply_released([(p, p + 1) for p in range(first, end, apart)], True, None)
    view.freeze()
    assert view.counts().ready == len(range(0, events, apart))
    return view


def restored(events: int) -> tuple[float, float]:
    """Milliseconds of CPU time to restore a view with every second event done, and the megabytes of its
    snapshot."""
    snapshot = with_holes(events, 2).snapshot()
    pages = list(snapshot.pages)
    times = []
    for _ in range(RUNS):
        gc.collect()
        begin = time.process_time()
        view = SequenceView.restore(DeliveryRules(), snapshot.head, pages)
        times.append(time.process_time() - begin)
    assert view.counts().ready == events // 2
    return statistics.median(times) * 1e3, sum(len(page.data) for page in pages) / 1e6


def held_lease(events: int, holds: bool) -> int:
    """Acquire and acknowledge single positions while the first event is leased for ever, or is not."""
    view = SequenceView(DeliveryRules(), 0)
    view.scan(events)
    if holds:
        view.acquire("slow", 1, 0, lock_ms=0)
    while (lease := view.acquire("worker", FETCH, 0)) is not None:
        runs: list[Run] = [(p, p + 1) for first, end in lease.runs for p in range(first, end)]
        view.apply_acked(view.ackable(lease.id, runs))
    return events


def speeds(scale: float) -> Iterator[Row]:
    """Millions of events in a second of CPU time, with the bars for this machine."""

    def speed(what: str, work: Callable[[int], int], count: int, bar: float = 0.0) -> Row:
        events = max(8192, round(count * scale))
        return what, "M/s", rate(lambda: work(events)) / 1e6, f"≥ {bar * factor:.3g}" if bar else ""

    factor = calibration() / CALIBRATION_BAR
    yield speed("acquire 500, acknowledge the range", ranges, 5_000_000, 20)
    yield speed("acquire 500, acknowledge singles, 500 a call", lambda n: singles(n, True), 500_000, 0.8)
    yield speed("acquire 500, acknowledge singles, 1 a call", lambda n: singles(n, False), 200_000, 0.8)
    yield speed("acquire 1, acknowledge it", one_by_one, 100_000)
    yield speed("replay of single acknowledgements at a start", replay, 500_000)
    yield speed("a tenth fails once and waits, the others single", nacks, 200_000)


def undisturbed(scale: float) -> Iterator[Row]:
    """What others have while the first event is never settled: by turns, with it and without."""
    events = max(8192, round(500_000 * scale))
    ratios = []
    for _ in range(3 * RUNS):
        free = rate(lambda: held_lease(events, False), 1)
        ratios.append(100 * rate(lambda: held_lease(events, True), 1) / free)
    yield "singles while the first event is never settled", "% of it", statistics.median(ratios), "95 to 105"


def sizes(scale: float) -> Iterator[Row]:
    """Bytes, and the time to restore them."""

    def many(count: int) -> int:
        return max(8192, round(count * scale))

    leased = all_leased(many(400_000))
    yield "in flight, acquired by 500", "B an event", size_of(leased) / leased.counts().leased, "≤ 8"
    empty = size_of(SequenceView(DeliveryRules(), 0))
    for apart, fails in ((100, False), (4096, False), (4096, True), (1_000_000, False)):
        view = with_holes(many(50_000_000), apart, fails)
        what = f"a hole, {apart:,} apart{', that failed once' if fails else ''}"
        yield what, "B a hole", (size_of(view) - empty) / view.counts().ready, "≤ 80" if apart <= 4096 else ""
    milliseconds, megabytes = restored(many(10_000_000))
    yield "restore 10 M events, every second done", "ms", milliseconds, "≤ 500"
    yield "their snapshot", "MB", megabytes, "≤ 30"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the work is done")
    print(f"calibration: {calibration() / 1e6:.3g} M loops/s of CPU time\n")
    print("| work | unit | figure | bar |\n|---|---|---|---|")
    scale = parser.parse_args().scale
    for part in (speeds, undisturbed, sizes):
        for what, unit, figure, bar in part(scale):
            print(f"| {what} | {unit} | {figure:.3g} | {bar} |", flush=True)


if __name__ == "__main__":
    main()
