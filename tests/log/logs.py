"""A log on the simulated disk, for tests."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal
from uuid import UUID

from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.errors import CorruptBatch
from mainstem.log.log import Log
from mainstem.log.partition.partition import AppendedBatch, Partition
from mainstem.log.recovery.report import RecoveryReport
from mainstem.log.storage import record_batch as batches
from mainstem.promise import Promise
from tests.log.batches import batch
from tests.support.clock import SimClock
from tests.support.simdisk import SimDisk

TOPIC = UUID(int=77)
CONFIG = LogConfig(
    journal_file_bytes=64 << 10,
    first_journal_file_bytes=48 << 10,
    journal_files=3,
    direct_sync_bytes=4000,
    group_bytes_max=16 << 10,
    checkpoint_interval_s=1000.0,
)
OS = LogConfig(durability="os", checkpoint_interval_s=1000.0)
SMALL = PartitionConfig(segment_bytes=5000)
Status = Literal["live", "deleted", "unknown"]


class LogRig:
    """One simulated machine: its disk outlives crashes."""

    def __init__(self, seed: int = 1, config: LogConfig = CONFIG) -> None:
        self.rng = random.Random(seed)
        self.config = config
        self.clock = SimClock()
        self.disk = SimDisk(self.clock, self.rng)
        self.log: Log
        self.report: RecoveryReport

    def start(self, status: Callable[[UUID], Status] = lambda _: "live") -> LogRig:
        self.log = Log.open(self.disk, self.clock, self.rng, self.config)
        self.report = self.log.recover(status)
        self.settle()
        return self

    def settle(self, seconds: float = 0.1) -> None:
        self.clock.advance(seconds)

    def crash(self, how: Literal["power", "kill"] = "power") -> LogRig:
        self.clock = SimClock(self.clock.wall_ms() + 1000)
        self.disk = self.disk.power_cut(self.clock) if how == "power" else self.disk.kill(self.clock)
        return self

    def stop(self) -> LogRig:
        closed = self.log.close()
        self.settle(5)
        assert closed.done
        return self.crash("power")

    def partition(self, index: int = 0, config: PartitionConfig | None = None) -> Partition:
        return self.log.partition(TOPIC, index, config)

    def append(
        self, index: int = 0, *, size: int = 100, fill: bytes = b"v"
    ) -> tuple[AppendedBatch, Promise[None]]:
        partition = self.partition(index)
        done = partition.append(batch(size=size, fill=fill))
        return done, partition.when_committed(done.next_offset)

    def write(self, count: int = 1, index: int = 0, *, size: int = 100) -> None:
        """Append batches one by one, each durable before the next."""
        for _ in range(count):
            _, promise = self.append(index, size=size)
            self.settle()
            promise.result()

    def offsets(self, index: int = 0) -> list[int]:
        """Base offset of each batch that can be read."""
        partition = self.partition(index)
        offsets: list[int] = []
        offset = partition.log_start_offset
        while offset < partition.high_watermark:
            data = bytes(partition.read_blocking(offset, 1 << 20).data)
            for position, header in batches.iter_batches(data):
                assert batches.crc_matches(data[position : position + header.total_bytes], header)
                offsets.append(header.base_offset)
                offset = header.next_offset
        return offsets


def read_around_damage(partition: Partition, max_bytes: int = 2000) -> tuple[set[int], set[int]]:
    """The offsets that can be read, and those that are refused as damaged."""
    readable: set[int] = set()
    refused: set[int] = set()
    offset = partition.log_start_offset
    while offset < partition.high_watermark:
        try:
            read = partition.read_blocking(offset, max_bytes)
        except CorruptBatch as error:
            following, message = error.next_offset or offset, str(error)
            refused |= set(range(offset, following))
        else:
            following, message = read.next_offset, str(read.next_offset)
            for position, header in batches.iter_batches(read.data):
                whole = bytes(read.data[position : position + header.total_bytes])
                readable |= {record.offset for record in batches.decode(whole)}
        assert message.endswith(str(following)), "the message of an error ends with the offset to go on at"
        assert following > offset, "a reader always moves on"
        offset = following
    return readable, refused
