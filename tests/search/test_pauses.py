"""Scans that pause: nothing is lost or counted twice, pauses are frequent, and the next job runs then."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import msgspec
import pytest

from mainstem.clock import LoopClock
from mainstem.log.storage.record_batch import assign_offsets, build
from mainstem.search.facets import FieldCounts
from mainstem.search.ipc import (
    VALUES_A_REPLY,
    FailureReply,
    Paused,
    ScanCounts,
    ScanReply,
    ScanRequest,
    Unit,
    ValueCounts,
)
from mainstem.search.local.scan import PAUSE_EVENTS, CompiledQuery, ScanTask, scan_unit
from mainstem.search.match.field_counter import FieldValueCounter
from mainstem.search.workers.pool import WorkerJob, WorkerPool
from mainstem.search.workers.schedule import INTERACTIVE_S, JobGroup

NO_LIMIT = 1 << 31
CODECS = ("none", "lz4", "none", "zstd", "none")
DAMAGED = 4
"""The number of the batch that the tests damage."""


def write_unit(folder: Path, batches: int, events: int, *, damaged: bool = False) -> Unit:
    path, offset, data = folder / f"{0:020}.log", 0, b""
    for number in range(batches):
        rows = [(b"k", b'{"n":%d,"s":"word %d"}' % (row, row % 3), (), 1_000) for row in range(events)]
        batch = build(rows, codec=CODECS[number % len(CODECS)])
        assign_offsets(memoryview(batch), offset, 0, None)
        if damaged and number == DAMAGED:
            batch[8:12] = b"\xff\xff\xff\xff"
        offset += events
        data += batch
    path.write_bytes(data)
    return Unit("orders", 0, str(path), 0, len(data), 7, offset - 7)


class Scanned:
    """What the slices of a scan returned together."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.damage: list[int] = []
        self.slices = 0
        self.counts = ScanCounts()


def scan_in_slices(
    unit: Unit,
    query: str,
    *,
    newest_first: bool,
    pause: Callable[[int], bool],
    baseline: str | None = None,
    counters: tuple[FieldValueCounter, FieldValueCounter] | None = None,
) -> Scanned:
    """Scan a unit to its end. `pause`: whether to pause at the place with this number. `counters`: count the
    values of the query's and of the baseline's matches, instead of returning rows."""
    scanned, rest, places = Scanned(), unit, 0

    def should_pause() -> bool:
        nonlocal places
        places += 1
        return pause(places)

    while True:
        task = ScanTask(
            newest_first,
            NO_LIMIT,
            NO_LIMIT,
            return_rows=counters is None,
            value_counter=counters[0] if counters else None,
            on_matches=lambda rows: scanned.offsets.extend(row[0] for row in rows),
            on_damage=lambda offset, _: scanned.damage.append(offset),
            is_cancelled=lambda: False,
            should_pause=should_pause,
            on_progress=lambda result: None,
            so_far=scanned.counts,
            baseline_counter=counters[1] if counters else None,
        )
        result = scan_unit(rest, CompiledQuery(query, 0, None, None, baseline), task)
        scanned.counts = result.counts()
        scanned.slices += 1
        if result.rest is None:
            return scanned
        rest = result.rest


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("query", ["", "s:word*", "n:>150", '"word 1"', "absent"])
def test_a_scan_that_pauses_wherever_it_can_finds_what_one_without_pauses_finds(
    tmp_path: Path, query: str, damaged: bool, newest_first: bool
) -> None:
    unit = write_unit(tmp_path, 11, 2 * PAUSE_EVENTS + 5, damaged=damaged)
    whole = scan_in_slices(unit, query, newest_first=newest_first, pause=lambda _: False)
    often = scan_in_slices(unit, query, newest_first=newest_first, pause=lambda _: True)
    sometimes = scan_in_slices(unit, query, newest_first=newest_first, pause=lambda place: place % 3 == 0)
    assert whole.slices == 1
    assert often.slices > 5
    for paused in (often, sometimes):
        assert paused.offsets == whole.offsets
        assert paused.damage == whole.damage
        assert paused.counts == whole.counts
    assert bool(whole.damage) == damaged


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize(("query", "baseline"), [("n:<150", "NOT n:<150"), ("word", "NOT word")])
def test_events_counted_apart_are_the_same_wherever_the_scan_pauses(
    tmp_path: Path, query: str, baseline: str, newest_first: bool
) -> None:
    unit = write_unit(tmp_path, 6, 2 * PAUSE_EVENTS + 5, damaged=True)

    def scan(pause: Callable[[int], bool]) -> tuple[int, ScanCounts, list[dict[str, FieldCounts]]]:
        counters = FieldValueCounter(), FieldValueCounter()
        scanned = scan_in_slices(
            unit, query, newest_first=newest_first, pause=pause, baseline=baseline, counters=counters
        )
        return scanned.slices, scanned.counts, [counter.counts() for counter in counters]

    slices, counts, values = scan(lambda _: False)
    assert slices == 1
    assert counts.matches + counts.baseline_matches == counts.events > 0
    for pause in (lambda _: True, lambda place: place % 3 == 0):
        slices, *paused = scan(pause)
        assert slices > 3
        assert paused == [counts, values]


def test_a_scan_can_pause_after_256_events_and_after_each_batch_it_decodes(
    tmp_path: Path,
) -> None:
    unit = write_unit(tmp_path, 6, 3 * PAUSE_EVENTS)
    scanned = scan_in_slices(unit, "", newest_first=True, pause=lambda _: True)
    # All but the events at both ends of the unit, in slices of at most PAUSE_EVENTS events.
    assert scanned.slices >= scanned.counts.events // PAUSE_EVENTS
    assert scanned.counts.events == unit.high - unit.low


# --- with real workers --------------------------------------------------------------------------------------


def scan_request(unit: Unit, query: str, job_id: int, output: str = "count") -> ScanRequest:
    return ScanRequest(job_id, unit, query, 0, None, None, True, NO_LIMIT, NO_LIMIT, output)


def in_pool(work: Callable[[WorkerPool], Coroutine[None, None, None]], workers: int = 1) -> None:
    async def run() -> None:
        pool = WorkerPool(LoopClock(asyncio.get_running_loop()), workers=workers)
        try:
            await asyncio.wait_for(work(pool), 60)
        finally:
            await pool.close()

    asyncio.run(run())


def long_group() -> JobGroup[WorkerJob]:
    return JobGroup(used_s=INTERACTIVE_S)


SLOW = "s:/(w.*o.*r.*d){1,9}.*9{1,9}x/"
"""A query that decodes and tests every event, and matches none."""


@pytest.fixture(scope="module")
def large_unit(tmp_path_factory: pytest.TempPathFactory) -> Unit:
    unit = write_unit(tmp_path_factory.mktemp("large"), 40, 2_000)
    return msgspec.structs.replace(unit, low=0, high=unit.high + 7)


async def started(job: WorkerJob) -> None:
    while job.process is None:
        await asyncio.sleep(0.001)


def test_a_long_scan_pauses_for_an_interactive_search_and_goes_on(large_unit: Unit) -> None:
    async def work(pool: WorkerPool) -> None:
        compare = long_group()
        units = [pool.submit(partial(_scan, large_unit, SLOW), compare) for _ in range(2)]
        await started(units[0])
        needle = pool.submit(partial(_scan, msgspec.structs.replace(large_unit, low=0, high=100), "absent"))
        assert isinstance(await needle.final_reply(), ScanReply)
        assert not any(job.done for job in units), "the needle did not wait for a unit of the long search"
        for job in units:
            reply = await job.final_reply()
            assert isinstance(reply, ScanReply)
            assert reply.events == large_unit.high, "a scan counts from the beginning of its unit"

    in_pool(work)


def test_value_counts_of_all_slices_add_up_to_those_of_the_unit(large_unit: Unit) -> None:
    async def work(pool: WorkerPool) -> None:
        facets = pool.submit(partial(_scan_fields, large_unit), long_group())
        await started(facets)
        # Each of these searches asks the scan to pause.
        other = msgspec.structs.replace(large_unit, low=0, high=100)
        for _ in range(3):
            await pool.submit(partial(_scan, other, "absent")).final_reply()
        counted: Counter[str] = Counter()
        pauses = 0
        while not isinstance(reply := await facets.replies.get(), ScanReply):
            assert isinstance(reply, (ValueCounts, Paused))
            if isinstance(reply, Paused):
                pauses += 1
                assert sum(counted.values()) == reply.rest.so_far.matches, "Paused follows what was counted"
            elif reply.field == "s":
                counted.update(reply.counts.texts)
            assert isinstance(reply, Paused) or len(reply.counts.numbers) <= VALUES_A_REPLY
        assert pauses > 0
        assert sum(counted.values()) == reply.matches == large_unit.high

    in_pool(work)


def test_a_cancelled_long_scan_frees_its_worker_where_it_could_pause(large_unit: Unit) -> None:
    async def work(pool: WorkerPool) -> None:
        long = pool.submit(partial(_scan, large_unit, SLOW), long_group())
        waiting = pool.submit(partial(_scan, large_unit, SLOW), long_group())
        await started(long)
        pool.cancel(long)
        pool.cancel(waiting)
        reply = await long.final_reply()
        assert not isinstance(reply, ScanReply) or reply.events < large_unit.high
        assert not pool.busy
        assert waiting.replies.empty(), "a request that waited is dropped without a word"

    in_pool(work)


def test_the_death_of_a_worker_fails_its_job_and_no_other(large_unit: Unit) -> None:
    async def work(pool: WorkerPool) -> None:
        first = pool.submit(partial(_scan, large_unit, SLOW), long_group())
        other = pool.submit(partial(_scan, large_unit, "absent"), long_group())
        await started(first)
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        reply = await other.final_reply()
        assert isinstance(reply, ScanReply)
        assert reply.bytes == large_unit.end
        failed = await first.final_reply()
        if isinstance(failed, FailureReply):
            assert "exit code -9" in failed.reason

    in_pool(work)


def test_a_job_can_be_cancelled_while_its_worker_dies(
    large_unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = asyncio.subprocess.Process.wait

    async def wait_longer(process: asyncio.subprocess.Process) -> int:
        await asyncio.sleep(0.05)
        return await wait(process)

    monkeypatch.setattr(asyncio.subprocess.Process, "wait", wait_longer)

    async def work(pool: WorkerPool) -> None:
        job = pool.submit(partial(_scan, large_unit, SLOW), long_group())
        await started(job)
        os.kill(pool.pids[0], signal.SIGKILL)
        while pool.pids:
            await asyncio.sleep(0.001)
        pool.cancel(job)
        assert isinstance(await job.final_reply(), FailureReply)

    in_pool(work)


def test_two_searches_run_at_once_where_there_are_two_workers(large_unit: Unit) -> None:
    async def work(pool: WorkerPool) -> None:
        jobs = [pool.submit(partial(_scan, large_unit, SLOW), long_group()) for _ in range(2)]
        for job in jobs:
            await started(job)
        assert len(pool.pids) == 2
        for job in jobs:
            pool.cancel(job)
            await job.final_reply()

    in_pool(work, workers=2)


def _scan(unit: Unit, query: str, job_id: int) -> ScanRequest:
    return scan_request(unit, query, job_id)


def _scan_fields(unit: Unit, job_id: int) -> ScanRequest:
    return scan_request(unit, "", job_id, "fields")
