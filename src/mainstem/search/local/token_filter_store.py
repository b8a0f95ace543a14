"""Keeping token filters for all closed blocks, and asking them.

Owns: which blocks have one, building the missing ones one at a time in a process of its own at the lowest
priority, and removing them with their data. Refuses: to hold up a search: what has no filter yet is read.
Used by `local/search.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from mainstem.clock import Clock
from mainstem.search.blocks import token_filter
from mainstem.search.blocks.blocks import Block, BlockMap
from mainstem.search.execution import WorkItem
from mainstem.search.ipc import (
    BuildFilterReply,
    BuildFilterRequest,
    FilterInfo,
    FiltersReply,
    FindFiltersRequest,
    RemoveFiltersRequest,
    Reply,
    RequestFailed,
    TestFiltersReply,
    TestFiltersRequest,
    Unit,
)
from mainstem.search.match.matcher import Matcher
from mainstem.search.targets import in_turns
from mainstem.search.workers.bootstrap import BACKGROUND_NICE
from mainstem.search.workers.pool import BUILD_PRIORITY, SEARCH_PRIORITY, WorkerPool

FILTERS_AT_ONCE = 256
REST_S = 60.0
"""After a filter that could not be made."""
MissingFilters = dict[tuple[str, int], tuple[str, int, Block]]
"""Topic, partition and block, by file and position."""

log = logging.getLogger(__name__)


class TokenFilterStore:
    """The filters below `data/search`, of the log below `data/partitions`."""

    def __init__(self, data: Path, clock: Clock, pool: WorkerPool) -> None:
        self._root = data / "search"
        self._partitions = data / "partitions"
        self._pool = pool
        self._builder = WorkerPool(clock, workers=1, nice=BACKGROUND_NICE)
        self._clock, self._rest_s = clock, REST_S
        self._rests_until = 0.0
        self._later = MissingFilters()
        self._restored = False
        self.block_maps: dict[str, BlockMap] = {}
        """Blocks by the partition's folder."""

    async def restore(self) -> None:
        """Find what an earlier run has left. Once; called before anything is built."""
        if self._restored:
            return
        self._restored = True
        reply = await self._pool.submit(
            partial(_restore, str(self._root), str(self._partitions))
        ).final_reply()
        if not isinstance(reply, FiltersReply):
            log.warning("token filters of an earlier run are not used: %s", reply)
            return
        folders: dict[str, list[FilterInfo]] = {}
        for head in reply.filters:
            folders.setdefault(str(Path(head.path).parent), []).append(head)
        for folder, heads in folders.items():
            self.block_maps.setdefault(folder, BlockMap()).restore(heads)

    # --- asking -------------------------------------------------------------------------------------------

    async def prune(
        self, pieces: Sequence[WorkItem], matcher: Matcher, from_ms: int | None, to_ms: int | None
    ) -> None:
        """Mark the pieces in which nothing can match."""
        await prune(self._pool, pieces, matcher, from_ms, to_ms)

    # --- building -----------------------------------------------------------------------------------------

    async def build_missing(self, topic: str, partition: int, blocks: Iterable[Block]) -> int:
        """Make the filters that these blocks lack, the newest first. How many were made."""
        lacking = [
            each for each in blocks if each.closed and each.filter_path is None and not each.unfilterable
        ]
        lacking.sort(key=lambda each: -each.first_offset)
        return await self._build({(each.path, each.start): (topic, partition, each) for each in lacking})

    async def retry_failed(self) -> int:
        """Make the filters that could not be made earlier, if it is time. How many were made."""
        if not self._later or self._clock.monotonic() < self._rests_until:
            return 0
        later, self._later = self._later, {}
        return await self._build(later)

    async def _build(self, lacking: MissingFilters) -> int:
        made, failed = 0, MissingFilters()
        for place, (topic, partition, block) in lacking.items():
            if self._clock.monotonic() < self._rests_until:
                self._later[place] = topic, partition, block
                continue
            self._later.pop(place, None)
            reply = await self._made(topic, partition, block)
            if isinstance(reply, BuildFilterReply) and reply.filter is not None:
                block.filter_path = reply.filter.filter_path
                block.apply_filter_info(reply.filter)
                made += 1
            elif isinstance(reply, RequestFailed) and not reply.data_deleted:
                # What is wrong with this block, or with the disk, may pass; the others come before it.
                log.warning(
                    "no token filter yet for %s from %d on: %s", block.path, block.start, reply.reason
                )
                self._rests_until = self._clock.monotonic() + self._rest_s
                failed[place] = topic, partition, block
            else:
                block.unfilterable = True
        self._later |= failed
        return made

    async def _made(self, topic: str, partition: int, block: Block) -> Reply:
        unit = Unit(
            topic, partition, block.path, block.start, block.end, block.first_offset, block.next_offset
        )
        target = self._root / Path(block.path).parent.name / f"{block.first_offset:020}{token_filter.SUFFIX}"
        return await self._builder.submit(partial(_build, unit, str(target)), BUILD_PRIORITY).final_reply()

    async def remove_orphans(self, live_folders: set[str]) -> None:
        """Remove the filters of what was deleted. `live_folders`: of the partitions that hold something."""
        gone: list[str] = []
        for folder in [folder for folder in self.block_maps if folder not in live_folders]:
            blocks = self.block_maps.pop(folder)
            gone += blocks.orphaned_filters + [
                block.filter_path for block in blocks.blocks if block.filter_path is not None
            ]
        for blocks in self.block_maps.values():
            gone += blocks.orphaned_filters
            blocks.orphaned_filters = []
        if gone:
            await self._builder.submit(partial(_remove, gone), BUILD_PRIORITY).final_reply()

    async def close(self) -> None:
        """End the builder."""
        await self._builder.close()


async def prune(
    pool: WorkerPool, pieces: Sequence[WorkItem], matcher: Matcher, from_ms: int | None, to_ms: int | None
) -> None:
    """Mark the pieces in which nothing can match."""
    async for piece in in_turns(pieces):
        least, most = piece.block.min_ms, piece.block.max_ms
        if least is not None and most is not None:
            piece.excluded |= (from_ms is not None and most < from_ms) or (
                to_ms is not None and least >= to_ms
            )
    clauses = [[token.encode() for token in sorted(clause)] for clause in matcher.required_tokens]
    asked = [
        each
        async for each in in_turns(pieces)
        if not (each.excluded or each.indexed) and each.block.filter_path is not None
    ]
    if not clauses or not asked:
        return
    groups = [asked[at : at + FILTERS_AT_ONCE] for at in range(0, len(asked), FILTERS_AT_ONCE)]
    jobs = [pool.submit(partial(_sift, group, clauses), SEARCH_PRIORITY) for group in groups]
    for group, job in zip(groups, jobs, strict=True):
        reply = await job.final_reply()
        if not isinstance(reply, TestFiltersReply):
            continue  # then they are read
        for piece, verdict in zip(group, reply.results, strict=True):
            piece.excluded = verdict == token_filter.CANNOT_MATCH
            if verdict == token_filter.UNUSABLE:
                piece.block.filter_path = None


def _restore(root: str, partitions: str, job_id: int) -> FindFiltersRequest:
    return FindFiltersRequest(job_id, root, partitions)


def _sift(pieces: Sequence[WorkItem], clauses: list[list[bytes]], job_id: int) -> TestFiltersRequest:
    return TestFiltersRequest(
        job_id, [(each.block.filter_path or "", each.block.start, each.block.end) for each in pieces], clauses
    )


def _build(unit: Unit, target: str, job_id: int) -> BuildFilterRequest:
    return BuildFilterRequest(job_id, unit, target)


def _remove(paths: list[str], job_id: int) -> RemoveFiltersRequest:
    return RemoveFiltersRequest(job_id, paths)
