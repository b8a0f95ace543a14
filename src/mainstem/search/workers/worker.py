"""The search worker, a process that executes one request after the other.

Owns: the pipes (requests on standard input, replies on standard output), what is done for each request, and
the end of a scan's slice: after SLICE_S, or when the server asks for it, a scan is answered with Paused. It
looks for CancelRequest at the same places, and answers a failed request with FailureReply instead of ending.
It ends when the server's end of the pipe closes, also after the server was killed. Refuses: to write to the
log, and two requests at the same time. `bootstrap.py` starts it as a new process, not as a fork of the
server: `python -m mainstem.search.workers.worker`.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from mainstem.clock import BlockingClock
from mainstem.log.storage.record_batch import record_parser
from mainstem.search import ipc
from mainstem.search.blocks import blocks, histogram, token_filter
from mainstem.search.blocks.batches import DataDeleted, MappedRange, OpenRange
from mainstem.search.ipc import LENGTH, Reply, Request
from mainstem.search.local.scan import CompiledQuery, ScanResult, ScanTask, scan_unit
from mainstem.search.match.field_counter import FieldValueCounter

COMPILED_QUERIES_MAX = 16
"""Compiled queries to keep for later units of the same search."""
SLICE_S = 0.1
"""A scan pauses after this many seconds of CPU time, at the next place where it can. In seconds of the
clock, slices would be small on a busy machine, and the work that each begins with would weigh most."""
SLICE_MAX_S = 1.0
"""A scan also pauses after this many seconds of the clock, if it waits for the disk or for a processor."""
PROGRESS_BYTES = 2 << 20
"""Bytes to scan between two ScanProgress messages."""
CANCELLED_IDS = 10_000
"""The id of a cancelled request is dropped when ids have advanced by this number: the request has ended."""


class Pipes(Protocol):
    """How a worker gets its requests, and sends its replies."""

    def next(self) -> Request | None:
        """The next request, waiting for it. None: there will be no other."""

    def is_cancelled(self, request_id: int) -> bool:
        """Whether this request was cancelled, or the server has ended."""

    def is_interrupted(self, request_id: int) -> bool:
        """Whether this request was cancelled or asked to pause, or the server has ended."""

    def send(self, reply: Reply) -> None:
        """Send a whole reply."""


class WorkerPipes:
    """The two pipes of a worker: it reads requests from one file descriptor and writes replies to the
    other."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        self._bytes = bytearray()
        self._waiting: deque[Request] = deque()
        self._cancelled: set[int] = set()
        self._pausing: int | None = None
        self._ended = False

    def next(self) -> Request | None:
        """The next request, waiting for it. None: the pipe is closed."""
        while not self._waiting and not self._ended:
            self._receive()
        return self._waiting.popleft() if self._waiting else None

    def is_cancelled(self, request_id: int) -> bool:
        """Whether this request was cancelled, or the server has ended."""
        while not self._ended and select.select([self._source], [], [], 0)[0]:
            self._receive()
        return self._ended or request_id in self._cancelled

    def is_interrupted(self, request_id: int) -> bool:
        """Whether this request was cancelled or asked to pause, or the server has ended."""
        return self.is_cancelled(request_id) or self._pausing == request_id

    def _receive(self) -> None:
        received = os.read(self._source, 1 << 20)
        self._ended = not received
        self._bytes += received
        while len(self._bytes) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._bytes)
            if len(self._bytes) < LENGTH.size + length:
                return
            body = bytes(self._bytes[LENGTH.size : LENGTH.size + length])
            del self._bytes[: LENGTH.size + length]
            request = ipc.decode_request(body)
            if isinstance(request, ipc.CancelRequest):
                self._cancelled = {
                    cancelled for cancelled in self._cancelled if cancelled > request.id - CANCELLED_IDS
                }
                self._cancelled.add(request.id)
            elif isinstance(request, ipc.PauseRequest):
                self._pausing = request.id
            else:
                self._pausing = None  # it was for an earlier slice
                self._waiting.append(request)

    def send(self, reply: Reply) -> None:
        """Send a whole reply, waiting until the pipe accepts it."""
        rest = memoryview(ipc.frame(reply))
        while rest:
            rest = rest[os.write(self._sink, rest) :]


class SearchWorker:
    """Executes the server's requests, one after the other, on files: by default those of this machine."""

    def __init__(
        self,
        pipes: Pipes,
        open_range: OpenRange = MappedRange,
        read_file: Callable[[str], bytes] = blocks.read_file,
    ) -> None:
        self._pipes = pipes
        self._open_range = open_range
        self._read_file = read_file
        self._clock = BlockingClock()
        self._queries: OrderedDict[tuple[object, ...], CompiledQuery] = OrderedDict()

    def run(self) -> None:
        """Execute requests until the pipe closes."""
        while (request := self._pipes.next()) is not None:
            try:
                self._pipes.send(self._handle(request))
            except DataDeleted:
                self._pipes.send(ipc.FailureReply(request.id, "the data was deleted", data_deleted=True))
            except (OSError, ValueError) as error:
                if isinstance(error, BrokenPipeError):
                    return
                self._pipes.send(ipc.FailureReply(request.id, str(error)))
            except MemoryError:
                self._pipes.send(ipc.FailureReply(request.id, "the search worker lacks memory"))

    def _handle(self, request: Request) -> Reply:
        if isinstance(request, ipc.ScanRequest):
            return self._scan(request)
        if isinstance(request, ipc.CutBlocksRequest):
            cut = blocks.cut_blocks(request.ranges, request.block_bytes, self._open_range, self._read_file)
            return ipc.CutBlocksReply(request.id, cut)
        if isinstance(request, ipc.UnitTimesRequest):
            return ipc.UnitTimesReply(request.id, histogram.unit_times(request.units, self._open_range))
        if isinstance(request, ipc.TestFiltersRequest):
            clauses = request.clauses
            return ipc.TestFiltersReply(
                request.id, [token_filter.test(*block, clauses=clauses) for block in request.filters]
            )
        if isinstance(request, ipc.BuildFilterRequest):
            return ipc.BuildFilterReply(
                request.id, token_filter.build_filter(request.unit, request.filter_path)
            )
        if isinstance(request, ipc.FindFiltersRequest):
            return ipc.FiltersReply(request.id, token_filter.find_filters(request.root, request.partitions))
        if isinstance(request, ipc.QueryPartsRequest):
            from mainstem.search.index.reader import INDEX_READER

            return INDEX_READER.query(request)
        if isinstance(request, ipc.RemoveFiltersRequest):
            token_filter.remove_filters(request.filter_paths)
            return ipc.FiltersReply(request.id, [])
        assert isinstance(request, ipc.CountByTimeRequest)
        counts = histogram.count_by_time(request.units, request.edges, self._open_range)
        return ipc.CountByTimeReply(request.id, counts)

    def _scan(self, request: ipc.ScanRequest) -> Reply:
        send, pipes = self._pipes.send, self._pipes
        value_counter = FieldValueCounter(request.fields) if request.output == "fields" else None
        baseline_counter = None if request.baseline is None else FieldValueCounter(request.fields)
        started, cpu_before_s = self._clock.monotonic(), self._clock.cpu()
        task = ScanTask(
            request.newest_first,
            request.limit,
            request.max_bytes,
            return_rows=request.output == "events",
            value_counter=value_counter,
            baseline_counter=baseline_counter,
            on_matches=partial(self._send_matches, request.id),
            on_damage=lambda offset, reason: send(ipc.ScanDamage(request.id, offset, reason)),
            is_cancelled=lambda: pipes.is_cancelled(request.id),
            should_pause=lambda: self._is_slice_over(request, started, cpu_before_s),
            on_progress=self._progress_sender(request),
            so_far=request.so_far,
        )
        result = self._scan_unit(request.unit, self._compiled(request), task)
        for counter in (value_counter, baseline_counter):
            for name, counts in {} if counter is None else counter.counts().items():
                for some in counts.split(ipc.VALUES_A_REPLY):
                    send(ipc.ValueCounts(request.id, name, some, counter is baseline_counter))
        if result.rest is not None and not pipes.is_cancelled(request.id):
            rest = msgspec.structs.replace(request, unit=result.rest, so_far=result.counts())
            return ipc.Paused(request.id, rest)
        return ipc.ScanReply(
            request.id,
            result.bytes,
            result.skipped_bytes,
            result.events,
            result.matches,
            result.stopped_at,
            result.baseline_matches,
        )

    def _send_matches(self, request_id: int, rows: list[ipc.Row]) -> None:
        for start in range(0, len(rows), ipc.ROWS_A_REPLY):
            self._pipes.send(ipc.ScanMatches(request_id, rows[start : start + ipc.ROWS_A_REPLY]))

    def _is_slice_over(self, request: ipc.ScanRequest, started: float, cpu_before_s: float) -> bool:
        """Whether the scan is to pause. The worker of a cluster overrides this."""
        return (
            self._clock.cpu() - cpu_before_s >= SLICE_S
            or self._clock.monotonic() - started >= SLICE_MAX_S
            or self._pipes.is_interrupted(request.id)
        )

    def _progress_sender(self, request: ipc.ScanRequest) -> Callable[[ScanResult], None]:
        """A function that sends ScanProgress after every PROGRESS_BYTES."""
        reported_bytes = request.so_far.bytes + request.so_far.skipped_bytes

        def report(result: ScanResult) -> None:
            nonlocal reported_bytes
            finished_bytes = result.bytes + result.skipped_bytes
            if finished_bytes - reported_bytes >= PROGRESS_BYTES:
                reported_bytes = finished_bytes
                self._pipes.send(ipc.ScanProgress(request.id, result.bytes, result.skipped_bytes))

        return report

    def _scan_unit(self, unit: ipc.Unit, query: CompiledQuery, task: ScanTask) -> ScanResult:
        """Scan a unit. The worker of a cluster overrides this, because its batches come from a broker."""
        return scan_unit(unit, query, task, self._open_range)

    def _compiled(self, request: ipc.ScanRequest) -> CompiledQuery:
        key = (request.query, request.now_ms, request.since_ms, request.until_ms, request.baseline)
        query = self._queries.pop(key, None) or CompiledQuery(*key)
        self._queries[key] = query
        if len(self._queries) > COMPILED_QUERIES_MAX:
            self._queries.popitem(last=False)
        return query


def serve_requests(make: Callable[[WorkerPipes], SearchWorker]) -> None:
    """Execute the requests from standard input until it closes."""
    # Standard output is for replies only: what a library prints is redirected to standard error.
    sink = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    record_parser()  # load it now: a worker that was started early has no request yet
    with contextlib.suppress(BrokenPipeError):
        make(WorkerPipes(sys.stdin.fileno(), sink)).run()


if __name__ == "__main__":
    serve_requests(SearchWorker)
