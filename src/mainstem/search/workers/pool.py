"""The pool of worker processes, as the server's event loop uses it.

Owns: starting processes when they are first needed, or a little before, stopping idle ones, and passing
requests on, one at a time to each process, in the order of the schedule (`schedule.py`). A scan that a more
urgent request waits for is asked to pause, and goes on later, in any process. If a process dies, its request
fails. Refuses: to block the event loop, to repeat a request, and to limit what a worker sends: each request
limits the size of its own replies.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from mainstem.clock import Clock, Timer
from mainstem.search import ipc
from mainstem.search.ipc import FINAL_REPLIES, LENGTH, FailureReply, Reply, Request
from mainstem.search.workers.schedule import JobGroup, Schedule

IDLE_S = 60.0
"""A process that has no request for this many seconds is stopped."""
SEARCH_NICE = 10
"""Niceness of processes that search: a user waits for them, but producers and consumers have priority."""
CLOSE_S = 5.0
"""A worker stops between two batches. One that has not stopped after this time is killed."""
WORKERS_MIN = 2
"""Number of workers on two cores: producers have priority by niceness, and searches use what is left."""


def default_workers() -> int:
    """Number of workers by default: one core is left to the server, if two or more remain."""
    cores = os.cpu_count() or 1
    return min(cores, max(WORKERS_MIN, cores - 1))


@dataclass(slots=True)
class WorkerJob:
    """A submitted request and its replies, in order. The last reply is one of `ipc.FINAL_REPLIES`."""

    id: int
    request: Request | None
    """The request; after a pause, the one with which to go on."""
    group: JobGroup[WorkerJob]
    replies: asyncio.Queue[Reply] = field(default_factory=asyncio.Queue)
    process: WorkerProcess | None = None
    """The process that works on the request; None: the request waits, or is done."""
    started: float = 0.0
    """When the process got the request, by the monotonic clock."""
    pausing: bool = False
    """Whether the process was asked to pause."""
    progress: ipc.ScanProgress | None = None
    """The last progress report of a scan."""
    cancelled: bool = False
    done: bool = False

    async def final_reply(self) -> Reply:
        """Wait for the final reply. The replies before it are dropped."""
        while True:
            reply = await self.replies.get()
            if isinstance(reply, FINAL_REPLIES):
                return reply


class WorkerProcess:
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
    """A pool of worker processes. Not thread-safe: for one event loop."""

    def __init__(
        self,
        clock: Clock,
        *,
        workers: int | None = None,
        idle_s: float = IDLE_S,
        nice: int = SEARCH_NICE,
        program: Sequence[str] = ("mainstem.search.workers.worker",),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`workers`: maximum number of processes. `nice`: see `bootstrap.py`. `program`: the module that a
        worker runs, and its arguments. `environment`: variables of the workers beside those of this
        process."""
        self._clock = clock
        self._workers_max = workers or default_workers()
        self._idle_s = idle_s
        self._command = (sys.executable, "-m", "mainstem.search.workers.bootstrap", str(nice), *program)
        self._environment = environment
        self._ids = itertools.count(1)
        self._waiting: Schedule[WorkerJob] = Schedule()
        self._processes: list[WorkerProcess] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._closed = False

    @property
    def workers(self) -> int:
        """Maximum number of processes, and so of requests in progress."""
        return self._workers_max

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are running."""
        return [worker.process.pid for worker in self._processes]

    @property
    def busy(self) -> bool:
        """Whether a request waits or is in progress."""
        return bool(self._waiting) or any(worker.job is not None for worker in self._processes)

    def prepare(self) -> None:
        """Start a process if there is none, because a search is likely soon. If no request uses it for
        `idle_s`, it is stopped."""
        for process in self._processes:
            if process.job is None:
                self._mark_idle(process)
                return
        if not self._processes and not self._starting and not self._closed:
            self._start()

    def submit(self, make: Callable[[int], Request], group: JobGroup[WorkerJob] | None = None) -> WorkerJob:
        """Queue a request for the workers, and return the job on which its replies arrive. `make` builds the
        request from its id. `group`: the search that the request is part of; None: it is one of its own. If
        the pool is closed, the job fails at once with FailureReply."""
        job = WorkerJob(next(self._ids), None, JobGroup() if group is None else group)
        job.request = make(job.id)
        if self._closed:
            self._end(job, FailureReply(job.id, "the search was closed"))
            return job
        self._waiting.add(job, job.group)
        self._assign()
        self._pause_for_next()
        return job

    def cancel(self, job: WorkerJob) -> None:
        """Cancel a request. Its worker stops where a scan can pause. Further replies are dropped, except for
        the final one; a request that waits has no reply at all."""
        if job.done or job.cancelled:
            return
        job.cancelled = True
        if job.process is not None:
            job.process.send(ipc.CancelRequest(job.id))
        else:
            self._waiting.remove(job, job.group)

    def _assign(self) -> None:
        """Send waiting requests to idle processes. Start another process if none is idle."""
        while self._waiting:
            idle = next((worker for worker in self._processes if worker.job is None), None)
            if idle is None:
                if len(self._processes) + self._starting < self._workers_max and self._starting < len(
                    self._waiting
                ):
                    self._start()
                return
            job = self._waiting.pop()
            assert job.request is not None
            assert not job.done, "a request that is done does not wait"
            idle.job, job.process = job, idle
            job.started, job.pausing = self._clock.monotonic(), False
            if idle.idle is not None:
                idle.idle.cancel()
            idle.send(job.request)

    def _pause_for_next(self) -> None:
        """Ask a process to pause, if the next request is more urgent than what the processes work on."""
        running = [process.job for process in self._processes if process.job is not None]
        if not self._waiting or self._starting or any(job.pausing for job in running):
            return
        now = self._clock.monotonic()
        paused = self._waiting.to_pause(
            (job, job.group, now - job.started) for job in running if not job.cancelled
        )
        if paused is not None and paused.process is not None:
            paused.pausing = True
            paused.process.send(ipc.PauseRequest(paused.id))

    def _start(self) -> None:
        self._starting += 1
        self._spawn(self._run_process())

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_process(self) -> None:
        """Run one process, from its start to its end."""
        try:
            process = WorkerProcess(
                await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, **self._environment} if self._environment else None,
                )
            )
        except OSError as error:
            self._starting -= 1
            for job in () if self._processes else self._waiting.drain():
                self._end(job, FailureReply(job.id, f"no search worker can be started: {error}"))
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
        except asyncio.CancelledError:  # the loop ends before the pool was closed: none will ask it to stop
            with contextlib.suppress(ProcessLookupError):
                process.process.kill()
            raise
        finally:
            await self._on_exit(process)

    def _on_reply(self, process: WorkerProcess, reply: Reply) -> None:
        job = process.job
        if job is None or job.id != reply.id:
            return
        if isinstance(reply, ipc.Paused):
            self._release(process, job)
            if not (job.cancelled or self._closed):
                job.request, so_far = reply.rest, reply.rest.so_far
                job.progress = ipc.ScanProgress(job.id, so_far.bytes, so_far.skipped_bytes)
                job.replies.put_nowait(reply)
                self._waiting.add(job, job.group, first=True)
            else:
                self._end(job, FailureReply(job.id, "the request was cancelled"))
            self._mark_idle(process)
        elif isinstance(reply, FINAL_REPLIES):
            self._release(process, job)
            self._end(job, reply)
            self._mark_idle(process)
        elif isinstance(reply, ipc.ScanProgress):
            job.progress = reply
        elif not job.cancelled:
            job.replies.put_nowait(reply)

    def _release(self, process: WorkerProcess, job: WorkerJob) -> None:
        """Take the job from its process, and charge its group for the time."""
        process.job = job.process = None
        self._waiting.release(job.group, self._clock.monotonic() - job.started)

    def _end(self, job: WorkerJob, reply: Reply) -> None:
        assert not job.done, "a request has one final reply"
        job.done = True
        job.replies.put_nowait(reply)

    def _mark_idle(self, process: WorkerProcess) -> None:
        """Send the process a waiting request; if there is none, stop the process after the idle time."""
        self._assign()
        self._pause_for_next()
        if process.job is None and not self._closed:
            if process.idle is not None:
                process.idle.cancel()
            process.idle = self._clock.call_later(self._idle_s, lambda: self._stop_idle(process))

    def _stop_idle(self, process: WorkerProcess) -> None:
        if process.job is None and process.process.stdin is not None:
            if process in self._processes:
                self._processes.remove(process)
            process.process.stdin.close()

    async def _on_exit(self, process: WorkerProcess) -> None:
        if process in self._processes:
            self._processes.remove(process)
        if process.idle is not None:
            process.idle.cancel()
        code = await process.process.wait()
        job = process.job
        if job is not None:
            self._release(process, job)
            self._end(job, FailureReply(job.id, f"the search worker ended with exit code {code}"))
        if not self._closed:
            self._assign()

    async def close(self) -> None:
        """Stop all processes; those that do not end within CLOSE_S are killed. Waiting requests fail."""
        self._closed = True
        for job in self._waiting.drain():
            self._end(job, FailureReply(job.id, "the search was closed"))
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
