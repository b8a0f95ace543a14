"""Keeping index parts for the topics that want them, and asking them.

Owns: which stretches of the log make a part, which parts there are, the order of work (remove, check, make;
one thing at a time, the newest first), and which pieces of a search an index answers. Refuses: to hold up a
search: what has no part, or one that is not checked yet, is searched without; and to queue: what is missing
is seen from the blocks and the parts that there are. Never imports tantivy. Used by `local/search.py`, on the
server's loop; the work is done in `builder.py`'s process, the asking in the search workers.
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
from mainstem.search.ipc import (
    BuildPartRequest,
    CandidateBatch,
    CheckPartRequest,
    FindPartsRequest,
    IndexPart,
    PartsReply,
    QueryPartsReply,
    QueryPartsRequest,
    RemovePartsRequest,
    RequestFailed,
    Unit,
)
from mainstem.search.workers.bootstrap import BACKGROUND_NICE
from mainstem.search.workers.pool import BUILD_PRIORITY, SEARCH_PRIORITY, WorkerPool

PART_BLOCKS = 16
"""Some 128 MiB of log: opening a part takes 0.3 ms, so that 10 GB cost 30 ms; and it takes some ten files."""
PART_BLOCKS_MIN = 2
"""Of a segment's last part. One block alone is as well served by its token filter."""
PARTS_AT_ONCE = 64
PARTITIONS_AT_ONCE = 100
STRETCHES_MAX = 32
"""A block of which more stretches are named is read whole, which is faster."""
REFRESH_S = 2.0
REST_S = 60.0
"""After a part for which the disk had no room."""
ATTEMPTS_MAX = 3
"""A part that cannot be made is not tried more often in one run."""
NO_SPACE = os.strerror(errno.ENOSPC)

log = logging.getLogger(__name__)


FindBlocks = Callable[[Sequence[Remaining]], Awaitable[list[tuple[Remaining, list[Block]]]]]
PartBlocks = list[Block]


@dataclass(slots=True)
class _IndexedPartition:
    """A partition that wants an index."""

    topic: str
    index: int
    bounds: tuple[int, int]
    """Its first offset and its end, when it was looked at."""
    blocks: list[Block]
    """The closed ones, oldest first."""
    segments: set[str]
    newest: str
    """Of the segments: more blocks may come in it."""
    missing: list[PartBlocks] = field(default_factory=list)
    """Of what parts are to be made, oldest first."""


class IndexManager:
    """The index below `data/search-index`, of the log below `data/partitions`."""

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
        """`find_blocks`: the blocks of partitions. `space_problem`: why there is no room on the disk for an
        index, None if there is."""
        self._root = data / layout.ROOT
        self._partitions = data / "partitions"
        self._pool, self._engine, self._plan, self._room = pool, engine, find_blocks, space_problem
        self._part_blocks = part_blocks
        self._builder = WorkerPool(
            clock, workers=1, nice=BACKGROUND_NICE, program=("mainstem.search.index.builder",)
        )
        self._found = False
        self._parts: dict[str, list[IndexPart]] = {}
        """By segment, each by position."""
        self._wanted: dict[str, _IndexedPartition] = {}
        """By the partition's folder."""
        self._failures: Counter[tuple[str, int]] = Counter()
        """Of parts, by segment and position, how often it failed to make them."""
        self._stopped: str | None = None
        self._clock = clock
        self._rest_until = 0.0
        self._unavailable = unavailable_reason()

    # --- asking -------------------------------------------------------------------------------------------

    async def apply(
        self, pieces: Sequence[WorkItem], clauses: Iterable[Iterable[str]], newest_first: bool
    ) -> list[WorkItem]:
        """The pieces of a search, those that an index answers cut down to what it names."""
        wanted = [sorted(clause) for clause in clauses]
        if not wanted or not self._parts or self._unavailable:
            return list(pieces)
        parts = [None if piece.excluded else self._part_of(piece) for piece in pieces]
        named = await self._ask({part.folder: part for part in parts if part is not None}, wanted)
        found: list[WorkItem] = []
        for piece, part in zip(pieces, parts, strict=True):
            batches = None if part is None else named[part.folder]
            found += [piece] if batches is None else cut_to_candidates(piece, batches, newest_first)
        return found

    def incomplete_reason(self, pieces: Iterable[WorkItem]) -> str | None:
        """Why not all of these are answered by an index, if their topics want one."""
        if not self._wanted:
            return None
        folders = {str(Path(piece.block.path).parent) for piece in pieces if not piece.indexed}
        left = [self._wanted[folder] for folder in folders if folder in self._wanted]
        if not left:
            return None
        if self._stopped is not None:
            return f"not covered by the index: {self._stopped}"
        missing = sum(len(each.missing) for each in left)
        return f"the index is being made: {missing} parts are missing" if missing else None

    def _part_of(self, piece: WorkItem) -> IndexPart | None:
        """The checked part that speaks for all of a piece."""
        parts = self._parts.get(piece.unit.path, ())
        at = bisect_right(parts, piece.unit.start, key=lambda each: each.start) - 1
        if at < 0:
            return None
        part, (start, end) = parts[at], (piece.unit.start, piece.unit.end)
        if not part.fingerprint or end > part.end:
            return None
        if any(hole_start < end and start < hole_end for hole_start, hole_end in part.unindexed):
            return None
        return part

    async def _ask(
        self, parts: dict[str, IndexPart], clauses: list[list[str]]
    ) -> dict[str, list[CandidateBatch] | None]:
        every = list(parts.values())
        groups = [every[at : at + PARTS_AT_ONCE] for at in range(0, len(every), PARTS_AT_ONCE)]
        jobs = [self._pool.submit(partial(_asking, group, clauses), SEARCH_PRIORITY) for group in groups]
        named: dict[str, list[CandidateBatch] | None] = dict.fromkeys(parts)
        for group, job in zip(groups, jobs, strict=True):
            reply = await job.final_reply()
            if isinstance(reply, QueryPartsReply):
                named.update(zip((part.folder for part in group), reply.candidates, strict=True))
                for number in reply.changed:
                    self._touched(group[number])
        return named

    def _touched(self, part: IndexPart) -> None:
        log.warning("index part %s is not what it was: it is checked", part.folder)
        parts = self._parts.get(part.path, [])
        if part in parts:
            parts[parts.index(part)] = msgspec.structs.replace(part, fingerprint="")

    # --- keeping ------------------------------------------------------------------------------------------

    async def run(self, closed: asyncio.Event) -> None:
        """Look, and do what there is to do, until it is closed."""
        while not closed.is_set():
            try:
                await self.refresh()
                if await self.work_once():
                    continue
            except StreamError as error:
                log.warning("the index: %s", error)
            try:
                await asyncio.wait_for(closed.wait(), REFRESH_S)
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """See which topics want an index, what they hold, and which parts are of nothing any more (these
        are removed)."""
        topics = await self._engine.indexed_topics()
        await self._find()
        left = (
            await targets.requested_partitions(self._engine, SearchRequest(topics=list(topics)))
            if topics
            else []
        )
        folders = {
            (each.topic, each.partition): str(self._partitions / f"{topics[each.topic]}-{each.partition}")
            for each in left
        }
        live = set(folders.values())
        self._wanted = {folder: each for folder, each in self._wanted.items() if folder in live}
        moved = []
        for each in left:
            known = self._wanted.get(folders[each.topic, each.partition])
            if known is None or known.bounds != (each.low, each.high):
                moved.append(each)
        for at in range(0, len(moved), PARTITIONS_AT_ONCE):
            await self._moved(moved[at : at + PARTITIONS_AT_ONCE], folders)
        await self._drop_unwanted()
        if topics and self._unavailable:
            self._stop(self._unavailable)

    async def _find(self) -> None:
        if self._found:
            return
        self._found = True
        if self._root.is_dir():
            reply = await self._builder.submit(
                partial(_finding, str(self._root), str(self._partitions)), BUILD_PRIORITY
            ).final_reply()
            if isinstance(reply, PartsReply):
                self._add(reply.parts)
            else:
                log.warning("the index of an earlier run is not used: %s", reply)

    async def _moved(self, left: Sequence[Remaining], folders: dict[tuple[str, int], str]) -> None:
        planned = {(each.topic, each.partition): blocks for each, blocks in await self._plan(left)}
        for each in left:
            folder = folders[each.topic, each.partition]
            blocks = planned.get((each.topic, each.partition), [])
            if blocks and str(Path(blocks[0].path).parent) != folder:
                continue  # another topic has this name by now: seen at the next look
            segments = {block.path for block in blocks}
            self._wanted[folder] = _IndexedPartition(
                each.topic,
                each.partition,
                (each.low, each.high),
                [block for block in blocks if block.closed],
                segments,
                max(segments, default=""),
            )
            self._see_missing(folder)

    def _see_missing(self, folder: str) -> None:
        each = self._wanted.get(folder)
        if each is not None:
            each.missing = [
                chunk
                for chunk in missing_parts(each.blocks, each.newest, self._parts, self._part_blocks)
                if self._failures[chunk[0].path, chunk[0].start] < ATTEMPTS_MAX
            ]

    async def _drop_unwanted(self) -> None:
        gone = []
        for path in list(self._parts):
            wanted = self._wanted.get(str(Path(path).parent))
            if wanted is None or path not in wanted.segments:
                gone += [part.folder for part in self._parts.pop(path)]
        if gone:
            await self._builder.submit(partial(_dropping, gone), BUILD_PRIORITY).final_reply()

    async def work_once(self) -> bool:
        """Check or make one part, the newest. False: there is nothing to do, or nothing can be done."""
        if self._unavailable:
            return False
        unchecked = [part for parts in self._parts.values() for part in parts if not part.fingerprint]
        if unchecked:
            await self._check(max(unchecked, key=lambda part: (Path(part.path).name, part.start)))
            return True
        waiting = [
            (each.missing[-1][-1].time_ms, folder) for folder, each in self._wanted.items() if each.missing
        ]
        if not waiting:
            return False
        if self._clock.monotonic() < self._rest_until:
            return False
        reason = self._room()
        if reason is not None:
            self._stop(reason)
            return False
        self._go_on()
        _, folder = max(waiting)
        await self._build(folder, self._wanted[folder].missing[-1])
        return True

    async def _check(self, part: IndexPart) -> None:
        reply = await self._builder.submit(partial(_checking, part), BUILD_PRIORITY).final_reply()
        parts = self._parts.get(part.path, [])
        if part in parts:
            parts.remove(part)
        if isinstance(reply, PartsReply) and reply.parts:
            self._add(reply.parts)
        elif isinstance(reply, RequestFailed):
            log.warning("index part %s could not be checked: %s", part.folder, reply.reason)
        else:
            log.warning("index part %s was damaged: it is made again", part.folder)
        self._see_missing(str(Path(part.path).parent))

    async def _build(self, folder: str, chunk: PartBlocks) -> None:
        each = self._wanted[folder]
        units = [
            Unit(
                each.topic,
                each.index,
                block.path,
                block.start,
                block.end,
                block.first_offset,
                block.next_offset,
            )
            for block in chunk
        ]
        reply = await self._builder.submit(
            partial(_building, str(self._root), units), BUILD_PRIORITY
        ).final_reply()
        if isinstance(reply, PartsReply):
            self._add(reply.parts)
        elif isinstance(reply, RequestFailed) and NO_SPACE in reply.reason:
            self._rest_until = self._clock.monotonic() + REST_S
            self._stop(reply.reason)
        elif isinstance(reply, RequestFailed):
            self._failures[chunk[0].path, chunk[0].start] += 1
            if not reply.data_deleted:
                log.warning("no index for %s from %d on: %s", chunk[0].path, chunk[0].start, reply.reason)
        self._see_missing(folder)

    def _add(self, parts: Iterable[IndexPart]) -> None:
        for part in parts:
            held = self._parts.setdefault(part.path, [])
            held.insert(bisect_left(held, part.start, key=lambda each: each.start), part)

    def _stop(self, reason: str) -> None:
        if self._stopped != reason:
            log.warning("the index of topics set mainstem.search=indexed is not made: %s", reason)
        self._stopped = reason

    def _go_on(self) -> None:
        if self._stopped is not None:
            log.info("the index is made again")
        self._stopped = None

    async def close(self) -> None:
        """End the builder."""
        await self._builder.close()


def missing_parts(
    blocks: Sequence[Block], newest: str, parts: dict[str, list[IndexPart]], size: int
) -> list[PartBlocks]:
    """The stretches of closed blocks (oldest first) of which parts are to be made: so many side by side,
    fewer only where the segment, or what has no part, ends."""
    found: list[PartBlocks] = []
    run: PartBlocks = []

    def end(*, ended: bool) -> None:
        while len(run) >= size or (ended and len(run) >= PART_BLOCKS_MIN):
            found.append(run[:size])
            del run[:size]
        run.clear()

    for block in blocks:
        if run and run[-1].path != block.path:
            end(ended=True)
        if any(each.start < block.end and block.start < each.end for each in _near(parts, block)):
            end(ended=True)
        elif block.first_offset >= 0:
            run.append(block)
        else:
            end(ended=True)
    end(ended=bool(run) and run[-1].path != newest)
    return found


def _near(parts: dict[str, list[IndexPart]], block: Block) -> Sequence[IndexPart]:
    held = parts.get(block.path, ())
    at = bisect_right(held, block.start, key=lambda each: each.start)
    return held[max(0, at - 1) : at + 1]


def cut_to_candidates(piece: WorkItem, named: Sequence[CandidateBatch], newest_first: bool) -> list[WorkItem]:
    """A piece cut down to the batches that an index names, in the order of the search. Each stands also for
    the bytes before it (the last one for those behind it too), which are not read."""
    unit = piece.unit
    targets: list[CandidateBatch] = []
    for at in range(bisect_left(named, unit.start, key=lambda each: each.start), len(named)):
        batch = named[at]
        if batch.start >= unit.end:
            break
        if batch.next_offset <= batch.first_offset:
            return [piece]  # damage follows, and which offsets it has is not known
        if batch.next_offset <= unit.low or batch.first_offset >= unit.high:
            continue
        if targets and targets[-1].end == batch.start:
            targets[-1] = CandidateBatch(
                targets[-1].start, batch.end, targets[-1].first_offset, batch.next_offset
            )
        else:
            targets.append(batch)
    if len(targets) > STRETCHES_MAX:
        return [piece]
    if not targets:
        piece.excluded = piece.indexed = True
        return [piece]
    found, start, low = [], unit.start, unit.low
    for number, place in enumerate(targets):
        is_last = number == len(targets) - 1
        end, high = (unit.end, unit.high) if is_last else (place.end, place.next_offset)
        part = msgspec.structs.replace(unit, start=place.start, end=place.end, low=low, high=high)
        found.append(WorkItem(part, piece.time_ms, piece.block, indexed=True, covered_bytes=end - start))
        start, low = end, high
    return found[::-1] if newest_first else found


def _asking(parts: Sequence[IndexPart], clauses: list[list[str]], job_id: int) -> QueryPartsRequest:
    return QueryPartsRequest(job_id, [(part.folder, part.fingerprint) for part in parts], clauses)


def _finding(root: str, partitions: str, job_id: int) -> FindPartsRequest:
    return FindPartsRequest(job_id, root, partitions)


def _checking(part: IndexPart, job_id: int) -> CheckPartRequest:
    return CheckPartRequest(job_id, part)


def _building(root: str, blocks: list[Unit], job_id: int) -> BuildPartRequest:
    return BuildPartRequest(job_id, root, blocks)


def _dropping(folders: list[str], job_id: int) -> RemovePartsRequest:
    return RemovePartsRequest(job_id, folders)
