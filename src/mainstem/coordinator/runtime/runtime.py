"""The runtime of the coordinator's state machines: decide, record, apply; replies wait for the disk.

Owns: the state log (one partition, hidden from clients), its snapshots, and the parked replies. A request
is decided at once against the state in memory; its records become one batch of the state log, so that they
hold together or not at all; they are applied at once, in log order. Nothing but applying a record changes
what a machine remembers. A reply, also a read's and a refusal's, is given only when all that it shows is
durable. If a commit fails, every parked reply fails and the state is built again from snapshot and log:
what was not durable never was.

Refuses: work while it is being rebuilt (StorageError), state of a newer mainstem, damaged state without a
fallback. Machines and the node call it; doors reach it through the machines.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.runtime import snapshot
from mainstem.coordinator.runtime.records import RecordCodec, StateDamaged, StateTooNew
from mainstem.log.disk.contract import Buffer, Disk
from mainstem.log.errors import LogError, StorageError
from mainstem.log.storage import record_batch as batches
from mainstem.promise import Promise

T = TypeVar("T")

SNAPSHOT_TAIL_BYTES = 16 << 20
SNAPSHOT_TAIL_RECORDS = 100_000
SNAPSHOT_SLICE_RECORDS = 2_000
READ_BYTES = 4 << 20
RELOAD_RETRY_S = 1.0

log = logging.getLogger(__name__)


class StateMachine(Protocol):
    """A pure state machine. It knows no clock, disk or socket; time and randomness come in with each call."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]]
    """Its records: subclasses of `records.StateRecord`, each with a tag that no other machine has."""

    def apply(self, record: Any) -> None:
        """Change what is remembered. The only place that does. Must not fail on a record that was written
        before."""

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """Records that build what is remembered now, from nothing. Consumed before it returns to the loop."""

    def reset(self) -> None:
        """Forget everything, soft state and parked requests too: a load, or a reload after a failed commit,
        follows."""


class StateLogAppend(Protocol):
    """Where a batch went (`log.partition.AppendedBatch`)."""

    @property
    def base_offset(self) -> int: ...
    @property
    def next_offset(self) -> int: ...


class StateLogSlice(Protocol):
    """Whole batches (`log.partition.BatchSlice`)."""

    @property
    def data(self) -> Buffer: ...
    @property
    def next_offset(self) -> int: ...


class StateLog(Protocol):
    """What the runtime needs of the state partition; `log.partition.Partition` has it."""

    @property
    def log_start_offset(self) -> int: ...
    @property
    def high_watermark(self) -> int: ...
    def append(self, batch: memoryview) -> StateLogAppend: ...
    def when_committed(self, next_offset: int) -> Promise[None]: ...
    def read_blocking(self, offset: int, max_bytes: int) -> StateLogSlice: ...
    def delete_records(self, before: int) -> Promise[int]: ...


class Runtime:
    """Runs the machines on the state log."""

    def __init__(
        self, disk: Disk, partition: StateLog, clock: Clock, machines: Sequence[StateMachine]
    ) -> None:
        self._disk = disk
        self._partition = partition
        self._clock = clock
        self._machines = machines
        self._codec = RecordCodec([kind for machine in machines for kind in machine.RECORDS])
        self._apply = {kind: machine.apply for machine in machines for kind in machine.RECORDS}
        self._parked: deque[tuple[int, Promise[Any], Any, CoordinatorError | None]] = deque()
        self._end = 0
        self._durable = 0
        self._load_count = 0
        self._tail_bytes = 0
        self._tail_records = 0
        self._snapshotting = False
        self._closed = False
        self.fenced: str | None = "not loaded yet"
        """Why nothing is served now; None in normal work. Health shows it."""
        self.on_reloaded: list[Callable[[], None]] = []
        """Called after the state was built again because a commit failed."""

    # --- requests -----------------------------------------------------------------------------------------

    def write(self, decide: Callable[[], tuple[Sequence[msgspec.Struct], T]]) -> Promise[T]:
        """Decide now, append, apply, and give the reply when it is durable. Never raises what it can fail
        with.

        `decide` returns the records and the reply and changes nothing. A CoordinatorError that it raises is
        the reply, and waits as a reply does, for it too tells of state. Fails with StorageError when the
        disk refuses. No records: a read.
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
                StorageError(f"the state log refused a batch of {len(records)} records: {error}")
            )
        later = self._park(reply, None)
        life = self._load_count
        self._partition.when_committed(self._end).then(lambda done: self._committed(life, done))
        if self._tail_bytes >= SNAPSHOT_TAIL_BYTES or self._tail_records >= SNAPSHOT_TAIL_RECORDS:
            self.take_snapshot()
        return later

    def read(self, reply: T) -> Promise[T]:
        """`reply`, as soon as all state that it may show is durable: at once when nothing is pending."""
        if self.fenced is not None:
            return Promise.failed(StorageError(f"the coordinator is not serving: {self.fenced}"))
        return self._park(reply, None)

    @property
    def all_durable(self) -> bool:
        """Everything that the machines show now is durable, and they serve."""
        return self.fenced is None and self._durable >= self._end

    def _append(self, records: Sequence[msgspec.Struct]) -> None:
        now = self._clock.wall_ms()
        encoded = [(None, self._codec.encode(record), (), now) for record in records]
        data = batches.build(encoded)
        appended = self._partition.append(memoryview(data))
        assert appended.base_offset >= self._end, "the state log went back without telling"
        self._end = appended.next_offset
        self._tail_bytes += len(data)
        self._tail_records += len(records)
        for record in records:
            self._apply[type(record)](record)

    def _park(self, reply: T | None, error: CoordinatorError | None) -> Promise[Any]:
        if self._durable >= self._end:
            return Promise.resolved(reply) if error is None else Promise.failed(error)
        later: Promise[Any] = Promise()
        self._parked.append((self._end, later, reply, error))
        return later

    def _committed(self, life: int, done: Promise[None]) -> None:
        if life != self._load_count:
            return
        if done.error is not None:
            self._fence(done.error)
            return
        self._durable = max(self._durable, min(self._partition.high_watermark, self._end))
        while self._parked and self._parked[0][0] <= self._durable:
            _, later, reply, error = self._parked.popleft()
            if error is None:
                later.resolve(reply)
            else:
                later.fail(error)

    # --- a failed commit ----------------------------------------------------------------------------------

    def _fence(self, error: BaseException) -> None:
        self._load_count += 1
        self.fenced = f"a commit of the state log failed ({error})"
        log.error("%s: the state is built again from the log", self.fenced)
        parked, self._parked = self._parked, deque()
        self._clock.call_soon(self._reload)
        for _, later, _, _ in parked:
            later.fail(StorageError(f"not durable: {error}"))

    def _reload(self) -> None:
        if self._closed:
            return
        try:
            self._load()
        except (LogError, OSError) as error:
            self.fenced = f"the state cannot be read ({error})"
            log.error("%s: trying again in %.0f s", self.fenced, RELOAD_RETRY_S)
            self._clock.call_later(RELOAD_RETRY_S, self._reload)
            return
        log.info("the state is whole again, at offset %d of the state log", self._end)
        for callback in self.on_reloaded:
            callback()

    # --- start --------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Build the state from snapshot and tail. Blocks; at the start only. StateDamaged, StateTooNew,
        OSError."""
        if not self._disk.exists(snapshot.FOLDER):
            # Its entry must be durable before a snapshot in it lets the log be shortened.
            self._disk.make_folder(snapshot.FOLDER)
            self._disk.sync_now([], [""])
        snapshot.remove_leftovers(self._disk)
        self._load()

    def _load(self) -> None:
        self._load_count += 1
        self._tail_bytes = self._tail_records = 0
        at = self._load_snapshot()
        end = self._partition.high_watermark
        if at > end:
            self._move_snapshot_back(at, end)
            at = end
        while at < end:
            at = self._load_slice(at)
        self._end = self._durable = end
        self.fenced = None

    def _load_slice(self, at: int) -> int:
        where = f"at offset {at} of the state log"
        try:
            data = self._partition.read_blocking(at, READ_BYTES)
            if data.next_offset <= at:
                raise StateDamaged(
                    f"the state log gives nothing {where}, before its end {self._partition.high_watermark}"
                )
            view = memoryview(data.data)
            self._tail_bytes += len(view)
            for position, header in batches.iter_batches(view):
                for record in batches.decode(view[position : position + header.total_bytes]):
                    if record.offset >= at:
                        self._apply_bytes(record.value or b"", f"at offset {record.offset} of the state log")
                        self._tail_records += 1
        except (StateDamaged, StateTooNew):
            raise
        except LogError as error:
            raise StateDamaged(
                f"the state log cannot be read {where}: {error}; topics, groups and offsets are kept"
                " there: restore"
                " the data folder from a backup"
            ) from error
        return data.next_offset

    def _load_snapshot(self) -> int:
        """Apply the newest good snapshot; the offset from which the log has to be applied."""
        start = self._partition.log_start_offset
        damage: list[str] = []
        for offset in snapshot.offsets(self._disk):
            if offset < start:
                break
            path = snapshot.path_of(offset)
            self._reset()
            try:
                for record in snapshot.unpack(self._disk.read_all(path), offset, path):
                    self._apply_bytes(record, f"in {path}")
            except (StateDamaged, OSError) as error:
                damage.append(str(error))
                log.error("%s: refused; trying the one before it, with a longer tail of the log", error)
                continue
            return offset
        self._reset()
        if start > 0:
            raise StateDamaged(
                f"no snapshot of the state is whole and the state log starts at {start}"
                f" ({'; '.join(damage) or 'there is no snapshot file'}): restore the folder"
                f" {snapshot.FOLDER}/ of the data"
                " folder from a backup; nothing was changed"
            )
        return 0

    def _move_snapshot_back(self, at: int, end: int) -> None:
        """The log ends before its snapshot: a power cut with `durability=os`, or two backups mixed. The
        snapshot is whole, so it counts; but offsets from `end` on will be given again, so it has to stand
        at `end`."""
        log.warning(
            "the state log ends at %d, before its snapshot at %d: going on with the snapshot", end, at
        )
        encoded = [self._codec.encode(record) for record in self._records()]
        data = snapshot.pack(end, len(encoded), [snapshot.frame(encoded)])
        self._disk.replace_now(snapshot.path_of(end), data)
        for offset in snapshot.offsets(self._disk):
            if offset > end:
                self._disk.unlink(snapshot.path_of(offset))

    def _reset(self) -> None:
        for machine in self._machines:
            machine.reset()

    def _apply_bytes(self, data: bytes | memoryview, where: str) -> None:
        record = self._codec.decode(data, where)
        self._apply[type(record)](record)

    # --- snapshot -----------------------------------------------------------------------------------------

    def _records(self) -> list[msgspec.Struct]:
        return [record for machine in self._machines for record in machine.snapshot()]

    def take_snapshot(self) -> None:
        """Write what is remembered now, then drop the log before the snapshot before it. Goes on in the
        background.

        The records are taken at once (they are immutable), encoded in slices, and published when all that
        they show is durable. Nothing happens when one is being taken already.
        """
        if self._snapshotting or self.fenced is not None or self._closed:
            return
        self._snapshotting = True
        self._tail_bytes = self._tail_records = 0
        self._encode(self._load_count, self._end, self._records(), 0, [])

    def _encode(
        self, life: int, offset: int, records: list[msgspec.Struct], at: int, parts: list[bytes]
    ) -> None:
        if life != self._load_count:
            self._snapshotting = False
            return
        until = at + SNAPSHOT_SLICE_RECORDS
        parts.append(snapshot.frame([self._codec.encode(record) for record in records[at:until]]))
        if until < len(records):
            self._clock.call_soon(lambda: self._encode(life, offset, records, until, parts))
            return
        data = snapshot.pack(offset, len(records), parts)
        self._partition.when_committed(offset).then(lambda done: self._publish(done, offset, data))

    def _publish(self, done: Promise[None], offset: int, data: bytes) -> None:
        if done.error is not None:
            self._snapshotting = False
            return
        try:
            written = self._disk.replace(snapshot.path_of(offset), data)
        except OSError as error:
            written = Promise.failed(error)
        written.then(lambda result: self._published(result, offset))

    def _published(self, result: Promise[None], offset: int) -> None:
        self._snapshotting = False
        if result.error is not None:
            log.error(
                "the snapshot of the state at %d was not written (%s): the log is kept", offset, result.error
            )
            return
        try:
            kept = snapshot.offsets(self._disk)[: snapshot.SNAPSHOTS_KEPT]
            for old in snapshot.offsets(self._disk)[snapshot.SNAPSHOTS_KEPT :]:
                self._disk.unlink(snapshot.path_of(old))
            if len(kept) == snapshot.SNAPSHOTS_KEPT:
                self._partition.delete_records(kept[-1]).then(self._shortened)
        except (LogError, OSError) as error:
            log.error("the state log was not shortened: %s", error)

    @staticmethod
    def _shortened(result: Promise[int]) -> None:
        if result.error is not None:
            log.error("the state log was not shortened: %s", result.error)

    def close(self) -> None:
        """Take no more requests. What is parked is answered when the log's last commit is done."""
        self._closed = True
        if self.fenced is None:
            self.fenced = "the server is shutting down"
