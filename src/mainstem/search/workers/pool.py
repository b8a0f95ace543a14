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
from mainstem.search.ipc import LAST, LENGTH, Failed, Reply, Request

IDLE_S = 60.0
SEARCH_NICE = 10
"""Somebody waits for a search, but producers and readers come first."""
CLOSE_S = 5.0
"""A worker ends between two batches; one that has not by then is killed."""
SEARCHING, LOOKING, BUILDING = 0, 1, 2
"""Importance of requests."""


def default_workers() -> int:
    """One core is the stream's."""
    return max(1, (os.cpu_count() or 1) - 1)


@dataclass(slots=True)
class Job:
    """A request on its way. Its replies come in order; the last one is one of `messages.LAST`."""

    id: int
    request: Request | None
    replies: asyncio.Queue[Reply] = field(default_factory=asyncio.Queue)
    process: _Process | None = None
    reached: ipc.Reached | None = None
    """How far a Scan was when it last told."""
    cancelled: bool = False
    done: bool = False

    async def last(self) -> Reply:
        """Wait for the end; what comes before is passed over."""
        while True:
            reply = await self.replies.get()
            if isinstance(reply, LAST):
                return reply


class _Process:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.job: Job | None = None
        self.idle: Timer | None = None

    def send(self, request: Request) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(ipc.frame(request))

    async def replies(self) -> AsyncIterator[Reply]:
        assert self.process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = LENGTH.unpack(await self.process.stdout.readexactly(LENGTH.size))
                yield ipc.read_reply(await self.process.stdout.readexactly(length))


class Pool:
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
        """`nice`: see `start.py`. `program`: the module that a worker runs, and what it is told."""
        self._clock = clock
        self._most = workers or default_workers()
        self._idle_s = idle_s
        self._command = (sys.executable, "-m", "mainstem.search.workers.bootstrap", str(nice), *program)
        self._ids = itertools.count(1)
        self._waiting: list[tuple[int, int, Job]] = []
        self._processes: list[_Process] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._closed = False

    @property
    def workers(self) -> int:
        """How many requests can be worked on at once."""
        return self._most

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
                self._rest(process)
                return
        if not self._processes and not self._starting and not self._closed:
            self._start()

    def submit(self, make: Callable[[int], Request], importance: int = SEARCHING) -> Job:
        """Have a request done, made with the id that it is given."""
        job = Job(next(self._ids), None)
        job.request = make(job.id)
        if self._closed:
            self._end(job, Failed(job.id, "the search was closed"))
            return job
        heapq.heappush(self._waiting, (importance, job.id, job))
        self._give()
        return job

    def cancel(self, job: Job) -> None:
        """Nobody waits for it any more."""
        job.cancelled = True
        if job.process is not None and not job.done:
            job.process.send(ipc.Cancel(job.id))

    def _give(self) -> None:
        """Give what waits to those that are idle; start one more if there is none."""
        while self._waiting:
            if self._waiting[0][2].cancelled:
                heapq.heappop(self._waiting)
                continue
            idle = next((each for each in self._processes if each.job is None), None)
            if idle is None:
                if len(self._processes) + self._starting < self._most and self._starting < len(self._waiting):
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
        self._run(self._live())

    def _run(self, life: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(life)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self) -> None:
        """One process, from its start to its end."""
        try:
            process = _Process(
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
                self._end(job, Failed(job.id, f"no worker can be started: {error}"))
            return
        self._starting -= 1
        self._processes.append(process)
        if self._closed:
            assert process.process.stdin is not None
            process.process.stdin.close()
        self._rest(process)
        try:
            async for reply in process.replies():
                self._received(process, reply)
        finally:
            await self._gone(process)

    def _received(self, process: _Process, reply: Reply) -> None:
        job = process.job
        if job is None or job.id != reply.id:
            return
        if isinstance(reply, LAST):
            process.job = None
            self._end(job, reply)
            self._rest(process)
        elif isinstance(reply, ipc.Reached):
            job.reached = reply
        elif not job.cancelled:
            job.replies.put_nowait(reply)

    def _end(self, job: Job, reply: Reply) -> None:
        job.done = True
        job.replies.put_nowait(reply)

    def _rest(self, process: _Process) -> None:
        """It has nothing to do: something waits, or its time runs."""
        self._give()
        if process.job is None and not self._closed:
            if process.idle is not None:
                process.idle.cancel()
            process.idle = self._clock.call_later(self._idle_s, lambda: self._dismiss(process))

    def _dismiss(self, process: _Process) -> None:
        if process.job is None and process.process.stdin is not None:
            if process in self._processes:
                self._processes.remove(process)
            process.process.stdin.close()

    async def _gone(self, process: _Process) -> None:
        if process in self._processes:
            self._processes.remove(process)
        if process.idle is not None:
            process.idle.cancel()
        job, process.job = process.job, None
        code = await process.process.wait()
        if job is not None:
            self._end(job, Failed(job.id, f"the worker that searched it ended with {code}"))
        if not self._closed:
            self._give()

    async def close(self) -> None:
        """End all of them. What waits fails."""
        self._closed = True
        for _, _, job in self._waiting:
            self._end(job, Failed(job.id, "the search was closed"))
        self._waiting.clear()
        for process in self._processes:
            if process.job is not None:
                process.send(ipc.Cancel(process.job.id))
            assert process.process.stdin is not None
            process.process.stdin.close()
        ending = list(self._processes)
        while self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=CLOSE_S)
            for process in ending if late else ():
                with contextlib.suppress(ProcessLookupError):
                    process.process.kill()
