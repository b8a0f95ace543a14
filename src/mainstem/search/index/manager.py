"""Keeps the index parts of the topics that are set to be indexed, and applies them to searches.

An index part is the piece of the full-text index that covers some closed blocks of one segment.

Owns: which blocks form a part, and what is done next: one part at a time is removed, checked or built, the
newest first. There is no queue: missing parts follow from the existing blocks and parts. Refuses: to delay a
search (data without a checked part is searched without the index), and to import tantivy: parts are built in
`builder.py`'s process and queried in the search workers.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from mainstem.clock import Clock
from mainstem.contract import HasIndexedTopics, StreamError
from mainstem.search import targets
from mainstem.search.blocks.blocks import Block
from mainstem.search.contract import Remaining, SearchRequest
from mainstem.search.execution import WorkItem
from mainstem.search.index import layout, unavailable_reason
from mainstem.search.index.candidates import cut_to_candidates
from mainstem.search.ipc import (
    BuildPartRequest,
    CandidateBatch,
    CheckPartRequest,
    FailureReply,
    FindPartsRequest,
    IndexPart,
    PartsReply,
    QueryPartsReply,
    QueryPartsRequest,
    RemovePartsRequest,
    Unit,
)
from mainstem.search.workers.bootstrap import BACKGROUND_NICE
from mainstem.search.workers.pool import WorkerJob, WorkerPool
from mainstem.search.workers.schedule import JobGroup

PART_BLOCKS = 16
"""Blocks of a part: about 128 MiB of log. A part has some ten files. Opening it takes 0.3 ms, so that a
search in 10 GB opens parts for 30 ms."""
PART_BLOCKS_MIN = 2
"""Minimum blocks of the last part of a segment. For one block alone, its token filter is as good."""
PARTS_AT_ONCE = 64
"""Parts in one request to a worker."""
PARTITIONS_AT_ONCE = 100
REFRESH_S = 2.0
RETRY_DELAY_S = 60.0
"""Seconds before the next build after one failed because the disk was full."""
ATTEMPTS_MAX = 3
"""Maximum attempts to build a part in one run of the server."""
NO_SPACE = os.strerror(errno.ENOSPC)

log = logging.getLogger(__name__)


FindBlocks = Callable[[Sequence[Remaining]], Awaitable[list[tuple[Remaining, list[Block]]]]]
PartBlocks = list[Block]


@dataclass(slots=True)
class _IndexedPartition:
    """A partition whose topic is set to be indexed."""

    topic: str
    index: int
    bounds: tuple[int, int]
    """The partition's first offset and its end at the last refresh."""
    blocks: list[Block]
    """The partition's closed blocks, oldest first."""
    segments: set[str]
    newest_segment: str
    """The segment that may still get more blocks."""
    missing: list[PartBlocks] = field(default_factory=list)
    """The blocks of each missing part, oldest first."""


class IndexManager:
    """Keeps the index parts below `data/search-index` for the log below `data/partitions`."""

    def __init__(
        self,
        data: Path,
        clock: Clock,
        pool: WorkerPool,
        engine: HasIndexedTopics,
        find_blocks: FindBlocks,
        *,
        space_problem: Callable[[], str | None] = lambda: None,
        part_blocks: int = PART_BLOCKS,
    ) -> None:
        """`find_blocks` returns the blocks of partitions. `space_problem` returns why the disk has no space
        for an index, None if it has."""
        self._root = data / layout.ROOT
        self._partitions_root = data / "partitions"
        self._pool, self._engine = pool, engine
        self._find_blocks, self._space_problem = find_blocks, space_problem
        self._part_blocks = part_blocks
        self._builder = WorkerPool(
            clock, workers=1, nice=BACKGROUND_NICE, program=("mainstem.search.index.builder",)
        )
        self._restored = False
        self._parts: dict[str, list[IndexPart]] = {}
        """The index parts of each segment, by the segment's path, ordered by position."""
        self._partitions: dict[str, _IndexedPartition] = {}
        """The indexed partitions, by folder."""
        self._failures: Counter[tuple[str, int]] = Counter()
        """Failed builds of a part, by segment and position."""
        self._stopped: str | None = None
        """Why no parts are built at present; None: they are."""
        self._clock = clock
        self._retry_at = 0.0
        self._unavailable = unavailable_reason()

    # --- applying -----------------------------------------------------------------------------------------

    async def apply(
        self,
        items: Sequence[WorkItem],
        clauses: Iterable[Iterable[str]],
        newest_first: bool,
        group: JobGroup[WorkerJob],
    ) -> list[WorkItem]:
        """Apply the index to a search. Returns its items in order; an item that a checked part covers is
        replaced by items of the batches that may match, or marked as excluded if there are none."""
        token_clauses = [sorted(clause) for clause in clauses]
        if not token_clauses or not self._parts or self._unavailable:
            return list(items)
        parts = [None if item.excluded else self._part_of(item) for item in items]
        candidates = await self._query(
            {part.folder: part for part in parts if part is not None}, token_clauses, group
        )
        remaining: list[WorkItem] = []
        for item, part in zip(items, parts, strict=True):
            batches = None if part is None else candidates[part.folder]
            remaining += [item] if batches is None else cut_to_candidates(item, batches, newest_first)
        return remaining

    def incomplete_reason(self, items: Iterable[WorkItem]) -> str | None:
        """Why some of these items are searched without the index, for the user. None: the index is complete,
        or their topics are not indexed."""
        if not self._partitions:
            return None
        folders = {str(Path(item.block.path).parent) for item in items if not item.indexed}
        incomplete = [self._partitions[folder] for folder in folders if folder in self._partitions]
        if not incomplete:
            return None
        if self._stopped is not None:
            return f"not covered by the index: {self._stopped}"
        missing = sum(len(partition.missing) for partition in incomplete)
        return f"the index is being built: {missing} parts are missing" if missing else None

    def _part_of(self, item: WorkItem) -> IndexPart | None:
        """The checked index part that covers all bytes of the item; None: there is none."""
        parts = self._parts.get(item.unit.path, ())
        index = bisect_right(parts, item.unit.start, key=lambda part: part.start) - 1
        if index < 0:
            return None
        part, (start, end) = parts[index], (item.unit.start, item.unit.end)
        if not part.fingerprint or end > part.end:
            return None
        if any(range_start < end and start < range_end for range_start, range_end in part.unindexed):
            return None
        return part

    async def _query(
        self, parts: dict[str, IndexPart], clauses: list[list[str]], group: JobGroup[WorkerJob]
    ) -> dict[str, list[CandidateBatch] | None]:
        """The candidate batches of each part, by folder. None: the part could not be queried or is of no
        use."""
        all_parts = list(parts.values())
        together = [all_parts[i : i + PARTS_AT_ONCE] for i in range(0, len(all_parts), PARTS_AT_ONCE)]
        jobs = [self._pool.submit(partial(_query_request, some, clauses), group) for some in together]
        candidates: dict[str, list[CandidateBatch] | None] = dict.fromkeys(parts)
        for some, job in zip(together, jobs, strict=True):
            reply = await job.final_reply()
            if isinstance(reply, QueryPartsReply):
                candidates.update(zip((part.folder for part in some), reply.candidates, strict=True))
                for number in reply.changed:
                    self._mark_unchecked(some[number])
        return candidates

    def _mark_unchecked(self, part: IndexPart) -> None:
        log.warning(
            "files of the full-text index part %s have changed; it is not used until it is checked again",
            part.folder,
        )
        parts = self._parts.get(part.path, [])
        if part in parts:
            parts[parts.index(part)] = msgspec.structs.replace(part, fingerprint="")

    # --- keeping ------------------------------------------------------------------------------------------

    async def run(self, closed: asyncio.Event) -> None:
        """Keep the index up to date until `closed` is set."""
        while not closed.is_set():
            try:
                await self.refresh()
                if await self.work_once():
                    continue
            except StreamError as error:
                log.warning(
                    "the full-text index could not be updated; tried again in %.0f s: %s", REFRESH_S, error
                )
            try:
                async with asyncio.timeout(REFRESH_S):
                    await closed.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Update the list of indexed partitions, their blocks and missing parts, and remove the parts of
        deleted data."""
        topics = await self._engine.indexed_topics()
        await self._restore()
        all_targets = (
            await targets.requested_partitions(self._clock, self._engine, SearchRequest(topics=list(topics)))
            if topics
            else []
        )
        folders = {
            (target.topic, target.partition): str(
                self._partitions_root / f"{topics[target.topic]}-{target.partition}"
            )
            for target in all_targets
        }
        live = set(folders.values())
        self._partitions = {
            folder: partition for folder, partition in self._partitions.items() if folder in live
        }
        changed = []
        for target in all_targets:
            partition = self._partitions.get(folders[target.topic, target.partition])
            if partition is None or partition.bounds != (target.low, target.high):
                changed.append(target)
        for i in range(0, len(changed), PARTITIONS_AT_ONCE):
            await self._update_partitions(changed[i : i + PARTITIONS_AT_ONCE], folders)
        await self._remove_unneeded()
        if topics and self._unavailable:
            self._stop(self._unavailable)

    async def _restore(self) -> None:
        """Load the list of index parts that an earlier run left, once."""
        if self._restored:
            return
        self._restored = True
        if self._root.is_dir():
            reply = await self._builder.submit(
                partial(_find_request, str(self._root), str(self._partitions_root))
            ).final_reply()
            if isinstance(reply, PartsReply):
                self._add(reply.parts)
            else:
                log.warning("the full-text index of an earlier run is not used and is built again: %s", reply)

    async def _update_partitions(
        self, changed: Sequence[Remaining], folders: dict[tuple[str, int], str]
    ) -> None:
        blocks_of = {
            (target.topic, target.partition): blocks for target, blocks in await self._find_blocks(changed)
        }
        for target in changed:
            folder = folders[target.topic, target.partition]
            blocks = blocks_of.get((target.topic, target.partition), [])
            if blocks and str(Path(blocks[0].path).parent) != folder:
                continue  # A new topic has this name by now. The next refresh finds its id.
            segments = {block.path for block in blocks}
            self._partitions[folder] = _IndexedPartition(
                target.topic,
                target.partition,
                (target.low, target.high),
                [block for block in blocks if block.closed],
                segments,
                max(segments, default=""),
            )
            self._update_missing(folder)

    def _update_missing(self, folder: str) -> None:
        partition = self._partitions.get(folder)
        if partition is not None:
            partition.missing = [
                part_blocks
                for part_blocks in missing_parts(
                    partition.blocks, partition.newest_segment, self._parts, self._part_blocks
                )
                if self._failures[part_blocks[0].path, part_blocks[0].start] < ATTEMPTS_MAX
            ]

    async def _remove_unneeded(self) -> None:
        """Remove the index parts of segments that were deleted or whose topic is not indexed any more."""
        unneeded = []
        for path in list(self._parts):
            partition = self._partitions.get(str(Path(path).parent))
            if partition is None or path not in partition.segments:
                unneeded += [part.folder for part in self._parts.pop(path)]
        if unneeded:
            await self._builder.submit(partial(_remove_request, unneeded)).final_reply()

    async def work_once(self) -> bool:
        """Check the newest unchecked index part, or build the newest missing one. False: there is none, or it
        cannot be built now."""
        if self._unavailable:
            return False
        unchecked = [part for parts in self._parts.values() for part in parts if not part.fingerprint]
        if unchecked:
            await self._check(max(unchecked, key=lambda part: (Path(part.path).name, part.start)))
            return True
        unfinished = [
            (partition.missing[-1][-1].time_ms, folder)
            for folder, partition in self._partitions.items()
            if partition.missing
        ]
        if not unfinished:
            return False
        if self._clock.monotonic() < self._retry_at:
            return False
        reason = self._space_problem()
        if reason is not None:
            self._stop(reason)
            return False
        self._resume()
        _, folder = max(unfinished)
        await self._build(folder, self._partitions[folder].missing[-1])
        return True

    async def _check(self, part: IndexPart) -> None:
        reply = await self._builder.submit(partial(_check_request, part)).final_reply()
        parts = self._parts.get(part.path, [])
        if part in parts:
            parts.remove(part)
        if isinstance(reply, PartsReply) and reply.parts:
            self._add(reply.parts)
        elif isinstance(reply, FailureReply):
            log.warning(
                "the full-text index part %s could not be checked and is built again: %s",
                part.folder,
                reply.reason,
            )
        else:
            log.warning("the full-text index part %s was damaged; removed, to be built again", part.folder)
        self._update_missing(str(Path(part.path).parent))

    async def _build(self, folder: str, part_blocks: PartBlocks) -> None:
        partition = self._partitions[folder]
        units = [
            Unit(
                partition.topic,
                partition.index,
                block.path,
                block.start,
                block.end,
                block.first_offset,
                block.next_offset,
            )
            for block in part_blocks
        ]
        reply = await self._builder.submit(partial(_build_request, str(self._root), units)).final_reply()
        if isinstance(reply, PartsReply):
            self._add(reply.parts)
        elif isinstance(reply, FailureReply) and NO_SPACE in reply.reason:
            self._retry_at = self._clock.monotonic() + RETRY_DELAY_S
            self._stop(reply.reason)
        elif isinstance(reply, FailureReply):
            first = part_blocks[0]
            self._failures[first.path, first.start] += 1
            if not reply.data_deleted:
                log.warning(
                    "a part of the full-text index, of %s from byte %d on, could not be built (attempt %d of"
                    " %d); searches read this range without the index: %s",
                    first.path,
                    first.start,
                    self._failures[first.path, first.start],
                    ATTEMPTS_MAX,
                    reply.reason,
                )
        self._update_missing(folder)

    def _add(self, parts: Iterable[IndexPart]) -> None:
        for part in parts:
            segment_parts = self._parts.setdefault(part.path, [])
            index = bisect_left(segment_parts, part.start, key=lambda other: other.start)
            segment_parts.insert(index, part)

    def _stop(self, reason: str) -> None:
        if self._stopped != reason:
            log.warning("the index of topics with mainstem.search=indexed is not built: %s", reason)
        self._stopped = reason

    def _resume(self) -> None:
        if self._stopped is not None:
            log.info("the index of topics with mainstem.search=indexed is built again")
        self._stopped = None

    async def close(self) -> None:
        """Stop the process that builds index parts."""
        await self._builder.close()


def missing_parts(
    blocks: Sequence[Block], newest_segment: str, parts: dict[str, list[IndexPart]], size: int
) -> list[PartBlocks]:
    """Group the closed blocks without a part, oldest first, into the blocks of new parts. A part has `size`
    blocks side by side; fewer only at the end of a segment or before blocks that have a part or damage."""
    groups: list[PartBlocks] = []
    run: PartBlocks = []

    def end_run(*, is_complete: bool) -> None:
        while len(run) >= size or (is_complete and len(run) >= PART_BLOCKS_MIN):
            groups.append(run[:size])
            del run[:size]
        run.clear()

    for block in blocks:
        if run and run[-1].path != block.path:
            end_run(is_complete=True)
        if any(part.start < block.end and block.start < part.end for part in _near(parts, block)):
            end_run(is_complete=True)
        elif block.first_offset >= 0:
            run.append(block)
        else:
            end_run(is_complete=True)
    end_run(is_complete=bool(run) and run[-1].path != newest_segment)
    return groups


def _near(parts: dict[str, list[IndexPart]], block: Block) -> Sequence[IndexPart]:
    """The parts that may overlap the block."""
    segment_parts = parts.get(block.path, ())
    index = bisect_right(segment_parts, block.start, key=lambda part: part.start)
    return segment_parts[max(0, index - 1) : index + 1]


def _query_request(parts: Sequence[IndexPart], clauses: list[list[str]], job_id: int) -> QueryPartsRequest:
    return QueryPartsRequest(job_id, [(part.folder, part.fingerprint) for part in parts], clauses)


def _find_request(root: str, partitions: str, job_id: int) -> FindPartsRequest:
    return FindPartsRequest(job_id, root, partitions)


def _check_request(part: IndexPart, job_id: int) -> CheckPartRequest:
    return CheckPartRequest(job_id, part)


def _build_request(root: str, blocks: list[Unit], job_id: int) -> BuildPartRequest:
    return BuildPartRequest(job_id, root, blocks)


def _remove_request(folders: list[str], job_id: int) -> RemovePartsRequest:
    return RemovePartsRequest(job_id, folders)
