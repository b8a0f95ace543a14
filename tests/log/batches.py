"""Batches for tests."""

from __future__ import annotations

from mainstem.log.batch import build


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
