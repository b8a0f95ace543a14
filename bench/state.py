"""The longest turn of the event loop while much state is saved: `python -m bench.state [--scale X]`.

Run in this process, on a real disk: a node with 1,000,000 committed offsets, of many groups and of few, whose
snapshot is taken; and a partition with 350,000 idempotent producers, whose side files a checkpoint saves. CPU
time of the thread: what the machine does besides does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from bench.folders import data_folder
from mainstem.clock import LoopClock
from mainstem.coordinator.groups.types import CommittedOffset, OffsetsCommitted
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.storage import record_batch
from mainstem.node import Node
from mainstem.settings import Settings

OFFSETS = 1_000_000
PRODUCERS = 350_000
RECORDS = [(None, b"x", (), 1_767_225_600_000)]
SETTLED_S = 12.0
"""Longer than the time that a checkpoint takes."""


class TurnMeter:
    """Measures the CPU time of each turn of the loop, from `start` to `longest_ms`."""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._longest_s = 0.0
        self._last_s = time.thread_time()
        self._handle = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        now_s = time.thread_time()
        self._longest_s = max(self._longest_s, now_s - self._last_s)
        self._last_s = now_s
        self._handle = self._loop.call_soon(self._tick)

    def longest_ms(self) -> float:
        self._handle.cancel()
        return self._longest_s * 1000


async def _with_node(folder: Path, work: Callable[[Node], Awaitable[float]]) -> float:
    loop = asyncio.get_running_loop()
    settings = Settings(data=str(folder))
    node = await Node.open(settings, RealDisk(str(folder), loop), LoopClock(loop), random.Random(7))
    try:
        return await work(node)
    finally:
        await node.close()


async def offsets(node: Node, groups: int, total: int) -> float:
    """Milliseconds of the longest turn while a snapshot of `total` offsets is taken."""
    topic = await node.topics.create("flights", 10_000)
    of_group = total // groups
    for number in range(groups):
        committed = tuple((topic.id, index, CommittedOffset(index, -1, "", 5)) for index in range(of_group))
        node.groups.apply(OffsetsCommitted(f"group-{number:07}", committed))
    _freeze()
    meter = TurnMeter()
    await asyncio.sleep(0.1)
    meter.start()
    node.runtime.take_snapshot()
    while not any(Path(node.settings.data, "state").glob("snapshot-" + "[0-9]" * 20)):
        await asyncio.sleep(0.05)
    return meter.longest_ms()


async def producers(node: Node, total: int) -> float:
    """Milliseconds of the longest turn of a checkpoint of a partition with `total` producers."""
    topic = await node.topics.create("flights", 1)
    partition = node.partition(topic, 0)
    for number in range(total):
        batch = record_batch.build(RECORDS, producer_id=number, producer_epoch=0, base_sequence=0)
        end = partition.append(memoryview(batch)).next_offset
        if number % 1_000 == 0:
            await partition.when_committed(end)
    await partition.when_committed(end)
    _freeze()
    meter = TurnMeter()
    meter.start()
    partition.save_side_files()  # as the checkpoint does in a turn
    await asyncio.sleep(SETTLED_S)
    return meter.longest_ms()


def _freeze() -> None:
    """As a server does after its start: the collector looks at none of this again."""
    gc.collect()
    gc.freeze()


def main() -> None:
    """Measure all, a folder each, and print a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    scale = parser.parse_args().scale
    few = round(OFFSETS * scale) // 10_000 or 1
    total, of_producers = round(OFFSETS * scale), round(PRODUCERS * scale)
    works: tuple[tuple[str, Callable[[Node], Awaitable[float]]], ...] = (
        (f"{total:,} offsets of as many groups", lambda node: offsets(node, total, total)),
        (f"{total:,} offsets of {few} groups", lambda node: offsets(node, few, total)),
        (f"{of_producers:,} producers of a partition", lambda node: producers(node, of_producers)),
    )
    for what, work in works:
        with data_folder() as parent:
            runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
            with runner:
                longest_ms = runner.run(_with_node(parent / "data", work))
        print(f"longest turn of the loop, {what}: {longest_ms:.1f} ms", flush=True)


if __name__ == "__main__":
    main()
