"""Ids and epochs for idempotent producers.

Owns: which producer ids were given away. They come in blocks whose end is recorded before the first id of
one is used, so that no id is ever given twice; what is left of a block at a stop is skipped. Refuses: to
remember epochs: a producer that comes back with its id gets the next epoch, and the partitions themselves
fence older ones by the epochs in their batches
(`log/storage/producer_state.py`). Doors call `next` and `bump`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise

BLOCK_IDS = 1000
"""As Kafka's `ProducerIdsBlock`."""
EPOCH_MAX = 32766
"""Kafka keeps 32767 back: a producer that reached this gets a new id."""


class ProducerIdBlock(StateRecord, frozen=True, array_like=True, tag="producer-id-block"):
    """All ids below `end` may have been given away."""

    end: int


class ProducerIds:
    """The machine of producer ids. `runtime` is set once, before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (ProducerIdBlock,)
    runtime: Runtime

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._end = 0
        self._next = 0

    def apply(self, record: Any) -> None:
        """A block was reserved. What is left of it is given away only by the run that reserved it."""
        assert record.end >= self._end, "blocks of producer ids only rise"
        self._next = self._end = record.end

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """The end of the last block."""
        return [ProducerIdBlock(self._end)] if self._end else []

    @property
    def end(self) -> int:
        """All ids below may have been given away."""
        return self._end

    def allocate(self) -> Promise[tuple[int, int]]:
        """A new (producer id, epoch 0), durable before it is told. Fails with StorageError."""
        if self._next < self._end:
            self._next += 1
            return self.runtime.read((self._next - 1, 0))
        first = self._end
        end = first + BLOCK_IDS
        later = self.runtime.write(lambda: ((ProducerIdBlock(end),), (first, 0)))
        # After a refusal nothing was applied.
        if self._end == end:
            self._next = first + 1
        return later

    def bump_epoch(self, producer_id: int, epoch: int) -> Promise[tuple[int, int]]:
        """The same producer with the next epoch (KIP-360). A new id when its epochs are used up, or when
        this server cannot have given the id (Kafka gives a new one then, too). Fails with StorageError."""
        if not 0 <= producer_id < self._end or not 0 <= epoch < EPOCH_MAX:
            return self.allocate()
        return self.runtime.read((producer_id, epoch + 1))
