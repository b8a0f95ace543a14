"""One partition: appending, and what the commit does with it.

Owns: the order of a partition's events, its offsets, the watermark, the segments and their rolling, and the
way back when a commit fails. Refuses: topics, names, protocols; syncing (the committer does it); what a
batch holds beyond its header. Reading, looking up and retention live in modules of those names and are
reached through here. Made by `log.py`; called by the Kafka door, the embedded engine and the coordinator.

Invariant: log_start_offset <= high_watermark <= log_end_offset.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from mainstem.clock import Clock
from mainstem.log import paths
from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.commit.contract import Committer
from mainstem.log.config import PartitionConfig
from mainstem.log.disk.contract import Disk, File
from mainstem.log.disk.nonblocking_read import LogContext
from mainstem.log.errors import BatchTooLarge, InvalidTimestamp, LogError, PartitionDeleted, StorageError
from mainstem.log.partition import index_loading, offset_lookup, retention, side_files, truncation
from mainstem.log.partition.derived_state import DerivedState
from mainstem.log.partition.offset_lookup import TimedOffset
from mainstem.log.partition.reader import BatchSlice, PartitionReader
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.log.partition.watermark_waiters import WatermarkWaiters
from mainstem.log.storage.index import MAX_RELATIVE_OFFSET, SegmentIndex
from mainstem.log.storage.producer_state import ProducerState
from mainstem.log.storage.record_batch import assign_offsets, validate, validate_age
from mainstem.log.storage.segment import Segment
from mainstem.promise import Promise

__all__ = ["AppendedBatch", "BatchSlice", "Partition", "TimedOffset"]

_base_offset = attrgetter("base_offset")
UNLIMITED_MS = (1 << 63) - 1
log = logging.getLogger(__name__)
_DONE: Promise[None] = Promise.resolved(None)


class AppendedBatch(NamedTuple):
    """Where a batch is in the log."""

    base_offset: int
    next_offset: int
    log_append_ms: int
    """Wall ms that all its records have as timestamp; -1: they keep their own (CreateTime)."""
    duplicate: bool
    """It had been appended before; the offsets are those of then."""


class Partition:
    """One partition of one topic. Implements `commit.contract.CommittedPartition`."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        committer: Committer,
        topic_id: UUID,
        index: int,
        config: PartitionConfig,
        state: RecoveredState,
        context: LogContext | None = None,
    ) -> None:
        """`shared`: open files and loaded indexes, one for all partitions of a log. Touches the disk only
        after an unclean stop; a new partition makes its folder at its first append."""
        self.context = context or LogContext(disk, clock)
        self.topic_id = topic_id
        self.index = index
        self.config = config
        """Of the topic; may be replaced at any time."""
        self.epoch = state.epoch
        self.log_start_offset = state.log_start
        self.log_start_requested = state.log_start
        """What the committer was asked to make durable, at least `log_start_offset`."""
        self.high_watermark = state.end_offset
        self.log_end_offset = state.end_offset
        self.fenced = state.fenced
        """Why it is read-only; None in normal work."""
        self.deleted = False
        self.folder = paths.partition_folder(topic_id, index)
        sizes = [*(None for _ in state.segments[:-1]), state.end_position]
        self.segments = [
            Segment(self.context, self.folder, base, size)
            for base, size in zip(state.segments, sizes, strict=False)
        ]
        """By base offset; the last one is active."""
        self.truncation_count = 0  # what was read before one may not be there any more
        self.truncation_pending = False  # the files still have what was cut from the log
        self._disk = disk
        self._clock = clock
        self._committer = committer
        self._committed = (state.segments[-1] if state.segments else state.end_offset, state.end_position)
        self._paused = False
        self._ready = False
        self._last_arrival_ms = state.arrivals[-1][0] if state.arrivals else -1
        self._segment_since_ms = -1
        self._last_base = -1
        self._waiting: WatermarkWaiters[Partition] = WatermarkWaiters(self)
        self.was_clean = state.clean
        unclean = () if state.clean else state.segments[:-1]
        self._doubtful = {base for base in unclean if base >= state.replayed_segment}
        self.derived = DerivedState(self)
        self.reader = PartitionReader(self)
        index_loading.restore(self, state)
        if state.fenced is None:  # else it is only read
            self.context.run_blocking(retention.unlink_below_log_start(self))

    # --- appending ----------------------------------------------------------------------------------------

    def append(self, batch: memoryview) -> AppendedBatch:
        """Check one produced batch, stamp it in place, write it to the page cache and hand it to the
        committer.

        Any LogError; then nothing was written. StorageError: read-only, or the disk refused. The batch is
        visible and durable when `when_committed(next_offset)` is.
        """
        if self._paused or self.fenced is not None or self.deleted:
            raise self._refusal()
        size = len(batch)
        config = self.config
        if size > config.max_message_bytes or size > config.segment_bytes:
            raise BatchTooLarge(f"a batch of {size} bytes; {config.batch_limit()}")
        header = validate(batch)
        if not self._ready:
            self._activate()
        now = wall = self._clock.wall_ms()
        if now < self._last_arrival_ms:
            now = self._last_arrival_ms
        if config.log_append_time:
            append_ms, max_timestamp = now, now
        else:
            append_ms, max_timestamp = None, header.max_timestamp
            if max_timestamp > wall + config.timestamp_after_max_ms:
                raise InvalidTimestamp(f"timestamp {max_timestamp} is in the future: it is {wall}")
            if config.timestamp_before_max_ms != UNLIMITED_MS:
                validate_age(header, wall, config.timestamp_before_max_ms)
        if header.producer_id >= 0:
            earlier = self.derived.windows.find_duplicate(header, now)
            if earlier is not None:
                stamp_ms = earlier.max_timestamp if config.log_append_time else -1
                return AppendedBatch(earlier.base_offset, earlier.next_offset, stamp_ms, True)
        base_offset = self.log_end_offset
        next_offset = base_offset + header.last_offset_delta + 1
        segment = self._segment_for(size, next_offset, now)
        assign_offsets(batch, base_offset, self.epoch, append_ms)
        position = segment.size
        file = segment.writer
        assert file is not None
        try:
            file.pwrite(batch, position)
        except OSError as error:
            raise self._take_back(file, position, error) from error
        segment.extend(position, size)
        relative = base_offset - segment.base_offset
        if segment.index is not None:
            last = relative + header.last_offset_delta
            segment.index.append(last, position, size, max_timestamp, config.index_interval_bytes)
        segment.arrivals.add(now, relative)
        self._last_arrival_ms = now
        self._last_base = base_offset
        if header.producer_id >= 0:
            self.derived.windows.append(header, base_offset, max_timestamp, now)
        self.log_end_offset = next_offset
        self._committer.written(
            self, batch, base_offset, next_offset, segment.base_offset, position, file, now
        )
        return AppendedBatch(base_offset, next_offset, -1 if append_ms is None else append_ms, False)

    def _refusal(self) -> LogError:
        if self.deleted:
            return PartitionDeleted("the topic was deleted")
        return StorageError(self.fenced or "the last commit failed; a new epoch is being made durable")

    def _segment_for(self, size: int, next_offset: int, now: int) -> Segment:
        """The active segment, or a new one if it is full for a batch of `size` bytes ending before
        `next_offset` (Kafka: LogSegment.shouldRoll; age counts from the arrival of its first batch)."""
        segment = self.segments[-1]
        if not segment.size:
            self._segment_since_ms = now
            return segment
        config = self.config
        if (
            segment.size + size > config.segment_bytes
            or now - self._segment_since_ms > config.segment_ms
            or next_offset - 1 - segment.base_offset > MAX_RELATIVE_OFFSET
            or (segment.index is not None and segment.index.is_full(config.segment_index_bytes))
        ):
            segment = self.roll()
            self._segment_since_ms = now
        return segment

    def _take_back(self, file: File, position: int, error: OSError) -> StorageError:
        """A write failed: cut what may be there of it. The partition is fenced if even that fails."""
        try:
            file.truncate(position)
        except OSError as second:
            self.truncation_pending = True
            self.fence(f"a failed write could not be taken back: {second}")
        return self.context.write_error(self.folder, f"writing failed: {error}")

    def _activate(self) -> None:
        """Get ready for the first append since the start."""
        try:
            if not self.segments:
                self._disk.make_folder(self.folder)
                self._new_segment()
            segment = self.segments[-1]
            if segment.writer is None:
                segment.writer = self._disk.open(segment.path)
            arrivals = segment.arrivals_below(self.log_end_offset)
        except OSError as error:
            raise self.context.write_error(self.folder, f"opening the log failed: {error}") from error
        self._segment_since_ms = arrivals.times[0] if arrivals.times else self._clock.wall_ms()
        self._last_arrival_ms = max(self._last_arrival_ms, arrivals.last_ms)
        known = self.derived.snapshot
        if known is not None:
            self._last_arrival_ms = max(self._last_arrival_ms, known.last_arrival_ms)
        # Now, for what comes is added to them; later the whole log of this run would have to be walked.
        _ = self.derived.windows
        self._ready = True
        self.derived.epochs.begin(self.epoch, self.log_end_offset)
        self.load_index(segment)

    def load_index(self, segment: Segment) -> None:
        """Begin to load it; appends go on meanwhile."""
        if segment.index is None:
            self.context.run_later(index_loading.index_of(self, segment)).then(_report)

    def _new_segment(self) -> Segment:
        """Make the segment that begins at the log's end. OSError: nothing has changed."""
        segment = Segment(self.context, self.folder, self.log_end_offset, 0)
        try:
            segment.writer = self._disk.open(segment.path, create=True)
        except FileExistsError:
            # Of a roll that failed half-way, or restored by hand: what it holds is not part of this log.
            if self._disk.size(segment.path):
                self._disk.rename(segment.path, segment.path + ".quarantine")
                segment.writer = self._disk.open(segment.path, create=True)
            else:
                segment.writer = self._disk.open(segment.path)
        segment.set_index(SegmentIndex(), None)
        segment.arrivals.truncate(0)
        self.segments.append(segment)
        return segment

    def roll_when_idle(self) -> None:
        """As `roll`, also when nothing was appended since the start."""
        if not self._ready:
            self._activate()
        self.roll()

    def roll(self) -> Segment:
        """Seal the active segment and begin a new one. StorageError: nothing has changed."""
        old = self.segments[-1]
        writer = old.writer
        try:
            new = self._new_segment()
        except OSError as error:
            raise self.context.write_error(self.folder, f"making a segment failed: {error}") from error
        old.writer = None
        old.arrivals.seal(self._last_base - old.base_offset)
        if old.index is not None:
            old.index.add_time_entry()
            old.max_timestamp = old.index.max_timestamp
        else:
            self._doubtful.add(old.base_offset)
            self.load_index(old)
        assert writer is not None
        assert new.writer is not None
        self._committer.segment_rolled(self, writer, new.writer)
        side_files.sealed(self, old)
        return new

    # --- the commit's side (CommittedPartition) -------------------------------------------------------------

    def on_committed(self, offset: int, segment: int, position: int) -> None:
        """See `commit.contract.CommittedPartition`."""
        assert self.high_watermark <= offset <= self.log_end_offset, "the watermark only rises, up to the end"
        self.high_watermark = offset
        self._committed = (segment, position)
        windows = self.derived.loaded_windows
        if windows is not None:
            windows.commit(offset)
        self._waiting.advance(offset)

    def roll_back(self) -> None:
        """See `commit.contract.CommittedPartition`."""
        self._paused = True
        truncation.truncate_to_watermark(self)
        self.epoch += 1
        self.derived.epochs.begin(self.epoch, self.high_watermark)
        self._waiting.fail(StorageError("the commit failed; nothing of it is kept"))

    def resume(self) -> None:
        """See `commit.contract.CommittedPartition`."""
        self._paused = False

    def fence(self, reason: str) -> None:
        """See `commit.contract.CommittedPartition`."""
        if self.fenced is None:
            log.error("%s: read-only: %s", self.folder, reason)
        self.fenced = reason
        self._waiting.fail(StorageError(reason))
        self._waiting.notify_watchers()

    def unfence(self) -> None:
        """See `commit.contract.CommittedPartition`. What was not committed goes, as in `roll_back`: then
        `resume()` must follow."""
        self.fenced = None
        if self.log_end_offset > self.high_watermark:
            self.roll_back()
        elif self.truncation_pending:
            truncation.truncate_to_watermark(self)

    def save_side_files(self) -> None:
        """See `commit.contract.CommittedPartition`."""
        side_files.save(self)

    def checkpoint_row(self) -> CheckpointRow:
        """Its row of the next checkpoint."""
        key = self.topic_id, self.index
        return CheckpointRow(
            *key, self.epoch, self.log_start_requested, *self._committed, self.high_watermark
        )

    # --- waiting ------------------------------------------------------------------------------------------

    def when_committed(self, next_offset: int) -> Promise[None]:
        """Done when the watermark has reached `next_offset`. Fails with StorageError if that commit fails,
        with PartitionDeleted."""
        if next_offset <= self.high_watermark:
            return _DONE
        if self.fenced is not None or self.deleted or next_offset > self.log_end_offset:
            return Promise.failed(self._refusal())
        return self._waiting.wait_for(next_offset)

    def watch(self, callback: Callable[[Partition], None]) -> None:
        """Call it after each move of the watermark, and when fenced or deleted. It may unwatch itself."""
        self._waiting.watch(callback)

    def unwatch(self, callback: Callable[[Partition], None]) -> None:
        """Do not call it any more. Harmless if it is not watching."""
        self._waiting.unwatch(callback)

    # --- reading ------------------------------------------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, *, past_watermark: bool = False
    ) -> BatchSlice | Promise[BatchSlice]:
        """Whole batches from the one that holds `offset` on, as they are on disk: at least one if there is
        one below the watermark, else at most `max_bytes`; of one segment. The first may begin before
        `offset`. Empty at the watermark. At once if the page cache has them. OffsetOutOfRange, CorruptBatch
        (just here is damage; the message says where it goes on), StorageError (also through the Promise)."""
        return self.reader.read(offset, max_bytes, past_watermark)

    def read_blocking(self, offset: int, max_bytes: int, *, past_watermark: bool = False) -> BatchSlice:
        """As `read`; waits for the disk. For start-up and tests."""
        return self.reader.read_blocking(offset, max_bytes, past_watermark)

    def available_bytes(self, offset: int) -> int:
        """About how many bytes lie between `offset` and the watermark. Reads nothing."""
        return self.reader.available_bytes(offset)

    def byte_ranges(self, from_offset: int, to_offset: int) -> list[tuple[str, int, int]]:
        """(path, from, to) of bytes that hold these offsets (`to_offset` exclusive) and little more: batch
        boundaries, never past the watermark. May wait for index files."""
        return self.reader.byte_ranges(from_offset, to_offset)

    def size_bytes(self) -> int:
        """Bytes of log on disk."""
        return sum(segment.size for segment in self.segments)

    # --- looking up ---------------------------------------------------------------------------------------

    def offset_for_time(self, timestamp_ms: int) -> Promise[TimedOffset | None]:
        """The first record whose own timestamp is at or after `timestamp_ms`; None if there is none."""
        return self.context.run_later(offset_lookup.offset_for_time(self, timestamp_ms))

    def offset_of_max_timestamp(self) -> Promise[TimedOffset | None]:
        """The first record with the largest timestamp; None if the partition is empty."""
        return offset_lookup.offset_of_max_timestamp(self)

    def offset_for_arrival(self, wall_ms: int) -> int:
        """The first offset that arrived at `wall_ms` or later, at most a second early; the watermark if
        none did."""
        return offset_lookup.offset_for_arrival(self, wall_ms)

    def arrival_of(self, offset: int) -> int:
        """When `offset` arrived, wall ms, at most a second early; -1: not known."""
        return offset_lookup.arrival_of(self, offset)

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        """Kafka's OffsetForLeaderEpoch: see `LeaderEpochs.end_offset`."""
        return self.derived.epochs.end_offset(epoch, self.high_watermark)

    def epoch_at_start(self) -> int:
        """The leader epoch of the first offset that is kept; of the next batch, if there is none."""
        if self.log_start_offset >= self.high_watermark:
            return self.epoch
        return self.derived.epochs.epoch_at(self.log_start_offset)

    def producers(self) -> list[ProducerState]:
        """The idempotent producers that are known, by id."""
        return list(self.derived.windows.states(self._clock.wall_ms()))

    # --- removing -----------------------------------------------------------------------------------------

    def delete_records(self, before: int) -> Promise[int]:
        """Give up what is before the offset `before` (-1: all that is committed). The new log start, once
        it is durable. OffsetOutOfRange."""
        return retention.delete_records(self, before)

    def enforce_retention(self) -> Promise[int]:
        """Roll by age, and remove whole segments that are too old or too much. Bytes removed."""
        return retention.enforce(self)

    def delete(self) -> None:
        """The topic is deleted: refuse everything, fail who waits with PartitionDeleted. Files go through
        Log."""
        self.deleted = True
        self._waiting.fail(PartitionDeleted("the topic was deleted"))
        self._waiting.notify_watchers()
        for segment in self.segments:
            segment.mark_deleted()

    def release(self) -> None:
        """Close a deleted partition's files, once the committer has forgotten it: open files keep their
        space."""
        for segment in self.segments:
            segment.close_writer()

    def close(self) -> None:
        """Clean stop, after the last commit: write index files and snapshot. Blocks."""
        side_files.close(self)

    # --- for the modules of the partition -----------------------------------------------------------------

    @property
    def active(self) -> Segment | None:
        """The segment that is written to."""
        return self.segments[-1] if self.segments else None

    @property
    def committed_end(self) -> tuple[int, int]:
        """(segment, position) of the watermark."""
        return self._committed

    @property
    def committer(self) -> Committer:
        """Where log starts are made durable."""
        return self._committer

    @property
    def last_arrival_ms(self) -> int:
        """Of the newest batch; -1: not known."""
        return self._last_arrival_ms

    @property
    def ready(self) -> bool:
        """Something was appended, or was about to be, since the start."""
        return self._ready

    def segment_of(self, offset: int) -> Segment | None:
        """The segment that holds `offset`; None before the first."""
        at = bisect_right(self.segments, offset, key=_base_offset) - 1
        return self.segments[at] if at >= 0 else None

    def end_of(self, segment: Segment) -> int:
        """The offset at which `segment` ends, committed or not."""
        at = bisect_right(self.segments, segment.base_offset, key=_base_offset)
        return self.segments[at].base_offset if at < len(self.segments) else self.log_end_offset

    def limit_of(self, segment: Segment, past_watermark: bool = False) -> int:
        """The position up to which `segment` may be read."""
        committed, position = self._committed
        if past_watermark or segment.base_offset < committed:
            return segment.size
        return position if segment.base_offset == committed else 0

    def drop_first(self) -> None:
        """The first segment's files are gone."""
        del self.segments[0]
        self.reader.forget_cursors()

    def is_doubtful(self, segment: Segment) -> bool:
        """Its index files may be short: they were not finished and synced before the last stop."""
        return segment is self.active or segment.base_offset in self._doubtful

    def trust(self, segment: Segment) -> None:
        """Its index files are whole now."""
        self._doubtful.discard(segment.base_offset)


def _report(later: Promise[SegmentIndex]) -> None:
    if later.error is not None and not isinstance(later.error, PartitionDeleted):
        log.warning("an index could not be loaded: %s", later.error)
