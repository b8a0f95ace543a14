"""A search worker: `python -m mainstem.search.workers.worker`, a process of its own.

Owns: its pipes, one request after the other, and looking for CancelRequest between batches. Refuses: to be
forked from the server, to write to the log, and to end for a bad unit: what fails is answered. It ends when
the server's end of the pipe closes, whatever killed the server. Started by `bootstrap.py`.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections import OrderedDict, deque
from collections.abc import Callable

from mainstem.log.storage.record_batch import record_parser
from mainstem.search import ipc
from mainstem.search.blocks import blocks, histogram, token_filter
from mainstem.search.blocks.batches import DataDeleted
from mainstem.search.facets import FieldValueCounter
from mainstem.search.ipc import LENGTH, Reply, Request
from mainstem.search.local.scan import CompiledQuery, ScanResult, ScanTask, scan_unit

COMPILED_QUERIES_MAX = 16
PROGRESS_BYTES = 2 << 20


class WorkerPipes:
    """Requests in, replies out, over two file descriptors."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        self._bytes = bytearray()
        self._waiting: deque[Request] = deque()
        self._cancelled: set[int] = set()
        self._ended = False

    def next(self) -> Request | None:
        """The next request that was not cancelled; None at the end."""
        while not self._waiting and not self._ended:
            self._receive()
        return self._waiting.popleft() if self._waiting else None

    def is_cancelled(self, request_id: int) -> bool:
        """Somebody gave this request up, or the server is gone."""
        while not self._ended and select.select([self._source], [], [], 0)[0]:
            self._receive()
        return self._ended or request_id in self._cancelled

    def _receive(self) -> None:
        piece = os.read(self._source, 1 << 20)
        self._ended = not piece
        self._bytes += piece
        while len(self._bytes) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._bytes)
            if len(self._bytes) < LENGTH.size + length:
                return
            body = bytes(self._bytes[LENGTH.size : LENGTH.size + length])
            del self._bytes[: LENGTH.size + length]
            request = ipc.decode_request(body)
            if isinstance(request, ipc.CancelRequest):
                self._cancelled = {each for each in self._cancelled if each > request.id - 10_000}
                self._cancelled.add(request.id)
            else:
                self._waiting.append(request)

    def send(self, reply: Reply) -> None:
        """Send a reply, all of it."""
        rest = memoryview(ipc.frame(reply))
        while rest:
            rest = rest[os.write(self._sink, rest) :]


class SearchWorker:
    """Does requests."""

    def __init__(self, pipes: WorkerPipes) -> None:
        self._pipes = pipes
        self._queries: OrderedDict[tuple[object, ...], CompiledQuery] = OrderedDict()

    def run(self) -> None:
        """Until the pipe closes."""
        while (request := self._pipes.next()) is not None:
            try:
                self._pipes.send(self._handle(request))
            except DataDeleted:
                self._pipes.send(ipc.RequestFailed(request.id, "its data was deleted", data_deleted=True))
            except (OSError, ValueError) as error:
                if isinstance(error, BrokenPipeError):
                    return
                self._pipes.send(ipc.RequestFailed(request.id, str(error)))
            except MemoryError:
                self._pipes.send(ipc.RequestFailed(request.id, "it takes more memory than there is"))

    def _handle(self, request: Request) -> Reply:
        if isinstance(request, ipc.ScanRequest):
            return self._scan(request)
        if isinstance(request, ipc.CutBlocksRequest):
            return ipc.CutBlocksReply(request.id, blocks.cut_blocks(request.ranges, request.block_bytes))
        if isinstance(request, ipc.UnitTimesRequest):
            return ipc.UnitTimesReply(request.id, histogram.unit_times(request.units))
        if isinstance(request, ipc.TestFiltersRequest):
            clauses = request.clauses
            return ipc.TestFiltersReply(
                request.id, [token_filter.test(*each, clauses=clauses) for each in request.filters]
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
        return ipc.CountByTimeReply(request.id, histogram.count_by_time(request.units, request.edges))

    def _scan(self, request: ipc.ScanRequest) -> Reply:
        damaged = self._pipes.send
        tally = FieldValueCounter(request.fields) if request.output == "fields" else None
        order = ScanTask(
            request.newest_first,
            request.limit,
            request.max_bytes,
            return_rows=request.output == "events",
            value_counter=tally,
            on_matches=lambda rows: self._pipes.send(ipc.ScanMatches(request.id, rows)),
            on_damage=lambda offset, reason: damaged(ipc.ScanDamage(request.id, offset, reason)),
            is_cancelled=lambda: self._pipes.is_cancelled(request.id),
            on_progress=self._progress(request.id),
        )
        done = self._scan_unit(request.unit, self._compiled(request), order)
        counted = {name: dict(counter) for name, counter in tally.counters.items()} if tally else {}
        return ipc.ScanReply(
            request.id, done.bytes, done.skipped_bytes, done.events, done.matches, done.stopped_at, counted
        )

    def _progress(self, request_id: int) -> Callable[[ScanResult], None]:
        """Tells how far it is, now and then."""
        told = 0

        def tell(outcome: ScanResult) -> None:
            nonlocal told
            done = outcome.bytes + outcome.skipped_bytes
            if done - told >= PROGRESS_BYTES:
                told = done
                self._pipes.send(ipc.ScanProgress(request_id, outcome.bytes, outcome.skipped_bytes))

        return tell

    def _scan_unit(self, unit: ipc.Unit, question: CompiledQuery, order: ScanTask) -> ScanResult:
        """The worker of a cluster (`cluster/worker.py`) gets its bytes elsewhere."""
        return scan_unit(unit, question, order)

    def _compiled(self, request: ipc.ScanRequest) -> CompiledQuery:
        key = (request.query, request.now_ms, request.since_ms, request.until_ms)
        question = self._queries.pop(key, None) or CompiledQuery(*key)
        self._queries[key] = question
        if len(self._queries) > COMPILED_QUERIES_MAX:
            self._queries.popitem(last=False)
        return question


def serve_requests(make: Callable[[WorkerPipes], SearchWorker]) -> None:
    """Serve standard input until it closes."""
    # Nothing but replies may come out of standard output: what a library prints goes where errors go.
    sink = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    record_parser()  # now, while nobody waits for it yet, if it was started early
    with contextlib.suppress(BrokenPipeError):
        make(WorkerPipes(sys.stdin.fileno(), sink)).run()


if __name__ == "__main__":
    serve_requests(SearchWorker)
