"""The state machine of publishers that number their events: the last number of each in each partition.

The last number is recorded after the events are durable, so the record is never ahead of the log. What is
not recorded yet is found in the log: a partition is *open* while publishers write to it, and that is durable
before their first event, with the offset from which on the log has to be read after a crash.

Owns: these records, and what is forgotten: publishers that were idle for 7 days, and beyond 100,000 those
that were idle longest. Refuses: to read the log, and events (`engines/embedded/publish_once.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise

PUBLISHERS_MAX = 100_000
IDLE_MS_MAX = 7 * 24 * 3600 * 1000
FORGOTTEN_OF_WRITE = 1_000
"""Publishers that are forgotten in a write because they are idle."""

PartitionKey = tuple[UUID, int]


class PublishersOpened(StateRecord, frozen=True, array_like=True, tag="publishers-opened"):
    """State record: publishers that number their events may write to a partition, from this offset on."""

    topic_id: UUID
    partition: int
    offset: int


class PublishersClosed(StateRecord, frozen=True, array_like=True, tag="publishers-closed"):
    """State record: all that they wrote to a partition is recorded."""

    topic_id: UUID
    partition: int


class PublisherAdvanced(StateRecord, frozen=True, array_like=True, tag="publisher-advanced"):
    """State record: the events of a publisher up to this id are durable in a partition; the last of them is
    at this offset."""

    topic_id: UUID
    partition: int
    name: str
    id: int
    offset: int
    time_ms: int


class PublishersForgotten(StateRecord, frozen=True, array_like=True, tag="publishers-forgotten"):
    """State record: the ids of these publishers, (topic id, partition, name), are not known any more."""

    keys: tuple[tuple[UUID, int, str], ...]


class PublishersEnded(StateRecord, frozen=True, array_like=True, tag="publishers-ended"):
    """State record: a topic was deleted, and all of its publishers are forgotten."""

    topic_id: UUID


class LastId(NamedTuple):
    """What is known of a publisher in a partition."""

    id: int
    offset: int
    time_ms: int


@dataclass(slots=True)
class PartitionPublishers:
    """The publishers of a partition."""

    open_from: int | None = None
    """From where on the log may have what is not recorded; None: it has nothing."""
    names: dict[str, LastId] = field(default_factory=dict)
    """By name, the one that was idle longest first."""

    def unrecorded_from(self, end: int) -> int | None:
        """Where to read the log, which ends at `end`, for what is not recorded; None: nowhere. Records are in
        the order of the log, so what is below the last one is recorded."""
        if self.open_from is None:
            return None
        recorded = max((last.offset + 1 for last in self.names.values()), default=0)
        # Beyond the end: a power cut with durability=os took it.
        return max(self.open_from, recorded if recorded <= end else 0)


class Publishers:
    """The state machine. `runtime` is set once, before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (
        PublishersOpened,
        PublishersClosed,
        PublisherAdvanced,
        PublishersForgotten,
        PublishersEnded,
    )
    runtime: Runtime

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self._partitions: dict[PartitionKey, PartitionPublishers] = {}
        self._recent: dict[tuple[UUID, int, str], LastId] = {}
        """All publishers, the one that was idle longest first."""

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        match record:
            case PublishersOpened(topic_id=topic_id, partition=partition, offset=offset):
                self._of((topic_id, partition)).open_from = offset
            case PublishersClosed(topic_id=topic_id, partition=partition):
                self._of((topic_id, partition)).open_from = None
                self._drop_if_empty((topic_id, partition))
            case PublisherAdvanced(topic_id=topic_id, partition=partition, name=name):
                names = self._of((topic_id, partition)).names
                names.pop(name, None)
                last = names[name] = LastId(record.id, record.offset, record.time_ms)
                self._recent.pop((topic_id, partition, name), None)
                self._recent[topic_id, partition, name] = last
            case PublishersForgotten(keys=keys):
                for topic_id, partition, name in keys:
                    self._of((topic_id, partition)).names.pop(name, None)
                    self._recent.pop((topic_id, partition, name), None)
                    self._drop_if_empty((topic_id, partition))
            case PublishersEnded(topic_id=topic_id):
                for key in [key for key in self._partitions if key[0] == topic_id]:
                    for name in self._partitions.pop(key).names:
                        del self._recent[(*key, name)]

    def _of(self, key: PartitionKey) -> PartitionPublishers:
        return self._partitions.setdefault(key, PartitionPublishers())

    def _drop_if_empty(self, key: PartitionKey) -> None:
        publishers = self._partitions[key]
        if not publishers.names and publishers.open_from is None:
            del self._partitions[key]

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        opened = [
            PublishersOpened(*key, publishers.open_from)
            for key, publishers in self._partitions.items()
            if publishers.open_from is not None
        ]
        copied = zip(list(self._recent), list(self._recent.values()), strict=True)  # makes no objects yet
        return chain(opened, (PublisherAdvanced(*key, *last) for key, last in copied))

    # --- reading ------------------------------------------------------------------------------------------

    def get(self, key: PartitionKey) -> PartitionPublishers | None:
        """The publishers of a partition, which may not be durable yet."""
        return self._partitions.get(key)

    def open_partitions(self) -> list[PartitionKey]:
        """The partitions that may have what is not recorded."""
        return [key for key, publishers in self._partitions.items() if publishers.open_from is not None]

    def __len__(self) -> int:
        return len(self._recent)

    # --- writing ------------------------------------------------------------------------------------------

    def open(self, key: PartitionKey, offset: int) -> Promise[None]:
        """Publishers may write to a partition, from this offset on. Done when that is durable. Fails with
        StorageError, as all that follow."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            publishers = self._partitions.get(key)
            is_open = publishers is not None and publishers.open_from is not None
            return () if is_open else (PublishersOpened(*key, offset),), None

        return self.runtime.write(decide)

    def close(self, key: PartitionKey) -> Promise[None]:
        """All that publishers wrote to a partition is recorded."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            publishers = self._partitions.get(key)
            is_open = publishers is not None and publishers.open_from is not None
            return (PublishersClosed(*key),) if is_open else (), None

        return self.runtime.write(decide)

    def advance(self, ids: Sequence[tuple[PartitionKey, str, int, int]]) -> Promise[None]:
        """The events of these publishers up to these ids are durable: (partition, name, id, offset)."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            now_ms = self._clock.wall_ms()
            records: list[msgspec.Struct] = [
                PublisherAdvanced(*key, name, id_, offset, now_ms) for key, name, id_, offset in ids
            ]
            new = {(*key, name) for key, name, _, _ in ids} - self._recent.keys()
            excess = max(0, len(self._recent) + len(new) - PUBLISHERS_MAX)
            used = {(*key, name) for key, name, _, _ in ids}
            if excess:
                idle = (key for key in self._recent if key not in used)
                records.insert(0, PublishersForgotten(tuple(islice(idle, excess))))
            return records, None

        return self.runtime.write(decide)

    def forget_idle(self) -> Promise[int]:
        """Forget publishers that were idle for 7 days, some in each call. The value is their number."""

        def decide() -> tuple[Sequence[msgspec.Struct], int]:
            oldest_ms = self._clock.wall_ms() - IDLE_MS_MAX
            idle = []
            for key in islice(self._recent, FORGOTTEN_OF_WRITE):
                if self._partitions[key[:2]].names[key[2]].time_ms > oldest_ms:
                    break
                idle.append(key)
            return (PublishersForgotten(tuple(idle)),) if idle else (), len(idle)

        return self.runtime.write(decide)

    def end_topic(self, topic_id: UUID) -> Promise[None]:
        """A topic was deleted."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            known = any(key[0] == topic_id for key in self._partitions)
            return (PublishersEnded(topic_id),) if known else (), None

        return self.runtime.write(decide)

    def end_unknown(self, exists: Callable[[UUID], bool]) -> None:
        """Forget the publishers of topics that do not exist, for a start."""
        for topic_id in {key[0] for key in self._partitions}:
            if not exists(topic_id):
                self.end_topic(topic_id)
