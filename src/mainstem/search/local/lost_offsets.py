"""Distinguishes offsets that are lost from those that the log has deleted, for a search of its files.

Owns: which offsets of a search no block covers, and whether the log itself deleted a file that is gone.
Refuses: to read files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mainstem.contract import Position, SearchableLog, StreamError
from mainstem.search.blocks.blocks import Block
from mainstem.search.contract import Remaining
from mainstem.search.ipc import Unit


def lost_positions(engine: SearchableLog, target: Remaining, blocks: Sequence[Block]) -> list[Position]:
    """Where the ranges of offsets begin that no block of the partition covers, although the log has not
    deleted them. `blocks`: all of the partition, oldest first."""
    offset = target.low
    lost: list[tuple[int, int]] = []
    for block in blocks:
        if offset < min(block.first_offset, target.high):
            lost.append((offset, min(block.first_offset, target.high)))
        offset = max(offset, block.next_offset)
    if offset < target.high:
        lost.append((offset, target.high))
    try:
        files = engine.partition_files(target.topic, target.partition)
    except StreamError:
        return []  # deleted in the meantime
    if target.high == files.end < files.acknowledged_end:
        lost.append((files.end, files.acknowledged_end))
    return [
        Position(target.topic, target.partition, max(first, files.begin))
        for first, end in lost
        if files.begin < end
    ]


def is_removed(engine: SearchableLog, data: Path, unit: Unit) -> bool:
    """Whether the log itself has deleted the unit's file: by retention, by request, or with its topic."""
    try:
        files = engine.partition_files(unit.topic, unit.partition)
    except StreamError:
        return True
    return unit.high <= files.begin or not unit.path.startswith(f"{data}/{files.folder}/")
