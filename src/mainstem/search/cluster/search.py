"""Search in any Kafka cluster: the log is read through its protocol, batch by batch, by worker processes.

Owns: from a request to spans of offsets, and what is told of partitions that cannot be read. Refuses: files
of the log; and to believe a filter that the cluster does not vouch for (`filters.py`). The command
line uses it over `--at` where no HTTP door is, and `mainstem console --at` for all its searches.

It is the local search (`local/search.py`) with other units: a span is fetched where a block is mapped
(`broker_client.py`), and the same code looks through its batches, most of which are never decompressed into
events. The engine is asked for one thing: where the brokers are.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import msgspec

from mainstem.clock import Clock
from mainstem.contract import (
    Bounds,
    Engine,
    Event,
    NotReachable,
    Position,
    StreamError,
    TopicSummary,
    UnknownTopic,
)
from mainstem.log.storage.record_batch import Record
from mainstem.search import targets
from mainstem.search.blocks import buckets as bars
from mainstem.search.cluster import plan
from mainstem.search.cluster.filters import ClusterFilterStore, sleep
from mainstem.search.compare import differences
from mainstem.search.contract import (
    Bucket,
    Difference,
    Facets,
    Remaining,
    SearchRequest,
    Totals,
    Unreadable,
    Update,
    decode_resume_token,
)
from mainstem.search.execution import UNIT_MATCH_BYTES, SearchExecution, WorkItem
from mainstem.search.facets import FieldValueCounter
from mainstem.search.ipc import (
    ClusterPartition,
    ListPartitionsReply,
    ListPartitionsRequest,
    LookUpOffsetsReply,
    LookUpOffsetsRequest,
    Reply,
    RequestFailed,
    ScanMatches,
    ScanReply,
    ScanRequest,
    Unit,
)
from mainstem.search.local.search import order_items
from mainstem.search.local.token_filter_store import prune
from mainstem.search.match.matcher import Matcher
from mainstem.search.workers.bootstrap import BACKGROUND_NICE
from mainstem.search.workers.pool import LOOKUP_PRIORITY, WorkerPool

PROGRAM = "mainstem.search.cluster.worker"
WORKERS_MIN = 2
"""While one waits for the network, the other one works."""
BUILD_INTERVAL_S = 5.0
TIME_ROUNDS = 8
"""So often it is asked for times: they put the spans of several partitions in order, and tell how far back a
search has come. Twice for very many."""
PARTITIONS_MANY = 100

log = logging.getLogger(__name__)


class ClusterSearch:
    """Implements `contract.Search` over the cluster behind an engine. Closing it leaves the engine open."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        cache: Path | None = None,
        workers: int | None = None,
        span_bytes: int = plan.SPAN_BYTES,
    ) -> None:
        """`cache`: the folder of token filters, one folder in it for each cluster; None: none are used."""
        self._engine, self._clock, self._cache = engine, clock, cache
        self._workers, self._span_bytes = workers, span_bytes
        self._pool: WorkerPool | None = None
        self._builder: WorkerPool | None = None
        self._filters: ClusterFilterStore | None = None
        self._opening = asyncio.Lock()
        self._background_task: asyncio.Task[None] | None = None

    # --- the contract -------------------------------------------------------------------------------------

    async def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """See the contract."""
        run, problems = await self._start(request, want="count" if request.only_count else "events")
        for problem in problems:
            yield problem
        async with aclosing(run.updates()) as updates:
            async for update in updates:
                yield update

    async def facets(
        self, request: SearchRequest, fields: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]:
        """See the contract."""
        run, problems = await self._start(request, want="fields", fields=fields)
        for problem in problems:
            yield problem
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
        """See the contract; but from look-ups by time: exact where times rise with offsets. What has been
        compacted away, and marks of transactions, count as events."""
        held = [each for each in await self._list_partitions(topics) if each.begin < each.end]
        if since_ms is None:
            firsts = [time_ms for time_ms, _ in await self._look_up_times([(each, 0) for each in held])]
            since_ms = min((each for each in firsts if each >= 0), default=None)
        if until_ms is None:
            lasts = await asyncio.gather(*(self._last_time(each) for each in held))
            until_ms = max((each + 1 for each in lasts if each is not None), default=None)
        if since_ms is None or until_ms is None or since_ms >= until_ms or not held:
            return []
        edges = bars.bucket_edges(since_ms, until_ms, buckets)
        asked = [(each, max(0, edge)) for each in held for edge in edges]
        found = iter(await self._look_up_times(asked))
        counts = [0.0] * (len(edges) - 1)
        for each in held:
            before = each.begin
            for at in range(len(edges)):
                _, offset = next(found)
                offset = max(before, each.end if offset < 0 else offset)
                if at:
                    counts[at - 1] += offset - before
                before = offset
        return bars.to_buckets(edges, counts)

    def prepare(self) -> None:
        """See the contract."""
        if self._pool is not None:
            self._pool.prepare()

    async def close(self) -> None:
        """See the contract."""
        if self._background_task is not None:
            self._background_task.cancel()
            await asyncio.wait([self._background_task])
        for pool in (self._pool, self._builder):
            if pool is not None:
                await pool.close()

    # --- token filters ------------------------------------------------------------------------------------

    def start_building_filters(self) -> None:
        """Make token filters in the background from now on: slowly, the newest events first."""
        if self._background_task is None:
            self._background_task = asyncio.get_running_loop().create_task(self._keep_building_filters())

    async def _keep_building_filters(self) -> None:
        while True:
            try:
                if await self.build_missing_filters():
                    continue
            except StreamError as error:
                log.warning("token filters: %s", error)
            await sleep(self._clock, BUILD_INTERVAL_S)

    async def build_missing_filters(self) -> int:
        """Make some of the token filters that are missing; how many. 0: none is missing, or none is kept."""
        held = await self._list_partitions(["*"])
        return 0 if self._filters is None else await self._filters.build_missing(held)

    # ------------------------------------------------------------------------------------------------------

    async def _ready_pool(self) -> WorkerPool:
        """The workers, which are told where the brokers are."""
        async with self._opening:
            if self._pool is None:
                cluster = await self._engine.cluster()
                brokers = ",".join(f"{each.host}:{each.port}" for each in cluster.brokers)
                most = self._workers or max(WORKERS_MIN, len(cluster.brokers))
                pool = WorkerPool(self._clock, workers=most, program=(PROGRAM, brokers))
                if self._cache is not None and cluster.id:
                    self._builder = WorkerPool(
                        self._clock, workers=1, nice=BACKGROUND_NICE, program=(PROGRAM, brokers)
                    )
                    self._filters = ClusterFilterStore(
                        self._cache / re.sub(r"[^A-Za-z0-9_-]", "_", cluster.id),  # never a path
                        self._clock,
                        pool,
                        self._builder,
                        span_bytes=self._span_bytes,
                    )
                self._pool = pool
        return self._pool

    async def _list_partitions(
        self, globs: Sequence[str], demanded: Sequence[str] | None = None
    ) -> list[ClusterPartition]:
        pool = await self._ready_pool()
        reply = await pool.submit(partial(_survey, list(globs), demanded), LOOKUP_PRIORITY).final_reply()
        if isinstance(reply, RequestFailed):
            raise NotReachable(f"the cluster cannot be searched: {reply.reason}")
        assert isinstance(reply, ListPartitionsReply)
        return reply.partitions

    async def _look_up_times(self, asked: Sequence[tuple[ClusterPartition, int]]) -> list[tuple[int, int]]:
        """The first (time, offset) at or after each time; -1: none."""
        if not asked:
            return []
        pool = await self._ready_pool()
        rows = [(each.topic, each.partition, time_ms) for each, time_ms in asked]
        reply = await pool.submit(partial(_offsets, rows), LOOKUP_PRIORITY).final_reply()
        if not isinstance(reply, LookUpOffsetsReply):
            raise NotReachable(f"the cluster cannot be searched: {reply}")
        return reply.results

    async def _last_time(self, held: ClusterPartition) -> int | None:
        """Of the last event of a partition."""
        low = max(held.begin, held.end - plan.span_events(held, plan.FIRST_BYTES))
        size = int((held.end - low) * plan.mean_bytes(held))
        unit = Unit(held.topic, held.partition, held.topic_id, 0, size, low, held.end)
        job = (await self._ready_pool()).submit(partial(_last_event, unit), LOOKUP_PRIORITY)
        while not isinstance(reply := await job.replies.get(), ScanMatches):
            if isinstance(reply, ScanReply | RequestFailed):
                return None
        return reply.rows[0][1]

    async def _tally(self, request: SearchRequest, fields: Sequence[str]) -> tuple[FieldValueCounter, int]:
        run, _ = await self._start(request, want="fields", fields=fields)
        async with aclosing(run.updates()) as updates:
            async for _ in updates:
                pass
        return run.value_counter, run.totals.matches

    async def _start(
        self, request: SearchRequest, *, want: str, fields: Sequence[str] = ()
    ) -> tuple[ClusterSearchExecution, list[Unreadable]]:
        now_ms = self._clock.wall_ms()
        matcher = Matcher.of(request.query, now_ms=now_ms)
        globs = request.topics
        if request.resume is not None:
            globs = sorted({each.topic for each in decode_resume_token(request)[1]}) or ["\0"]
        held = await self._list_partitions(globs, None if request.resume is not None else matcher.topics)
        if request.partitions is not None:
            held = [each for each in held if each.partition in request.partitions]
        problems = [
            Unreadable(Position(each.topic, each.partition, each.begin), each.problem)
            for each in held
            if each.problem
        ]
        from_ms = [each for each in (request.since_ms, matcher.time_range[0]) if each is not None]
        known = _ListedPartitions(held, await self._start_offsets(held, max(0, *from_ms)) if from_ms else {})
        request, left = await targets.resolve(known, request, matcher)
        ordered = order_items(await self._work_items(held, left, request.newest_first), request.newest_first)
        to_ms = [each for each in (request.until_ms, matcher.time_range[1]) if each is not None]
        pool = await self._ready_pool()
        await prune(pool, ordered, matcher, max(from_ms, default=None), min(to_ms, default=None))
        run = ClusterSearchExecution(
            pool, self._clock, request, now_ms, ordered, left, output=want, fields=fields
        )
        run.totals.undecodable += len(problems)
        return run, problems

    async def _start_offsets(
        self, held: Sequence[ClusterPartition], time_ms: int
    ) -> dict[tuple[str, int], int]:
        found = await self._look_up_times([(each, time_ms) for each in held])
        return {
            (each.topic, each.partition): each.end if offset < 0 else offset
            for each, (_, offset) in zip(held, found, strict=True)
        }

    async def _work_items(
        self, held: Sequence[ClusterPartition], left: Sequence[Remaining], newest_first: bool
    ) -> list[list[WorkItem]]:
        by_place = {(each.topic, each.partition): each for each in held}
        wanted = [each for each in left if each.low < each.high]
        asked = [by_place[each.topic, each.partition] for each in wanted]
        blocks = {} if self._filters is None else await self._filters.blocks(asked)
        times = await self._time_estimates(asked)
        return [
            plan.work_items(
                partition,
                each,
                blocks.get((each.topic, each.partition), []),
                about,
                newest_first=newest_first,
                span_bytes=self._span_bytes,
            )
            for each, partition, about in zip(wanted, asked, times, strict=True)
        ]

    async def _time_estimates(self, held: Sequence[ClusterPartition]) -> list[plan.TimeEstimate]:
        """About when the events of these partitions were."""
        now_ms = self._clock.wall_ms()
        times = [plan.TimeEstimate(each, now_ms) for each in held]
        rounds = TIME_ROUNDS if len(held) <= PARTITIONS_MANY else 2
        for _ in range(rounds):
            asked = [
                (each, about, question)
                for each, about in zip(held, times, strict=True)
                if (question := about.next_lookup_ms()) is not None
            ]
            found = await self._look_up_times([(each, question) for each, _, question in asked])
            for (_, about, question), (time_ms, offset) in zip(asked, found, strict=True):
                about.add_lookup(question, time_ms, offset)
        return times


class ClusterSearchExecution(SearchExecution):
    """A search whose units turn out larger or smaller than was thought, and may have no broker."""

    def _handle_reply(self, reply: Reply | None) -> Iterator[Update]:
        item = self._active[0]
        if isinstance(reply, ScanReply) and reply.stopped_at is None and self._output == "events":
            self._replace_estimate(item, item.scanned_bytes + reply.bytes + reply.skipped_bytes)
        elif isinstance(reply, ScanReply) and self._output != "events":
            self._replace_estimate(item, reply.bytes + reply.skipped_bytes)
        yield from super()._handle_reply(reply)
        if isinstance(reply, RequestFailed) and not reply.data_deleted:
            self._drop_partition(item.unit)

    def _replace_estimate(self, item: WorkItem, size: int) -> None:
        assert self.totals.total_bytes is not None
        self.totals.total_bytes += size - item.size
        item.unit = msgspec.structs.replace(item.unit, start=0, end=size)

    def _drop_partition(self, unit: Unit) -> None:
        """What is left of a partition whose broker does not answer: it was told once, and asked for long
        enough."""
        kept = [each for each in self._pending if not _same_place(each.unit, unit)]
        self._pending.clear()
        self._pending.extend(kept)

    def _current_totals(self) -> Totals:
        totals = super()._current_totals()
        if totals.total_bytes:
            totals.share = min(1.0, self._finished_bytes / totals.total_bytes)
        return totals


def _same_place(one: Unit, other: Unit) -> bool:
    return one.partition == other.partition and one.topic == other.topic


class _ListedPartitions:
    """What has been surveyed, for `targets.resolve`."""

    def __init__(self, held: Sequence[ClusterPartition], begins: dict[tuple[str, int], int]) -> None:
        self._held = {(each.topic, each.partition): each for each in held}
        self._begins = begins

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """Those with a partition that was asked for."""
        counts: dict[str, int] = {}
        for topic, partition in self._held:
            counts[topic] = max(partition + 1, counts.get(topic, 0))
        return [TopicSummary(name, count, 0) for name, count in counts.items()]

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """UnknownTopic: not surveyed, or not reachable."""
        each = self._held.get((topic, partition))
        if each is None:
            raise UnknownTopic(f"{topic} {partition}")
        return Bounds(each.begin, each.end)

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """As it was looked up."""
        return self._begins.get((topic, partition))


def to_record(event: Event) -> Record:
    """An event as the log has it."""
    return Record(event.offset, event.timestamp_ms, event.key, event.value, event.headers)


def _survey(globs: list[str], demanded: Sequence[str] | None, job_id: int) -> ListPartitionsRequest:
    return ListPartitionsRequest(job_id, globs, None if demanded is None else list(demanded))


def _offsets(rows: list[tuple[str, int, int]], job_id: int) -> LookUpOffsetsRequest:
    return LookUpOffsetsRequest(job_id, "time", rows)


def _last_event(unit: Unit, job_id: int) -> ScanRequest:
    return ScanRequest(job_id, unit, "", 0, None, None, True, 1, UNIT_MATCH_BYTES)
