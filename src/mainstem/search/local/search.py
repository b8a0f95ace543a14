"""Search in the files of this machine.

Owns: from a request to units of work: which topics, which partitions, which blocks, in which order. Refuses:
to read the log in the server's process, or to import its engine: it is given one that tells `byte_ranges`.
Made by `serve/http.py`; the HTTP door is handed it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path

from mainstem.clock import Clock
from mainstem.contract import SearchableLog, StreamError, TopicSummary
from mainstem.search import targets
from mainstem.search.blocks import buckets as bars
from mainstem.search.blocks.blocks import BLOCK_BYTES, Block, BlockMap
from mainstem.search.compare import differences
from mainstem.search.contract import Bucket, Difference, Facets, Remaining, SearchRequest, Update
from mainstem.search.execution import SearchExecution, WorkItem
from mainstem.search.facets import FieldValueCounter
from mainstem.search.index.manager import PART_BLOCKS, IndexManager
from mainstem.search.ipc import (
    BlockRange,
    CountByTimeReply,
    CountByTimeRequest,
    CutBlocksReply,
    CutBlocksRequest,
    RequestFailed,
    UncutRange,
    Unit,
    UnitTimesReply,
    UnitTimesRequest,
)
from mainstem.search.local.token_filter_store import TokenFilterStore
from mainstem.search.match.matcher import Matcher
from mainstem.search.workers.pool import LOOKUP_PRIORITY, WorkerPool

GAPS_AT_ONCE = 256
UNITS_AT_ONCE = 64
TOPICS_AT_ONCE = 100
BUILD_INTERVAL_S = 2.0
"""How often it is looked whether a block has closed."""
Ranges = list[tuple[str, int, int]]
SortableItem = tuple[int, int, WorkItem]
_NEVER: tuple[TopicSummary | None, dict[str, str]] = (None, {})


@dataclass(slots=True)
class _PartitionPlan:
    """A partition's blocks, for as long as it has these offsets."""

    folder: str
    begin: int
    end: int
    ranges: Ranges
    blocks: list[Block] = field(default_factory=list)
    """Also the open one, oldest first."""


log = logging.getLogger(__name__)


class LogSearch:
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
    ) -> None:
        """`part_blocks`: of how many blocks an index part is. `space_problem`: why the disk has no room for
        an index, None if it has."""
        self._engine = engine
        self._data = data
        self._clock = clock
        self._block_bytes = block_bytes
        self._planning = asyncio.Lock()
        self.pool = WorkerPool(clock, workers=workers)
        self._filter_store = TokenFilterStore(data, clock, self.pool)
        self._index_manager = IndexManager(
            data, clock, self.pool, engine, self._blocks, space_problem=space_problem, part_blocks=part_blocks
        )
        self._plans: dict[str, _PartitionPlan] = {}
        """By the partition's folder."""
        self._filtered_topics: dict[str, tuple[TopicSummary, dict[str, str]]] = {}
        """Topics by name, as they were when their blocks were covered, and their partitions' folders, as the
        log and as blocks name them."""
        self._background_tasks: list[asyncio.Task[None]] = []
        self._closed = asyncio.Event()
        self._filters_made = 0

    # --- the contract -------------------------------------------------------------------------------------

    async def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """See the contract."""
        run = await self._start(request, want="count" if request.only_count else "events")
        async with aclosing(run.updates()) as updates:
            async for update in updates:
                yield update

    async def facets(
        self, request: SearchRequest, fields: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]:
        """See the contract."""
        run = await self._start(request, want="fields", fields=fields)
        async with aclosing(run.facets(top)) as updates:
            async for update in updates:
                yield update

    async def compare(
        self, selection: SearchRequest, baseline: SearchRequest, fields: Sequence[str] = (), top: int = 20
    ) -> list[Difference]:
        """See the contract."""
        selected, ours = await self._tally(selection, fields)
        others, theirs = await self._tally(baseline, fields)
        return differences(selected, ours, others, theirs, top)

    async def histogram(
        self, topics: Sequence[str], since_ms: int | None, until_ms: int | None, buckets: int
    ) -> list[Bucket]:
        """See the contract."""
        left = await targets.requested_partitions(self._engine, SearchRequest(topics=topics))
        units: list[tuple[Unit, Block]] = []
        async for each, blocks in targets.in_turns(await self._blocks(left)):
            units += [(self._unit(each, block), block) for block in blocks]
        timed: list[tuple[Unit, tuple[int, int, int]]] = []
        async for (unit, _), span in targets.in_turns(
            list(zip(units, await self._spans(units), strict=True))
        ):
            if span is not None and span[2]:
                timed.append((unit, span))
        if not timed:
            return []
        from_ms = min(span[0] for _, span in timed) if since_ms is None else since_ms
        to_ms = max(span[1] for _, span in timed) + 1 if until_ms is None else until_ms
        if from_ms >= to_ms:
            return []
        edges = bars.bucket_edges(from_ms, to_ms, buckets)
        counts, across = [0.0] * (len(edges) - 1), list[Unit]()
        for at in range(0, len(timed), targets.ITEMS_PER_TURN):
            whole, parts = bars.count_within_buckets(timed[at : at + targets.ITEMS_PER_TURN], edges)
            counts = [a + b for a, b in zip(counts, whole, strict=True)]
            across += parts
            await targets.yield_to_loop()
        counts = [a + b for a, b in zip(counts, await self._count(across, edges), strict=True)]
        return bars.to_buckets(edges, counts)

    def prepare(self) -> None:
        """See the contract."""
        self.pool.prepare()

    def metric_values(self) -> dict[str, float]:
        """What it tells of itself, by names of metrics."""
        return {
            "mainstem_search_filters_made_total": self._filters_made,
            "mainstem_search_workers": len(self.pool.pids),
        }

    async def close(self) -> None:
        """See the contract."""
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
        """Make token filters for what comes, and the index of topics that want one, from now on, beside all
        other work."""
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
                log.warning("token filters: %s", error)
            try:
                await asyncio.wait_for(self._closed.wait(), BUILD_INTERVAL_S)
            except TimeoutError:
                continue

    async def build_missing_filters(self) -> int:
        """Make the token filters that are missing now, and remove those whose data is gone. How many were
        made."""
        topics = await self._engine.topics()
        moved = [each for each in topics if self._filtered_topics.get(each.name, _NEVER)[0] is not each]
        if not moved and len(topics) == len(self._filtered_topics):
            return 0
        made = 0
        for at in range(0, len(moved), TOPICS_AT_ONCE):
            made += await self._build_filters_of(moved[at : at + TOPICS_AT_ONCE])
        self._filters_made += made
        there = {each.name for each in topics}
        self._filtered_topics = {name: each for name, each in self._filtered_topics.items() if name in there}
        live: dict[str, str] = {}
        async for _, folders in targets.in_turns(list(self._filtered_topics.values())):
            live |= folders
        if len(self._plans) > len(live):
            self._plans = {folder: plan for folder, plan in self._plans.items() if folder in live}
        await self._filter_store.remove_orphans(set(live.values()))
        return made

    async def _build_filters_of(self, topics: Sequence[TopicSummary]) -> int:
        folders: dict[str, dict[str, str]] = {each.name: {} for each in topics}
        wanted = []
        for each in await targets.partitions_of(self._engine, topics):
            try:
                place = self._engine.partition_files(each.topic, each.partition)
            except StreamError:
                continue  # deleted meanwhile
            folder, begin, end, segments, size_bytes = place
            if begin < end:
                folders[each.topic][folder] = str(self._data / folder)
                # What has no full block is planned once, for the first search, then when a search asks.
                if segments > 1 or size_bytes >= self._block_bytes or folder not in self._plans:
                    wanted.append(each)
        made = 0
        for each, blocks in await self._blocks(wanted):
            made += await self._filter_store.build_missing(each.topic, each.partition, blocks)
        for topic in topics:
            self._filtered_topics[topic.name] = topic, folders[topic.name]
        return made

    async def build_missing_parts(self) -> None:
        """Make and check all index parts that are missing now, and remove those that are of nothing."""
        await self._index_manager.refresh()
        while await self._index_manager.work_once():
            await self._index_manager.refresh()

    # ------------------------------------------------------------------------------------------------------

    async def _tally(self, request: SearchRequest, fields: Sequence[str]) -> tuple[FieldValueCounter, int]:
        run = await self._start(request, want="fields", fields=fields)
        async with aclosing(run.updates()) as updates:
            async for _ in updates:
                pass
        return run.value_counter, run.totals.matches

    async def _start(
        self, request: SearchRequest, *, want: str, fields: Sequence[str] = ()
    ) -> SearchExecution:
        now_ms = self._clock.wall_ms()
        matcher = Matcher.of(request.query, now_ms=now_ms)
        request, left = await targets.resolve(self._engine, request, matcher)
        keyed: list[SortableItem] = []
        async for each, blocks in targets.in_turns(await self._blocks(left)):
            keyed += _with_sort_keys(
                [
                    WorkItem(self._unit(each, block), block.time_ms, block)
                    for block in blocks
                    if _overlaps(each, block)
                ],
                request.newest_first,
            )
        pieces = _sort_items(keyed)
        await targets.yield_to_loop()
        times = matcher.time_range
        from_ms = max((each for each in (times[0], request.since_ms) if each is not None), default=None)
        to_ms = min((each for each in (times[1], request.until_ms) if each is not None), default=None)
        clauses = matcher.required_tokens
        pieces = await self._index_manager.apply(pieces, clauses, request.newest_first)
        await self._filter_store.prune(pieces, matcher, from_ms, to_ms)
        await targets.yield_to_loop()
        run = SearchExecution(
            self.pool, self._clock, request, now_ms, pieces, left, output=want, fields=fields
        )
        run.totals.index_note = self._index_manager.incomplete_reason(pieces) if clauses else None
        return run

    async def _blocks(self, left: Sequence[Remaining]) -> list[tuple[Remaining, list[Block]]]:
        """The blocks of each partition that has something left, oldest first."""
        async with self._planning:  # two at once would cut the same gaps twice
            await self._filter_store.restore()
            return await self._planned(left)

    async def _planned(self, left: Sequence[Remaining]) -> list[tuple[Remaining, list[Block]]]:
        planned: list[tuple[Remaining, _PartitionPlan]] = []
        new: list[_PartitionPlan] = []
        async for each in targets.in_turns(left):
            if each.low >= each.high:
                continue
            try:
                folder, begin, end, *_ = self._engine.partition_files(each.topic, each.partition)
                plan = self._plans.get(folder)
                if plan is None or (plan.begin, plan.end) != (begin, end):
                    found = await self._engine.byte_ranges(each.topic, each.partition, begin, end)
                    if not found:
                        continue
                    full = [(f"{self._data}/{path}", start, end) for path, start, end in found]
                    plan = _PartitionPlan(folder, begin, end, full)
                    new.append(plan)
            except StreamError:
                continue  # deleted meanwhile
            planned.append((each, plan))
        await self._cut(new)
        return [(each, plan.blocks) for each, plan in planned]

    async def _cut(self, plans: Sequence[_PartitionPlan]) -> None:
        """Find the blocks of these partitions, and remember them until they move."""
        gaps: list[UncutRange] = []
        async for plan in targets.in_turns(plans):
            gaps += self._block_map(plan.ranges).uncut_ranges(plan.ranges)
        cuts: dict[str, list[BlockRange]] = {}
        for at in range(0, len(gaps), GAPS_AT_ONCE):
            some = gaps[at : at + GAPS_AT_ONCE]
            reply = await self.pool.submit(partial(_plan, some, self._block_bytes)).final_reply()
            if isinstance(reply, RequestFailed):
                raise StreamError(f"the log could not be prepared for search: {reply.reason}")
            assert isinstance(reply, CutBlocksReply)
            for cut in reply.blocks:
                cuts.setdefault(cut.path, []).append(cut)
        async for plan in targets.in_turns(plans):
            found = [cut for path, _, _ in plan.ranges for cut in cuts.get(path, ())]
            plan.blocks = self._block_map(plan.ranges).add_blocks(found, plan.ranges, plan.end)
            plan.ranges = []
            self._plans[plan.folder] = plan

    def _block_map(self, ranges: Ranges) -> BlockMap:
        """What is known of the partition that these files are of: by its folder, which no other topic of
        the same name will have."""
        return self._filter_store.block_maps.setdefault(str(Path(ranges[0][0]).parent), BlockMap())

    @staticmethod
    def _unit(left: Remaining, block: Block) -> Unit:
        return Unit(
            left.topic,
            left.partition,
            block.path,
            block.start,
            block.end,
            max(left.low, block.first_offset),
            min(left.high, block.next_offset),
        )

    async def _spans(self, units: Sequence[tuple[Unit, Block]]) -> list[tuple[int, int, int] | None]:
        """Of each: what is known of its block, if it is all of that, else what its headers say, which is
        remembered."""
        whole: list[bool] = []
        found: list[tuple[int, int, int] | None] = []
        async for unit, block in targets.in_turns(units):
            whole.append((unit.low, unit.high) == (block.first_offset, block.next_offset))
            found.append(block.time_span if whole[-1] else None)
        unknown = [at for at, span in enumerate(found) if span is None]
        groups = [unknown[at : at + UNITS_AT_ONCE] for at in range(0, len(unknown), UNITS_AT_ONCE)]
        jobs = [
            self.pool.submit(partial(_times, [units[at][0] for at in group]), LOOKUP_PRIORITY)
            for group in groups
        ]
        for group, job in zip(groups, jobs, strict=True):
            reply = await job.final_reply()
            if not isinstance(reply, UnitTimesReply):
                raise StreamError(f"counting failed: {reply}")
            for at, span in zip(group, reply.spans, strict=True):
                found[at] = span
                if whole[at]:
                    units[at][1].time_span = span
        return found

    async def _count(self, units: Sequence[Unit], edges: list[int]) -> list[float]:
        jobs = [
            self.pool.submit(partial(_counts, list(units[at : at + UNITS_AT_ONCE]), edges), LOOKUP_PRIORITY)
            for at in range(0, len(units), UNITS_AT_ONCE)
        ]
        counts = [0.0] * (len(edges) - 1)
        for job in jobs:
            reply = await job.final_reply()
            if not isinstance(reply, CountByTimeReply):
                raise StreamError(f"counting failed: {reply}")
            counts = [a + b for a, b in zip(counts, reply.counts, strict=True)]
        return counts


def _plan(gaps: list[UncutRange], block_bytes: int, job_id: int) -> CutBlocksRequest:
    return CutBlocksRequest(job_id, gaps, block_bytes)


def _times(units: list[Unit], job_id: int) -> UnitTimesRequest:
    return UnitTimesRequest(job_id, units)


def _counts(units: list[Unit], edges: list[int], job_id: int) -> CountByTimeRequest:
    return CountByTimeRequest(job_id, units, edges)


def _overlaps(left: Remaining, block: Block) -> bool:
    return block.first_offset < left.high and left.low < block.next_offset


def order_items(partitions: Sequence[Sequence[WorkItem]], newest_first: bool) -> list[WorkItem]:
    """The pieces of all partitions (each oldest first) in the order of a search: each partition's by offset,
    and between them by time."""
    return _sort_items([each for pieces in partitions for each in _with_sort_keys(pieces, newest_first)])


def _with_sort_keys(pieces: Sequence[WorkItem], newest_first: bool) -> Iterator[SortableItem]:
    """A partition's pieces with what they are sorted by."""
    if newest_first:
        # A piece comes after the newer ones of its partition even if its times are later.
        bound = 1 << 62
        for at, piece in enumerate(reversed(pieces)):
            bound = min(bound, piece.time_ms)
            yield -bound, at, piece
    else:
        bound = -(1 << 62)
        for at, piece in enumerate(pieces):
            bound = max(bound, piece.time_ms)
            yield bound, at, piece


def _sort_items(keyed: list[SortableItem]) -> list[WorkItem]:
    keyed.sort(key=itemgetter(0, 1))  # stable
    return [piece for _, _, piece in keyed]
