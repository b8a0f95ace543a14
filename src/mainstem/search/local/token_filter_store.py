"""Keeping token filters for all closed blocks, and asking them.

Owns: which blocks have one, building the missing ones one at a time in a process of its own at the lowest
priority, and removing them with their data. Refuses: to hold up a search: what has no filter yet is read.
Used by `local.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from mainstem.clock import Clock
from mainstem.search.blocks import token_filter
from mainstem.search.blocks.blocks import Block, PartitionBlocks
from mainstem.search.execution import Piece
from mainstem.search.ipc import (
    Build,
    Built,
    Failed,
    Head,
    Remove,
    Reply,
    Restore,
    Restored,
    Sift,
    Sifted,
    Unit,
)
from mainstem.search.match.matcher import Matcher
from mainstem.search.targets import in_turns
from mainstem.search.workers.bootstrap import BACKGROUND
from mainstem.search.workers.pool import BUILDING, SEARCHING, Pool

FILTERS_AT_ONCE = 256
REST_S = 60.0
"""After a filter that could not be made."""
Lacking = dict[tuple[str, int], tuple[str, int, Block]]
"""Topic, partition and block, by file and position."""

log = logging.getLogger(__name__)


class Cover:
    """The filters below `data/search`, of the log below `data/partitions`."""

    def __init__(self, data: Path, clock: Clock, pool: Pool) -> None:
        self._root = data / "search"
        self._partitions = data / "partitions"
        self._pool = pool
        self._builder = Pool(clock, workers=1, nice=BACKGROUND)
        self._clock, self._rest_s = clock, REST_S
        self._rests_until = 0.0
        self._later = Lacking()
        self._restored = False
        self.known: dict[str, PartitionBlocks] = {}
        """Blocks by the partition's folder."""

    async def restore(self) -> None:
        """Find what an earlier run has left. Once; called before anything is built."""
        if self._restored:
            return
        self._restored = True
        reply = await self._pool.submit(partial(_restore, str(self._root), str(self._partitions))).last()
        if not isinstance(reply, Restored):
            log.warning("token filters of an earlier run are not used: %s", reply)
            return
        folders: dict[str, list[Head]] = {}
        for head in reply.heads:
            folders.setdefault(str(Path(head.path).parent), []).append(head)
        for folder, heads in folders.items():
            self.known.setdefault(folder, PartitionBlocks()).restore(heads)

    # --- asking -------------------------------------------------------------------------------------------

    async def sift(
        self, pieces: Sequence[Piece], matcher: Matcher, from_ms: int | None, to_ms: int | None
    ) -> None:
        """Mark the pieces in which nothing can match."""
        await sift(self._pool, pieces, matcher, from_ms, to_ms)

    # --- building -----------------------------------------------------------------------------------------

    async def build(self, topic: str, partition: int, blocks: Iterable[Block]) -> int:
        """Make the filters that these blocks lack, the newest first. How many were made."""
        lacking = [each for each in blocks if each.closed and each.sidecar is None and not each.has_none]
        lacking.sort(key=lambda each: -each.first_offset)
        return await self._build({(each.path, each.start): (topic, partition, each) for each in lacking})

    async def build_later(self) -> int:
        """Make the filters that could not be made earlier, if it is time. How many were made."""
        if not self._later or self._clock.monotonic() < self._rests_until:
            return 0
        later, self._later = self._later, {}
        return await self._build(later)

    async def _build(self, lacking: Lacking) -> int:
        made, failed = 0, Lacking()
        for place, (topic, partition, block) in lacking.items():
            if self._clock.monotonic() < self._rests_until:
                self._later[place] = topic, partition, block
                continue
            self._later.pop(place, None)
            reply = await self._made(topic, partition, block)
            if isinstance(reply, Built) and reply.head is not None:
                block.sidecar = reply.head.sidecar
                block.learn(reply.head)
                made += 1
            elif isinstance(reply, Failed) and not reply.removed:
                # What is wrong with this block, or with the disk, may pass; the others come before it.
                log.warning(
                    "no token filter yet for %s from %d on: %s", block.path, block.start, reply.reason
                )
                self._rests_until = self._clock.monotonic() + self._rest_s
                failed[place] = topic, partition, block
            else:
                block.has_none = True
        self._later |= failed
        return made

    async def _made(self, topic: str, partition: int, block: Block) -> Reply:
        unit = Unit(
            topic, partition, block.path, block.start, block.end, block.first_offset, block.next_offset
        )
        target = self._root / Path(block.path).parent.name / f"{block.first_offset:020}{token_filter.SUFFIX}"
        return await self._builder.submit(partial(_build, unit, str(target)), BUILDING).last()

    async def forget(self, live_folders: set[str]) -> None:
        """Remove the filters of what was deleted. `live_folders`: of the partitions that hold something."""
        gone: list[str] = []
        for folder in [folder for folder in self.known if folder not in live_folders]:
            blocks = self.known.pop(folder)
            gone += blocks.gone + [block.sidecar for block in blocks.blocks if block.sidecar is not None]
        for blocks in self.known.values():
            gone += blocks.gone
            blocks.gone = []
        if gone:
            await self._builder.submit(partial(_remove, gone), BUILDING).last()

    async def close(self) -> None:
        """End the builder."""
        await self._builder.close()


async def sift(
    pool: Pool, pieces: Sequence[Piece], matcher: Matcher, from_ms: int | None, to_ms: int | None
) -> None:
    """Mark the pieces in which nothing can match."""
    async for piece in in_turns(pieces):
        least, most = piece.block.least_ms, piece.block.most_ms
        if least is not None and most is not None:
            piece.excluded |= (from_ms is not None and most < from_ms) or (
                to_ms is not None and least >= to_ms
            )
    clauses = [[token.encode() for token in sorted(clause)] for clause in matcher.required_tokens]
    asked = [
        each
        async for each in in_turns(pieces)
        if not (each.excluded or each.indexed) and each.block.sidecar is not None
    ]
    if not clauses or not asked:
        return
    groups = [asked[at : at + FILTERS_AT_ONCE] for at in range(0, len(asked), FILTERS_AT_ONCE)]
    jobs = [pool.submit(partial(_sift, group, clauses), SEARCHING) for group in groups]
    for group, job in zip(groups, jobs, strict=True):
        reply = await job.last()
        if not isinstance(reply, Sifted):
            continue  # then they are read
        for piece, verdict in zip(group, reply.verdicts, strict=True):
            piece.excluded = verdict == token_filter.EXCLUDE
            if verdict == token_filter.USELESS:
                piece.block.sidecar = None


def _restore(root: str, partitions: str, job_id: int) -> Restore:
    return Restore(job_id, root, partitions)


def _sift(pieces: Sequence[Piece], clauses: list[list[bytes]], job_id: int) -> Sift:
    return Sift(
        job_id, [(each.block.sidecar or "", each.block.start, each.block.end) for each in pieces], clauses
    )


def _build(unit: Unit, target: str, job_id: int) -> Build:
    return Build(job_id, unit, target)


def _remove(paths: list[str], job_id: int) -> Remove:
    return Remove(job_id, paths)
