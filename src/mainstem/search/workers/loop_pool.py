"""A search worker in the event loop itself, for a log in memory, which no other process can read.

Owns: `LoopPool`, in place of the pool of processes. It executes the same requests by the same code, in slices
of a few milliseconds, each in a turn of the loop of its own. Refuses: files, for which there are processes:
what it searches is read by a function that it is given; and token filters and indexes, which are files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType

from mainstem.clock import Clock
from mainstem.search import ipc
from mainstem.search.blocks.batches import DataDeleted
from mainstem.search.ipc import Reply, Request
from mainstem.search.workers.pool import WorkerPool, WorkerProcess
from mainstem.search.workers.worker import SearchWorker

LOOP_SLICE_S = 0.005
"""A scan pauses after this many seconds, at the next place where it can."""

ReadFile = Callable[[str], bytes | bytearray]
"""The contents of a file, which are read at once and not changed. FileNotFoundError."""


class RangeInMemory:
    """A copy of a part of a file in memory: what is searched must not keep the file from growing."""

    def __init__(self, read: ReadFile, path: str, start: int, end: int) -> None:
        """Raises DataDeleted if the file is missing or ends before `end`."""
        try:
            contents = read(path)
        except FileNotFoundError:
            raise DataDeleted(path) from None
        if len(contents) < end:
            raise DataDeleted(path)
        self.view = memoryview(bytes(memoryview(contents)[start:end]))

    def prefetch(self) -> None:
        """Nothing: it is in memory."""

    def __enter__(self) -> RangeInMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing: the copy is freed with the last slice of it."""


class LoopPipes:
    """What `SearchWorker` has in place of pipes: it sends replies by a call."""

    def __init__(self, on_reply: Callable[[Reply], None]) -> None:
        self._on_reply = on_reply
        self.cancelled: int | None = None
        self.pausing: int | None = None

    def next(self) -> Request | None:
        """None: requests do not come through here."""
        return None

    def is_cancelled(self, request_id: int) -> bool:
        """See `Pipes`."""
        return self.cancelled == request_id

    def is_interrupted(self, request_id: int) -> bool:
        """See `Pipes`."""
        return request_id in (self.cancelled, self.pausing)

    def send(self, reply: Reply) -> None:
        """See `Pipes`."""
        self._on_reply(reply)


class LoopWorker(SearchWorker):
    """Executes requests on files in memory."""

    def __init__(self, pipes: LoopPipes, read: ReadFile) -> None:
        super().__init__(pipes, partial(RangeInMemory, read), lambda path: bytes(read(path)))

    def handle(self, request: Request) -> Reply:
        """The last reply to a request, or to a slice of it."""
        try:
            return self._handle(request)
        except DataDeleted:
            return ipc.FailureReply(request.id, "the data was deleted", data_deleted=True)
        except (ValueError, MemoryError) as error:
            return ipc.FailureReply(request.id, str(error))

    def _handle(self, request: Request) -> Reply:
        match request:
            case ipc.FindFiltersRequest():
                return ipc.FiltersReply(request.id, [])
            case (
                ipc.ScanRequest() | ipc.CutBlocksRequest() | ipc.UnitTimesRequest() | ipc.CountByTimeRequest()
            ):
                return super()._handle(request)
        raise AssertionError(f"a log in memory has no file for {type(request).__name__}")

    def _is_slice_over(self, request: ipc.ScanRequest, started: float, cpu_before_s: float) -> bool:
        spent_s = self._clock.monotonic() - started
        return spent_s >= LOOP_SLICE_S or self._pipes.is_interrupted(request.id)


class _LoopProcess(WorkerProcess):
    """What the pool has in place of a process: executes a request in slices, one in a turn of the loop."""

    def __init__(
        self, clock: Clock, read: ReadFile, on_reply: Callable[[WorkerProcess, Reply], None]
    ) -> None:
        self.job = self.idle = None
        self._clock = clock
        self._on_reply = on_reply
        self._pipes = LoopPipes(lambda reply: on_reply(self, reply))
        self._worker = LoopWorker(self._pipes, read)

    def send(self, request: Request) -> None:
        match request:
            case ipc.CancelRequest():
                self._pipes.cancelled = request.id
            case ipc.PauseRequest():
                self._pipes.pausing = request.id
            case _:
                self._pipes.pausing = None  # it was for an earlier slice
                self._clock.call_in_turn(lambda: self._execute(request))

    def _execute(self, request: Request) -> None:
        if self.job is not None and self.job.id == request.id:
            self._on_reply(self, self._worker.handle(request))


class LoopPool(WorkerPool):
    """A pool of one worker, which is in the event loop."""

    def __init__(self, clock: Clock, read: ReadFile) -> None:
        super().__init__(clock, workers=1)
        self._read = read

    @property
    def pids(self) -> list[int]:
        """None: there is no process."""
        return []

    def _start(self) -> None:
        self._processes.append(_LoopProcess(self._clock, self._read, self._on_reply))
        self._assign()

    def _mark_idle(self, process: WorkerProcess) -> None:
        self._assign()
        self._pause_for_next()

    async def close(self) -> None:
        """Fail the requests that wait and the one in progress."""
        self._closed = True
        jobs = [worker.job for worker in self._processes if worker.job is not None]
        self._processes.clear()
        for job in [*jobs, *self._waiting.drain()]:
            self._end(job, ipc.FailureReply(job.id, "the search was closed"))
