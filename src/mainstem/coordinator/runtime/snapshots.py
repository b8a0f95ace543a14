"""Takes the snapshots of a state log while the coordinator serves: a slice in each turn of the event loop.

Owns: when a snapshot is due, the one that is being written, and what is deleted after it. Its records are
those of the state at one offset of the state log, whatever is applied while they are written; the file gets
its name when that state and the file are durable. Refuses: to fail: what cannot be written is tried again
when the log has grown. The format is `snapshot.py`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.runtime import snapshot
from mainstem.coordinator.runtime.records import RecordCodec
from mainstem.coordinator.runtime.snapshot import SnapshotWriter
from mainstem.coordinator.runtime.state_log import StateLogKind
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogError
from mainstem.promise import Promise
from mainstem.turns import run_in_turns

TAIL_BYTES = 16 << 20
TAIL_RECORDS = 100_000
"""The least bytes or records of the state log after which a snapshot is taken. The tail must be as large as
the last snapshot, too: so each byte of the log costs at most one byte of snapshots, however large the state
is."""
SLICE_BYTES = 64 << 10
"""Bytes of records that are encoded and written in one turn of the loop, and one record more. About 1,000
committed offsets, 3 ms."""

log = logging.getLogger(__name__)


class Snapshotted(Protocol):
    """The part of a state machine that is written to snapshots."""

    def snapshot(self) -> Iterable[msgspec.Struct]: ...


class SnapshotLog(Protocol):
    """The methods of the state log's `Partition` that snapshots use."""

    def when_committed(self, next_offset: int) -> Promise[None]: ...
    def delete_records(self, before: int) -> Promise[int]: ...


class Snapshots:
    """The snapshots of one state log."""

    def __init__(
        self,
        disk: Disk,
        partition: SnapshotLog,
        clock: Clock,
        machines: Sequence[Snapshotted],
        codec: RecordCodec,
        kind: StateLogKind,
    ) -> None:
        self._disk = disk
        self._kind = kind
        self._partition = partition
        self._clock = clock
        self._machines = machines
        self._codec = codec
        self._tail_bytes = self._tail_records = 0
        self._last_bytes = 0
        """Size of the last snapshot."""
        self._writer: SnapshotWriter | None = None
        """The snapshot that is being written."""
        self._syncing: SnapshotWriter | None = None
        """The snapshot whose file is being synced: it is discarded after that, not before."""

    def loaded(self, last_bytes: int) -> None:
        """The state is being loaded from a snapshot of `last_bytes`; `add_tail` follows for the log after
        it."""
        self.abandon()
        self._tail_bytes = self._tail_records = 0
        self._last_bytes = last_bytes

    def add_tail(self, size: int, records: int) -> None:
        """Note that `size` bytes with `records` records of the state log are not in the last snapshot."""
        self._tail_bytes += size
        self._tail_records += records

    @property
    def is_due(self) -> bool:
        """Whether the tail of the log is large enough for another snapshot."""
        is_long = self._tail_bytes >= TAIL_BYTES or self._tail_records >= TAIL_RECORDS
        return is_long and self._tail_bytes >= self._last_bytes

    def take(self, offset: int) -> None:
        """Write the present state, which is that of the log below `offset`. Then delete the records of the
        log that no snapshot needs. Does nothing while another snapshot is being written."""
        if self._writer is not None:
            return
        self._tail_bytes = self._tail_records = 0
        try:
            writer = self._writer = SnapshotWriter(self._disk, offset, self._kind.folder)
        except OSError as error:
            self._log_not_written(offset, error)
            return
        written = run_in_turns(self._clock, self._write_slices(writer), 1)
        written.then(lambda done: self._on_written(writer, done.error))

    def write_now(self, offset: int) -> None:
        """As `take`, at a start: blocks until the snapshot is durable. OSError."""
        writer = SnapshotWriter(self._disk, offset, self._kind.folder)
        for records in self._slices():
            writer.add(records)
        writer.finish()
        self._disk.sync_now([writer.file])
        writer.publish()
        self._disk.sync_now([], [self._kind.folder])
        self._last_bytes = writer.bytes

    def abandon(self) -> None:
        """Stop writing the snapshot that is being written, if there is one."""
        writer, self._writer = self._writer, None
        if writer is not None and writer is not self._syncing:
            _discard(writer)

    # --- one snapshot -------------------------------------------------------------------------------------

    def _slices(self) -> Iterator[list[bytes]]:
        """The encoded records of the present state, in slices."""
        records = chain.from_iterable([machine.snapshot() for machine in self._machines])
        encoded: list[bytes] = []
        size = 0
        for record in records:
            encoded.append(self._codec.encode(record))
            size += max(len(encoded[-1]), getattr(record, "COST_BYTES", 0))
            if size >= SLICE_BYTES:
                yield encoded
                encoded, size = [], 0
        yield encoded

    def _write_slices(self, writer: SnapshotWriter) -> Iterator[int]:
        for records in self._slices():
            if writer is not self._writer:
                return
            writer.add(records)
            yield 1

    def _on_written(self, writer: SnapshotWriter, error: BaseException | None) -> None:
        if isinstance(error, OSError | LogError):
            self._give_up(writer, error)
        elif error is not None:
            raise error
        elif writer is self._writer:
            committed = self._partition.when_committed(writer.offset)
            committed.then(lambda done: self._sync(writer, done.error))

    def _sync(self, writer: SnapshotWriter, error: BaseException | None) -> None:
        """Sync the file; all that it shows is durable."""
        if writer is not self._writer:
            return
        if error is not None:  # the state is loaded again, and the log says why
            self.abandon()
            return
        try:
            writer.finish()
        except OSError as failure:
            self._give_up(writer, failure)
            return
        self._syncing = writer
        self._disk.sync([writer.file], background=True).then(lambda done: self._on_synced(writer, done.error))

    def _on_synced(self, writer: SnapshotWriter, error: BaseException | None) -> None:
        if self._syncing is writer:
            self._syncing = None
        if writer is not self._writer:
            _discard(writer)
            return
        try:
            if error is not None:
                raise error
            writer.publish()
        except OSError as failure:
            self._give_up(writer, failure)
            return
        self._disk.sync([], [self._kind.folder], background=True).then(
            lambda done: self._on_durable(writer, done.error)
        )

    def _give_up(self, writer: SnapshotWriter, error: BaseException) -> None:
        if writer is self._writer:
            self._writer = None
            _discard(writer)
            self._log_not_written(writer.offset, error)

    def _on_durable(self, writer: SnapshotWriter, error: BaseException | None) -> None:
        if writer is self._writer:
            self._writer = None
            self._last_bytes = writer.bytes
        if error is not None:
            self._log_not_written(writer.offset, error)
            return
        try:
            offsets = snapshot.offsets(self._disk, self._kind.folder)
            for old_offset in offsets[snapshot.SNAPSHOTS_KEPT :]:
                self._disk.unlink(snapshot.path_of(old_offset, self._kind.folder))
            if len(offsets) >= snapshot.SNAPSHOTS_KEPT:
                oldest_kept = offsets[snapshot.SNAPSHOTS_KEPT - 1]
                assert oldest_kept <= writer.offset, "the state log is deleted only below a durable snapshot"
                self._partition.delete_records(oldest_kept).then(lambda done: self._log_long_log(done.error))
        except (LogError, OSError) as failure:
            self._log_long_log(failure)

    def _log_not_written(self, offset: int, error: BaseException) -> None:
        log.error(
            "the snapshot of the %s at %d was not written (%s): the log grows until one is",
            self._kind.title,
            offset,
            error,
        )

    def _log_long_log(self, error: BaseException | None) -> None:
        if error is not None:
            log.error("the %s keeps records that no snapshot needs: %s", self._kind.title, error)


def _discard(writer: SnapshotWriter) -> None:
    with contextlib.suppress(OSError):  # a start removes what is left
        writer.discard()
