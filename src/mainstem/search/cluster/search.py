"""Searches any Kafka cluster, over Kafka's protocol, in worker processes.

Owns: turning a request into spans of offsets, and reporting the partitions that cannot be read. Refuses: to
read events in the calling process, and to use a token filter before the cluster has confirmed that it is
valid (`filters.py`). The command line uses this search with `--at` if the server has no HTTP door, and
`mainstem console --at` uses it for all its searches.

It works like the local search (`local/search.py`), but a span is fetched (`span_reader.py`) where a block is
mapped into memory. The same code scans the batches, most of which are never decompressed. The engine only
provides the addresses of the brokers.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from mainstem import base64url
from mainstem.client_security import PLAINTEXT, ClientSecurity
from mainstem.clock import Clock
from mainstem.contract import (
    Bounds,
    Engine,
    NotReachable,
    Position,
    StreamError,
    TopicSummary,
    UnknownTopic,
)
from mainstem.search import targets
from mainstem.search.blocks.buckets import bucket_edges, to_buckets
from mainstem.search.cluster import plan
from mainstem.search.cluster.filters import ClusterFilterStore, sleep
from mainstem.search.cluster.messages import (
    ClusterPartition,
    ListPartitionsReply,
    ListPartitionsRequest,
    LookUpOffsetsReply,
    LookUpOffsetsRequest,
)
from mainstem.search.contract import (
    Bucket,
    Remaining,
    SearchRequest,
    Totals,
    Unreadable,
    Update,
    decode_resume_token,
)
from mainstem.search.execution import UNIT_MATCH_BYTES, SearchExecution, WorkItem
from mainstem.search.ipc import FailureReply, Reply, ScanMatches, ScanReply, ScanRequest, Unit
from mainstem.search.local.search import order_items
from mainstem.search.local.token_filter_store import prune
from mainstem.search.match.matcher import Matcher, either
from mainstem.search.planned import PlannedSearch
from mainstem.search.workers.bootstrap import BACKGROUND_NICE
from mainstem.search.workers.pool import WorkerJob, WorkerPool
from mainstem.search.workers.schedule import JobGroup

PROGRAM = "mainstem.search.cluster.worker"
WORKERS_MIN = 2
"""Minimum number of workers: one can scan while another waits for the network."""
BUILD_INTERVAL_S = 5.0
"""Seconds between two searches for complete spans that lack a token filter."""
TIME_ROUNDS, TIME_ROUNDS_MIN = 8, 2
"""Look-ups by time in each partition before a search. They order the spans of several partitions, and show
how far back a search has come. The minimum is used for more than PARTITIONS_MANY partitions."""
PARTITIONS_MANY = 100
NO_TOPIC = "\0"
"""A glob that fits no topic."""

log = logging.getLogger(__name__)


class ClusterSearch(PlannedSearch):
    """Implements `contract.Search` for the cluster of an engine. Closing it does not close the engine."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        cache: Path | None = None,
        workers: int | None = None,
        span_bytes: int = plan.SPAN_BYTES,
        security: ClientSecurity = PLAINTEXT,
    ) -> None:
        """`cache`: the folder for the token filters of all clusters; None: no filters are used. `workers`:
        maximum number of worker processes. `span_bytes`: size of a span. `security`: how the workers connect
        to the brokers."""
        self._engine, self._clock, self._cache = engine, clock, cache
        self._workers, self._span_bytes = workers, span_bytes
        self._environment = security.environment()
        self._pool: WorkerPool | None = None
        self._builder: WorkerPool | None = None
        self._filters: ClusterFilterStore | None = None
        self._opening = asyncio.Lock()
        self._background_task: asyncio.Task[None] | None = None

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
        """Implements `Search.histogram`. The counts are differences of offsets that are looked up by time:
        they are exact if times rise with offsets, and they include compacted events and transaction
        markers."""
        request = SearchRequest(topics=topics, readable=readable)
        partitions = [part for part in await self._readable_partitions(request) if part.begin < part.end]
        if since_ms is None:
            firsts = await self._look_up_times([(partition, 0) for partition in partitions])
            since_ms = min((time_ms for time_ms, _ in firsts if time_ms >= 0), default=None)
        if until_ms is None:
            lasts = await asyncio.gather(*(self._last_time(partition) for partition in partitions))
            until_ms = max((time_ms + 1 for time_ms in lasts if time_ms is not None), default=None)
        if since_ms is None or until_ms is None or since_ms >= until_ms or not partitions:
            return []
        edges = bucket_edges(since_ms, until_ms, buckets)
        results = iter(
            await self._look_up_times(
                [(partition, max(0, edge)) for partition in partitions for edge in edges]
            )
        )
        counts = [0.0] * (len(edges) - 1)
        for partition in partitions:
            previous = partition.begin
            for edge in range(len(edges)):
                _, offset = next(results)
                offset = max(previous, partition.end if offset < 0 else offset)
                if edge:
                    counts[edge - 1] += offset - previous
                previous = offset
        return to_buckets(edges, counts)

    def prepare(self) -> None:
        """Implements `Search.prepare`."""
        if self._pool is not None:
            self._pool.prepare()

    async def close(self) -> None:
        """Implements `Search.close`."""
        if self._background_task is not None:
            self._background_task.cancel()
            await asyncio.wait([self._background_task])
        for pool in (self._pool, self._builder):
            if pool is not None:
                await pool.close()

    # --- token filters ------------------------------------------------------------------------------------

    def start_building_filters(self) -> None:
        """Build token filters in the background from now on: slowly, those of the newest events first."""
        if self._background_task is None:
            self._background_task = asyncio.get_running_loop().create_task(self._keep_building_filters())

    async def _keep_building_filters(self) -> None:
        while True:
            try:
                if await self.build_missing_filters():
                    continue
            except StreamError as error:
                log.warning(
                    "token filters could not be built; tried again in %.0f s: %s", BUILD_INTERVAL_S, error
                )
            await sleep(self._clock, BUILD_INTERVAL_S)

    async def build_missing_filters(self) -> int:
        """Build some of the missing token filters. Returns how many; 0: none is missing, or filters are not
        used."""
        partitions = await self._list_partitions(["*"])
        return 0 if self._filters is None else await self._filters.build_missing(partitions)

    # ------------------------------------------------------------------------------------------------------

    async def _ready_pool(self) -> WorkerPool:
        """The workers, created at the first call with the addresses of the brokers."""
        async with self._opening:
            if self._pool is None:
                cluster = await self._engine.cluster()
                addresses = ",".join(f"{broker.host}:{broker.port}" for broker in cluster.brokers)
                workers = self._workers or max(WORKERS_MIN, len(cluster.brokers))
                pool = WorkerPool(
                    self._clock,
                    workers=workers,
                    program=(PROGRAM, addresses),
                    environment=self._environment,
                )
                if self._cache is not None and cluster.id:
                    self._builder = WorkerPool(
                        self._clock,
                        workers=1,
                        nice=BACKGROUND_NICE,
                        program=(PROGRAM, addresses),
                        environment=self._environment,
                    )
                    self._filters = ClusterFilterStore(
                        self._cache
                        / re.sub(r"[^A-Za-z0-9_-]", "_", cluster.id),  # whatever the id, not a path
                        self._clock,
                        pool,
                        self._builder,
                        span_bytes=self._span_bytes,
                    )
                self._pool = pool
        return self._pool

    async def _list_partitions(
        self, globs: Sequence[str], query_globs: Sequence[str] | None = None
    ) -> list[ClusterPartition]:
        """The partitions of the topics that the globs select, as in ListPartitionsRequest. Raises
        NotReachable if no broker answers."""
        pool = await self._ready_pool()
        request = partial(_list_request, list(globs), query_globs)
        reply = await pool.submit(request).final_reply()
        if isinstance(reply, FailureReply):
            raise NotReachable(f"the cluster cannot be searched: {reply.reason}")
        assert isinstance(reply, ListPartitionsReply)
        return reply.partitions

    async def _readable_partitions(
        self, request: SearchRequest, query_globs: Sequence[str] | None = None
    ) -> list[ClusterPartition]:
        """The partitions of the topics that a request selects and may read. NotReachable, NotAuthorized."""
        targets.refuse_unreadable(request, [*request.topics, *(query_globs or ())])
        listed = await self._list_partitions(request.topics, query_globs)
        if request.readable is None:
            return listed
        readable = {topic for topic in {part.topic for part in listed} if request.readable(topic)}
        return [part for part in listed if part.topic in readable]

    async def _look_up_times(self, lookups: Sequence[tuple[ClusterPartition, int]]) -> list[tuple[int, int]]:
        """(time, offset) of the first event at each time (ms) or later; offset -1: there is none. Raises
        NotReachable."""
        if not lookups:
            return []
        pool = await self._ready_pool()
        rows = [(partition.topic, partition.partition, time_ms) for partition, time_ms in lookups]
        reply = await pool.submit(partial(_times_request, rows)).final_reply()
        if not isinstance(reply, LookUpOffsetsReply):
            raise NotReachable(f"the cluster cannot be searched: {reply}")
        return reply.results

    async def _last_time(self, partition: ClusterPartition) -> int | None:
        """The time of a partition's last committed event, ms. None: it could not be read, or the newest
        offsets have no event."""
        end = partition.end
        low = max(partition.begin, end - plan.span_events(partition, plan.FIRST_BYTES))
        size = int((end - low) * plan.mean_bytes(partition))
        unit = Unit(partition.topic, partition.partition, partition.topic_id, 0, size, low, end)
        job = (await self._ready_pool()).submit(partial(_last_event_request, unit))
        while not isinstance(reply := await job.replies.get(), ScanMatches):
            if isinstance(reply, ScanReply | FailureReply):
                return None
        return reply.rows[0][1]

    async def _start(
        self,
        request: SearchRequest,
        *,
        output: str,
        fields: Sequence[str] = (),
        baseline: str | None = None,
        group: JobGroup[WorkerJob] | None = None,
    ) -> SearchExecution:
        """Implements `PlannedSearch._start`. Partitions with unknown offsets are left out."""
        now_ms = self._clock.wall_ms()
        matcher = Matcher.of(either(request.query, baseline), now_ms=now_ms)
        if request.resume is not None:
            topics = sorted({target.topic for target in decode_resume_token(request)[1]})
            targets.refuse_unreadable(request, topics)
            partitions = await self._list_partitions(topics or [NO_TOPIC])
        else:
            partitions = await self._readable_partitions(request, matcher.topics)
        if request.partitions is not None:
            partitions = [part for part in partitions if part.partition in request.partitions]
        problems = [
            Unreadable(Position(partition.topic, partition.partition, partition.begin), partition.problem)
            for partition in partitions
            if partition.problem
        ]
        from_ms = [ms for ms in (request.since_ms, matcher.time_range[0]) if ms is not None]
        to_ms = [ms for ms in (request.until_ms, matcher.time_range[1]) if ms is not None]
        first_offsets = await self._first_offsets(partitions, max(0, *from_ms)) if from_ms else {}
        catalog = _ListedPartitions(partitions, first_offsets)
        request, remaining = await targets.resolve(self._clock, catalog, request, matcher)
        items_by_partition = await self._work_items(partitions, remaining, request.newest_first)
        items = order_items(items_by_partition, request.newest_first)
        pool = await self._ready_pool()
        group = JobGroup() if group is None else group
        begin_ms, end_ms = max(from_ms, default=None), min(to_ms, default=None)
        await prune(self._clock, pool, items, matcher, begin_ms, end_ms, group)
        return ClusterSearchExecution(
            pool,
            self._clock,
            request,
            now_ms,
            items,
            remaining,
            output=output,
            fields=fields,
            baseline=baseline,
            group=group,
            problems=problems,
        )

    async def _first_offsets(
        self, partitions: Sequence[ClusterPartition], time_ms: int
    ) -> dict[tuple[str, int], int]:
        """The offset of the first event at this time or later in each partition; its end if there is none."""
        results = await self._look_up_times([(partition, time_ms) for partition in partitions])
        return {
            (partition.topic, partition.partition): partition.end if offset < 0 else offset
            for partition, (_, offset) in zip(partitions, results, strict=True)
        }

    async def _work_items(
        self, partitions: Sequence[ClusterPartition], remaining: Sequence[Remaining], newest_first: bool
    ) -> list[list[WorkItem]]:
        """The units of each partition with offsets to search, oldest first."""
        by_name = {(partition.topic, partition.partition): partition for partition in partitions}
        wanted = [target for target in remaining if target.low < target.high]
        searched = [by_name[target.topic, target.partition] for target in wanted]
        blocks = {} if self._filters is None else await self._filters.blocks(searched)
        estimates = await self._time_estimates(searched)
        return [
            plan.work_items(
                partition,
                target,
                blocks.get((target.topic, target.partition), []),
                estimate,
                newest_first=newest_first,
                span_bytes=self._span_bytes,
            )
            for target, partition, estimate in zip(wanted, searched, estimates, strict=True)
        ]

    async def _time_estimates(self, partitions: Sequence[ClusterPartition]) -> list[plan.TimeEstimate]:
        """Estimates of the times of these partitions' events."""
        now_ms = self._clock.wall_ms()
        estimates = [plan.TimeEstimate(partition, now_ms) for partition in partitions]
        for _ in range(TIME_ROUNDS if len(partitions) <= PARTITIONS_MANY else TIME_ROUNDS_MIN):
            lookups = [
                (partition, estimate, lookup_ms)
                for partition, estimate in zip(partitions, estimates, strict=True)
                if (lookup_ms := estimate.next_lookup_ms()) is not None
            ]
            results = await self._look_up_times(
                [(partition, lookup_ms) for partition, _, lookup_ms in lookups]
            )
            for (_, estimate, lookup_ms), (time_ms, offset) in zip(lookups, results, strict=True):
                estimate.add_lookup(lookup_ms, time_ms, offset)
        return estimates


class ClusterSearchExecution(SearchExecution):
    """A search whose sizes are estimates until the units are read, and whose brokers may not answer."""

    def _handle_reply(self, reply: Reply | None) -> Iterator[Update]:
        item = self._active[0]
        if isinstance(reply, ScanReply) and reply.stopped_at is None and self._output == "events":
            self._replace_estimate(item, item.scanned_bytes + reply.bytes + reply.skipped_bytes)
        elif isinstance(reply, ScanReply) and self._output != "events":
            self._replace_estimate(item, reply.bytes + reply.skipped_bytes)
        yield from super()._handle_reply(reply)
        if isinstance(reply, FailureReply) and not reply.data_deleted:
            self._drop_partition(item.unit)

    def _replace_estimate(self, item: WorkItem, size: int) -> None:
        assert self.totals.total_bytes is not None
        self.totals.total_bytes += size - item.size
        item.unit = msgspec.structs.replace(item.unit, start=0, end=size)

    def _drop_partition(self, unit: Unit) -> None:
        """Drop the units of a partition that are left after one of them failed: its broker was retried and
        the failure reported already, and each further unit would be retried again."""
        others = [item for item in self._pending if not _is_same_partition(item.unit, unit)]
        self._pending.clear()
        self._pending.extend(others)

    def totals_so_far(self) -> Totals:
        totals = super().totals_so_far()
        if totals.total_bytes:
            totals.share = min(1.0, self._finished_bytes / totals.total_bytes)
        return totals


def _is_same_partition(unit: Unit, other: Unit) -> bool:
    return unit.partition == other.partition and unit.topic == other.topic


def _printed_id(topic_id: str) -> str:
    """A topic's id in hex, as Kafka prints it."""
    return base64url.encode(bytes.fromhex(topic_id))


class _ListedPartitions:
    """The partitions that were listed for a search, as the catalog for `targets.resolve`."""

    def __init__(
        self, partitions: Sequence[ClusterPartition], first_offsets: dict[tuple[str, int], int]
    ) -> None:
        """`first_offsets`: by partition, the offset of the first event in the search's range of time."""
        self._partitions = {(partition.topic, partition.partition): partition for partition in partitions}
        self._first_offsets = first_offsets

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """The topics of the listed partitions."""
        counts: dict[str, int] = {}
        ids: dict[str, str] = {}
        for (topic, partition), listed in self._partitions.items():
            counts[topic] = max(partition + 1, counts.get(topic, 0))
            ids[topic] = listed.topic_id
        return [TopicSummary(name, count, 0, id=_printed_id(ids[name])) for name, count in counts.items()]

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """The bounds of a listed partition. Raises UnknownTopic if the partition was not listed."""
        listed = self._partitions.get((topic, partition))
        if listed is None:
            raise UnknownTopic(f"{topic} {partition}")
        return Bounds(listed.begin, listed.end)

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """The offset that was looked up for the search. It does not depend on `time_ms`."""
        return self._first_offsets.get((topic, partition))


def _list_request(globs: list[str], query_globs: Sequence[str] | None, job_id: int) -> ListPartitionsRequest:
    return ListPartitionsRequest(job_id, globs, None if query_globs is None else list(query_globs))


def _times_request(rows: list[tuple[str, int, int]], job_id: int) -> LookUpOffsetsRequest:
    return LookUpOffsetsRequest(job_id, "time", rows)


def _last_event_request(unit: Unit, job_id: int) -> ScanRequest:
    return ScanRequest(job_id, unit, "", 0, None, None, True, 1, UNIT_MATCH_BYTES)
