"""A search worker on its own: its replies over the pipes, its priority, and when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from mainstem.clock import LoopClock
from mainstem.log.storage.record_batch import assign_offsets, build
from mainstem.search import ipc
from mainstem.search.ipc import (
    LENGTH,
    CancelRequest,
    FailureReply,
    FindFiltersRequest,
    Reply,
    Request,
    ScanMatches,
    ScanProgress,
    ScanReply,
    ScanRequest,
    Unit,
)
from mainstem.search.workers.bootstrap import BACKGROUND_NICE
from mainstem.search.workers.pool import WorkerPool


class WorkerUnderTest:
    """A worker process and its pipes."""

    def __init__(self, nice: int) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mainstem.search.workers.bootstrap",
                str(nice),
                "mainstem.search.workers.worker",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.replies = self.process.stdin, self.process.stdout

    def send(self, *requests: Request) -> None:
        self.requests.write(b"".join(map(ipc.frame, requests)))
        self.requests.flush()

    def reply(self) -> Reply:
        (length,) = LENGTH.unpack(self.replies.read(LENGTH.size))
        return ipc.decode_reply(self.replies.read(length))


@pytest.fixture
def worker() -> Iterator[WorkerUnderTest]:
    with started(nice=5) as running:
        yield running


@contextmanager
def started(*, nice: int) -> Iterator[WorkerUnderTest]:
    running = WorkerUnderTest(nice)
    yield running
    running.requests.close()
    assert running.process.wait(30) == 0
    running.replies.close()


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    path, offset, data = tmp_path / f"{0:020}.log", 0, b""
    for number in range(20):
        rows = [(b"k", f"word {number} {row}".encode(), (), 1_000) for row in range(50)]
        batch = build(rows, codec="lz4")
        assign_offsets(memoryview(batch), offset, 0, None)
        offset += len(rows)
        data += batch
    path.write_bytes(data)
    return Unit("orders", 0, str(path), 0, len(data), 0, offset)


def scan(unit: Unit, query: str, **more: object) -> ScanRequest:
    settings: dict[str, object] = {
        "id": 1,
        "now_ms": 0,
        "since_ms": None,
        "until_ms": None,
        "newest_first": True,
        "limit": 1 << 31,
        "max_bytes": 1 << 30,
        **more,
    }
    return ScanRequest(unit=unit, query=query, **settings)  # type: ignore[arg-type]  # a dict of mixed types


def read_scan(worker: WorkerUnderTest) -> tuple[list[int], Reply]:
    """The offsets of all matches, and the final reply."""
    offsets: list[int] = []
    while True:
        reply = worker.reply()
        if isinstance(reply, ScanMatches):
            offsets += [row[0] for row in reply.rows]
        elif not isinstance(reply, ScanProgress):
            return offsets, reply


def test_a_scan_returns_its_matches_and_then_its_totals(worker: WorkerUnderTest, unit: Unit) -> None:
    worker.send(scan(unit, "word"))
    offsets, last = read_scan(worker)
    assert offsets == list(reversed(range(1000)))
    assert last == ScanReply(1, unit.end, 0, 1000, 1000, None)


def test_a_scan_stops_at_a_limit_and_reports_where(worker: WorkerUnderTest, unit: Unit) -> None:
    for limit in ({"limit": 7}, {"max_bytes": 7 * 70}):
        worker.send(scan(unit, "word", **limit))
        offsets, last = read_scan(worker)
        assert isinstance(last, ScanReply)
        assert last.stopped_at == offsets[-1] == 1000 - len(offsets)
        assert 1 <= len(offsets) <= 10


def test_only_the_offsets_of_the_unit_are_searched(worker: WorkerUnderTest, unit: Unit) -> None:
    part = Unit(unit.topic, 0, unit.path, unit.start, unit.end, 130, 190)
    worker.send(scan(part, "word", newest_first=False))
    offsets, last = read_scan(worker)
    assert offsets == list(range(130, 190))
    assert isinstance(last, ScanReply)
    assert last.skipped_bytes > unit.end // 2


def test_a_cancelled_request_ends_early(worker: WorkerUnderTest, unit: Unit) -> None:
    worker.send(CancelRequest(1), scan(unit, "word"))
    offsets, last = read_scan(worker)
    assert isinstance(last, ScanReply)
    assert len(offsets) < 1000


def test_deleted_data_and_invalid_requests_are_answered(
    worker: WorkerUnderTest, unit: Unit, tmp_path: Path
) -> None:
    deleted = Unit("orders", 0, str(tmp_path / "deleted.log"), 0, 10, 0, 10)
    shorter = Unit("orders", 0, unit.path, 0, unit.end + 1, 0, 10)
    folder = Unit("orders", 0, str(tmp_path), 0, 10, 0, 10)
    worker.send(scan(deleted, "word"), scan(shorter, "word"), scan(folder, "word"), scan(unit, "a:("))
    replies = [worker.reply() for _ in range(4)]
    assert [reply.data_deleted for reply in replies if isinstance(reply, FailureReply)] == [
        True,
        True,
        False,
        False,
    ]
    worker.send(scan(unit, "word", limit=1))
    assert read_scan(worker)[0] == [999]


def test_a_worker_ignores_the_terminals_signals(worker: WorkerUnderTest, unit: Unit) -> None:
    worker.send(scan(unit, "word", limit=1))
    read_scan(worker)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        worker.process.send_signal(number)
    worker.send(scan(unit, "word", limit=1))
    assert read_scan(worker)[0] == [999]


def test_a_worker_has_a_lower_priority_than_the_server(worker: WorkerUnderTest, unit: Unit) -> None:
    with started(nice=BACKGROUND_NICE) as builder:
        for process in (worker, builder):
            process.send(scan(unit, "word", limit=1))
            read_scan(process)
        assert os.getpriority(os.PRIO_PROCESS, worker.process.pid) >= 5
        assert os.getpriority(os.PRIO_PROCESS, builder.process.pid) == BACKGROUND_NICE
        if sys.platform == "linux":
            assert os.sched_getscheduler(worker.process.pid) == os.SCHED_OTHER
            assert os.sched_getscheduler(builder.process.pid) == os.SCHED_IDLE


async def _session_of_a_worker(folder: Path) -> int:
    pool = WorkerPool(LoopClock(asyncio.get_running_loop()), workers=1)
    try:
        await pool.submit(partial(FindFiltersRequest, root=str(folder), partitions=str(folder))).final_reply()
        return os.getsid(pool.pids[0])
    finally:
        await pool.close()


def test_a_worker_stays_in_the_servers_session(tmp_path: Path) -> None:
    """In a session of its own, its priority would have no effect (sched(7), autogroup)."""
    assert asyncio.run(_session_of_a_worker(tmp_path)) == os.getsid(0)


def test_a_worker_imports_only_what_it_uses(unit: Unit) -> None:
    """A whole client, argparse and the metadata of distributions would take half of its start time."""
    program = (
        "import sys\n"
        "from mainstem.search.workers import bootstrap\n"
        "bootstrap.stub_heavy_packages()\n"
        "from mainstem.log.storage import record_batch\n"
        "from mainstem.search.workers import worker\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "print(sum(len(record_batch.decode(data[start : start + header.total_bytes]))"
        " for start, header in record_batch.iter_batches(data)))\n"
        "print(*sys.modules)\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program, unit.path], capture_output=True, text=True, check=True
    )
    events, modules = completed.stdout.splitlines()
    assert int(events) == 1000
    heavy = {"aiokafka.client", "argparse", "asyncio", "importlib.metadata", "logging", "mainstem.contract"}
    assert heavy & set(modules.split()) == set()


async def _prepared(folder: Path) -> None:
    pool = WorkerPool(LoopClock(asyncio.get_running_loop()), workers=2, idle_s=0.2)
    try:
        assert pool.pids == []
        pool.prepare()
        pool.prepare()
        while not pool.pids:
            await asyncio.sleep(0.01)
        waiting = pool.pids
        pool.prepare()
        await pool.submit(partial(FindFiltersRequest, root=str(folder), partitions=str(folder))).final_reply()
        assert pool.pids == waiting
        while pool.pids:
            await asyncio.sleep(0.01)
    finally:
        await pool.close()


def test_a_worker_that_was_started_early_executes_the_first_request_and_ends_when_idle(
    tmp_path: Path,
) -> None:
    asyncio.run(_prepared(tmp_path))


async def _abandoned(closed: list[bool]) -> None:
    pool = WorkerPool(LoopClock(asyncio.get_running_loop()), workers=1)
    try:
        pool.prepare()
        while not pool.pids:
            await asyncio.sleep(0.01)
        for task in asyncio.all_tasks():  # as the end of a loop does after an interrupt, all at once
            task.cancel()
        await asyncio.sleep(10.0)
    finally:
        await pool.close()
        closed.append(True)


def test_a_pool_whose_tasks_were_all_cancelled_can_be_closed() -> None:
    closed: list[bool] = []
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_abandoned(closed))
    assert closed
