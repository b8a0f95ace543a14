"""Allocates ids and epochs to idempotent producers, and reserves the server's own producer id.

Owns: which producer ids are allocated. Ids are reserved in blocks. The end of a block is recorded before its
first id is used, so that no id is ever allocated twice; the rest of a block is skipped after a restart. Where
that record itself may be lost, in a copy or after a power cut with `durability=os`, many more are skipped.

The ids of a data folder start at a random number, which the first start draws and records. Partitions that
move between two systems keep the producer ids of their batches. If both had counted from 0, a log would take
the first batch of a new producer for a duplicate of an old one with the same id: acknowledge it, and not
store it. The number itself is the server's own id, for batches that the server builds. It is never allocated,
and clients may not use it (`Node.append_from_client`), so that those batches can be trusted.

Refuses: remembering epochs. A producer that returns with its id gets the next epoch, and the partitions fence
older epochs by the batches that they have (`log/storage/producer_state.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise

BLOCK_IDS = 1000
"""Size of a block, as in Kafka's `ProducerIdsBlock`."""
EPOCH_MAX = 32766
"""The highest epoch. A producer that has reached it gets a new id. Kafka reserves 32767."""
LOST_IDS_MAX = 1 << 20
"""More ids than are allocated after the moment to which a restored backup or a power cut sets a folder
back."""
START_STEP = 1 << 20
START_MIN, START_LIMIT = 1 << 40, 1 << 52
"""The server's own id is a multiple of START_STEP in [START_MIN, START_LIMIT). Kafka counts from 0 and does
not get that far, and JavaScript represents such numbers exactly. Two folders start at the same one of these
numbers with a probability of 1 in 4,000,000,000."""


class ProducerIdStart(StateRecord, frozen=True, array_like=True, tag="producer-id-start"):
    """State record: where the producer ids of the data folder start. Written once, by the first start."""

    server_id: int
    """The server's own producer id."""
    first: int
    """The first id that producers get: `server_id + 1`. 0 in a folder of mainstem 0.1.0 that has allocated
    ids: they started at 0, and further ids follow them."""


class ProducerIdBlock(StateRecord, frozen=True, array_like=True, tag="producer-id-block"):
    """State record: a block of producer ids was reserved, and all ids below `end` may be allocated."""

    end: int


class ProducerIds:
    """The state machine of producer ids. `runtime` is set once, before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (ProducerIdStart, ProducerIdBlock)
    runtime: Runtime

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """See `StateMachine`."""
        self._server_id: int | None = None
        self._first = 0
        self._end = 0
        self._next = 0

    def apply(self, record: Any) -> None:
        """See `StateMachine`. Only the process that reserved a block allocates its ids."""
        if isinstance(record, ProducerIdStart):
            assert self._server_id is None, "the start of the producer ids is recorded once"
            self._server_id, self._first = record.server_id, record.first
            if self._end < record.first:
                assert not self._end, "ids are allocated only above the start"
                self._next = self._end = record.first
            return
        assert record.end >= self._end, "the end of the reserved producer ids never decreases"
        self._next = self._end = record.end

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        records: list[msgspec.Struct] = []
        if self._server_id is not None:
            records.append(ProducerIdStart(self._server_id, self._first))
        if self._end > self._first:
            records.append(ProducerIdBlock(self._end))
        return records

    @property
    def server_id(self) -> int | None:
        """The producer id of the server's own batches, which no client may use. None while its record could
        not be written, because the disk refuses it."""
        return self._server_id

    @property
    def first(self) -> int:
        """The first id that producers of this data folder got, or will get."""
        return self._first

    @property
    def end(self) -> int:
        """All ids from `first` up to this one, excluded, may be allocated."""
        return self._end

    def reserve_server_id(self) -> Promise[None]:
        """Draw and record the server's own id and the first of all others, unless they are recorded. Done
        when they are durable. Fails with StorageError; then another call tries again, as does `allocate`."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            if self._server_id is not None:
                return (), None
            server_id = self._rng.randrange(START_MIN, START_LIMIT, START_STEP)
            return (ProducerIdStart(server_id, 0 if self._end else server_id + 1),), None

        return self.runtime.write(decide)

    def skip_lost_ids(self) -> Promise[None]:
        """Skip LOST_IDS_MAX ids, because the newest records of the state log may be missing: those ids may
        have producers already. Done when that is durable. Fails with StorageError."""
        return self.runtime.write(
            lambda: ((ProducerIdBlock(self._end + LOST_IDS_MAX),) if self._end else (), None)
        )

    def allocate(self) -> Promise[tuple[int, int]]:
        """Allocate a (producer id, epoch 0). Done when the allocation is durable. Fails with StorageError."""
        if self._server_id is None:
            refused = self.reserve_server_id().error
            if refused is not None:
                return Promise.failed(refused)
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
        if not self._first <= producer_id < self._end or not 0 <= epoch < EPOCH_MAX:
            return self.allocate()
        return self.runtime.read((producer_id, epoch + 1))
