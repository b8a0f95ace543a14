"""Token filters of a cluster's partitions, kept on this machine.

Owns: the folder with them, which of them still hold, making the missing ones in the background, and how much
room they take. Refuses: to keep anything where the cluster has no topic ids, for there a topic that was made
again cannot be told from the old one. Used by `cluster/search.py`; the files are made and asked by the
workers.

A filter holds as long as the log still has the batches that it was made of. Deletion and compaction only
take away: then a span may be read in vain, no more. An election that lost events puts others at their
offsets, in a later leader epoch: so the epoch of a span's last batch is in the filter's name, and before it
is believed, the partition's leader is asked where that epoch ends (OffsetForLeaderEpoch, KIP-101): it must
not be before the span.
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
from mainstem.search.cluster.plan import SPAN_BYTES, closed_spans, folder_of, mean_bytes
from mainstem.search.ipc import (
    UNKNOWN,
    BuildFilterReply,
    BuildFilterRequest,
    ClusterPartition,
    FilterInfo,
    FiltersReply,
    FindFiltersRequest,
    LookUpOffsetsReply,
    LookUpOffsetsRequest,
    RemoveFiltersRequest,
    Reply,
    RequestFailed,
    Unit,
)
from mainstem.search.workers.pool import BUILD_PRIORITY, LOOKUP_PRIORITY, WorkerPool

CACHE_BYTES_MAX = 1 << 30
"""Of all filters of a cluster: about 1 % of what they are of. The oldest events lose theirs first."""
BYTES_PER_S = 16 << 20
"""Read in the background, at most."""
SPANS_AT_ONCE = 32

log = logging.getLogger(__name__)


def user_cache_folder() -> Path | None:
    """Where the filters of all clusters are by default: `$XDG_CACHE_HOME/mainstem`. None: this user has no
    home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "mainstem"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "mainstem" if os.path.isabs(home) else None


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait so long, or until it is cancelled."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, lambda: None if over.done() else over.set_result(None))
    try:
        await over
    finally:
        timer.cancel()


class ClusterFilterStore:
    """The filters below `root`, which is of one cluster. `pool` is asked, `builder` makes them."""

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
        self._most_bytes, self._bytes_a_s, self._span_bytes = max_bytes, bytes_per_s, span_bytes
        self._blocks: dict[str, list[Block]] = {}
        self._sizes: dict[str, int] = {}
        self._without: set[tuple[str, int, int]] = set()
        self._restored = False

    async def restore(self) -> None:
        """Find what there is. Once."""
        if self._restored:
            return
        self._restored = True
        reply = await self._pool.submit(partial(_restore, str(self._root)), LOOKUP_PRIORITY).final_reply()
        if not isinstance(reply, FiltersReply):
            log.warning("token filters of an earlier run are not used: %s", reply)
            return
        self._sizes = await asyncio.to_thread(_sizes, [head.filter_path for head in reply.filters])
        for head in sorted(reply.filters, key=lambda each: (each.path, each.first_offset)):
            self._add(head)

    def _add(self, head: FilterInfo) -> None:
        """Take in a filter, unless others have some of its offsets."""
        blocks = self._blocks.setdefault(head.path, [])
        if any(
            each.first_offset < head.next_offset and head.first_offset < each.next_offset for each in blocks
        ):
            return
        blocks.append(
            Block(
                head.path,
                head.start,
                head.end,
                head.first_offset,
                head.next_offset,
                head.max_ms,
                closed=True,
                min_ms=head.min_ms,
                max_ms=head.max_ms,
                filter_path=head.filter_path,
            )
        )
        blocks.sort(key=lambda each: each.first_offset)

    async def blocks(self, held: Sequence[ClusterPartition]) -> dict[tuple[str, int], list[Block]]:
        """The filters of these partitions that still hold."""
        verdicts = await self._verdicts(held)
        return {
            (each.topic, each.partition): [
                block for block in self._blocks.get(folder_of(each), ()) if verdicts.get(block.filter_path)
            ]
            for each in held
        }

    async def _verdicts(self, held: Sequence[ClusterPartition]) -> dict[str | None, bool]:
        """Of each filter whether it still holds; nothing of those whose leaders do not say."""
        await self.restore()
        asked = [
            (each.topic, each.partition, epoch)
            for each in held
            for epoch in sorted({_epoch(block) for block in self._blocks.get(folder_of(each), ())})
        ]
        if not asked:
            return {}
        reply = await self._pool.submit(partial(_epochs, asked), LOOKUP_PRIORITY).final_reply()
        if not isinstance(reply, LookUpOffsetsReply):
            return {}
        ends = dict(zip(asked, reply.results, strict=True))
        found: dict[str | None, bool] = {}
        for each in held:
            for block in self._blocks.get(folder_of(each), ()):
                epoch, end = ends.get((each.topic, each.partition, _epoch(block)), (UNKNOWN, 0))
                if epoch != UNKNOWN:
                    same = epoch == _epoch(block) and end >= block.next_offset
                    found[block.filter_path] = same and block.next_offset > each.begin
        return found

    async def build_missing(self, held: Sequence[ClusterPartition]) -> int:
        """Make some of the filters that are missing, the newest first, and remove those that hold no more.
        `held`: all partitions of the cluster. How many were made."""
        await self._forget(held, await self._verdicts(held))
        missing = [
            ((each.end - high) * mean_bytes(each), each, low, high)
            for each in held
            if folder_of(each) and not each.problem
            for low, high in closed_spans(each, self._blocks.get(folder_of(each), ()), self._span_bytes)
            if (folder_of(each), low, high) not in self._without
        ]
        missing.sort(key=lambda each: each[0])
        made = 0
        for _, each, low, high in missing[:SPANS_AT_ONCE]:
            reply = await self._built(each, low, high)
            if isinstance(reply, RequestFailed) and not reply.data_deleted:
                log.warning("no token filter for %s %d from %d on: %s", *_place(each), low, reply.reason)
                break  # its broker may be back later
            if not isinstance(reply, BuildFilterReply) or reply.filter is None:
                self._without.add((folder_of(each), low, high))
                continue
            if not await self._make_room(reply.filter):
                break
            self._add(reply.filter)
            made += 1
            await sleep(self._clock, (reply.filter.end - reply.filter.start) / self._bytes_a_s)
        return made

    async def _built(self, held: ClusterPartition, low: int, high: int) -> Reply:
        size = max(1, int((high - low) * mean_bytes(held)))
        unit = Unit(held.topic, held.partition, held.topic_id, 0, size, low, high)
        folder = str(self._root / folder_of(held))
        return await self._builder.submit(partial(_build, unit, folder), BUILD_PRIORITY).final_reply()

    async def _make_room(self, head: FilterInfo) -> bool:
        """Remove filters of older events for a new one; False: it is the oldest itself, and is removed."""
        self._sizes |= await asyncio.to_thread(_sizes, [head.filter_path])
        every = [block for blocks in self._blocks.values() for block in blocks]
        every.sort(key=lambda each: -(each.max_ms or 0))
        gone: list[str] = []
        while sum(self._sizes.values()) > self._most_bytes:
            oldest = every.pop() if every and (every[-1].max_ms or 0) < head.max_ms else None
            path = head.filter_path if oldest is None or oldest.filter_path is None else oldest.filter_path
            self._sizes.pop(path, None)
            gone.append(path)
            if oldest is None:
                break
            self._blocks[oldest.path].remove(oldest)
        if gone:
            await self._builder.submit(partial(_remove, gone), BUILD_PRIORITY).final_reply()
        return head.filter_path not in gone

    async def _forget(self, held: Sequence[ClusterPartition], verdicts: dict[str | None, bool]) -> None:
        """Remove what is of topics that are gone, of offsets that are gone, or of another history."""
        live = {folder_of(each) for each in held}
        gone: list[str] = []
        for folder, blocks in list(self._blocks.items()):
            bad = [
                each
                for each in blocks  # one without a file turned out to be damaged
                if folder not in live or each.filter_path is None or not verdicts.get(each.filter_path, True)
            ]
            gone += [each.filter_path for each in bad if each.filter_path is not None]
            self._blocks[folder] = [each for each in blocks if each not in bad]
            if not self._blocks[folder]:
                del self._blocks[folder]
        for path in gone:
            self._sizes.pop(path, None)
        if gone:
            await self._builder.submit(partial(_remove, gone), BUILD_PRIORITY).final_reply()


def _epoch(block: Block) -> int:
    """Of its last batch: its file is named so."""
    return int(Path(block.filter_path or "-0").stem.rpartition("-")[2])


def _place(held: ClusterPartition) -> tuple[str, int]:
    return held.topic, held.partition


def _sizes(paths: Sequence[str]) -> dict[str, int]:
    return {path: os.path.getsize(path) for path in paths if os.path.exists(path)}


def _restore(root: str, job_id: int) -> FindFiltersRequest:
    return FindFiltersRequest(job_id, root, "")


def _epochs(asked: list[tuple[str, int, int]], job_id: int) -> LookUpOffsetsRequest:
    return LookUpOffsetsRequest(job_id, "epoch", asked)


def _build(unit: Unit, folder: str, job_id: int) -> BuildFilterRequest:
    return BuildFilterRequest(job_id, unit, folder)


def _remove(paths: list[str], job_id: int) -> RemoveFiltersRequest:
    return RemoveFiltersRequest(job_id, paths)
