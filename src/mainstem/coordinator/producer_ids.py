"""Allocates ids and epochs to idempotent producers.

Owns: which producer ids are allocated. Ids are reserved in blocks. The end of a block is recorded before its
first id is used, so that no id is ever allocated twice; the rest of a block is skipped after a restart.
Refuses: remembering epochs. A producer that returns with its id gets the next epoch, and the partitions fence
older epochs by the batches that they have (`log/storage/producer_state.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise

BLOCK_IDS = 1000
"""Size of a block, as in Kafka's `ProducerIdsBlock`."""
EPOCH_MAX = 32766
"""The highest epoch. A producer that has reached it gets a new id. Kafka reserves 32767."""


class ProducerIdBlock(StateRecord, frozen=True, array_like=True, tag="producer-id-block"):
    """State record: a block of producer ids was reserved, and all ids below `end` may be allocated."""

    end: int


class ProducerIds:
    """The state machine of producer ids. `runtime` is set once, before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (ProducerIdBlock,)
    runtime: Runtime

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """See `StateMachine`."""
        self._end = 0
        self._next = 0

    def apply(self, record: Any) -> None:
        """See `StateMachine`. Only the process that reserved a block allocates its ids."""
        assert record.end >= self._end, "the end of the reserved producer ids never decreases"
        self._next = self._end = record.end

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        return [ProducerIdBlock(self._end)] if self._end else []

    @property
    def end(self) -> int:
        """All ids below this one may be allocated."""
        return self._end

    def allocate(self) -> Promise[tuple[int, int]]:
        """Allocate a (producer id, epoch 0). Done when the allocation is durable. Fails with StorageError."""
        if self._next < self._end:
            self._next += 1
            return self.runtime.read((self._next - 1, 0))
        first = self._end
        end = first + BLOCK_IDS
        allocated = self.runtime.write(lambda: ((ProducerIdBlock(end),), (first, 0)))
        if self._end == end:  # else the record was refused and not applied
            self._next = first + 1
            assert self._next <= self._end, "every allocated producer id is in a reserved block"
        return allocated

    def bump_epoch(self, producer_id: int, epoch: int) -> Promise[tuple[int, int]]:
        """The same producer id with the next epoch (KIP-360). A new id if the epochs are used up, or if this
        server cannot have allocated the id, as in Kafka. Fails with StorageError."""
        if not 0 <= producer_id < self._end or not 0 <= epoch < EPOCH_MAX:
            return self.allocate()
        return self.runtime.read((producer_id, epoch + 1))
