"""Token filters of a cluster's partitions, kept on this machine.

Owns: the folder with them, which of them still hold, making the missing ones in the background, and how much
room they take. Refuses: to keep anything where the cluster has no topic ids, for there a topic that was made
again cannot be told from the old one. Used by `cluster.py`; the files are made and asked by the workers.

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
    Build,
    Built,
    Failed,
    Head,
    Held,
    Located,
    Offsets,
    Remove,
    Reply,
    Restore,
    Restored,
    Unit,
)
from mainstem.search.workers.pool import BUILDING, LOOKING, Pool

CACHE_BYTES = 1 << 30
"""Of all filters of a cluster: about 1 % of what they are of. The oldest events lose theirs first."""
BYTES_A_S = 16 << 20
"""Read in the background, at most."""
SPANS_AT_ONCE = 32

log = logging.getLogger(__name__)


def user_cache() -> Path | None:
    """Where the filters of all clusters are by default: `$XDG_CACHE_HOME/mainstem`. None: this user has no
    home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "mainstem"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "mainstem" if os.path.isabs(home) else None


async def pause(clock: Clock, seconds: float) -> None:
    """Wait so long, or until it is cancelled."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, lambda: None if over.done() else over.set_result(None))
    try:
        await over
    finally:
        timer.cancel()


class ClusterFilters:
    """The filters below `root`, which is of one cluster. `pool` is asked, `builder` makes them."""

    def __init__(
        self,
        root: Path,
        clock: Clock,
        pool: Pool,
        builder: Pool,
        *,
        most_bytes: int = CACHE_BYTES,
        bytes_a_s: int = BYTES_A_S,
        span_bytes: int = SPAN_BYTES,
    ) -> None:
        self._root, self._clock, self._pool, self._builder = root, clock, pool, builder
        self._most_bytes, self._bytes_a_s, self._span_bytes = most_bytes, bytes_a_s, span_bytes
        self._blocks: dict[str, list[Block]] = {}
        self._sizes: dict[str, int] = {}
        self._without: set[tuple[str, int, int]] = set()
        self._restored = False

    async def restore(self) -> None:
        """Find what there is. Once."""
        if self._restored:
            return
        self._restored = True
        reply = await self._pool.submit(partial(_restore, str(self._root)), LOOKING).last()
        if not isinstance(reply, Restored):
            log.warning("token filters of an earlier run are not used: %s", reply)
            return
        self._sizes = await asyncio.to_thread(_sizes, [head.sidecar for head in reply.heads])
        for head in sorted(reply.heads, key=lambda each: (each.path, each.first_offset)):
            self._add(head)

    def _add(self, head: Head) -> None:
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
                head.most_ms,
                closed=True,
                least_ms=head.least_ms,
                most_ms=head.most_ms,
                sidecar=head.sidecar,
            )
        )
        blocks.sort(key=lambda each: each.first_offset)

    async def blocks(self, held: Sequence[Held]) -> dict[tuple[str, int], list[Block]]:
        """The filters of these partitions that still hold."""
        verdicts = await self._verdicts(held)
        return {
            (each.topic, each.partition): [
                block for block in self._blocks.get(folder_of(each), ()) if verdicts.get(block.sidecar)
            ]
            for each in held
        }

    async def _verdicts(self, held: Sequence[Held]) -> dict[str | None, bool]:
        """Of each filter whether it still holds; nothing of those whose leaders do not say."""
        await self.restore()
        asked = [
            (each.topic, each.partition, epoch)
            for each in held
            for epoch in sorted({_epoch(block) for block in self._blocks.get(folder_of(each), ())})
        ]
        if not asked:
            return {}
        reply = await self._pool.submit(partial(_epochs, asked), LOOKING).last()
        if not isinstance(reply, Located):
            return {}
        ends = dict(zip(asked, reply.found, strict=True))
        found: dict[str | None, bool] = {}
        for each in held:
            for block in self._blocks.get(folder_of(each), ()):
                epoch, end = ends.get((each.topic, each.partition, _epoch(block)), (UNKNOWN, 0))
                if epoch != UNKNOWN:
                    same = epoch == _epoch(block) and end >= block.next_offset
                    found[block.sidecar] = same and block.next_offset > each.begin
        return found

    async def cover(self, held: Sequence[Held]) -> int:
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
            if isinstance(reply, Failed) and not reply.removed:
                log.warning("no token filter for %s %d from %d on: %s", *_place(each), low, reply.reason)
                break  # its broker may be back later
            if not isinstance(reply, Built) or reply.head is None:
                self._without.add((folder_of(each), low, high))
                continue
            if not await self._make_room(reply.head):
                break
            self._add(reply.head)
            made += 1
            await pause(self._clock, (reply.head.end - reply.head.start) / self._bytes_a_s)
        return made

    async def _built(self, held: Held, low: int, high: int) -> Reply:
        size = max(1, int((high - low) * mean_bytes(held)))
        unit = Unit(held.topic, held.partition, held.topic_id, 0, size, low, high)
        folder = str(self._root / folder_of(held))
        return await self._builder.submit(partial(_build, unit, folder), BUILDING).last()

    async def _make_room(self, head: Head) -> bool:
        """Remove filters of older events for a new one; False: it is the oldest itself, and is removed."""
        self._sizes |= await asyncio.to_thread(_sizes, [head.sidecar])
        every = [block for blocks in self._blocks.values() for block in blocks]
        every.sort(key=lambda each: -(each.most_ms or 0))
        gone: list[str] = []
        while sum(self._sizes.values()) > self._most_bytes:
            oldest = every.pop() if every and (every[-1].most_ms or 0) < head.most_ms else None
            path = head.sidecar if oldest is None or oldest.sidecar is None else oldest.sidecar
            self._sizes.pop(path, None)
            gone.append(path)
            if oldest is None:
                break
            self._blocks[oldest.path].remove(oldest)
        if gone:
            await self._builder.submit(partial(_remove, gone), BUILDING).last()
        return head.sidecar not in gone

    async def _forget(self, held: Sequence[Held], verdicts: dict[str | None, bool]) -> None:
        """Remove what is of topics that are gone, of offsets that are gone, or of another history."""
        live = {folder_of(each) for each in held}
        gone: list[str] = []
        for folder, blocks in list(self._blocks.items()):
            bad = [
                each
                for each in blocks  # one without a file turned out to be damaged
                if folder not in live or each.sidecar is None or not verdicts.get(each.sidecar, True)
            ]
            gone += [each.sidecar for each in bad if each.sidecar is not None]
            self._blocks[folder] = [each for each in blocks if each not in bad]
            if not self._blocks[folder]:
                del self._blocks[folder]
        for path in gone:
            self._sizes.pop(path, None)
        if gone:
            await self._builder.submit(partial(_remove, gone), BUILDING).last()


def _epoch(block: Block) -> int:
    """Of its last batch: its file is named so."""
    return int(Path(block.sidecar or "-0").stem.rpartition("-")[2])


def _place(held: Held) -> tuple[str, int]:
    return held.topic, held.partition


def _sizes(paths: Sequence[str]) -> dict[str, int]:
    return {path: os.path.getsize(path) for path in paths if os.path.exists(path)}


def _restore(root: str, job_id: int) -> Restore:
    return Restore(job_id, root, "")


def _epochs(asked: list[tuple[str, int, int]], job_id: int) -> Offsets:
    return Offsets(job_id, "epoch", asked)


def _build(unit: Unit, folder: str, job_id: int) -> Build:
    return Build(job_id, unit, folder)


def _remove(paths: list[str], job_id: int) -> Remove:
    return Remove(job_id, paths)
