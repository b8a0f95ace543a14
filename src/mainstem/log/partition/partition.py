"""One partition: appends batches, makes them readable once they are committed, removes them if that fails.

Owns: the order of the partition's batches, when its offsets move, rolling to new segments, and which requests
are refused. Refuses: topics, names and protocols; syncing (the committer does it); what a batch holds beyond
its header. Reading, looking up, retention and side files have modules of their own, which share `Segments`
and are reached through this class.

Invariant: log_start_offset <= high_watermark <= log_end_offset (asserted in `Segments.set_offsets`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.commit.contract import Committer, PendingWrite
from mainstem.log.config import PartitionConfig
from mainstem.log.disk.contract import File
from mainstem.log.disk.nonblocking_read import LogContext
from mainstem.log.errors import BatchTooLarge, InvalidTimestamp, LogError, PartitionDeleted, StorageError
from mainstem.log.partition import sealed_check, side_files, truncation
from mainstem.log.partition.derived_state import DerivedState
from mainstem.log.partition.index_loading import IndexLoader
from mainstem.log.partition.offset_lookup import OffsetLookup, TimedOffset
from mainstem.log.partition.reader import BatchSlice, PartitionReader
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.log.partition.retention import LogStartLimit, Retention
from mainstem.log.partition.segments import Segments
from mainstem.log.partition.side_files import SideFiles
from mainstem.log.partition.snapshot_file import SnapshotFile
from mainstem.log.partition.watermark_waiters import WatermarkWaiters
from mainstem.log.storage.producer_state import ProducerState
from mainstem.log.storage.record_batch import assign_offsets, validate, validate_age
from mainstem.promise import Promise

__all__ = ["AppendedBatch", "BatchSlice", "Partition", "TimedOffset"]

UNLIMITED_MS = (1 << 63) - 1
log = logging.getLogger(__name__)
_DONE: Promise[None] = Promise.resolved(None)


class AppendedBatch(NamedTuple):
    """Where an appended batch is in the log: the result of `Partition.append`."""

    base_offset: int
    next_offset: int
    log_append_ms: int
    """Wall ms that all its records have as timestamp; -1: they keep their own (CreateTime)."""
    duplicate: bool
    """True: the batch was appended before, and is not appended again; the offsets are those of the first
    time."""


class Partition:
    """One partition of one topic. Implements `commit.contract.CommittedPartition`."""

    __slots__ = (
        "_awaits_epoch", "_clock", "_committer", "_index_loader", "_last_base_offset", "_lookup",
        "_retention", "_side_files", "_snapshot_file", "_truncation_pending", "_waiters", "derived", "epoch",
        "fence_reason", "index", "reader", "segments", "topic_id",
    )  # fmt: skip

    def __init__(
        self,
        context: LogContext,
        committer: Committer,
        topic_id: UUID,
        index: int,
        config: PartitionConfig,
        state: RecoveredState,
    ) -> None:
        """`context`: what all partitions of a log share. Blocks only after an unclean stop. A new partition
        makes its folder at its first append."""
        self.topic_id = topic_id
        self.index = index
        self.epoch = state.epoch
        """Leader epoch of the next batch."""
        self.fence_reason = state.fence_reason
        """Why the partition is read-only; None if it accepts appends."""
        self._clock = context.clock
        self._committer = committer
        self._awaits_epoch = False
        """True: a commit failed, and the epoch that began then is not durable yet; appends are refused."""
        self._truncation_pending = False
        """True: the files still have bytes that were truncated from the log."""
        self._last_base_offset = -1
        """Base offset of the newest batch of this run; -1: there is none."""
        segments = Segments(context, paths.partition_folder(topic_id, index), config, state)
        snapshot_file = SnapshotFile(segments)
        loader = IndexLoader(segments, snapshot_file)
        lookup = OffsetLookup(segments, loader)
        self.segments = segments
        self.reader = PartitionReader(segments, loader)
        self.derived = DerivedState(
            segments, loader, lookup, snapshot_file, start_epoch=state.epoch, was_clean=state.clean
        )
        self._snapshot_file = snapshot_file
        self._index_loader = loader
        self._lookup = lookup
        self._side_files = SideFiles(segments, loader, self.derived, snapshot_file, was_clean=state.clean)
        self._retention = Retention(
            segments,
            lookup,
            self.derived,
            self.reader,
            record_log_start=partial(committer.record_log_start, self),
            roll=self._roll_when_idle,
        )
        self._waiters: WatermarkWaiters[Partition] = WatermarkWaiters(self)
        self._restore(state)

    def _restore(self, state: RecoveredState) -> None:
        """Finish the recovery of the partition. May block."""
        if not state.sealed_as_recorded:
            sealed_check.run(self.segments)
        if state.segments and state.arrivals:
            side_files.restore_arrivals(self.segments, state.arrivals)
        if state.fence_reason is not None:
            return  # a read-only partition needs nothing of the following, and its disk may fail
        replayed_from = state.replayed_segment, state.replayed_position
        if state.segments and not state.clean and replayed_from != self.segments.committed_end:
            # The batches that they follow from are in the page cache now.
            _ = self.derived.windows
            _ = self.derived.epochs
        self.segments.context.run_blocking(self._retention.unlink_below_log_start())

    # --- appending ----------------------------------------------------------------------------------------

    def append(self, batch: memoryview) -> AppendedBatch:
        """Validate one produced batch, set its offsets in place, write it to the page cache and pass it to
        the committer. It is durable and readable when `when_committed(next_offset)` is done.

        Any LogError; then nothing was appended. StorageError: read-only, or the disk failed.
        """
        segments = self.segments
        if self._awaits_epoch or self.fence_reason is not None or segments.deleted:
            raise self._refusal()
        size = len(batch)
        config = segments.config
        if size > config.max_message_bytes or size > config.segment_bytes:
            raise BatchTooLarge(f"a batch of {size} bytes; {config.batch_limit()}")
        header = validate(batch)
        if not segments.accepts_appends:
            self._activate()
        now = wall = self._clock.wall_ms()
        if now < segments.last_arrival_ms:
            now = segments.last_arrival_ms
        if config.log_append_time:
            append_ms, max_timestamp = now, now
        else:
            append_ms, max_timestamp = None, header.max_timestamp
            if max_timestamp > wall + config.timestamp_after_max_ms:
                raise InvalidTimestamp(f"timestamp {max_timestamp} is in the future: now is {wall}")
            if config.timestamp_before_max_ms != UNLIMITED_MS:
                validate_age(header, wall, config.timestamp_before_max_ms)
        if header.producer_id >= 0:
            earlier = self.derived.windows.find_duplicate(header, now)
            if earlier is not None:
                timestamp_ms = earlier.max_timestamp if config.log_append_time else -1
                return AppendedBatch(earlier.base_offset, earlier.next_offset, timestamp_ms, True)
        base_offset = segments.log_end_offset
        next_offset = base_offset + header.last_offset_delta + 1
        if segments.is_active_full(size, next_offset, now):
            self.roll()
        segment = segments.active
        assert segment is not None, "a partition that accepts appends has an active segment"
        position, file = segment.size, segment.writer
        assert file is not None, "the active segment is open for writing"
        if not position:
            segments.active_since_ms = now
        assign_offsets(batch, base_offset, self.epoch, append_ms)
        try:
            file.pwrite(batch, position)
        except OSError as error:
            raise self._undo_write(file, position, error) from error
        segment.extend(position, size)
        relative = base_offset - segment.base_offset
        if segment.index is not None:
            last = relative + header.last_offset_delta
            segment.index.append(last, position, size, max_timestamp, config.index_interval_bytes)
        segment.arrivals.add(now, relative)
        segments.last_arrival_ms = now
        self._last_base_offset = base_offset
        if header.producer_id >= 0:
            self.derived.windows.append(header, base_offset, max_timestamp, now)
        segments.set_offsets(segments.log_start_offset, segments.high_watermark, next_offset)
        self._committer.append(
            PendingWrite(self, batch, base_offset, next_offset, segment.base_offset, position, file, now)
        )
        return AppendedBatch(base_offset, next_offset, -1 if append_ms is None else append_ms, False)

    def _refusal(self) -> LogError:
        if self.segments.deleted:
            return PartitionDeleted("the topic was deleted")
        return StorageError(self.fence_reason or "the last commit failed; its new epoch is not durable yet")

    def _undo_write(self, file: File, position: int, error: OSError) -> StorageError:
        """Cut what a failed write may have left at `position`. If that fails too, fence the partition."""
        try:
            file.truncate(position)
        except OSError as truncate_error:
            self._truncation_pending = True
            self._fence_until_cut(f"a failed write could not be undone: {truncate_error}")
            self._committer.repair(self)
        return self.segments.context.write_error(self.folder, f"writing failed: {error}")

    def _activate(self) -> None:
        """Prepare the first append since the start."""
        segments = self.segments
        try:
            segment = segments.open_active()
            arrivals = segment.arrivals_below(segments.log_end_offset)
        except OSError as error:
            raise segments.context.write_error(self.folder, f"opening the log failed: {error}") from error
        segments.active_since_ms = arrivals.times[0] if arrivals.times else self._clock.wall_ms()
        snapshot = self._snapshot_file.latest
        snapshot_ms = snapshot.last_arrival_ms if snapshot is not None else -1
        segments.last_arrival_ms = max(segments.last_arrival_ms, arrivals.last_ms, snapshot_ms)
        # Loaded before the first append, so that appends are added to them. Later, all that this run has
        # appended would have to be read for them.
        _ = self.derived.windows
        segments.accepts_appends = True
        self.derived.epochs.begin(self.epoch, segments.log_end_offset)
        self._index_loader.load_in_background(segment)

    def _roll_when_idle(self) -> None:
        """As `roll`, also when nothing was appended since the start."""
        if not self.segments.accepts_appends:
            self._activate()
        self.roll()

    def roll(self) -> None:
        """Seal the active segment and begin a new one; an empty one stays active. StorageError: nothing has
        changed."""
        segments = self.segments
        sealed = segments[-1]
        if not sealed.size:
            return
        old_writer = sealed.writer
        try:
            new = segments.create()
        except OSError as error:
            raise segments.context.write_error(self.folder, f"making a segment failed: {error}") from error
        sealed.writer = None
        sealed.arrivals.seal(self._last_base_offset - sealed.base_offset)
        if sealed.index is not None:
            sealed.index.add_time_entry()
            sealed.max_timestamp = sealed.index.max_timestamp
        else:
            segments.mark_side_files_incomplete(sealed)
            self._index_loader.load_in_background(sealed)
        assert old_writer is not None, "a segment is sealed after it was open for writing"
        assert new.writer is not None, "a new segment is open for writing"
        self._on_writer_replaced(old_writer, new.writer)
        self._side_files.save_sealed(sealed)

    def _on_writer_replaced(self, old: File, new: File) -> None:
        self._committer.segment_rolled(self, old, new)

    # --- for the committer (commit.contract.CommittedPartition) -------------------------------------------

    def on_committed(self, offset: int, segment: int, position: int) -> None:
        """See `CommittedPartition`."""
        segments = self.segments
        assert segments.high_watermark <= offset, "the high watermark only rises"
        assert segments.committed_segment <= segment, "the committed end only moves forward"
        segments.set_offsets(segments.log_start_offset, offset, segments.log_end_offset)
        segments.committed_segment = segment
        segments.committed_position = position
        windows = self.derived.loaded_windows
        if windows is not None:
            windows.commit(offset)
        self._waiters.advance(offset)

    def roll_back(self) -> None:
        """See `CommittedPartition`."""
        self._awaits_epoch = True
        self._truncate()
        self.epoch += 1
        self.derived.epochs.begin(self.epoch, self.segments.high_watermark)
        self._waiters.fail(StorageError("the commit failed; its batches were removed from the log"))

    def resume(self) -> None:
        """See `CommittedPartition`."""
        self._awaits_epoch = False

    def fence(self, reason: str) -> None:
        """See `CommittedPartition`."""
        self.fence_reason = reason
        self._waiters.fail(StorageError(reason))
        self._waiters.notify_watchers()

    def unfence(self) -> None:
        """See `CommittedPartition`. If that cuts uncommitted batches, `resume()` must follow."""
        self.fence_reason = None
        if self.segments.log_end_offset > self.segments.high_watermark:
            self.roll_back()
        elif self._truncation_pending:
            self._truncate()

    def save_side_files(self) -> None:
        """See `CommittedPartition`."""
        self._side_files.save_at_checkpoint()

    def checkpoint_row(self) -> CheckpointRow:
        """See `CommittedPartition`."""
        segments = self.segments
        return CheckpointRow(
            self.topic_id,
            self.index,
            self.epoch,
            segments.requested_log_start,
            *segments.committed_end,
            segments.high_watermark,
            segments.sealed_before_committed_end(),
        )

    def _truncate(self) -> None:
        """Make the log end at the high watermark. If its files cannot be cut, the partition is fenced, and
        this is done again before it accepts appends; the committer, which asked for it, repairs it."""
        self.segments.truncate_to_watermark()
        self.derived.truncate_to_watermark()
        self.reader.forget_cursors()
        self._truncation_pending = True
        try:
            truncation.truncate_files(self.segments, self._index_loader, self._on_writer_replaced)
            self._truncation_pending = False
        except OSError as error:
            self._fence_until_cut(f"uncommitted bytes could not be cut: {error}")

    def _fence_until_cut(self, reason: str) -> None:
        log.error("%s: read-only, appends fail: %s", self.folder, reason)
        self.fence(reason)

    # --- offsets and settings -----------------------------------------------------------------------------

    @property
    def log_start_offset(self) -> int:
        """The first offset that may be read."""
        return self.segments.log_start_offset

    @property
    def high_watermark(self) -> int:
        """The offset after the last committed record."""
        return self.segments.high_watermark

    @property
    def log_end_offset(self) -> int:
        """The offset that the next appended record will get. Those below it need not be committed yet."""
        return self.segments.log_end_offset

    @property
    def config(self) -> PartitionConfig:
        """The topic's settings. May be replaced at any time."""
        return self.segments.config

    @config.setter
    def config(self, config: PartitionConfig) -> None:
        self.segments.config = config

    @property
    def folder(self) -> str:
        """Path of the partition's folder."""
        return self.segments.folder

    @property
    def deleted(self) -> bool:
        """Whether the topic was deleted."""
        return self.segments.deleted

    # --- waiting ------------------------------------------------------------------------------------------

    def when_committed(self, next_offset: int) -> Promise[None]:
        """A promise that is done when the high watermark has reached `next_offset`. It fails with
        StorageError if the commit of the appends before `next_offset` fails, with PartitionDeleted if the
        topic is deleted."""
        segments = self.segments
        if next_offset <= segments.high_watermark:
            return _DONE
        if self.fence_reason is not None or segments.deleted or next_offset > segments.log_end_offset:
            return Promise.failed(self._refusal())
        return self._waiters.wait_for(next_offset)

    def watch(self, callback: Callable[[Partition], None]) -> None:
        """Call `callback` after each move of the high watermark, and when the partition is fenced or deleted.
        It may unwatch itself."""
        self._waiters.watch(callback)

    def unwatch(self, callback: Callable[[Partition], None]) -> None:
        """Do not call `callback` any more. Harmless if it does not watch."""
        self._waiters.unwatch(callback)

    # --- reading ------------------------------------------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, *, past_watermark: bool = False
    ) -> BatchSlice | Promise[BatchSlice]:
        """Whole batches from the one that holds `offset` on, as they are on disk, of one segment: at most
        `max_bytes`, but at least one batch if there is one below the high watermark. The first may begin
        before `offset`. Empty at the high watermark. At once if the page cache has them.

        OffsetOutOfRange; CorruptBatch: there is damage at `offset`, and the message names the next readable
        offset; StorageError. A promise fails with the same errors.
        """
        return self.reader.read(offset, max_bytes, past_watermark)

    def read_blocking(self, offset: int, max_bytes: int, *, past_watermark: bool = False) -> BatchSlice:
        """As `read`, but waits for the disk. For start-up and tests."""
        return self.reader.read_blocking(offset, max_bytes, past_watermark)

    def available_bytes(self, offset: int) -> int:
        """About how many bytes lie between `offset` and the high watermark. Reads nothing."""
        return self.reader.available_bytes(offset)

    def byte_ranges(self, from_offset: int, to_offset: int) -> list[tuple[str, int, int]]:
        """(path, from, to) of bytes that hold the offsets from `from_offset` to before `to_offset` and little
        more: batch boundaries, never past the high watermark. May block for index files."""
        return self.reader.byte_ranges(from_offset, to_offset)

    def size_bytes(self) -> int:
        """Bytes of log on disk."""
        return self.segments.size_bytes()

    # --- looking up ---------------------------------------------------------------------------------------

    def offset_for_time(self, timestamp_ms: int) -> Promise[TimedOffset | None]:
        """The first record whose own timestamp is at or after `timestamp_ms`; None if there is none."""
        return self.segments.context.run_later(self._lookup.offset_for_time(timestamp_ms))

    def offset_of_max_timestamp(self) -> Promise[TimedOffset | None]:
        """The first record with the largest timestamp; None if the partition is empty."""
        return self.segments.context.run_later(self._lookup.offset_of_max_timestamp())

    def offset_for_arrival(self, wall_ms: int) -> int:
        """The first offset that arrived at `wall_ms` or later, at most a second early; the high watermark if
        none did."""
        return self._lookup.offset_for_arrival(wall_ms)

    def arrival_of(self, offset: int) -> int:
        """Wall ms at which `offset` arrived, at most a second early; -1: not known."""
        return self._lookup.arrival_of(offset)

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        """Kafka's OffsetForLeaderEpoch: see `LeaderEpochs.end_offset`."""
        return self.derived.epochs.end_offset(epoch, self.segments.high_watermark)

    def epoch_at_start(self) -> int:
        """The leader epoch of the first offset that may be read; of the next batch, if there is none."""
        segments = self.segments
        if segments.log_start_offset >= segments.high_watermark:
            return self.epoch
        return self.derived.epochs.epoch_at(segments.log_start_offset)

    def producers(self) -> list[ProducerState]:
        """The idempotent producers that are known, by id."""
        return list(self.derived.windows.states(self._clock.wall_ms()))

    # --- deleting -----------------------------------------------------------------------------------------

    def delete_records(self, before: int) -> Promise[int]:
        """Delete the records before offset `before` (-1: all that are committed). Returns the new log start
        offset, once it is durable. OffsetOutOfRange."""
        return self._retention.delete_records(before)

    def enforce_retention(self, limit: LogStartLimit | None = None) -> Promise[int]:
        """Seal the active segment if it is old enough, and delete whole segments that are older or more than
        the topic's settings allow, if `limit` does not keep them. Returns the number of bytes deleted."""
        if self.segments.deleted or self.fence_reason is not None or not self.segments:
            return Promise.resolved(0)
        return self._retention.enforce(limit)

    def preview_log_start(self, config: PartitionConfig, limit: LogStartLimit | None = None) -> Promise[int]:
        """The log start offset that `enforce_retention` would set now if the topic had this `config`.
        Changes nothing."""
        return self._retention.preview_log_start(config, limit)

    def delete(self) -> None:
        """The topic is deleted: refuse all requests, and fail those that wait. `Log` deletes the files."""
        self.segments.deleted = True
        self._waiters.fail(PartitionDeleted("the topic was deleted"))
        self._waiters.notify_watchers()
        for segment in self.segments:
            segment.mark_deleted()

    def release(self) -> None:
        """Close the files of a deleted partition once the committer has forgotten it."""
        for segment in self.segments:
            segment.close_writer()

    def close(self) -> None:
        """Write index files and snapshot at a clean stop, after the last commit. Blocks."""
        self._side_files.save_at_stop()
