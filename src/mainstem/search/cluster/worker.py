"""A search worker for a Kafka cluster: `python -m mainstem.search.cluster.worker HOST:PORT,...`.

Owns: units that are spans of offsets, fetched from a broker; everything else is the work of any search worker
(`workers/worker.py`): batches are searched as they are in the log, and most are never decompressed. Refuses:
TLS and authentication, like the Kafka engine.

Token filters have the format of `blocks/token_filter.py`, one for a span, in files named `<topic
id>-<partition>/<first offset>-<next offset>-<leader epoch>.tokens`. They stay valid while the cluster works:
compaction and retention only remove events, so at worst a span is read in vain; what is below the last stable
offset is decided; a topic that is created again has another id; and the end of the leader epoch shows whether
an election lost events (`filters.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec

from mainstem.client_security import ClientSecurity
from mainstem.clock import BlockingClock
from mainstem.log.errors import CorruptBatch
from mainstem.log.storage.record_batch import HEADER_BYTES, decode, iter_batches, read_header
from mainstem.search import ipc
from mainstem.search.blocks import token_filter
from mainstem.search.cluster.broker_client import BrokerClient, ClusterError
from mainstem.search.cluster.leader_lookup import list_partitions, look_up_offsets
from mainstem.search.cluster.messages import (
    ListPartitionsReply,
    ListPartitionsRequest,
    LookUpOffsetsReply,
    LookUpOffsetsRequest,
)
from mainstem.search.cluster.span_reader import FetchedChunk, SpanReader, TopicIdPartition
from mainstem.search.ipc import FilterInfo, Reply, Request, ScanCounts, Unit
from mainstem.search.local.scan import CompiledQuery, ScanResult, ScanTask, scan_bytes
from mainstem.search.workers.worker import SearchWorker, WorkerPipes, serve_requests

PARTIAL_MS = 3_600_000
"""An incomplete filter file that is older was left by a process that ended while it wrote."""


class ClusterSearchWorker(SearchWorker):
    """Executes the server's requests, one after the other, on the partitions of a Kafka cluster."""

    def __init__(self, pipes: WorkerPipes, cluster: BrokerClient) -> None:
        super().__init__(pipes)
        self._cluster = cluster

    def _handle(self, request: Request) -> Reply:
        try:
            if isinstance(request, ListPartitionsRequest):
                return ListPartitionsReply(request.id, list_partitions(self._cluster, request))
            if isinstance(request, LookUpOffsetsRequest):
                return LookUpOffsetsReply(request.id, look_up_offsets(self._cluster, request))
            if isinstance(request, ipc.BuildFilterRequest):
                return ipc.BuildFilterReply(request.id, self._build_filter(request))
            if isinstance(request, ipc.FindFiltersRequest):
                return ipc.FiltersReply(
                    request.id, list(stored_filters(Path(request.root), self._cluster.clock.wall_ms()))
                )
            return super()._handle(request)
        except ClusterError as error:
            return ipc.FailureReply(request.id, str(error))

    def _is_slice_over(self, request: ipc.ScanRequest, started: float, cpu_before_s: float) -> bool:
        """Only what was asked for: a span that goes on after a pause is fetched again in part."""
        return self._pipes.is_interrupted(request.id)

    def _scan_unit(self, unit: Unit, query: CompiledQuery, task: ScanTask) -> ScanResult:
        """Scan a unit, as `scan_unit` does, but fetch its batches from a broker. It pauses between chunks."""
        span = self._span_reader(unit, task.is_cancelled)
        result = ScanResult.after(task.so_far)
        for chunk in span.backwards() if task.newest_first else span.forwards():
            for offset, reason in chunk.unreadable:
                task.on_damage(offset, reason)
            rest = replace(
                task,
                limit=task.limit - result.matches,
                max_bytes=task.max_bytes - result.row_bytes,
                should_pause=task.is_cancelled,
                so_far=ScanCounts(),
            )
            chunk_result = scan_bytes(chunk.data, unit, query, rest, offset_gaps=True)
            result.bytes += chunk.size - chunk_result.skipped_bytes
            result.skipped_bytes += chunk_result.skipped_bytes
            result.events += chunk_result.events
            result.matches += chunk_result.matches
            result.baseline_matches += chunk_result.baseline_matches
            result.row_bytes += chunk_result.row_bytes
            result.stopped_at = chunk_result.stopped_at
            if result.stopped_at is not None:
                break
            if task.should_pause():
                result.rest = _rest_of_span(unit, chunk, newest_first=task.newest_first)
                if result.rest is not None:
                    break
            task.on_progress(result)
        return result

    def _span_reader(self, unit: Unit, cancelled: Callable[[], bool]) -> SpanReader:
        return SpanReader(
            self._cluster, topic_id_partition(unit), unit.low, unit.high, unit.end - unit.start, cancelled
        )

    def _build_filter(self, request: ipc.BuildFilterRequest) -> FilterInfo | None:
        """Build the token filter of a span and write its file. None: the span can have no filter, or the
        request was cancelled."""
        unit = request.unit
        builder, size, last_header = token_filter.FilterBuilder(), 0, b""
        for chunk in self._span_reader(unit, lambda: self._pipes.is_cancelled(request.id)).forwards():
            size += chunk.size
            if chunk.unreadable or not _add_events(chunk, builder):
                return None
            for position, _ in iter_batches(chunk.data):
                last_header = bytes(chunk.data[position : position + HEADER_BYTES])
        if not last_header or self._pipes.is_cancelled(request.id):
            return None
        epoch = read_header(last_header).leader_epoch
        if epoch < 0:
            return None
        measured = Unit(unit.topic, unit.partition, unit.path, 0, size, unit.low, unit.high)
        target = Path(request.filter_path) / f"{unit.low:020}-{unit.high}-{epoch}{token_filter.SUFFIX}"
        info = token_filter.write_filter(measured, str(target), builder, 0, 0, last_header)
        return _with_folder(info, target)


def _rest_of_span(unit: Unit, chunk: FetchedChunk, *, newest_first: bool) -> Unit | None:
    """What is left of a span after a chunk of it. None: nothing is."""
    low, high = (unit.low, chunk.low) if newest_first else (chunk.high, unit.high)
    if low >= high:
        return None
    expected_bytes = (unit.end - unit.start) * (high - low) // (unit.high - unit.low)
    return msgspec.structs.replace(unit, end=unit.start + expected_bytes, low=low, high=high)


def topic_id_partition(unit: Unit) -> TopicIdPartition:
    """The partition of a unit. Units of a cluster have the topic's id in place of a file."""
    return TopicIdPartition(unit.topic, UUID(unit.path) if unit.path else None, unit.partition)


def _add_events(chunk: FetchedChunk, builder: token_filter.FilterBuilder) -> bool:
    """Add a chunk's events to a filter. False: a batch cannot be decoded, or the span is too large."""
    end = 0
    for position, header in iter_batches(chunk.data):
        end = position + header.total_bytes
        try:
            if not builder.add(decode(chunk.data[position:end])):
                return False
        except CorruptBatch:
            return False
    return end == len(chunk.data)


def _with_folder(info: FilterInfo, path: Path) -> FilterInfo:
    """Returns `info` with the path of its file, and with the name of the partition's folder in place of the
    path of a segment."""
    return msgspec.structs.replace(info, filter_path=str(path), path=path.parent.name)


def stored_filters(root: Path, now_ms: int) -> Iterator[FilterInfo]:
    """The intact filters below `root`. Damaged ones are removed, incomplete ones when older than
    PARTIAL_MS."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            head = token_filter.read_filter_info(path) if path.suffix == token_filter.SUFFIX else None
            if head is not None and path.stem == filter_name(*head):
                yield _with_folder(head[0], path)
            elif token_filter.is_filter_path(path) and (
                path.suffix == token_filter.SUFFIX or now_ms - path.stat().st_mtime * 1000 > PARTIAL_MS
            ):
                path.unlink(missing_ok=True)


def filter_name(info: FilterInfo, last_header: bytes) -> str:
    """The name of a token filter's file, without its suffix: offsets and leader epoch."""
    return f"{info.first_offset:020}-{info.next_offset}-{read_header(last_header).leader_epoch}"


def parse_addresses(text: str) -> list[tuple[str, int]]:
    """The (host, port) pairs of `HOST:PORT,...`."""
    pairs = [address.rpartition(":") for address in text.split(",")]
    return [(host.strip("[]"), int(port)) for host, _, port in pairs]


if __name__ == "__main__":
    serve_requests(
        partial(
            ClusterSearchWorker,
            cluster=BrokerClient(
                parse_addresses(sys.argv[1]),
                BlockingClock(),
                security=ClientSecurity.of_environment(os.environ),
            ),
        )
    )
