"""Keeps the token filters of a cluster's partitions on this machine.

Owns: which filters are valid, building missing ones in the background, and the limit of their total size. The
workers build and test the files. Refuses: to keep filters for a cluster without topic ids: there, a topic
that was deleted and created again cannot be distinguished from the old one.

A filter is valid as long as the log has the batches from which it was built. Deletion and compaction only
remove events: a span may then be read in vain, no more. An election that lost events puts other events at
their offsets, in a later leader epoch. Therefore the file's name has the leader epoch of the span's last
batch, and before the filter is used, the partition's leader is asked where that epoch ends
(OffsetForLeaderEpoch, KIP-101): it must not end before the span does.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mainstem.clock import Clock
from mainstem.search.blocks.blocks import Block
from mainstem.search.cluster.messages import (
    UNKNOWN,
    ClusterPartition,
    LookUpOffsetsReply,
    LookUpOffsetsRequest,
)
from mainstem.search.cluster.plan import SPAN_BYTES, closed_spans, filter_folder, mean_bytes
from mainstem.search.ipc import (
    BuildFilterReply,
    BuildFilterRequest,
    FailureReply,
    FilterInfo,
    FiltersReply,
    FindFiltersRequest,
    RemoveFiltersRequest,
    Reply,
    Unit,
)
from mainstem.search.workers.pool import WorkerPool

CACHE_BYTES_MAX = 1 << 30
"""Total size of a cluster's filters: about 1 % of the data that they cover. If it is exceeded, the filters of
the oldest events are removed."""
BYTES_PER_S = 16 << 20
"""Maximum bytes per second to read from the cluster to build filters in the background."""
SPANS_AT_ONCE = 32

log = logging.getLogger(__name__)


def user_cache_folder() -> Path | None:
    """The default folder of the filters of all clusters: `$XDG_CACHE_HOME/mainstem` or `~/.cache/mainstem`.
    None: the user has no home directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "mainstem"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "mainstem" if os.path.isabs(home) else None


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait, without blocking the event loop, until `clock` has advanced by this many seconds."""
    elapsed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, lambda: None if elapsed.done() else elapsed.set_result(None))
    try:
        await elapsed
    finally:
        timer.cancel()


class ClusterFilterStore:
    """The token filters of one cluster, in the folder `root`."""

    def __init__(
        self,
        root: Path,
        clock: Clock,
        pool: WorkerPool,
        builder: WorkerPool,
        *,
        max_bytes: int = CACHE_BYTES_MAX,
        bytes_per_s: int = BYTES_PER_S,
        span_bytes: int = SPAN_BYTES,
    ) -> None:
        self._root, self._clock, self._pool, self._builder = root, clock, pool, builder
        self._max_bytes, self._bytes_per_s, self._span_bytes = max_bytes, bytes_per_s, span_bytes
        self._blocks: dict[str, list[Block]] = {}
        """The spans with a filter, by the partition's folder, ordered by offset."""
        self._sizes: dict[str, int] = {}
        """Sizes of the filters' files, by path."""
        self._unfilterable: set[tuple[str, int, int]] = set()
        """Folder and offsets of the spans that can have no filter."""
        self._restored = False

    async def restore(self) -> None:
        """Load the filters of earlier runs, at the first call."""
        if self._restored:
            return
        self._restored = True
        request = partial(_find_request, str(self._root))
        reply = await self._pool.submit(request).final_reply()
        if not isinstance(reply, FiltersReply):
            log.warning(
                "the token filters of earlier runs below %s could not be loaded and are built again: %s",
                self._root,
                reply,
            )
            return
        self._sizes = await asyncio.to_thread(_file_sizes, [info.filter_path for info in reply.filters])
        for info in sorted(reply.filters, key=lambda info: (info.path, info.first_offset)):
            self._add(info)

    def _add(self, info: FilterInfo) -> None:
        """Add a filter to those of its partition, unless another filter covers some of its offsets."""
        blocks = self._blocks.setdefault(info.path, [])
        if any(
            block.first_offset < info.next_offset and info.first_offset < block.next_offset
            for block in blocks
        ):
            return
        blocks.append(Block.of_filter(info))
        blocks.sort(key=lambda block: block.first_offset)

    def _filtered(self, partition: ClusterPartition) -> Sequence[Block]:
        """The spans of a partition with a filter, valid or not."""
        return self._blocks.get(filter_folder(partition), ())

    async def blocks(self, partitions: Sequence[ClusterPartition]) -> dict[tuple[str, int], list[Block]]:
        """The spans of these partitions with a valid filter."""
        validity = await self._validity(partitions)
        return {
            (partition.topic, partition.partition): [
                block for block in self._filtered(partition) if validity.get(block.filter_path)
            ]
            for partition in partitions
        }

    async def _validity(self, partitions: Sequence[ClusterPartition]) -> dict[str | None, bool]:
        """Whether each filter of these partitions is valid, by its path. Filters of partitions whose leaders
        do not answer are left out."""
        await self.restore()
        lookups = [
            (partition.topic, partition.partition, epoch)
            for partition in partitions
            for epoch in sorted({_leader_epoch(block) for block in self._filtered(partition)})
        ]
        if not lookups:
            return {}
        reply = await self._pool.submit(partial(_epochs_request, lookups)).final_reply()
        if not isinstance(reply, LookUpOffsetsReply):
            return {}
        epoch_ends = dict(zip(lookups, reply.results, strict=True))
        validity: dict[str | None, bool] = {}
        for partition in partitions:
            for block in self._filtered(partition):
                lookup = partition.topic, partition.partition, _leader_epoch(block)
                epoch, end = epoch_ends.get(lookup, (UNKNOWN, 0))
                if epoch != UNKNOWN:
                    is_same_history = epoch == _leader_epoch(block) and end >= block.next_offset
                    validity[block.filter_path] = is_same_history and block.next_offset > partition.begin
        return validity

    async def build_missing(self, partitions: Sequence[ClusterPartition]) -> int:
        """Build up to SPANS_AT_ONCE missing filters, the newest first, and remove invalid ones. `partitions`:
        all partitions of the cluster. Returns how many were built."""
        await self._remove_invalid(partitions, await self._validity(partitions))
        missing = [
            ((partition.end - high) * mean_bytes(partition), partition, low, high)
            for partition in partitions
            if filter_folder(partition) and not partition.problem
            for low, high in closed_spans(partition, self._filtered(partition), self._span_bytes)
            if (filter_folder(partition), low, high) not in self._unfilterable
        ]
        missing.sort(key=lambda span: span[0])
        made = 0
        for _, partition, low, high in missing[:SPANS_AT_ONCE]:
            reply = await self._build_filter(partition, low, high)
            if isinstance(reply, FailureReply) and not reply.data_deleted:
                log.warning(
                    "the token filter of topic %s, partition %d, offsets %d to %d could not be built;"
                    " searches read these events until a later attempt succeeds: %s",
                    partition.topic,
                    partition.partition,
                    low,
                    high - 1,
                    reply.reason,
                )
                break  # the broker may answer later
            if not isinstance(reply, BuildFilterReply) or reply.filter is None:
                self._unfilterable.add((filter_folder(partition), low, high))
                continue
            if not await self._make_room(reply.filter):
                break
            self._add(reply.filter)
            made += 1
            await sleep(self._clock, (reply.filter.end - reply.filter.start) / self._bytes_per_s)
        return made

    async def _build_filter(self, partition: ClusterPartition, low: int, high: int) -> Reply:
        size = max(1, int((high - low) * mean_bytes(partition)))
        unit = Unit(partition.topic, partition.partition, partition.topic_id, 0, size, low, high)
        folder = str(self._root / filter_folder(partition))
        return await self._builder.submit(partial(_build_request, unit, folder)).final_reply()

    async def _make_room(self, info: FilterInfo) -> bool:
        """Remove the filters of the oldest events until the new filter `info` fits into the maximum size.
        False: the new filter has the oldest events itself, and was removed."""
        self._sizes |= await asyncio.to_thread(_file_sizes, [info.filter_path])
        newest_first = [block for blocks in self._blocks.values() for block in blocks]
        newest_first.sort(key=lambda block: -(block.max_ms or 0))
        removed: list[str] = []
        while sum(self._sizes.values()) > self._max_bytes:
            is_older = bool(newest_first) and (newest_first[-1].max_ms or 0) < info.max_ms
            oldest = newest_first.pop() if is_older else None
            path = info.filter_path if oldest is None or oldest.filter_path is None else oldest.filter_path
            self._sizes.pop(path, None)
            removed.append(path)
            if oldest is None:
                break
            self._blocks[oldest.path].remove(oldest)
        await self._remove_files(removed)
        return info.filter_path not in removed

    async def _remove_invalid(
        self, partitions: Sequence[ClusterPartition], validity: dict[str | None, bool]
    ) -> None:
        """Remove the filters of deleted topics and offsets, of batches that an election lost, and damaged
        ones."""
        live_folders = {filter_folder(partition) for partition in partitions}
        removed: list[str] = []
        for folder, blocks in list(self._blocks.items()):
            invalid = [
                block
                for block in blocks
                if folder not in live_folders
                or block.filter_path is None  # a search has found that it is damaged
                or not validity.get(block.filter_path, True)
            ]
            removed += [block.filter_path for block in invalid if block.filter_path is not None]
            self._blocks[folder] = [block for block in blocks if block not in invalid]
            if not self._blocks[folder]:
                del self._blocks[folder]
        for path in removed:
            self._sizes.pop(path, None)
        await self._remove_files(removed)

    async def _remove_files(self, paths: list[str]) -> None:
        if paths:
            await self._builder.submit(partial(_remove_request, paths)).final_reply()


def _leader_epoch(block: Block) -> int:
    """The leader epoch of a span's last batch, from the name of its filter."""
    return int(Path(block.filter_path or "-0").stem.rpartition("-")[2])


def _file_sizes(paths: Sequence[str]) -> dict[str, int]:
    return {path: os.path.getsize(path) for path in paths if os.path.exists(path)}


def _find_request(root: str, job_id: int) -> FindFiltersRequest:
    return FindFiltersRequest(job_id, root, "")


def _epochs_request(lookups: list[tuple[str, int, int]], job_id: int) -> LookUpOffsetsRequest:
    return LookUpOffsetsRequest(job_id, "epoch", lookups)


def _build_request(unit: Unit, folder: str, job_id: int) -> BuildFilterRequest:
    return BuildFilterRequest(job_id, unit, folder)


def _remove_request(paths: list[str], job_id: int) -> RemoveFiltersRequest:
    return RemoveFiltersRequest(job_id, paths)
