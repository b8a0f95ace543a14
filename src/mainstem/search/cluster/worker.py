"""A worker for the search of a cluster: `python -m mainstem.search.cluster.worker HOST:PORT,...`.

Owns: the units of a search as spans of offsets that are fetched, and otherwise the work of any search worker
(`workers/worker.py`): batches are looked through as they lie in the log, and most are never opened. Refuses:
to be told anything about security: it connects as plainly as the cluster engine does.

Token filters are those of `blocks/token_filter.py`, one for a span, in files `<topic id>-<partition>/<first
offset>-<next offset>-<leader epoch>.tokens`. They stay true while the cluster works: compaction and retention
only remove, so a filter may at worst let a span be read in vain; what is below the last stable offset is
decided; a topic made again has another id; and after an election that lost events the epoch's end tells
(`filters.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec

from mainstem.clock import BlockingClock
from mainstem.log.errors import CorruptBatch
from mainstem.log.storage.record_batch import HEADER_BYTES, decode, iter_batches, read_header
from mainstem.search import ipc
from mainstem.search.blocks import token_filter
from mainstem.search.cluster import client_protocol as wire
from mainstem.search.cluster.broker_client import (
    ERROR_TEXTS,
    PAUSE_S,
    RETRIABLE,
    RETRY_S,
    UNKNOWN_TOPIC,
    BrokerClient,
    BrokerConnection,
    ClusterError,
    FetchedChunk,
    SpanReader,
    TopicIdPartition,
)
from mainstem.search.cluster.client_protocol import ClusterTopic, MalformedReply, OffsetLookup, TopicPartition
from mainstem.search.contract import topic_is_requested
from mainstem.search.ipc import UNKNOWN, ClusterPartition, FilterInfo, Reply, Request, Unit
from mainstem.search.local.scan import CompiledQuery, ScanResult, ScanTask, scan_bytes
from mainstem.search.workers.worker import SearchWorker, WorkerPipes, serve_requests

Row = OffsetLookup | ClusterError
PARTIAL_MS = 3_600_000
"""A file that is older and no filter yet was left by somebody who ended."""


class ClusterSearchWorker(SearchWorker):
    """Does requests about a cluster."""

    def __init__(self, pipes: WorkerPipes, cluster: BrokerClient) -> None:
        super().__init__(pipes)
        self._cluster = cluster

    def _handle(self, request: Request) -> Reply:
        try:
            if isinstance(request, ipc.ListPartitionsRequest):
                return ipc.ListPartitionsReply(request.id, list_partitions(self._cluster, request))
            if isinstance(request, ipc.LookUpOffsetsRequest):
                return ipc.LookUpOffsetsReply(request.id, look_up_offsets(self._cluster, request))
            if isinstance(request, ipc.BuildFilterRequest):
                return ipc.BuildFilterReply(request.id, self._build(request))
            if isinstance(request, ipc.FindFiltersRequest):
                return ipc.FiltersReply(
                    request.id, list(stored_filters(Path(request.root), self._cluster.clock.wall_ms()))
                )
            return super()._handle(request)
        except ClusterError as error:
            return ipc.RequestFailed(request.id, str(error))

    def _scan_unit(self, unit: Unit, question: CompiledQuery, order: ScanTask) -> ScanResult:
        """As `scan_unit`, of batches that come from a broker."""
        span = self._span(unit, order.is_cancelled)
        outcome = ScanResult()
        for chunk in span.backwards() if order.newest_first else span.forwards():
            for offset, reason in chunk.unreadable:
                order.on_damage(offset, reason)
            rest = replace(
                order, limit=order.limit - outcome.matches, max_bytes=order.max_bytes - outcome.row_bytes
            )
            part = scan_bytes(chunk.data, unit, question, rest, offset_gaps=True)
            outcome.bytes += chunk.size - part.skipped_bytes
            outcome.skipped_bytes += part.skipped_bytes
            outcome.events += part.events
            outcome.matches += part.matches
            outcome.row_bytes += part.row_bytes
            outcome.stopped_at = part.stopped_at
            if part.stopped_at is not None:
                break
            order.on_progress(outcome)
        return outcome

    def _span(self, unit: Unit, cancelled: Callable[[], bool]) -> SpanReader:
        return SpanReader(
            self._cluster, topic_id_partition(unit), unit.low, unit.high, unit.end - unit.start, cancelled
        )

    def _build(self, request: ipc.BuildFilterRequest) -> FilterInfo | None:
        """The filter of a span; None: it can have none."""
        unit = request.unit
        gathered, size, last = token_filter.FilterBuilder(), 0, b""
        for chunk in self._span(unit, lambda: self._pipes.is_cancelled(request.id)).forwards():
            size += chunk.size
            if chunk.unreadable or not _gather(chunk, gathered):
                return None
            for position, _ in iter_batches(chunk.data):
                last = bytes(chunk.data[position : position + HEADER_BYTES])
        if not last or self._pipes.is_cancelled(request.id):
            return None
        epoch = read_header(last).leader_epoch
        if epoch < 0:
            return None
        measured = Unit(unit.topic, unit.partition, unit.path, 0, size, unit.low, unit.high)
        target = Path(request.filter_path) / f"{unit.low:020}-{unit.high}-{epoch}{token_filter.SUFFIX}"
        head = token_filter.write_filter(measured, str(target), gathered, 0, 0, last)
        return _named(head, target)


def topic_id_partition(unit: Unit) -> TopicIdPartition:
    """Units of a cluster have the topic's id where others have a file."""
    return TopicIdPartition(unit.topic, UUID(unit.path) if unit.path else None, unit.partition)


def _gather(chunk: FetchedChunk, gathered: token_filter.FilterBuilder) -> bool:
    """All of a chunk's events; False: some cannot be read, or they are too many."""
    at = 0
    for position, header in iter_batches(chunk.data):
        at = position + header.total_bytes
        try:
            if not gathered.add(decode(chunk.data[position:at])):
                return False
        except CorruptBatch:
            return False
    return at == len(chunk.data)


def _named(head: FilterInfo, path: Path) -> FilterInfo:
    """With the folder's name, which is the partition's, in place of a file of the log."""
    return msgspec.structs.replace(head, filter_path=str(path), path=path.parent.name)


def stored_filters(root: Path, now_ms: int) -> Iterator[FilterInfo]:
    """All filters below `root` that are whole. Other filters are removed."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            found = token_filter.read_filter_info(path) if path.suffix == token_filter.SUFFIX else None
            if found is not None and path.stem == filter_name(found[0], found[1]):
                yield _named(found[0], path)
            elif token_filter.is_filter_path(path) and (
                path.suffix == token_filter.SUFFIX or now_ms - path.stat().st_mtime * 1000 > PARTIAL_MS
            ):
                path.unlink(missing_ok=True)


def filter_name(head: FilterInfo, last_header: bytes) -> str:
    """What its file is called."""
    return f"{head.first_offset:020}-{head.next_offset}-{read_header(last_header).leader_epoch}"


# ----------------------------------------------------------------------------------------------------------


def list_partitions(cluster: BrokerClient, request: ipc.ListPartitionsRequest) -> list[ClusterPartition]:
    """The partitions of the topics that are asked for, and what they hold. ClusterError: nobody answers."""
    topics = [
        topic
        for topic in cluster.fetch_metadata(None).topics
        if topic.error != UNKNOWN_TOPIC
        and (request.globs or not topic.internal)
        and topic_is_requested(topic.name, request.globs, request.query_globs)
    ]
    where = [(topic.name, each.partition) for topic in topics for each in topic.partitions]
    begins = _ask_leaders(cluster, dict.fromkeys(where, wire.EARLIEST), _list_offsets)
    known = [at for at, found in begins.items() if isinstance(found, OffsetLookup)]
    ends = _ask_leaders(cluster, dict.fromkeys(known, wire.LATEST), _list_offsets)
    sizes = _sizes(cluster, known)
    return [
        _held(topic, each.partition, begins, ends, sizes)
        for topic in sorted(topics, key=lambda topic: topic.name)
        for each in sorted(topic.partitions)
        if (topic.name, each.partition) in begins
    ]


def _held(
    topic: ClusterTopic,
    partition: int,
    begins: dict[TopicPartition, Row],
    ends: dict[TopicPartition, Row],
    sizes: dict[TopicPartition, int],
) -> ClusterPartition:
    where = topic.name, partition
    begin = begins[where]
    end = ends.get(where, begin)
    known = isinstance(begin, OffsetLookup) and isinstance(end, OffsetLookup)
    return ClusterPartition(
        topic.name,
        topic.id.hex if topic.id is not None else "",
        topic.internal,
        partition,
        begin.offset if isinstance(begin, OffsetLookup) else 0,
        end.offset if isinstance(end, OffsetLookup) else 0,
        sizes.get(where, 0),
        "" if known else str(begin if isinstance(begin, ClusterError) else end),
    )


def look_up_offsets(cluster: BrokerClient, request: ipc.LookUpOffsetsRequest) -> list[tuple[int, int]]:
    """Answers to many questions about offsets, in their order. Each request asks about a partition once."""
    ask = _list_offsets if request.kind == "time" else _leader_epochs
    rounds: list[dict[TopicPartition, int]] = []
    places = []
    seen: dict[TopicPartition, int] = {}
    for topic, partition, value in request.lookups:
        at = seen.get((topic, partition), -1) + 1
        seen[topic, partition] = at
        if at == len(rounds):
            rounds.append({})
        rounds[at][topic, partition] = value
        places.append((at, (topic, partition)))
    answers = [_ask_leaders(cluster, each, ask) for each in rounds]
    found = []
    for at, where in places:
        row = answers[at].get(where)
        found.append((row.time_or_epoch, row.offset) if isinstance(row, OffsetLookup) else (UNKNOWN, UNKNOWN))
    return found


def _list_offsets(
    link: BrokerConnection, times: dict[TopicPartition, int]
) -> dict[TopicPartition, OffsetLookup]:
    data = link.call(wire.LIST_OFFSETS, 2, wire.list_offsets_request(times))
    return wire.list_offsets_reply(data)


def _leader_epochs(
    link: BrokerConnection, epochs: dict[TopicPartition, int]
) -> dict[TopicPartition, OffsetLookup]:
    if link.versions.get(wire.LEADER_EPOCH, (9, 0))[1] < 2:
        return dict.fromkeys(epochs, OffsetLookup(0, UNKNOWN, UNKNOWN))
    data = link.call(wire.LEADER_EPOCH, 2, wire.leader_epoch_request(epochs))
    return wire.leader_epoch_reply(data)


def _ask_leaders(
    cluster: BrokerClient,
    asked: dict[TopicPartition, int],
    ask: Callable[[BrokerConnection, dict[TopicPartition, int]], dict[TopicPartition, OffsetLookup]],
) -> dict[TopicPartition, Row]:
    """Ask the leader of each partition; again for those without one. What was deleted is not in it."""
    found: dict[TopicPartition, Row] = {}
    left = dict(asked)
    deadline = cluster.clock.monotonic() + RETRY_S
    while left:
        problems: dict[TopicPartition, ClusterError] = {}
        for some in _by_leader(cluster, left, problems):
            rows = _ask_leader(cluster, some, ask)
            for where in some:
                row = rows.get(where) if isinstance(rows, dict) else rows
                if isinstance(row, OffsetLookup) and row.error == 0:
                    found[where] = row
                elif isinstance(row, OffsetLookup) and row.error not in RETRIABLE | {UNKNOWN_TOPIC}:
                    found[where] = ClusterError(
                        ERROR_TEXTS.get(row.error, f"the broker refuses: error {row.error}")
                    )
                else:
                    problems[where] = (
                        row if isinstance(row, ClusterError) else ClusterError("it has no leader")
                    )
        if problems and cluster.clock.monotonic() >= deadline:
            return found | problems
        left = {where: left[where] for where in problems}
        if left:
            cluster.clock.sleep(PAUSE_S)
            left = _drop_deleted(cluster, left)
    return found


def _by_leader(
    cluster: BrokerClient, asked: dict[TopicPartition, int], problems: dict[TopicPartition, ClusterError]
) -> list[dict[TopicPartition, int]]:
    groups: dict[int, dict[TopicPartition, int]] = {}
    for where, value in asked.items():
        try:
            link = cluster.leader(where)
        except ClusterError as error:
            problems[where] = error
        else:
            groups.setdefault(id(link), {})[where] = value
    return list(groups.values())


def _ask_leader(
    cluster: BrokerClient,
    some: dict[TopicPartition, int],
    ask: Callable[[BrokerConnection, dict[TopicPartition, int]], dict[TopicPartition, OffsetLookup]],
) -> dict[TopicPartition, OffsetLookup] | ClusterError:
    """The answer of one leader."""
    try:
        link = cluster.leader(next(iter(some)))
    except ClusterError as error:
        return error
    try:
        return ask(link, some)
    except (OSError, MalformedReply) as error:
        cluster.discard(link)
        return ClusterError(f"its broker did not answer: {error}")


def _drop_deleted(cluster: BrokerClient, left: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Ask for the leaders again, and leave out topics that were deleted."""
    for where in left:
        cluster.forget_leader(where)
    with suppress(ClusterError):
        topics = cluster.fetch_metadata(sorted({topic for topic, _ in left})).topics
        gone = {each.name for each in topics if each.error == UNKNOWN_TOPIC}
        return {where: value for where, value in left.items() if where[0] not in gone}
    return left


def _sizes(cluster: BrokerClient, where: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Bytes on their leaders, where those tell."""
    found: dict[TopicPartition, int] = {}
    for some in _by_leader(cluster, dict.fromkeys(where, 0), {}):
        rows = _ask_leader(cluster, some, _log_dirs)
        if isinstance(rows, dict):
            found |= {at: row.offset for at, row in rows.items()}
    return found


def _log_dirs(link: BrokerConnection, asked: dict[TopicPartition, int]) -> dict[TopicPartition, OffsetLookup]:
    if link.versions.get(wire.LOG_DIRS, (9, 0))[1] < 1:
        return {}
    data = link.call(wire.LOG_DIRS, 1, wire.log_dirs_request(asked))
    return {at: OffsetLookup(0, 0, size) for at, size in wire.log_dirs_reply(data).items()}


def addresses_of(text: str) -> list[tuple[str, int]]:
    """`HOST:PORT,...` in parts."""
    parts = [each.rpartition(":") for each in text.split(",")]
    return [(host.strip("[]"), int(port)) for host, _, port in parts]


if __name__ == "__main__":
    serve_requests(
        partial(ClusterSearchWorker, cluster=BrokerClient(addresses_of(sys.argv[1]), BlockingClock()))
    )
