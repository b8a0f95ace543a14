"""The worker processes, seen from the loop of the server.

Owns: starting them at first use or a little before, ending them when idle, giving them requests in order of
importance, and what is told when one dies. Refuses: to block the loop, and to hold back what a worker sends:
a request bounds its own answer. Used by both kinds of search.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field

from mainstem.clock import Clock, Timer
from mainstem.search import ipc
from mainstem.search.ipc import FINAL_REPLIES, LENGTH, Reply, Request, RequestFailed

IDLE_S = 60.0
SEARCH_NICE = 10
"""Somebody waits for a search, but producers and readers come first."""
CLOSE_S = 5.0
"""A worker ends between two batches; one that has not by then is killed."""
SEARCH_PRIORITY, LOOKUP_PRIORITY, BUILD_PRIORITY = 0, 1, 2
"""Importance of requests."""


def default_workers() -> int:
    """One core is the stream's."""
    return max(1, (os.cpu_count() or 1) - 1)


@dataclass(slots=True)
class WorkerJob:
    """A request on its way. Its replies come in order; the last one is one of `ipc.FINAL_REPLIES`."""

    id: int
    request: Request | None
    replies: asyncio.Queue[Reply] = field(default_factory=asyncio.Queue)
    process: _WorkerProcess | None = None
    progress: ipc.ScanProgress | None = None
    """How far a scan was at its last report."""
    cancelled: bool = False
    done: bool = False

    async def final_reply(self) -> Reply:
        """Wait for the end; what comes before is passed over."""
        while True:
            reply = await self.replies.get()
            if isinstance(reply, FINAL_REPLIES):
                return reply


class _WorkerProcess:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.job: WorkerJob | None = None
        self.idle: Timer | None = None

    def send(self, request: Request) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(ipc.frame(request))

    async def replies(self) -> AsyncIterator[Reply]:
        assert self.process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = LENGTH.unpack(await self.process.stdout.readexactly(LENGTH.size))
                yield ipc.decode_reply(await self.process.stdout.readexactly(length))


class WorkerPool:
    """Some worker processes. Used on one loop."""

    def __init__(
        self,
        clock: Clock,
        *,
        workers: int | None = None,
        idle_s: float = IDLE_S,
        nice: int = SEARCH_NICE,
        program: Sequence[str] = ("mainstem.search.workers.worker",),
    ) -> None:
        """`nice`: see `bootstrap.py`. `program`: the module that a worker runs, and what it is told."""
        self._clock = clock
        self._workers_max = workers or default_workers()
        self._idle_s = idle_s
        self._command = (sys.executable, "-m", "mainstem.search.workers.bootstrap", str(nice), *program)
        self._ids = itertools.count(1)
        self._waiting: list[tuple[int, int, WorkerJob]] = []
        self._processes: list[_WorkerProcess] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._closed = False

    @property
    def workers(self) -> int:
        """How many requests can be worked on at once."""
        return self._workers_max

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [each.process.pid for each in self._processes]

    @property
    def busy(self) -> bool:
        """Some request waits or is worked on."""
        return bool(self._waiting) or any(each.job is not None for each in self._processes)

    def prepare(self) -> None:
        """Somebody may ask soon: have a process that waits for it, for as long as one stays idle."""
        for process in self._processes:
            if process.job is None:
                self._mark_idle(process)
                return
        if not self._processes and not self._starting and not self._closed:
            self._start()

    def submit(self, make: Callable[[int], Request], priority: int = SEARCH_PRIORITY) -> WorkerJob:
        """Have a request done, made with the id that it is given."""
        job = WorkerJob(next(self._ids), None)
        job.request = make(job.id)
        if self._closed:
            self._end(job, RequestFailed(job.id, "the search was closed"))
            return job
        heapq.heappush(self._waiting, (priority, job.id, job))
        self._assign()
        return job

    def cancel(self, job: WorkerJob) -> None:
        """Nobody waits for it any more."""
        job.cancelled = True
        if job.process is not None and not job.done:
            job.process.send(ipc.CancelRequest(job.id))

    def _assign(self) -> None:
        """Give what waits to those that are idle; start one more if there is none."""
        while self._waiting:
            if self._waiting[0][2].cancelled:
                heapq.heappop(self._waiting)
                continue
            idle = next((each for each in self._processes if each.job is None), None)
            if idle is None:
                if len(self._processes) + self._starting < self._workers_max and self._starting < len(
                    self._waiting
                ):
                    self._start()
                return
            job = heapq.heappop(self._waiting)[2]
            assert job.request is not None
            idle.job, job.process = job, idle
            if idle.idle is not None:
                idle.idle.cancel()
            idle.send(job.request)

    def _start(self) -> None:
        self._starting += 1
        self._spawn(self._run_process())

    def _spawn(self, life: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(life)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_process(self) -> None:
        """One process, from its start to its end."""
        try:
            process = _WorkerProcess(
                await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
        except OSError as error:
            self._starting -= 1
            while self._waiting and not self._processes:
                job = heapq.heappop(self._waiting)[2]
                self._end(job, RequestFailed(job.id, f"no worker can be started: {error}"))
            return
        self._starting -= 1
        self._processes.append(process)
        if self._closed:
            assert process.process.stdin is not None
            process.process.stdin.close()
        self._mark_idle(process)
        try:
            async for reply in process.replies():
                self._on_reply(process, reply)
        finally:
            await self._on_exit(process)

    def _on_reply(self, process: _WorkerProcess, reply: Reply) -> None:
        job = process.job
        if job is None or job.id != reply.id:
            return
        if isinstance(reply, FINAL_REPLIES):
            process.job = None
            self._end(job, reply)
            self._mark_idle(process)
        elif isinstance(reply, ipc.ScanProgress):
            job.progress = reply
        elif not job.cancelled:
            job.replies.put_nowait(reply)

    def _end(self, job: WorkerJob, reply: Reply) -> None:
        job.done = True
        job.replies.put_nowait(reply)

    def _mark_idle(self, process: _WorkerProcess) -> None:
        """It has nothing to do: something waits, or its time runs."""
        self._assign()
        if process.job is None and not self._closed:
            if process.idle is not None:
                process.idle.cancel()
            process.idle = self._clock.call_later(self._idle_s, lambda: self._dismiss(process))

    def _dismiss(self, process: _WorkerProcess) -> None:
        if process.job is None and process.process.stdin is not None:
            if process in self._processes:
                self._processes.remove(process)
            process.process.stdin.close()

    async def _on_exit(self, process: _WorkerProcess) -> None:
        if process in self._processes:
            self._processes.remove(process)
        if process.idle is not None:
            process.idle.cancel()
        job, process.job = process.job, None
        code = await process.process.wait()
        if job is not None:
            self._end(job, RequestFailed(job.id, f"the worker that searched it ended with {code}"))
        if not self._closed:
            self._assign()

    async def close(self) -> None:
        """End all of them. What waits fails."""
        self._closed = True
        for _, _, job in self._waiting:
            self._end(job, RequestFailed(job.id, "the search was closed"))
        self._waiting.clear()
        for process in self._processes:
            if process.job is not None:
                process.send(ipc.CancelRequest(process.job.id))
            assert process.process.stdin is not None
            process.process.stdin.close()
        ending = list(self._processes)
        while self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=CLOSE_S)
            for process in ending if late else ():
                with contextlib.suppress(ProcessLookupError):
                    process.process.kill()
