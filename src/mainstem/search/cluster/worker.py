"""A worker for the search of a cluster: `python -m mainstem.search.cluster.worker HOST:PORT,...`.

Owns: the units of a search as spans of offsets that are fetched, and otherwise the work of any search worker
(`worker.py`): batches are looked through as they lie in the log, and most are never opened. Refuses: to be
told anything about security: it connects as plainly as the cluster engine does.

Token filters are those of `sidecar.py`, one for a span, in files `<topic id>-<partition>/<first offset>-<next
offset>-<leader epoch>.tokens`. They stay true while the cluster works: compaction and retention only remove,
so a filter may at worst let a span be read in vain; what is below the last stable offset is decided; a topic
made again has another id; and after an election that lost events the epoch's end tells (`cluster_filters`).
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
from mainstem.log.storage.record_batch import HEADER_BYTES, decode, read_header, walk
from mainstem.search import ipc
from mainstem.search.blocks import token_filter
from mainstem.search.cluster import client_protocol as wire
from mainstem.search.cluster.broker_client import (
    MOVING,
    PAUSE_S,
    RETRY_S,
    TEXTS,
    UNKNOWN_TOPIC,
    Chunk,
    Cluster,
    ClusterError,
    Link,
    Place,
    Span,
)
from mainstem.search.cluster.client_protocol import Malformed, Offset, Topic, Where
from mainstem.search.contract import wanted_topic
from mainstem.search.ipc import UNKNOWN, Head, Held, Reply, Request, Unit
from mainstem.search.local.scan import Order, Outcome, Question, scan_view
from mainstem.search.workers.worker import Pipes, Worker, serve

Row = Offset | ClusterError
PARTIAL_MS = 3_600_000
"""A file that is older and no filter yet was left by somebody who ended."""


class ClusterWorker(Worker):
    """Does requests about a cluster."""

    def __init__(self, pipes: Pipes, cluster: Cluster) -> None:
        super().__init__(pipes)
        self._cluster = cluster

    def _do(self, request: Request) -> Reply:
        try:
            if isinstance(request, ipc.Survey):
                return ipc.Surveyed(request.id, survey(self._cluster, request))
            if isinstance(request, ipc.Offsets):
                return ipc.Located(request.id, locate(self._cluster, request))
            if isinstance(request, ipc.Build):
                return ipc.Built(request.id, self._build(request))
            if isinstance(request, ipc.Restore):
                return ipc.Restored(request.id, list(kept(Path(request.root), self._cluster.clock.wall_ms())))
            return super()._do(request)
        except ClusterError as error:
            return ipc.Failed(request.id, str(error))

    def _search(self, unit: Unit, question: Question, order: Order) -> Outcome:
        """As `scan`, of batches that come from a broker."""
        span = self._span(unit, order.cancelled)
        outcome = Outcome()
        for chunk in span.backwards() if order.newest_first else span.forwards():
            for offset, reason in chunk.unread:
                order.damaged(offset, reason)
            rest = replace(
                order, limit=order.limit - outcome.matches, max_bytes=order.max_bytes - outcome.row_bytes
            )
            part = scan_view(chunk.data, unit, question, rest, holes=True)
            outcome.bytes += chunk.size - part.skipped_bytes
            outcome.skipped_bytes += part.skipped_bytes
            outcome.events += part.events
            outcome.matches += part.matches
            outcome.row_bytes += part.row_bytes
            outcome.stopped_at = part.stopped_at
            if part.stopped_at is not None:
                break
            order.progress(outcome)
        return outcome

    def _span(self, unit: Unit, cancelled: Callable[[], bool]) -> Span:
        return Span(self._cluster, place_of(unit), unit.low, unit.high, unit.end - unit.start, cancelled)

    def _build(self, request: ipc.Build) -> Head | None:
        """The filter of a span; None: it can have none."""
        unit = request.unit
        gathered, size, last = token_filter.Gathered(), 0, b""
        for chunk in self._span(unit, lambda: self._pipes.is_cancelled(request.id)).forwards():
            size += chunk.size
            if chunk.unread or not _gather(chunk, gathered):
                return None
            for position, _ in walk(chunk.data):
                last = bytes(chunk.data[position : position + HEADER_BYTES])
        if not last or self._pipes.is_cancelled(request.id):
            return None
        epoch = read_header(last).leader_epoch
        if epoch < 0:
            return None
        measured = Unit(unit.topic, unit.partition, unit.path, 0, size, unit.low, unit.high)
        target = Path(request.sidecar) / f"{unit.low:020}-{unit.high}-{epoch}{token_filter.SUFFIX}"
        head = token_filter.save(measured, str(target), gathered, 0, 0, last)
        return _named(head, target)


def place_of(unit: Unit) -> Place:
    """Units of a cluster have the topic's id where others have a file."""
    return Place(unit.topic, UUID(unit.path) if unit.path else None, unit.partition)


def _gather(chunk: Chunk, gathered: token_filter.Gathered) -> bool:
    """All of a chunk's events; False: some cannot be read, or they are too many."""
    at = 0
    for position, header in walk(chunk.data):
        at = position + header.total_bytes
        try:
            if not gathered.add(decode(chunk.data[position:at])):
                return False
        except CorruptBatch:
            return False
    return at == len(chunk.data)


def _named(head: Head, path: Path) -> Head:
    """With the folder's name, which is the partition's, in place of a file of the log."""
    return msgspec.structs.replace(head, sidecar=str(path), path=path.parent.name)


def kept(root: Path, now_ms: int) -> Iterator[Head]:
    """All filters below `root` that are whole. Other filters are removed."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            found = token_filter.head_of(path) if path.suffix == token_filter.SUFFIX else None
            if found is not None and path.stem == name_of(found[0], found[1]):
                yield _named(found[0], path)
            elif token_filter.ours(path) and (
                path.suffix == token_filter.SUFFIX or now_ms - path.stat().st_mtime * 1000 > PARTIAL_MS
            ):
                path.unlink(missing_ok=True)


def name_of(head: Head, last_header: bytes) -> str:
    """What its file is called."""
    return f"{head.first_offset:020}-{head.next_offset}-{read_header(last_header).leader_epoch}"


# ----------------------------------------------------------------------------------------------------------


def survey(cluster: Cluster, request: ipc.Survey) -> list[Held]:
    """The partitions of the topics that are asked for, and what they hold. ClusterError: nobody answers."""
    topics = [
        topic
        for topic in cluster.layout(None).topics
        if topic.error != UNKNOWN_TOPIC
        and (request.globs or not topic.internal)
        and wanted_topic(topic.name, request.globs, request.demanded)
    ]
    where = [(topic.name, each.partition) for topic in topics for each in topic.partitions]
    begins = _everywhere(cluster, dict.fromkeys(where, wire.EARLIEST), _list_offsets)
    known = [at for at, found in begins.items() if isinstance(found, Offset)]
    ends = _everywhere(cluster, dict.fromkeys(known, wire.LATEST), _list_offsets)
    sizes = _sizes(cluster, known)
    return [
        _held(topic, each.partition, begins, ends, sizes)
        for topic in sorted(topics, key=lambda topic: topic.name)
        for each in sorted(topic.partitions)
        if (topic.name, each.partition) in begins
    ]


def _held(
    topic: Topic, partition: int, begins: dict[Where, Row], ends: dict[Where, Row], sizes: dict[Where, int]
) -> Held:
    where = topic.name, partition
    begin = begins[where]
    end = ends.get(where, begin)
    known = isinstance(begin, Offset) and isinstance(end, Offset)
    return Held(
        topic.name,
        topic.id.hex if topic.id is not None else "",
        topic.internal,
        partition,
        begin.offset if isinstance(begin, Offset) else 0,
        end.offset if isinstance(end, Offset) else 0,
        sizes.get(where, 0),
        "" if known else str(begin if isinstance(begin, ClusterError) else end),
    )


def locate(cluster: Cluster, request: ipc.Offsets) -> list[tuple[int, int]]:
    """Answers to many questions about offsets, in their order. Each request asks about a partition once."""
    ask = _list_offsets if request.kind == "time" else _leader_epochs
    rounds: list[dict[Where, int]] = []
    places = []
    seen: dict[Where, int] = {}
    for topic, partition, value in request.asked:
        at = seen.get((topic, partition), -1) + 1
        seen[topic, partition] = at
        if at == len(rounds):
            rounds.append({})
        rounds[at][topic, partition] = value
        places.append((at, (topic, partition)))
    answers = [_everywhere(cluster, each, ask) for each in rounds]
    found = []
    for at, where in places:
        row = answers[at].get(where)
        found.append((row.mark, row.offset) if isinstance(row, Offset) else (UNKNOWN, UNKNOWN))
    return found


def _list_offsets(link: Link, times: dict[Where, int]) -> dict[Where, Offset]:
    data = link.call(wire.LIST_OFFSETS, 2, wire.list_offsets_request(times))
    return wire.list_offsets_reply(data)


def _leader_epochs(link: Link, epochs: dict[Where, int]) -> dict[Where, Offset]:
    if link.versions.get(wire.LEADER_EPOCH, (9, 0))[1] < 2:
        return dict.fromkeys(epochs, Offset(0, UNKNOWN, UNKNOWN))
    data = link.call(wire.LEADER_EPOCH, 2, wire.leader_epoch_request(epochs))
    return wire.leader_epoch_reply(data)


def _everywhere(
    cluster: Cluster, asked: dict[Where, int], ask: Callable[[Link, dict[Where, int]], dict[Where, Offset]]
) -> dict[Where, Row]:
    """Ask the leader of each partition; again for those without one. What was deleted is not in it."""
    found: dict[Where, Row] = {}
    left = dict(asked)
    deadline = cluster.clock.monotonic() + RETRY_S
    while left:
        problems: dict[Where, ClusterError] = {}
        for some in _by_leader(cluster, left, problems):
            rows = _asked(cluster, some, ask)
            for where in some:
                row = rows.get(where) if isinstance(rows, dict) else rows
                if isinstance(row, Offset) and row.error == 0:
                    found[where] = row
                elif isinstance(row, Offset) and row.error not in MOVING | {UNKNOWN_TOPIC}:
                    found[where] = ClusterError(
                        TEXTS.get(row.error, f"the broker refuses: error {row.error}")
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
            left = _still_there(cluster, left)
    return found


def _by_leader(
    cluster: Cluster, asked: dict[Where, int], problems: dict[Where, ClusterError]
) -> list[dict[Where, int]]:
    groups: dict[int, dict[Where, int]] = {}
    for where, value in asked.items():
        try:
            link = cluster.leader(where)
        except ClusterError as error:
            problems[where] = error
        else:
            groups.setdefault(id(link), {})[where] = value
    return list(groups.values())


def _asked(
    cluster: Cluster,
    some: dict[Where, int],
    ask: Callable[[Link, dict[Where, int]], dict[Where, Offset]],
) -> dict[Where, Offset] | ClusterError:
    """The answer of one leader."""
    try:
        link = cluster.leader(next(iter(some)))
    except ClusterError as error:
        return error
    try:
        return ask(link, some)
    except (OSError, Malformed) as error:
        cluster.drop(link)
        return ClusterError(f"its broker did not answer: {error}")


def _still_there(cluster: Cluster, left: dict[Where, int]) -> dict[Where, int]:
    """Ask for the leaders again, and leave out topics that were deleted."""
    for where in left:
        cluster.forget(where)
    with suppress(ClusterError):
        topics = cluster.layout(sorted({topic for topic, _ in left})).topics
        gone = {each.name for each in topics if each.error == UNKNOWN_TOPIC}
        return {where: value for where, value in left.items() if where[0] not in gone}
    return left


def _sizes(cluster: Cluster, where: Sequence[Where]) -> dict[Where, int]:
    """Bytes on their leaders, where those tell."""
    found: dict[Where, int] = {}
    for some in _by_leader(cluster, dict.fromkeys(where, 0), {}):
        rows = _asked(cluster, some, _log_dirs)
        if isinstance(rows, dict):
            found |= {at: row.offset for at, row in rows.items()}
    return found


def _log_dirs(link: Link, asked: dict[Where, int]) -> dict[Where, Offset]:
    if link.versions.get(wire.LOG_DIRS, (9, 0))[1] < 1:
        return {}
    data = link.call(wire.LOG_DIRS, 1, wire.log_dirs_request(asked))
    return {at: Offset(0, 0, size) for at, size in wire.log_dirs_reply(data).items()}


def addresses_of(text: str) -> list[tuple[str, int]]:
    """`HOST:PORT,...` in parts."""
    parts = [each.rpartition(":") for each in text.split(",")]
    return [(host.strip("[]"), int(port)) for host, _, port in parts]


if __name__ == "__main__":
    serve(partial(ClusterWorker, cluster=Cluster(addresses_of(sys.argv[1]), BlockingClock())))
