"""A search worker: `python -m mainstem.search.workers.worker`, a process of its own.

Owns: its pipes, one request after the other, and looking for Cancel between batches. Refuses: to be forked
from the server, to write to the log, and to end for a bad unit: what fails is answered. It ends when the
server's end of the pipe closes, whatever killed the server. Started by `start.py`.
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
from mainstem.search.blocks.batches import Removed
from mainstem.search.facets import Tally
from mainstem.search.ipc import LENGTH, Reply, Request
from mainstem.search.local.scan import Order, Outcome, Question, scan

QUESTIONS_MAX = 16
PROGRESS_BYTES = 2 << 20


class Pipes:
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
            request = ipc.read_request(body)
            if isinstance(request, ipc.Cancel):
                self._cancelled = {each for each in self._cancelled if each > request.id - 10_000}
                self._cancelled.add(request.id)
            else:
                self._waiting.append(request)

    def send(self, reply: Reply) -> None:
        """Send a reply, all of it."""
        rest = memoryview(ipc.frame(reply))
        while rest:
            rest = rest[os.write(self._sink, rest) :]


class Worker:
    """Does requests."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._questions: OrderedDict[tuple[object, ...], Question] = OrderedDict()

    def run(self) -> None:
        """Until the pipe closes."""
        while (request := self._pipes.next()) is not None:
            try:
                self._pipes.send(self._do(request))
            except Removed:
                self._pipes.send(ipc.Failed(request.id, "its data was deleted", removed=True))
            except (OSError, ValueError) as error:
                if isinstance(error, BrokenPipeError):
                    return
                self._pipes.send(ipc.Failed(request.id, str(error)))
            except MemoryError:
                self._pipes.send(ipc.Failed(request.id, "it takes more memory than there is"))

    def _do(self, request: Request) -> Reply:
        if isinstance(request, ipc.Scan):
            return self._scan(request)
        if isinstance(request, ipc.Plan):
            return ipc.Planned(request.id, blocks.cut(request.gaps, request.block_bytes))
        if isinstance(request, ipc.Times):
            return ipc.Spans(request.id, histogram.spans(request.units))
        if isinstance(request, ipc.Sift):
            clauses = request.clauses
            return ipc.Sifted(
                request.id, [token_filter.verdict(*each, clauses=clauses) for each in request.filters]
            )
        if isinstance(request, ipc.Build):
            return ipc.Built(request.id, token_filter.build(request.unit, request.sidecar))
        if isinstance(request, ipc.Restore):
            return ipc.Restored(request.id, token_filter.restore(request.root, request.partitions))
        if isinstance(request, ipc.Ask):
            from mainstem.search.index.reader import READER

            return READER.ask(request)
        if isinstance(request, ipc.Remove):
            token_filter.remove(request.sidecars)
            return ipc.Restored(request.id, [])
        assert isinstance(request, ipc.Count)
        return ipc.Counted(request.id, histogram.count(request.units, request.edges))

    def _scan(self, request: ipc.Scan) -> Reply:
        damaged = self._pipes.send
        tally = Tally(request.fields) if request.want == "fields" else None
        order = Order(
            request.newest_first,
            request.limit,
            request.max_bytes,
            keep=request.want == "events",
            tally=tally,
            found=lambda rows: self._pipes.send(ipc.Found(request.id, rows)),
            damaged=lambda offset, reason: damaged(ipc.Damaged(request.id, offset, reason)),
            cancelled=lambda: self._pipes.is_cancelled(request.id),
            progress=self._progress(request.id),
        )
        done = self._search(request.unit, self._question(request), order)
        counted = {name: dict(counter) for name, counter in tally.counters.items()} if tally else {}
        return ipc.Scanned(
            request.id, done.bytes, done.skipped_bytes, done.events, done.matches, done.stopped_at, counted
        )

    def _progress(self, request_id: int) -> Callable[[Outcome], None]:
        """Tells how far it is, now and then."""
        told = 0

        def tell(outcome: Outcome) -> None:
            nonlocal told
            done = outcome.bytes + outcome.skipped_bytes
            if done - told >= PROGRESS_BYTES:
                told = done
                self._pipes.send(ipc.Reached(request_id, outcome.bytes, outcome.skipped_bytes))

        return tell

    def _search(self, unit: ipc.Unit, question: Question, order: Order) -> Outcome:
        """The worker of a cluster (`cluster_worker.py`) gets its bytes elsewhere."""
        return scan(unit, question, order)

    def _question(self, request: ipc.Scan) -> Question:
        key = (request.query, request.now_ms, request.since_ms, request.until_ms)
        question = self._questions.pop(key, None) or Question(*key)
        self._questions[key] = question
        if len(self._questions) > QUESTIONS_MAX:
            self._questions.popitem(last=False)
        return question


def serve(make: Callable[[Pipes], Worker]) -> None:
    """Serve standard input until it closes."""
    # Nothing but replies may come out of standard output: what a library prints goes where errors go.
    sink = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    record_parser()  # now, while nobody waits for it yet, if it was started early
    with contextlib.suppress(BrokenPipeError):
        make(Pipes(sys.stdin.fileno(), sink)).run()


if __name__ == "__main__":
    serve(Worker)
