"""Tests blocks for many queries at once, for who scans a partition for all of them.

Owns: how many blocks are tested for a question. Refuses: to read events, and to build token filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from mainstem.clock import Clock
from mainstem.search.blocks.blocks import Block
from mainstem.search.contract import BlockExclusion
from mainstem.search.execution import WorkItem
from mainstem.search.ipc import Unit
from mainstem.search.local.token_filter_store import prune
from mainstem.search.match.matcher import Matcher
from mainstem.search.workers.pool import WorkerJob, WorkerPool
from mainstem.search.workers.schedule import JobGroup

BLOCKS_AT_ONCE = 64
"""Blocks of an answer, at most: some 512 MB of the log."""


async def excluded_blocks(
    clock: Clock,
    pool: WorkerPool,
    topic: str,
    partition: int,
    blocks: Sequence[Block],
    first: int,
    matchers: Sequence[Matcher],
) -> list[BlockExclusion]:
    """See `LogSearch.excluded_blocks`. `blocks`: those of the partition, oldest first."""
    candidates = (block for block in blocks if block.next_offset > first and _is_tested(block))
    tested = list(islice(candidates, BLOCKS_AT_ONCE))
    if not tested:
        return []
    excluded: list[set[Matcher]] = [set() for _ in tested]
    group: JobGroup[WorkerJob] = JobGroup()
    for matcher in matchers:
        items = [WorkItem(_unit(topic, partition, block), block.time_ms, block) for block in tested]
        await prune(clock, pool, items, matcher, *matcher.time_range, group)
        for item, excluding in zip(items, excluded, strict=True):
            if item.excluded:
                excluding.add(matcher)
    return [
        BlockExclusion(block.first_offset, block.next_offset, frozenset(excluding))
        for block, excluding in zip(tested, excluded, strict=True)
    ]


def _is_tested(block: Block) -> bool:
    return block.closed and block.filter_path is not None and block.first_offset >= 0


def _unit(topic: str, partition: int, block: Block) -> Unit:
    return Unit(topic, partition, block.path, block.start, block.end, block.first_offset, block.next_offset)
