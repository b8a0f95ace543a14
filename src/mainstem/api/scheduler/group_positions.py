"""Where a group is in its topics, as its subscriber on a Kafka cluster sees it.

Owns: the start at a time, and the lag. Refuses: to move a group that has a position.
"""

from __future__ import annotations

from asyncio import gather
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from mainstem.api.scheduler.partition_ledger import PartitionLedger
from mainstem.contract import Engine, Position, TopicPartition, UnknownGroup


async def set_start(engine: Engine, group: str, topic: str, start: datetime) -> None:
    """Set the positions of a group that has none in a topic: to the first event of this time or later."""
    with suppress(UnknownGroup):
        info = await engine.group(group)
        if any(position.topic == topic and position.offset is not None for position in info.positions):
            return
    positions = []
    for partition in range(await engine.partitions(topic)):
        offset = await engine.offset_for_time(topic, partition, round(start.timestamp() * 1000))
        if offset is None:
            offset = (await engine.bounds(topic, partition)).end
        positions.append(Position(topic, partition, offset))
    await engine.set_positions(group, positions)


async def lag_of(
    engine: Engine,
    group: str,
    topics: Sequence[str],
    ledgers: Mapping[TopicPartition, PartitionLedger],
    *,
    is_latest: bool,
) -> int:
    """Events that a group has not done: exactly in the partitions that this process has, from the committed
    position in others. `is_latest`: without a position it begins at the end."""
    keys = [(topic, partition) for topic in topics for partition in range(await engine.partitions(topic))]
    committed: dict[TopicPartition, int | None] = {}
    if any(key not in ledgers for key in keys):  # asking costs a cluster a read of each partition
        with suppress(UnknownGroup):
            info = await engine.group(group)
            committed = {(part.topic, part.partition): part.offset for part in info.positions}
    lag = 0
    for key, bounds in zip(keys, await gather(*(engine.bounds(*key) for key in keys)), strict=True):
        ledger = ledgers.get(key)
        position = committed.get(key) if ledger is None else ledger.frontier
        if ledger is not None and position is not None:
            lag += len(ledger.open) + max(0, bounds.end - ledger.read_end)
        elif position is not None or not is_latest:
            lag += bounds.end - max(bounds.begin, position or 0)
    return lag
