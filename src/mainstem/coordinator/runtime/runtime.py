"""Runs the state machines of one state log: decide, record, apply; replies wait for the disk.

Owns: the log (one partition, hidden from clients), its snapshots, and the parked replies. A request is
decided at once against the state in memory. Its records become one batch of the state log, so that all of
them are kept or none, and are applied at once in log order. Only applying a record changes the state of a
machine. Every reply, also of a read or a refusal, waits until all state that it shows is durable. If a commit
fails, every parked reply fails and the state is loaded again from snapshot and log, without what was not
durable.

Refuses: requests while the state is being loaded (StorageError), state of a newer mainstem, damaged state
without a fallback. Doors reach the runtime through the state machines.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.runtime import snapshot
from mainstem.coordinator.runtime.records import RecordCodec, StateDamaged, StateTooNew
from mainstem.coordinator.runtime.snapshots import Snapshots
from mainstem.coordinator.runtime.state_log import STATE_LOG, StateLogKind
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogError, StorageError
from mainstem.log.partition.partition import AppendedBatch, BatchSlice
from mainstem.log.storage import record_batch
from mainstem.promise import Promise
from mainstem.turns import run_in_turns

T = TypeVar("T")

READ_BYTES = 256 << 10
"""Bytes of the state log that are applied in one turn of a reload."""
SNAPSHOT_RECORDS_PER_TURN = 1_000
"""Records of a snapshot that are applied in one turn of a reload."""
RELOAD_RETRY_S = 1.0

log = logging.getLogger(__name__)


class StateMachine(Protocol):
    """A part of the coordinator's state with the records that change it. It does no input or output."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]]
    """The types of its records: subclasses of `records.StateRecord`, each with a tag of its own."""

    def apply(self, record: Any) -> None:
        """Change the state by one record. Nothing else changes it. Must not fail on a record that was written
        before."""

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """Records that build the present state from nothing. They may be consumed in later turns of the event
        loop: they stay those of this moment, whatever is applied meanwhile. The call itself walks over no
        more than references, and takes milliseconds for a million groups."""

    def reset(self) -> None:
        """Forget the state, and fail the requests that wait in the machine. The runtime then loads the state
        again from the state log."""


class StateLog(Protocol):
    """The methods of a `Partition` that the runtime uses."""

    @property
    def log_start_offset(self) -> int: ...
    @property
    def high_watermark(self) -> int: ...
    def append(self, batch: memoryview) -> AppendedBatch: ...
    def when_committed(self, next_offset: int) -> Promise[None]: ...
    def read_blocking(self, offset: int, max_bytes: int) -> BatchSlice: ...
    def delete_records(self, before: int) -> Promise[int]: ...


class Runtime:
    """Runs the state machines of one state log."""

    def __init__(
        self,
        disk: Disk,
        partition: StateLog,
        clock: Clock,
        machines: Sequence[StateMachine],
        kind: StateLogKind = STATE_LOG,
    ) -> None:
        self.kind = kind
        self._disk = disk
        self._partition = partition
        self._clock = clock
        self._machines = machines
        self._codec = RecordCodec([record for machine in machines for record in machine.RECORDS])
        self._apply = {record: machine.apply for machine in machines for record in machine.RECORDS}
        """Record type -> the method of the machine that applies it."""
        self._parked: deque[tuple[int, Promise[Any], Any, CoordinatorError | None]] = deque()
        """(log end on which the reply depends, promise, reply, error), in the order of the log ends."""
        self._end = 0
        """End of the state log: all records below it are applied."""
        self._durable = 0
        """All records below it are durable."""
        self._load_count = 0
        """Rises with each load of the state, so that a commit callback from before the load is ignored."""
        self._snapshots = Snapshots(disk, partition, clock, machines, self._codec, kind)
        self._closed = False
        self.fenced: str | None = "not loaded yet"
        """Why requests are refused; None in normal operation."""
        self.on_reloaded: list[Callable[[], None]] = []
        """Callbacks for after a reload of the state, which follows a failed commit."""

    # --- requests -----------------------------------------------------------------------------------------

    def write(self, decide: Callable[[], tuple[Sequence[msgspec.Struct], T]]) -> Promise[T]:
        """Decide, append and apply at once; the promise has the reply when the records are durable.

        `decide` returns the records and the reply and changes nothing. Without records it is a read. If it
        raises a CoordinatorError, that is the reply; it waits like any reply, because it shows state too.
        Fails with StorageError if the disk refuses the records. Raises none of these errors itself.
        """
        if self.fenced is not None:
            return Promise.failed(StorageError(f"the coordinator is not serving: {self.fenced}"))
        try:
            records, reply = decide()
        except CoordinatorError as error:
            return self._park(None, error)
        if not records:
            return self._park(reply, None)
        try:
            self._append(records)
        except StorageError as error:
            return Promise.failed(error)
        except LogError as error:
            return Promise.failed(
                StorageError(f"the {self.kind.title} refused a batch of {len(records)} records: {error}")
            )
        parked = self._park(reply, None)
        load_count = self._load_count
        self._partition.when_committed(self._end).then(lambda done: self._on_committed(load_count, done))
        if self._snapshots.is_due:
            self.take_snapshot()
        return parked

    def read(self, reply: T) -> Promise[T]:
        """A promise of `reply` that is done when all state that the reply may show is durable."""
        if self.fenced is not None:
            return Promise.failed(StorageError(f"the coordinator is not serving: {self.fenced}"))
        return self._park(reply, None)

    @property
    def all_durable(self) -> bool:
        """Whether requests are accepted and the commit of every record of the state log is done."""
        return self.fenced is None and self._durable >= self._end

    def _append(self, records: Sequence[msgspec.Struct]) -> None:
        now = self._clock.wall_ms()
        encoded = [(None, self._codec.encode(record), (), now) for record in records]
        data = record_batch.build(encoded)
        appended = self._partition.append(memoryview(data))
        assert appended.base_offset >= self._end, "the end of the state log never decreases without a reload"
        self._end = appended.next_offset
        self._snapshots.add_tail(len(data), len(records))
        for record in records:
            self._apply[type(record)](record)

    def _park(self, reply: T | None, error: CoordinatorError | None) -> Promise[Any]:
        if self._durable >= self._end:
            return Promise.resolved(reply) if error is None else Promise.failed(error)
        assert not self._parked or self._parked[-1][0] <= self._end, "replies are parked in log order"
        promise: Promise[Any] = Promise()
        self._parked.append((self._end, promise, reply, error))
        return promise

    def _on_committed(self, load_count: int, done: Promise[None]) -> None:
        if load_count != self._load_count:
            return
        if done.error is not None:
            self._fence(done.error)
            return
        self._durable = max(self._durable, min(self._partition.high_watermark, self._end))
        assert self._durable <= self._end, "only records that were applied become durable"
        while self._parked and self._parked[0][0] <= self._durable:
            _, promise, reply, error = self._parked.popleft()
            if error is None:
                promise.resolve(reply)
            else:
                promise.fail(error)

    # --- a failed commit ----------------------------------------------------------------------------------

    def reload(self, reason: str) -> None:
        """Load the state again, for something that was derived from it is damaged: requests are refused until
        that is done. Records whose commit is under way are kept."""
        if self.fenced is not None or self._closed:
            return
        self.fenced = reason
        load_count = self._load_count

        def on_durable(done: Promise[None]) -> None:
            if done.error is None and load_count == self._load_count:
                self._reload_from_log(reason)

        if self._durable >= self._end:
            self._reload_from_log(reason)
        else:
            self._partition.when_committed(self._end).then(on_durable)

    def _fence(self, error: BaseException) -> None:
        self._reload_from_log(f"a commit of the {self.kind.title} failed ({error})", error)

    def _reload_from_log(self, reason: str, error: BaseException | str = "the state is loaded again") -> None:
        self._load_count += 1
        self._snapshots.abandon()
        self.fenced = reason
        log.error("%s: its requests fail, and the state is loaded again from the log", self.fenced)
        parked, self._parked = self._parked, deque()
        self._clock.call_soon(self._reload)
        for _, promise, _, _ in parked:
            promise.fail(StorageError(f"not durable: {error}"))

    def _reload(self) -> None:
        if not self._closed:
            run_in_turns(self._clock, self._load(), 1).then(lambda done: self._on_reloaded(done.error))

    def _on_reloaded(self, error: BaseException | None) -> None:
        if self._closed:
            return
        if error is not None:
            if not isinstance(error, LogError | OSError):
                raise error
            self.fenced = f"the state cannot be read ({error})"
            log.error(
                "%s: requests for %s fail until it can; next attempt in %.0f s",
                self.fenced,
                self.kind.contents,
                RELOAD_RETRY_S,
            )
            self._clock.call_later(RELOAD_RETRY_S, self._reload)
            return
        log.info(
            "the coordinator serves again: its state is loaded up to offset %d of the %s",
            self._end,
            self.kind.title,
        )
        for callback in self.on_reloaded:
            callback()

    # --- start --------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load the state from the newest snapshot and the log after it. Blocks: for the start only.
        StateDamaged, StateTooNew, OSError."""
        if not self._disk.exists(self.kind.folder):
            # The folder must be durable before a snapshot in it allows to delete records of the log.
            self._disk.make_folder(self.kind.folder)
            self._disk.sync_now([], [""])
        snapshot.remove_leftovers(self._disk, self.kind.folder)
        for _ in self._load():
            pass

    def _load(self) -> Iterator[int]:
        """Load the state. Yields between two turns of the event loop; no request is accepted meanwhile."""
        self._load_count += 1
        self._snapshots.loaded(0)
        offset = yield from self._load_snapshot()
        end = self._partition.high_watermark
        if offset > end:
            self._move_snapshot_back(offset, end)
            offset = end
        while offset < end:
            offset = self._load_slice(offset)
            yield 1
        assert offset == end, "the state is loaded up to the end of the state log"
        self._end = self._durable = end
        self.fenced = None

    def _load_slice(self, offset: int) -> int:
        """Apply the records of some batches from `offset` on. Returns the offset after them."""
        location = f"at offset {offset} of the {self.kind.title}"
        try:
            batches = self._partition.read_blocking(offset, READ_BYTES)
            if batches.next_offset <= offset:
                raise StateDamaged(
                    f"there is no batch {location}, before its end {self._partition.high_watermark}"
                )
            view = memoryview(batches.data)
            records = 0
            for position, header in record_batch.iter_batches(view):
                for record in record_batch.decode(view[position : position + header.total_bytes]):
                    if record.offset >= offset:
                        self._apply_bytes(
                            record.value or b"", f"at offset {record.offset} of the {self.kind.title}"
                        )
                        records += 1
            self._snapshots.add_tail(len(view), records)
        except (StateDamaged, StateTooNew):
            raise
        except LogError as error:
            raise StateDamaged(
                f"the state cannot be read {location}: {error}; {self.kind.contents} are kept there: restore"
                " the data folder from a backup"
            ) from error
        return batches.next_offset

    def _load_snapshot(self) -> Generator[int, None, int]:
        """Apply the newest snapshot that is not damaged. Returns the offset from which the log has to be
        applied."""
        start = self._partition.log_start_offset
        damage: list[str] = []
        for offset in snapshot.offsets(self._disk, self.kind.folder):
            if offset < start:
                break
            path = snapshot.path_of(offset, self.kind.folder)
            self._reset()
            try:
                size = 0
                for number, record in enumerate(snapshot.read(self._disk, path, offset), 1):
                    self._apply_bytes(record, f"in {path}")
                    size += len(record)
                    if number % SNAPSHOT_RECORDS_PER_TURN == 0:
                        yield 1
            except (StateDamaged, OSError) as error:
                damage.append(str(error))
                log.error("%s: not used; trying the snapshot before it and more of the log", error)
                continue
            self._snapshots.loaded(size)
            return offset
        self._reset()
        if start > 0:
            raise StateDamaged(
                f"no snapshot of the state is whole and the {self.kind.title} starts at {start}"
                f" ({'; '.join(damage) or 'there is no snapshot file'}): restore the folder"
                f" {self.kind.folder}/ of the data"
                " folder from a backup; nothing was changed"
            )
        return 0

    def _move_snapshot_back(self, offset: int, end: int) -> None:
        """Write the state as a snapshot at `end`, because the log ends before its snapshot at `offset`: after
        a power cut with `durability=os`, or in a mix of two backups. The snapshot is not damaged, so it is
        valid; but the offsets from `end` on will be assigned again."""
        assert offset > end, "a snapshot is moved back only if the log ends before it"
        log.warning(
            "the %s ends at %d, before the snapshot %d: the snapshot is used, nothing has to be done",
            self.kind.title,
            end,
            offset,
        )
        self._snapshots.write_now(end)
        for later_offset in snapshot.offsets(self._disk, self.kind.folder):
            if later_offset > end:
                self._disk.unlink(snapshot.path_of(later_offset, self.kind.folder))

    def _reset(self) -> None:
        for machine in self._machines:
            machine.reset()

    def _apply_bytes(self, data: bytes | memoryview, location: str) -> None:
        record = self._codec.decode(data, location)
        try:
            self._apply[type(record)](record)
        except (KeyError, ValueError) as error:
            raise StateDamaged(
                f"a state record {location} does not follow from those before it: {error}"
            ) from error

    def take_snapshot(self) -> None:
        """Write the present state to a snapshot file, then delete the records of the log that no snapshot
        needs. Continues in the background; does nothing while another snapshot is being written."""
        if self.fenced is None and not self._closed:
            self._snapshots.take(self._end)

    def close(self) -> None:
        """Refuse further requests. Parked replies are sent when the log's last commit is done."""
        self._closed = True
        self._snapshots.abandon()
        if self.fenced is None:
            self.fenced = "the server is shutting down"
