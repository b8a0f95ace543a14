"""Worker processes of `mainstem run`: starts them, starts them again, and stops them.

Each worker is the same command with its report on a pipe. A worker that ends before it was ever ready ends
the command with its exit code, for then something is wrong that a restart does not cure; one that ends later
is started again. A worker whose pipe breaks has lost its parent, and stops.

Owns: the processes, their reports, and reloading. Refuses: subscribers themselves.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from mainstem.api.run import StopSignals
from mainstem.api.subscriber_state import SubscriberState
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.source_watch import SourceWatch
from mainstem.cli.subscriber_health import ProcessReport, added_up

REPORT_VARIABLE = "MAINSTEM_RUN_REPORT_FD"
"""Variable that makes the command a worker: the number of the pipe for its reports."""
REPORT_S = 1.0
LATE_S = 10.0
"""A worker that has not reported for this time is not well."""
RESTART_S_FIRST, RESTART_S_MAX = 1.0, 30.0
WATCH_S = 0.5
KILL_S = 10.0
"""How long after its grace a worker is killed that has not ended."""
LINE_BYTES_MAX = 1 << 20


@dataclass(slots=True, eq=False)
class RunWorker:
    """A worker, through its restarts."""

    number: int
    process: asyncio.subprocess.Process | None = None
    states: list[SubscriberState] = field(default_factory=list)
    reported_s: float = 0.0
    """When its latest report came, monotonic; 0: none has since its start."""
    was_ready: bool = False
    """Whether all its groups have joined at any time: then its program is right, and is started again."""


class RunWorkers:
    """All workers of a command."""

    def __init__(
        self,
        arguments: Sequence[str],
        count: int,
        grace_s: float,
        watch: SourceWatch | None,
        report: Callable[[str], None],
    ) -> None:
        """`arguments`: those of the command in a worker. `watch`: they are started anew when a file of it
        changes. `report` shows a line to people."""
        self._arguments = arguments
        self._grace_s = grace_s
        self._watch = watch
        self._report = report
        self._workers = [RunWorker(number) for number in range(1, count + 1)]
        self._stopping = asyncio.Event()
        self._generation = 0
        """Changes of files so far."""
        self._code = ExitCode.DONE

    def health(self) -> ProcessReport:
        """What the workers have reported."""
        now_s = asyncio.get_running_loop().time()
        problems = [
            f"worker {worker.number} does not report"
            for worker in self._workers
            if not worker.reported_s or worker.reported_s < now_s - LATE_S
        ]
        return ProcessReport(added_up([worker.states for worker in self._workers]), problems)

    async def run(self, signals: StopSignals) -> int:
        """Run all workers until a signal, or until one cannot start. Returns the exit code."""
        signals.on_second = lambda: self._signal_all(signal.SIGTERM)
        waiting = [asyncio.ensure_future(signals.wait()), asyncio.ensure_future(self._stopping.wait())]
        watching = asyncio.ensure_future(self._watch_files())
        workers = [asyncio.ensure_future(self._keep(worker)) for worker in self._workers]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        self._stopping.set()
        self._signal_all(signal.SIGTERM)
        for task in (*waiting, watching):
            task.cancel()
        await asyncio.gather(*waiting, watching, return_exceptions=True)
        await asyncio.gather(*workers)
        return ExitCode.INTERRUPTED if signals.count > 1 else self._code

    def _signal_all(self, number: int) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.returncode is None:
                with suppress(ProcessLookupError):
                    worker.process.send_signal(number)

    async def _watch_files(self) -> None:
        while self._watch is not None:
            await asyncio.sleep(WATCH_S)
            changed = await asyncio.to_thread(self._watch.changed)
            if changed is not None:
                self._report(f"{changed} has changed: starting again")
                self._generation += 1
                self._signal_all(signal.SIGTERM)

    async def _keep(self, worker: RunWorker) -> None:
        """Run a worker, again and again."""
        pause_s = RESTART_S_FIRST
        while not self._stopping.is_set():
            generation = self._generation
            code = await self._run_once(worker)
            if self._stopping.is_set():
                return
            if self._watch is not None:
                if self._generation == generation:
                    self._report(f"worker {worker.number} ended with code {code}; waiting for a change")
                while self._generation == generation and not self._stopping.is_set():
                    await asyncio.sleep(WATCH_S)
                continue
            if not worker.was_ready:
                self._code = next((known for known in ExitCode if known == code), ExitCode.FAILED)
                self._stopping.set()
                return
            self._report(f"worker {worker.number} ended with code {code}; starting it again in {pause_s:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(2 * pause_s, RESTART_S_MAX)

    async def _run_once(self, worker: RunWorker) -> int:
        worker.states, worker.reported_s = [], 0.0
        reading_end, writing_end = os.pipe()
        try:
            worker.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mainstem", *self._arguments),
                pass_fds=(writing_end,),
                env=os.environ | {REPORT_VARIABLE: str(writing_end)},
                start_new_session=True,  # Ctrl-C reaches the parent, which says what it means
            )
        finally:
            os.close(writing_end)
        reading = asyncio.ensure_future(self._read_reports(worker, reading_end))
        if self._stopping.is_set():
            self._signal_all(signal.SIGTERM)
        try:
            return await self._ended(worker.process)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            worker.reported_s = 0.0

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """The exit code of a worker, which is killed if it does not end in time after a stop."""
        ending = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((ending, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ending.done():
            await asyncio.wait((ending,), timeout=self._grace_s + KILL_S)
        if not ending.done():
            process.kill()
        return await ending

    async def _read_reports(self, worker: RunWorker, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        decode = msgspec.json.Decoder(list[SubscriberState]).decode
        try:
            while line := await reader.readline():
                worker.states = decode(line)
                worker.reported_s = loop.time()
                worker.was_ready = worker.was_ready or all(state.joined for state in worker.states)
        finally:
            transport.close()


async def report_to_parent(
    descriptor: int,
    states: Callable[[], Awaitable[Sequence[SubscriberState]]],
    on_orphaned: Callable[[], None],
) -> None:
    """In a worker: report its states to the parent, for ever. `on_orphaned` is called when there is no parent
    any more."""
    encode = msgspec.json.Encoder().encode
    try:
        while True:
            line = encode(await states()) + b"\n"
            await asyncio.to_thread(_write_whole, descriptor, line)
            await asyncio.sleep(REPORT_S)
    except OSError:
        on_orphaned()


def _write_whole(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
