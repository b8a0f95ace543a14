"""How fast and how small the state of a queue is: `python -m bench.queues [--scale X]`.

In this process: `mainstem.queues` has no disk and no socket (delay runs are temporary files here); scans,
acknowledgements and lateness are those of an engine with a data folder; share groups are a server's, beside
Apache Kafka's in the same run. Rates are per second of the process's CPU time, medians of several runs; what
else the machine does matters little. The bars are those of a core that runs `calibration` at
`CALIBRATION_BAR` loops a second, and scale with it. Sizes are the sums of `sys.getsizeof` over all objects
that a view refers to.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from random import Random
from types import FunctionType, ModuleType
from typing import BinaryIO

from bench.queue_scan import scans
from bench.queue_service import acknowledgements, delay_errors
from bench.share_groups import print_table
from mainstem.queues.delays import DelayIndex
from mainstem.queues.index_page import Arrival
from mainstem.queues.ordered_view import OrderedView
from mainstem.queues.routed_index import RoutedIndex
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
WEEK_MS = 7 * 24 * 3600 * 1000


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


def in_key_order(events: int, keys: int, holds: bool = False) -> int:
    """Acquire 500 and acknowledge the ranges, in key order, over a backlog whose events have keys in turn.
    Holds: another consumer has the first event for ever, so that the events of its key are parked. Events
    that were delivered."""
    view = OrderedView(DeliveryRules(in_key_order=True), 0)
    if holds:
        view.scan(1, keys={0: 0})
        assert view.acquire("slow", 1, 0, lock_ms=0) is not None
    delivered = 0
    for first in range(view.scanned, events, 4096):
        end = min(first + 4096, events)
        view.scan(end, keys={position: position * 7919 % keys for position in range(first, end)})
        while (lease := view.acquire("worker", FETCH, 0)) is not None:
            delivered += lease.left
            view.apply_acked(lease.runs)
    assert delivered + view.counts().outstanding == events
    return delivered


def a_million_keys(events: int) -> int:
    """As `in_key_order`: no key comes again soon."""
    return in_key_order(events, 1 << 20)


class ScratchRuns:
    """A store of delay runs in a temporary file each."""

    def __init__(self) -> None:
        self._files: dict[int, BinaryIO] = {}
        self.bytes = 0
        """What is stored."""

    def write(self, run_id: int, data: bytes) -> None:
        """See `RunStore`."""
        file = self._files[run_id] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by delete)
        file.write(data)
        file.flush()
        self.bytes += len(data)

    def read(self, run_id: int, start: int, size: int) -> bytes:
        """See `RunStore`."""
        return os.pread(self._files[run_id].fileno(), size, start)

    def delete(self, run_id: int) -> None:
        """See `RunStore`."""
        with self._files.pop(run_id) as file:
            self.bytes -= os.fstat(file.fileno()).st_size

    def close(self) -> None:
        """Delete all runs."""
        for run_id in list(self._files):
            self.delete(run_id)


def delayed(events: int) -> tuple[DelayIndex, ScratchRuns]:
    """Events that are due at times within the next seven days."""
    store, random = ScratchRuns(), Random(12)
    index = DelayIndex(store)
    for position in range(events):
        index.add(random.randrange(60_000, WEEK_MS), position)
    return index, store


def delays(events: int) -> Iterator[Row]:
    """Entries of waiting events: how fast, how large, how late."""
    added, popped, lists = [], [], []
    times = [Random(13).randrange(60_000, WEEK_MS) for _ in range(events)]
    for _ in range(3):
        index, begin = DelayIndex(ScratchRuns()), time.process_time()
        for position, due_ms in enumerate(times):
            index.add(due_ms, position)
        added.append(events / (time.process_time() - begin) / 1e6)
        begin = time.process_time()
        index.waiting(100)
        lists.append((time.process_time() - begin) * 1e3)
        begin, count, now_ms = time.process_time(), 0, 0
        while len(index):
            now_ms += WEEK_MS // 2000
            count += len(index.pop_due(now_ms))
        assert count == events
        popped.append(events / (time.process_time() - begin) / 1e6)
    yield "waiting events added, over 7 days", "M/s", statistics.median(added), ""
    yield "the same popped, in 2,000 calls", "M/s", statistics.median(popped), ""
    yield "list the next 100 of them", "ms", statistics.median(lists), ""


def waiting_view(events: int, gives_back: bool) -> tuple[SequenceView, ScratchRuns]:
    """A view all of whose events wait, until times within the next seven days: since they were published, or
    because consumers, which acquired 500 together, gave each back with a delay."""
    store, random = ScratchRuns(), Random(12)
    view = SequenceView(DeliveryRules(), 0, DelayIndex(store))
    for first in range(0, events, FETCH):
        end = min(first + FETCH, events)
        times = {position: random.randrange(60_000, WEEK_MS) for position in range(first, end)}
        view.scan(end, due_ms=None if gives_back else times)
        if gives_back and (lease := view.acquire("worker", FETCH, 0)) is not None:
            for position, due_ms in times.items():
                view.apply_released(view.releasable(lease.id, [(position, position + 1)]), True, due_ms)
    assert view.counts().waiting == events
    return view, store


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


def restored_waiting(view: SequenceView) -> float:
    """Milliseconds of CPU time to restore a view whose events wait, with its runs."""
    snapshot = view.snapshot()
    pages, waiting = list(snapshot.pages), list(snapshot.waiting)
    times = []
    for _ in range(RUNS):
        store = ScratchRuns()
        gc.collect()
        begin = time.process_time()
        index = DelayIndex(store)
        for part in waiting:
            index.load(part)
        restored_view = SequenceView.restore(DeliveryRules(), snapshot.head, pages, waits=index)
        times.append(time.process_time() - begin)
        assert restored_view.counts() == view.counts()
        store.close()
    return statistics.median(times) * 1e3


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
    yield speed("key order, a million keys: acquire 500, acknowledge", a_million_keys, 1 << 20)
    yield speed("key order, 1,000 keys", lambda n: in_key_order(n, 1000), 500_000)
    yield speed("key order, 100 keys, one of which is blocked", lambda n: in_key_order(n, 100, True), 500_000)
    yield from delays(max(8192, round(1_000_000 * scale)))


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
    keyed = OrderedView(DeliveryRules(in_key_order=True), 0)
    keyed.scan(100_000, keys={position: position * 7919 for position in range(100_000)})
    order = vars(keyed)["_order"]
    yield "key order: scanned, its key not looked at", "B an event", size_of(order) / order.unread, ""
    keyed.acquire("worker", 100_000, 0)
    yield "key order: leased, alone in its key", "B an event", size_of(order) / keyed.counts().leased, ""
    keyed = OrderedView(DeliveryRules(in_key_order=True), 0)
    keyed.scan(10_100, keys={position: position % 100 for position in range(10_100)})
    keyed.acquire("slow", 100, 0)
    keyed.acquire("worker", 1, 0)
    yield "key order: parked", "B an event", size_of(vars(keyed)["_order"]) / keyed.counts().parked, ""
    index, store = delayed(max(100_000, many(2_000_000)))  # fewer make no run
    yield "2 M waiting events over 7 days, stored", "MB", store.bytes / 1e6, "≤ 32"
    size = size_of(index) - size_of(store)
    yield "their index in memory", "MB", size / 1e6, "≤ 12"
    del index
    store.close()
    for gives_back in (False, True):
        waiting, store = waiting_view(many(5_000_000), gives_back)
        what = "given back by consumers" if gives_back else "due since they were published"
        yield f"a view with 5 M over 7 days, {what}", "MB", (size_of(waiting) - size_of(store)) / 1e6, "≤ 40"
        if gives_back:
            yield "to restore it", "ms", restored_waiting(waiting), "≤ 1000"
        del waiting
        store.close()
    milliseconds, megabytes = restored(many(10_000_000))
    yield "restore 10 M events, every second done", "ms", milliseconds, "≤ 500"
    yield "their snapshot", "MB", megabytes, "≤ 30"


class NoPages:
    """A store of index pages that nothing reads."""

    def read(self, place: int) -> bytes:
        """See `PageStore`."""
        raise AssertionError("nothing was stored")


def routed(events: int, queues: int, *, to_all: bool) -> RoutedIndex:
    """An index with events that go to all queues, or to one of them each."""
    index, every, random = RoutedIndex(1, NoPages()), tuple(range(1, queues + 1)), Random(14)
    for number in range(events):
        arrived_ms = 1_356_998_400_000 + number // 10
        arrival = Arrival(number, number & 3, number >> 2, 700 + (number & 255), 4, 0, arrived_ms)
        if to_all:
            index.add(arrival, 1, every)
        else:
            queue = random.randrange(1, queues + 1)
            index.add(arrival, queue, (queue,))
    return index


def routes(scale: float) -> Iterator[Row]:
    """The index of routed queues: microseconds of CPU time for an event, and bytes."""
    events = max(8192, round(50_000 * scale))
    yield "routed: index an event for 100 queues", "µs", 1e6 / rate(lambda: _count_routed(events, 100)), "≤ 5"
    yield "routed: index an event for one queue", "µs", 1e6 / rate(lambda: _count_routed(events, 1)), ""
    for to_all in (True, False):
        pages = routed(events, 100, to_all=to_all).pages_to_store()
        arrivals = sum(len(page.data) for page in pages if not page.row.queue)
        entries = sum(page.row.entries for page in pages if page.row.queue)
        if to_all:
            yield "routed: an arrival, stored", "B an event", arrivals / events, "≤ 8"
        what = "which gets every event" if to_all else "which gets one in 100"
        stored = sum(len(page.data) for page in pages) - arrivals
        yield f"routed: an entry of a queue, {what}", "B an entry", stored / entries, "≤ 8"


def _count_routed(events: int, queues: int) -> int:
    routed(events, queues, to_all=True)
    return events


def services(scale: float) -> Iterator[Row]:
    """Through the engine, with a disk."""
    yield from acknowledgements(scale, calibration() / CALIBRATION_BAR)
    yield from delay_errors(scale)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the work is done")
    print(f"calibration: {calibration() / 1e6:.3g} M loops/s of CPU time\n")
    print("| work | unit | figure | bar |\n|---|---|---|---|")
    scale = parser.parse_args().scale
    for part in (speeds, undisturbed, sizes, routes, scans, services):
        for what, unit, figure, bar in part(scale):
            print(f"| {what} | {unit} | {figure:.3g} | {bar} |", flush=True)
    print()
    print_table(scale)


if __name__ == "__main__":
    main()
