"""The state of idempotent producers: what each wrote last, so that a batch sent twice is stored once.

Owns: for each producer id of one partition its epoch and its last five batches (sequence numbers and
offsets), and rolling them back when a commit fails. Derived from batch headers alone; `producer_snapshot.py`
stores it. Refuses: handing out ids (the coordinator does) and record timestamps (expiry counts from arrival).

Kafka: ProducerStateManager, ProducerAppendInfo, ProducerStateEntry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mainstem.log.errors import InvalidProducerEpoch, OutOfOrderSequence
from mainstem.log.storage.arrival_index import age_ms
from mainstem.log.storage.record_batch import BatchHeader

WINDOW_BATCHES = 5
"""Batches remembered for each producer: as many as a client keeps in flight (Kafka:
NUM_BATCHES_TO_RETAIN)."""
MAX_SEQUENCE = (1 << 31) - 1


class ProducerBatch(NamedTuple):
    """One of the last batches of a producer: its sequence numbers and offsets."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    next_offset: int
    max_timestamp: int
    """Largest timestamp of its records, ms; with LogAppendTime, the time of the append."""


class ProducerWindow(NamedTuple):
    """The epoch and the last batches of one producer. A window is never changed, only replaced: restoring the
    previous one undoes a failed commit."""

    epoch: int
    batches: tuple[ProducerBatch, ...]
    """The last batches, oldest first; at least one."""
    arrival_ms: int
    """When the last batch arrived, wall-clock ms."""


@dataclass(frozen=True, slots=True)
class ProducerState:
    """What is known of one producer, as DescribeProducers returns it."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp_ms: int


class ProducerWindows:
    """The windows of one partition, by producer id."""

    def __init__(self, expiry_ms: int) -> None:
        self.expiry_ms = expiry_ms
        self._windows: dict[int, ProducerWindow] = {}
        self._undo: deque[tuple[int, int, ProducerWindow | None]] = deque()
        """(next offset, producer id, previous window) of each batch that is not committed yet."""

    def find_duplicate(self, header: BatchHeader, now_ms: int) -> ProducerBatch | None:
        """Return the batch as it was appended first, if this one is a duplicate; None if it may be appended.

        An unknown producer may begin with any sequence, as with Kafka: retention may have removed its earlier
        batches. OutOfOrderSequence, InvalidProducerEpoch."""
        window = self._windows.get(header.producer_id)
        if window is None or age_ms(window.arrival_ms, now_ms) > self.expiry_ms:
            return None
        epoch, first = header.producer_epoch, header.base_sequence
        if epoch == window.epoch:
            expected = (window.batches[-1].last_sequence + 1) & MAX_SEQUENCE
            if first == expected:
                return None
            last = (first + header.last_offset_delta) & MAX_SEQUENCE
            for batch in window.batches:
                if batch.first_sequence == first and batch.last_sequence == last:
                    return batch
            raise OutOfOrderSequence(
                f"producer {header.producer_id} sent sequence {first}, expected {expected}"
            )
        if epoch < window.epoch:
            raise InvalidProducerEpoch(
                f"producer {header.producer_id} is in epoch {window.epoch}; epoch {epoch} has ended"
            )
        if first != 0:
            raise OutOfOrderSequence(
                f"producer {header.producer_id} began epoch {epoch} with sequence {first}, expected 0"
            )
        return None

    def next_sequence(self, producer_id: int) -> int:
        """The sequence number with which the next batch of a producer goes on, in its epoch: for a producer
        that has no other memory of what it wrote, as the server itself."""
        window = self._windows.get(producer_id)
        return 0 if window is None else (window.batches[-1].last_sequence + 1) & MAX_SEQUENCE

    def append(self, header: BatchHeader, base_offset: int, max_timestamp: int, arrival_ms: int) -> None:
        """Note that a batch that passed `find_duplicate` is in the log at `base_offset`, not committed
        yet."""
        producer_id = header.producer_id
        previous = self._windows.get(producer_id)
        next_offset = base_offset + header.last_offset_delta + 1
        first = header.base_sequence
        last = (first + header.last_offset_delta) & MAX_SEQUENCE
        batch = ProducerBatch(first, last, base_offset, next_offset, max_timestamp)
        earlier: tuple[ProducerBatch, ...] = ()
        if (
            previous is not None
            and previous.epoch == header.producer_epoch
            and age_ms(previous.arrival_ms, arrival_ms) <= self.expiry_ms
        ):
            earlier = previous.batches[1 - WINDOW_BATCHES :]
        assert not self._undo or self._undo[-1][0] <= base_offset, "batches are appended in order of offsets"
        self._windows[producer_id] = ProducerWindow(header.producer_epoch, (*earlier, batch), arrival_ms)
        self._undo.append((next_offset, producer_id, previous))

    def commit(self, offset: int) -> None:
        """Note that the batches that end at or before `offset` are committed and can no longer be rolled
        back."""
        undo = self._undo
        while undo and undo[0][0] <= offset:
            undo.popleft()

    def roll_back(self) -> None:
        """Forget all batches that are not committed."""
        while self._undo:
            _, producer_id, previous = self._undo.pop()
            _set_window(self._windows, producer_id, previous)

    def replay(self, header: BatchHeader, arrival_ms: int) -> None:
        """Add a committed batch that was read from the log, in order of offsets. It was validated when it was
        appended."""
        if header.producer_id >= 0 and not header.is_control:
            known = self._windows.get(header.producer_id)
            if known is not None and known.batches[-1].base_offset >= header.base_offset:
                return
            self.append(header, header.base_offset, header.max_timestamp, arrival_ms)
            self._undo.clear()

    def restore(self, producer_id: int, window: ProducerWindow) -> None:
        """Set a window from a snapshot."""
        self._windows[producer_id] = window

    def committed_windows(self) -> dict[int, ProducerWindow]:
        """The windows without uncommitted batches, for a snapshot. A copy: it stays as it is."""
        windows = dict(self._windows)
        for _, producer_id, previous in reversed(self._undo):
            _set_window(windows, producer_id, previous)
        return windows

    def expire(self, producer_id: int, window: ProducerWindow, now_ms: int) -> bool:
        """Whether a producer wrote nothing for longer than the expiry, `window` being what it wrote last. It
        is removed if that is still so."""
        if age_ms(window.arrival_ms, now_ms) <= self.expiry_ms:
            return False
        if self._windows.get(producer_id) is window:  # else it has written again
            del self._windows[producer_id]
        return True

    def states(self, now_ms: int) -> Iterator[ProducerState]:
        """The producers that have not expired, by id."""
        for producer_id, window in sorted(self._windows.items()):
            if age_ms(window.arrival_ms, now_ms) <= self.expiry_ms:
                last = window.batches[-1]
                yield ProducerState(producer_id, window.epoch, last.last_sequence, last.max_timestamp)

    def __len__(self) -> int:
        return len(self._windows)


def _set_window(windows: dict[int, ProducerWindow], producer_id: int, window: ProducerWindow | None) -> None:
    if window is None:
        windows.pop(producer_id, None)
    else:
        windows[producer_id] = window
