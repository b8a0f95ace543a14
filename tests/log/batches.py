"""Batches for tests, and what a partition returns of them."""

from __future__ import annotations

from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.storage.record_batch import build, decode, iter_batches
from tests.log.committers import ManualCommitter
from tests.log.partition_rig import PartitionRig


def batch(
    count: int = 1,
    *,
    size: int = 10,
    timestamp_ms: int = 1_000,
    codec: str = "none",
    producer: tuple[int, int, int] = (-1, -1, -1),
    fill: bytes = b"v",
) -> memoryview:
    """A produced batch of `count` records with values of `size` bytes; `producer`: id, epoch, first
    sequence."""
    records = [(b"k%d" % n, fill * size, (), timestamp_ms + n) for n in range(count)]
    producer_id, epoch, sequence = producer
    data = build(records, codec=codec, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
    return memoryview(data)


def manual(
    config: PartitionConfig | None = None, **options: LogConfig
) -> tuple[PartitionRig, ManualCommitter]:
    committer = ManualCommitter()
    return PartitionRig(config, committer=committer, log_config=options.get("log_config")), committer


def offsets(rig: PartitionRig) -> list[int]:
    """Offsets of all records that can be read."""
    found_offsets: list[int] = []
    offset = rig.partition.log_start_offset
    while offset < rig.partition.high_watermark:
        part = rig.partition.read_blocking(offset, 1 << 20)
        for position, header in iter_batches(part.data):
            data = bytes(part.data[position : position + header.total_bytes])
            found_offsets += [record.offset for record in decode(data) if record.offset >= offset]
        offset = part.next_offset
    return found_offsets
