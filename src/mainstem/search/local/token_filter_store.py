"""Keeps the token filters of all closed blocks, and tests them for a search.

Owns: which blocks have a filter, building missing filters one at a time in a separate process at the lowest
priority, and removing filters with their data. Refuses: to delay a search: a block without a filter is read.
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
    FailureReply,
    FilterInfo,
    FiltersReply,
    FindFiltersRequest,
    RemoveFiltersRequest,
    Reply,
    TestFiltersReply,
    TestFiltersRequest,
    Unit,
)
from mainstem.search.match.matcher import Matcher
from mainstem.search.targets import in_turns
from mainstem.search.workers.bootstrap import BACKGROUND_NICE
from mainstem.search.workers.pool import WorkerJob, WorkerPool
from mainstem.search.workers.schedule import JobGroup

FILTERS_AT_ONCE = 256
"""Filters in one request to a worker."""
RETRY_DELAY_S = 60.0
"""Seconds before the next attempt after a filter could not be built."""
MissingFilters = dict[tuple[str, int], tuple[str, int, Block]]
"""Blocks without a filter, as (topic, partition, block), by the block's file and position."""

log = logging.getLogger(__name__)


class TokenFilterStore:
    """The token filters below `data/search` for the log below `data/partitions`."""

    def __init__(self, data: Path, clock: Clock, pool: WorkerPool) -> None:
        self._root = data / "search"
        self._partitions = data / "partitions"
        self._pool = pool
        self._builder = WorkerPool(clock, workers=1, nice=BACKGROUND_NICE)
        self._clock = clock
        self._retry_at = 0.0
        self._postponed = MissingFilters()
        """The filters that could not be built, to be built again at `_retry_at`."""
        self._restored = False
        self.block_maps: dict[str, BlockMap] = {}
        """The closed blocks of each partition, by its folder."""

    async def restore(self) -> None:
        """Load the filters of an earlier run, at the first call. To be called before any filter is built."""
        if self._restored:
            return
        self._restored = True
        reply = await self._pool.submit(
            partial(_find_request, str(self._root), str(self._partitions))
        ).final_reply()
        if not isinstance(reply, FiltersReply):
            log.warning(
                "the token filters of an earlier run could not be loaded and are built again: %s", reply
            )
            return
        filters_by_folder: dict[str, list[FilterInfo]] = {}
        for info in reply.filters:
            filters_by_folder.setdefault(str(Path(info.path).parent), []).append(info)
        for folder, filters in filters_by_folder.items():
            self.block_maps.setdefault(folder, BlockMap()).restore(filters)

    # --- testing --------------------------------------------------------------------------------------------

    async def prune(
        self,
        items: Sequence[WorkItem],
        matcher: Matcher,
        from_ms: int | None,
        to_ms: int | None,
        group: JobGroup[WorkerJob],
    ) -> None:
        """Mark the items in which no event can match as excluded. `group`: the search."""
        await prune(self._clock, self._pool, items, matcher, from_ms, to_ms, group)

    # --- building -----------------------------------------------------------------------------------------

    async def build_missing(self, topic: str, partition: int, blocks: Iterable[Block]) -> int:
        """Build the filters that these blocks lack, the newest first. Returns how many were built."""
        missing = [
            block for block in blocks if block.closed and block.filter_path is None and not block.unfilterable
        ]
        missing.sort(key=lambda block: -block.first_offset)
        return await self._build({(block.path, block.start): (topic, partition, block) for block in missing})

    async def retry_failed(self) -> int:
        """Build the filters that could not be built earlier, if RETRY_DELAY_S has passed. Returns how many
        were built."""
        if not self._postponed or self._clock.monotonic() < self._retry_at:
            return 0
        postponed, self._postponed = self._postponed, {}
        return await self._build(postponed)

    async def _build(self, missing: MissingFilters) -> int:
        made, failed = 0, MissingFilters()
        for location, (topic, partition, block) in missing.items():
            if self._clock.monotonic() < self._retry_at:
                self._postponed[location] = topic, partition, block
                continue
            self._postponed.pop(location, None)
            reply = await self._build_filter(topic, partition, block)
            if isinstance(reply, BuildFilterReply) and reply.filter is not None:
                block.filter_path = reply.filter.filter_path
                block.apply_filter_info(reply.filter)
                made += 1
            elif isinstance(reply, FailureReply) and not reply.data_deleted:
                # The cause, in this block or on the disk, may pass. The other blocks are built before it.
                log.warning(
                    "the token filter of the block at byte %d of %s could not be built; it is built again in"
                    " %.0f s: %s",
                    block.start,
                    block.path,
                    RETRY_DELAY_S,
                    reply.reason,
                )
                self._retry_at = self._clock.monotonic() + RETRY_DELAY_S
                failed[location] = topic, partition, block
            else:
                block.unfilterable = True
        self._postponed |= failed
        return made

    async def _build_filter(self, topic: str, partition: int, block: Block) -> Reply:
        unit = Unit(
            topic, partition, block.path, block.start, block.end, block.first_offset, block.next_offset
        )
        target = self._root / Path(block.path).parent.name / f"{block.first_offset:020}{token_filter.SUFFIX}"
        return await self._builder.submit(partial(_build_request, unit, str(target))).final_reply()

    async def remove_orphans(self, live_folders: set[str]) -> None:
        """Remove the filters of deleted data. `live_folders`: the folders of all partitions with events."""
        orphaned: list[str] = []
        for folder in [folder for folder in self.block_maps if folder not in live_folders]:
            blocks = self.block_maps.pop(folder)
            orphaned += blocks.orphaned_filters + [
                block.filter_path for block in blocks.blocks if block.filter_path is not None
            ]
        for blocks in self.block_maps.values():
            orphaned += blocks.orphaned_filters
            blocks.orphaned_filters = []
        if orphaned:
            await self._builder.submit(partial(_remove_request, orphaned)).final_reply()

    async def close(self) -> None:
        """Stop the process that builds filters."""
        await self._builder.close()


async def prune(
    clock: Clock,
    pool: WorkerPool,
    items: Sequence[WorkItem],
    matcher: Matcher,
    from_ms: int | None,
    to_ms: int | None,
    group: JobGroup[WorkerJob],
) -> None:
    """Mark the items in which no event can match as excluded: by the times of their blocks, then by the token
    filters of those that the index has not cut down."""
    async for item in in_turns(clock, items):
        min_ms, max_ms = item.block.min_ms, item.block.max_ms
        if min_ms is not None and max_ms is not None:
            item.excluded |= (from_ms is not None and max_ms < from_ms) or (
                to_ms is not None and min_ms >= to_ms
            )
    clauses = [[token.encode() for token in sorted(clause)] for clause in matcher.required_tokens]
    filtered = [
        item
        async for item in in_turns(clock, items)
        if not (item.excluded or item.indexed) and item.block.filter_path is not None
    ]
    if not clauses or not filtered:
        return
    groups = [filtered[start : start + FILTERS_AT_ONCE] for start in range(0, len(filtered), FILTERS_AT_ONCE)]
    jobs = [pool.submit(partial(_test_request, items_at_once, clauses), group) for items_at_once in groups]
    for items_at_once, job in zip(groups, jobs, strict=True):
        reply = await job.final_reply()
        if not isinstance(reply, TestFiltersReply):
            continue  # untested blocks are read
        for item, result in zip(items_at_once, reply.results, strict=True):
            item.excluded = result == token_filter.CANNOT_MATCH
            if result == token_filter.UNUSABLE:
                item.block.filter_path = None


def _find_request(root: str, partitions: str, job_id: int) -> FindFiltersRequest:
    return FindFiltersRequest(job_id, root, partitions)


def _test_request(items: Sequence[WorkItem], clauses: list[list[bytes]], job_id: int) -> TestFiltersRequest:
    blocks = [item.block for item in items]
    return TestFiltersRequest(
        job_id, [(block.filter_path or "", block.start, block.end) for block in blocks], clauses
    )


def _build_request(unit: Unit, target: str, job_id: int) -> BuildFilterRequest:
    return BuildFilterRequest(job_id, unit, target)


def _remove_request(paths: list[str], job_id: int) -> RemoveFiltersRequest:
    return RemoveFiltersRequest(job_id, paths)
