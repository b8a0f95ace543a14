"""Searches the log in the files of this machine.

Owns: turning a request into units of work: topics, partitions and blocks, in the order of the search; and
building token filters in the background. Refuses: to read the log in the server's own process, which worker
processes do, and to know the engine other than as a SearchableLog, which returns the files and byte ranges of
a partition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path

from mainstem.clock import Clock
from mainstem.contract import SearchableLog, StreamError, TopicSummary
from mainstem.search import targets
from mainstem.search.blocks.blocks import BLOCK_BYTES, Block, BlockMap
from mainstem.search.blocks.buckets import bucket_edges, count_within_buckets, to_buckets
from mainstem.search.contract import BlockExclusion, Bucket, Remaining, SearchRequest, Unreadable
from mainstem.search.execution import NO_BATCH, SearchExecution, WorkItem
from mainstem.search.index.manager import PART_BLOCKS, IndexManager
from mainstem.search.ipc import (
    BlockRange,
    CountByTimeReply,
    CountByTimeRequest,
    CutBlocksReply,
    CutBlocksRequest,
    FailureReply,
    TimeSpan,
    UncutRange,
    Unit,
    UnitTimesReply,
    UnitTimesRequest,
)
from mainstem.search.local.excluded_blocks import excluded_blocks
from mainstem.search.local.lost_offsets import is_removed, lost_positions
from mainstem.search.local.token_filter_store import TokenFilterStore
from mainstem.search.match.matcher import Matcher, either
from mainstem.search.planned import PlannedSearch
from mainstem.search.workers.pool import WorkerJob, WorkerPool
from mainstem.search.workers.schedule import JobGroup
from mainstem.turns import next_turn

RANGES_AT_ONCE = 256
UNITS_AT_ONCE = 64
TOPICS_AT_ONCE = 100
BUILD_INTERVAL_S = 2.0
"""Seconds between two searches for complete blocks that lack a token filter."""
ByteRanges = list[tuple[str, int, int]]
"""Path, start and end of each range."""
SortableItem = tuple[int, int, WorkItem]


@dataclass(slots=True)
class _PartitionPlan:
    """The blocks of a partition. The plan is valid while the partition begins and ends with the same
    offsets."""

    folder: str
    begin: int
    end: int
    ranges: ByteRanges
    """The partition's committed bytes; empty once they are divided into blocks."""
    blocks: list[Block] = field(default_factory=list)
    """The partition's blocks, oldest first, with the open one."""


@dataclass(slots=True)
class _FilteredTopic:
    """A topic of which every closed block has a token filter, except those that can have none."""

    summary: TopicSummary
    """The topic as the engine returned it when its filters were built. The engine returns another object when
    the topic has changed."""
    folders: dict[str, str]
    """The folders of its partitions: by the path that the engine returns, the path in the blocks."""


log = logging.getLogger(__name__)


class LogSearch(PlannedSearch):
    """Implements `contract.Search` over `engine`, whose files lie below `data`."""

    def __init__(
        self,
        engine: SearchableLog,
        data: Path,
        clock: Clock,
        *,
        workers: int | None = None,
        block_bytes: int = BLOCK_BYTES,
        part_blocks: int = PART_BLOCKS,
        space_problem: Callable[[], str | None] = lambda: None,
        pool: WorkerPool | None = None,
    ) -> None:
        """`workers`: maximum number of worker processes. `pool`: in place of such processes.
        `block_bytes`: size of a block. `part_blocks`: number of blocks of an index part. `space_problem`: why
        the disk has no space for an index; None: it has."""
        self._engine = engine
        self._data = data
        self._clock = clock
        self._block_bytes = block_bytes
        self._planning = asyncio.Lock()
        self.pool = WorkerPool(clock, workers=workers) if pool is None else pool
        self._filter_store = TokenFilterStore(data, clock, self.pool)
        self._index_manager = IndexManager(
            data, clock, self.pool, engine, self._blocks, space_problem=space_problem, part_blocks=part_blocks
        )
        self._plans: dict[str, _PartitionPlan] = {}
        """The plan of each partition, by its folder."""
        self._filtered_topics: dict[str, _FilteredTopic] = {}
        """The topics whose filters are built, by name."""
        self._background_tasks: list[asyncio.Task[None]] = []
        self._closed = asyncio.Event()
        self._filters_made = 0

    # --- the contract -------------------------------------------------------------------------------------

    async def histogram(
        self,
        topics: Sequence[str],
        since_ms: int | None,
        until_ms: int | None,
        buckets: int,
        *,
        readable: Callable[[str], bool] | None = None,
    ) -> list[Bucket]:
        """Implements `Search.histogram`."""
        request = SearchRequest(topics=topics, readable=readable)
        remaining = await targets.requested_partitions(self._clock, self._engine, request)
        units: list[tuple[Unit, Block]] = []
        async for target, blocks in targets.in_turns(self._clock, await self._blocks(remaining)):
            units += [(self._unit(target, block), block) for block in blocks]
        timed: list[tuple[Unit, TimeSpan]] = []
        async for (unit, _), span in targets.in_turns(
            self._clock, list(zip(units, await self._time_spans(units), strict=True))
        ):
            if span is not None and span.events:
                timed.append((unit, span))
        if not timed:
            return []
        from_ms = min(span.min_ms for _, span in timed) if since_ms is None else since_ms
        to_ms = max(span.max_ms for _, span in timed) + 1 if until_ms is None else until_ms
        if from_ms >= to_ms:
            return []
        edges = bucket_edges(from_ms, to_ms, buckets)
        counts, crossing = [0.0] * (len(edges) - 1), list[Unit]()
        for start in range(0, len(timed), targets.ITEMS_PER_TURN):
            group = timed[start : start + targets.ITEMS_PER_TURN]
            group_counts, crossing_in_group = count_within_buckets(group, edges)
            counts = [a + b for a, b in zip(counts, group_counts, strict=True)]
            crossing += crossing_in_group
            await next_turn(self._clock)
        counts = [a + b for a, b in zip(counts, await self._count(crossing, edges), strict=True)]
        return to_buckets(edges, counts)

    def prepare(self) -> None:
        """Implements `Search.prepare`."""
        self.pool.prepare()

    async def excluded_blocks(
        self, topic: str, partition: int, first: int, matchers: Sequence[Matcher]
    ) -> list[BlockExclusion]:
        """The next blocks with token filters from the offset `first` on, ascending, and which of these
        queries match no event of each: 64 at most, none if there are no filters yet. Reads no events, divides
        nothing into blocks. StreamError."""
        folder, *_ = self._engine.partition_files(topic, partition)
        plan = self._plans.get(folder)
        blocks = [] if plan is None else plan.blocks
        return await excluded_blocks(self._clock, self.pool, topic, partition, blocks, first, matchers)

    def metric_values(self) -> dict[str, float]:
        """The values of the search's metrics, by name."""
        return {
            "mainstem_search_filters_made_total": self._filters_made,
            "mainstem_search_workers": len(self.pool.pids),
        }

    async def close(self) -> None:
        """Implements `Search.close`."""
        self._closed.set()
        for task in self._background_tasks:
            task.cancel()
        if self._background_tasks:
            await asyncio.wait(self._background_tasks)
        await self._index_manager.close()
        await self._filter_store.close()
        await self.pool.close()

    # --- token filters ------------------------------------------------------------------------------------

    def start_building_filters(self) -> None:
        """Build token filters, and the index of the topics that are set to be indexed, in the background from
        now on."""
        if not self._background_tasks:
            loop = asyncio.get_running_loop()
            self._background_tasks = [
                loop.create_task(self._keep_building_filters()),
                loop.create_task(self._index_manager.run(self._closed)),
            ]

    async def _keep_building_filters(self) -> None:
        while not self._closed.is_set():
            try:
                self._filters_made += await self._filter_store.retry_failed()
                await self.build_missing_filters()
            except StreamError as error:
                log.warning(
                    "token filters could not be built; tried again in %.0f s: %s", BUILD_INTERVAL_S, error
                )
            try:
                async with asyncio.timeout(BUILD_INTERVAL_S):
                    await self._closed.wait()
            except TimeoutError:
                continue

    async def build_missing_filters(self) -> int:
        """Build the token filters that are missing now, and remove those of deleted data. Returns how many
        were built."""
        topics = await self._engine.topics()
        changed = [topic for topic in topics if not self._has_filters_of(topic)]
        if not changed and len(topics) == len(self._filtered_topics):
            return 0
        made = 0
        for start in range(0, len(changed), TOPICS_AT_ONCE):
            made += await self._build_filters_of(changed[start : start + TOPICS_AT_ONCE])
        self._filters_made += made
        names = {topic.name for topic in topics}
        self._filtered_topics = {
            name: topic for name, topic in self._filtered_topics.items() if name in names
        }
        live: dict[str, str] = {}
        async for topic in targets.in_turns(self._clock, list(self._filtered_topics.values())):
            live |= topic.folders
        if len(self._plans) > len(live):
            self._plans = {folder: plan for folder, plan in self._plans.items() if folder in live}
        await self._filter_store.remove_orphans(set(live.values()))
        return made

    def _has_filters_of(self, topic: TopicSummary) -> bool:
        """Whether the topic has not changed since its token filters were built."""
        filtered = self._filtered_topics.get(topic.name)
        return filtered is not None and filtered.summary is topic

    async def _build_filters_of(self, topics: Sequence[TopicSummary]) -> int:
        folders: dict[str, dict[str, str]] = {topic.name: {} for topic in topics}
        wanted = []
        for target in await targets.partitions_of(self._clock, self._engine, topics):
            try:
                files = self._engine.partition_files(target.topic, target.partition)
            except StreamError:
                continue  # deleted in the meantime
            folder, begin, end, segments, size_bytes, _ = files
            if begin < end:
                folders[target.topic][folder] = str(self._data / folder)
                # A partition without a full block is planned only once here, to make the first search fast.
                if segments > 1 or size_bytes >= self._block_bytes or folder not in self._plans:
                    wanted.append(target)
        made = 0
        for target, blocks in await self._blocks(wanted):
            made += await self._filter_store.build_missing(target.topic, target.partition, blocks)
        for topic in topics:
            self._filtered_topics[topic.name] = _FilteredTopic(topic, folders[topic.name])
        return made

    async def build_missing_parts(self) -> None:
        """Build and check all index parts that are missing now, and remove those of deleted data."""
        await self._index_manager.refresh()
        while await self._index_manager.work_once():
            await self._index_manager.refresh()

    # ------------------------------------------------------------------------------------------------------

    async def _start(
        self,
        request: SearchRequest,
        *,
        output: str,
        fields: Sequence[str] = (),
        baseline: str | None = None,
        group: JobGroup[WorkerJob] | None = None,
    ) -> SearchExecution:
        """Implements `PlannedSearch._start`."""
        group = JobGroup() if group is None else group
        now_ms = self._clock.wall_ms()
        matcher = Matcher.of(either(request.query, baseline), now_ms=now_ms)
        request, remaining = await targets.resolve(self._clock, self._engine, request, matcher)
        keyed: list[SortableItem] = []
        problems: list[Unreadable] = []
        async for target, blocks in targets.in_turns(self._clock, await self._blocks(remaining)):
            lost = lost_positions(self._engine, target, blocks)
            problems += [Unreadable(position, NO_BATCH) for position in lost]
            keyed += _with_sort_keys(
                [
                    WorkItem(self._unit(target, block), block.time_ms, block)
                    for block in blocks
                    if _overlaps(target, block)
                ],
                request.newest_first,
            )
        items = _sort_items(keyed)
        await next_turn(self._clock)
        times = matcher.time_range
        from_ms = max((ms for ms in (times[0], request.since_ms) if ms is not None), default=None)
        to_ms = min((ms for ms in (times[1], request.until_ms) if ms is not None), default=None)
        clauses = matcher.required_tokens
        items = await self._index_manager.apply(items, clauses, request.newest_first, group)
        await self._filter_store.prune(items, matcher, from_ms, to_ms, group)
        await next_turn(self._clock)
        execution = SearchExecution(
            self.pool, self._clock, request, now_ms, items, remaining, output=output, fields=fields,
            baseline=baseline, group=group, problems=problems,
            is_removed=partial(is_removed, self._engine, self._data),
        )  # fmt: skip
        execution.totals.index_note = self._index_manager.incomplete_reason(items) if clauses else None
        return execution

    async def _blocks(self, remaining: Sequence[Remaining]) -> list[tuple[Remaining, list[Block]]]:
        """The blocks of each partition with offsets to search, oldest first."""
        async with self._planning:  # two calls at the same time would divide the same ranges twice
            await self._filter_store.restore()
            return await self._planned_blocks(remaining)

    async def _planned_blocks(self, remaining: Sequence[Remaining]) -> list[tuple[Remaining, list[Block]]]:
        planned: list[tuple[Remaining, _PartitionPlan]] = []
        new_plans: list[_PartitionPlan] = []
        async for target in targets.in_turns(self._clock, remaining):
            if target.low >= target.high:
                continue
            try:
                folder, begin, end, *_ = self._engine.partition_files(target.topic, target.partition)
                plan = self._plans.get(folder)
                if plan is None or (plan.begin, plan.end) != (begin, end):
                    ranges = await self._engine.byte_ranges(target.topic, target.partition, begin, end)
                    absolute = [(f"{self._data}/{path}", start, end) for path, start, end in ranges]
                    plan = _PartitionPlan(folder, begin, end, absolute)
                    if ranges:
                        new_plans.append(plan)
            except StreamError:
                continue  # deleted in the meantime
            planned.append((target, plan))
        await self._cut_blocks(new_plans)
        return [(target, plan.blocks) for target, plan in planned]

    async def _cut_blocks(self, plans: Sequence[_PartitionPlan]) -> None:
        """Divide these partitions into blocks, and keep the plans until their offsets change."""
        uncut: list[UncutRange] = []
        async for plan in targets.in_turns(self._clock, plans):
            uncut += self._block_map(plan.ranges).uncut_ranges(plan.ranges)
        blocks_by_path: dict[str, list[BlockRange]] = {}
        for start in range(0, len(uncut), RANGES_AT_ONCE):
            group = uncut[start : start + RANGES_AT_ONCE]
            reply = await self.pool.submit(partial(_cut_request, group, self._block_bytes)).final_reply()
            if isinstance(reply, FailureReply):
                raise StreamError(f"the log could not be divided into blocks for a search: {reply.reason}")
            assert isinstance(reply, CutBlocksReply)
            for block in reply.blocks:
                blocks_by_path.setdefault(block.path, []).append(block)
        async for plan in targets.in_turns(self._clock, plans):
            new_blocks = [block for path, _, _ in plan.ranges for block in blocks_by_path.get(path, ())]
            plan.blocks = self._block_map(plan.ranges).add_blocks(new_blocks, plan.ranges, plan.end)
            plan.ranges = []
            self._plans[plan.folder] = plan

    def _block_map(self, ranges: ByteRanges) -> BlockMap:
        """The closed blocks of the partition with these files. They are kept by folder, because a topic that
        is created again with the same name has other folders."""
        return self._filter_store.block_maps.setdefault(str(Path(ranges[0][0]).parent), BlockMap())

    @staticmethod
    def _unit(target: Remaining, block: Block) -> Unit:
        return Unit(
            target.topic,
            target.partition,
            block.path,
            block.start,
            block.end,
            max(target.low, block.first_offset),
            min(target.high, block.next_offset),
        )

    async def _time_spans(self, units: Sequence[tuple[Unit, Block]]) -> list[TimeSpan | None]:
        """The time span of each unit: that of its block, if it is the whole block and the block's is known,
        else read from the batch headers, and kept in the block."""
        is_whole_block: list[bool] = []
        spans: list[TimeSpan | None] = []
        async for unit, block in targets.in_turns(self._clock, units):
            is_whole_block.append((unit.low, unit.high) == (block.first_offset, block.next_offset))
            spans.append(block.time_span if is_whole_block[-1] else None)
        unknown = [i for i, span in enumerate(spans) if span is None]
        groups = [unknown[start : start + UNITS_AT_ONCE] for start in range(0, len(unknown), UNITS_AT_ONCE)]
        jobs = [self.pool.submit(partial(_times_request, [units[i][0] for i in group])) for group in groups]
        for group, job in zip(groups, jobs, strict=True):
            reply = await job.final_reply()
            if not isinstance(reply, UnitTimesReply):
                raise StreamError(f"the histogram failed: {reply}")
            for i, span in zip(group, reply.spans, strict=True):
                spans[i] = span
                if is_whole_block[i]:
                    units[i][1].time_span = span
        return spans

    async def _count(self, units: Sequence[Unit], edges: list[int]) -> list[float]:
        """The number of events of these units in each bucket."""
        groups = [list(units[start : start + UNITS_AT_ONCE]) for start in range(0, len(units), UNITS_AT_ONCE)]
        jobs = [self.pool.submit(partial(_count_request, group, edges)) for group in groups]
        counts = [0.0] * (len(edges) - 1)
        for job in jobs:
            reply = await job.final_reply()
            if not isinstance(reply, CountByTimeReply):
                raise StreamError(f"the histogram failed: {reply}")
            counts = [a + b for a, b in zip(counts, reply.counts, strict=True)]
        return counts


def _cut_request(ranges: list[UncutRange], block_bytes: int, job_id: int) -> CutBlocksRequest:
    return CutBlocksRequest(job_id, ranges, block_bytes)


def _times_request(units: list[Unit], job_id: int) -> UnitTimesRequest:
    return UnitTimesRequest(job_id, units)


def _count_request(units: list[Unit], edges: list[int], job_id: int) -> CountByTimeRequest:
    return CountByTimeRequest(job_id, units, edges)


def _overlaps(target: Remaining, block: Block) -> bool:
    return block.first_offset < target.high and target.low < block.next_offset


def order_items(partitions: Sequence[Sequence[WorkItem]], newest_first: bool) -> list[WorkItem]:
    """The items of all partitions in the order of a search: by offset within a partition, by time between
    partitions. The items of each partition are given oldest first."""
    return _sort_items([keyed for items in partitions for keyed in _with_sort_keys(items, newest_first)])


def _with_sort_keys(items: Sequence[WorkItem], newest_first: bool) -> Iterator[SortableItem]:
    """A partition's items with their sort keys: a time, and their number within the partition."""
    if newest_first:
        # An item follows those with later offsets of its partition, even if its time is later than theirs.
        time_ms = 1 << 62
        for number, item in enumerate(reversed(items)):
            time_ms = min(time_ms, item.time_ms)
            yield -time_ms, number, item
    else:
        time_ms = -(1 << 62)
        for number, item in enumerate(items):
            time_ms = max(time_ms, item.time_ms)
            yield time_ms, number, item


def _sort_items(keyed: list[SortableItem]) -> list[WorkItem]:
    keyed.sort(key=itemgetter(0, 1))  # stable
    return [item for _, _, item in keyed]
