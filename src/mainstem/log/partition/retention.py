"""Deletes old segments: by age, by size and by request.

Owns: which segments are deleted, and the order: first the new log start offset is durable, then files are
unlinked (rule R11). Refuses: to delete the active segment before it is sealed, what is not committed, a part
of a segment, and by guess: a segment of unknown age counts as young. A caller may keep more than the settings
do (`LogStartLimit`), never less.

Kafka: UnifiedLog.deleteOldSegments, deleteRetentionMsBreachedSegments, deleteRetentionSizeBreachedSegments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from mainstem.log.config import PartitionConfig
from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.errors import OffsetOutOfRange, PartitionDeleted, StorageError
from mainstem.log.partition.derived_state import DerivedState
from mainstem.log.partition.offset_lookup import SEGMENTS_PER_TURN, OffsetLookup
from mainstem.log.partition.reader import PartitionReader
from mainstem.log.partition.segments import Segments
from mainstem.log.storage.arrival_index import age_ms
from mainstem.log.storage.segment import Segment
from mainstem.promise import Promise

log = logging.getLogger(__name__)

UNLINKS_PER_TURN = 64
"""Segments unlinked before the event loop has a turn: some milliseconds."""

LogStartLimit: TypeAlias = Callable[[int, int], int]
"""Gets the log start offset and the one that the settings allow. Returns the highest that may be set: what is
from there on is kept. Called right before the new one is recorded."""


class Retention:
    """The retention of one partition."""

    __slots__ = ("_derived", "_lookup", "_reader", "_record_log_start", "_roll", "_segments")

    def __init__(
        self,
        segments: Segments,
        lookup: OffsetLookup,
        derived: DerivedState,
        reader: PartitionReader,
        *,
        record_log_start: Callable[[int], Promise[None]],
        roll: Callable[[], object],
    ) -> None:
        """`record_log_start` makes a log start offset durable; `roll` seals the active segment."""
        self._segments = segments
        self._lookup = lookup
        self._derived = derived
        self._reader = reader
        self._record_log_start = record_log_start
        self._roll = roll

    def delete_records(self, before: int) -> Promise[int]:
        """See `Partition.delete_records`."""
        segments = self._segments
        if segments.deleted:
            return Promise.failed(PartitionDeleted("the topic was deleted"))
        if before == -1:
            before = segments.high_watermark
        if not 0 <= before <= segments.high_watermark:
            raise OffsetOutOfRange(
                f"offset {before} is outside the committed log, which ends at {segments.high_watermark}"
            )
        if before <= segments.log_start_offset:
            return Promise.resolved(segments.log_start_offset)
        return self._move_log_start(before).map(lambda _: segments.log_start_offset)

    def enforce(self, limit: LogStartLimit | None = None) -> Promise[int]:
        """See `Partition.enforce_retention`."""
        segments = self._segments
        now_ms = segments.context.clock.wall_ms()
        if _counts_from_record_time(segments.config):
            newest = segments.context.run_later(self._newest_record_times())
            return newest.chain(lambda newest_ms: self._roll_and_delete(now_ms, newest_ms, limit))
        return self._roll_and_delete(now_ms, {}, limit)

    def _roll_and_delete(
        self, now_ms: int, newest_ms: dict[int, int], limit: LogStartLimit | None
    ) -> Promise[int]:
        try:
            self._roll_if_due(now_ms, newest_ms)
        except StorageError as error:
            return Promise.failed(error)
        return self._delete_expired(now_ms, newest_ms, limit)

    def preview_log_start(self, config: PartitionConfig, limit: LogStartLimit | None = None) -> Promise[int]:
        """See `Partition.preview_log_start`."""
        segments = self._segments
        if segments.deleted or not segments:
            return Promise.resolved(segments.log_start_offset)
        now_ms = segments.context.clock.wall_ms()
        by_record_time = _counts_from_record_time(config)

        def log_start(newest_ms: dict[int, int]) -> int:
            candidates = self._deletable()
            if self._is_active_committed():
                candidates.append(segments[-1])  # `enforce` seals it first if all of it is to be deleted
            count = self._count_deletable(config, candidates, now_ms, newest_ms)
            return self._allowed_log_start(count, limit)

        if by_record_time:
            return segments.context.run_later(self._newest_record_times()).map(log_start)
        return Promise.resolved(log_start({}))

    def unlink_below_log_start(self) -> ReadSteps[None]:
        """Unlink the segments that end at or before the log start offset, but never the active one. Oldest
        first, and none after one that could not be unlinked: a backup relies on files without a gap. Yields
        to the event loop now and then, for tens of thousands of files take seconds."""
        segments = self._segments
        count = 0
        while len(segments) > 1 and segments.end_of(segments[0]) <= segments.log_start_offset:
            try:
                segments[0].unlink()
            except OSError as error:
                path = segments[0].path
                log.warning("%s could not be deleted; the next retention run tries again: %s", path, error)
                return
            segments.drop_first()
            self._reader.forget_cursors()
            count += 1
            if count % UNLINKS_PER_TURN == 0:
                yield None
                if segments.deleted:
                    return

    def _is_active_committed(self) -> bool:
        """Whether the active segment has events, and all of them are committed."""
        segments = self._segments
        return segments[-1].size > 0 and segments.high_watermark == segments.log_end_offset

    def _roll_if_due(self, now_ms: int, newest_ms: dict[int, int]) -> None:
        """Seal the active segment if it is older than `segment_ms`, or if retention is to delete it with all
        segments before it: only a sealed segment can be deleted. StorageError."""
        segments, config = self._segments, self._segments.config
        if segments.deleted or not self._is_active_committed():
            return
        times = segments[-1].arrivals.times
        too_old = bool(times) and age_ms(times[0], now_ms) > config.segment_ms
        if too_old or self._count_deletable(config, segments[:], now_ms, newest_ms) == len(segments):
            self._roll()

    def _newest_record_times(self) -> ReadSteps[dict[int, int]]:
        """Base offset -> largest record timestamp, of each segment; those whose records have none are left
        out."""
        newest_ms: dict[int, int] = {}
        for number, segment in enumerate(self._segments[:], 1):
            if number % SEGMENTS_PER_TURN == 0 and segment.max_timestamp is None:
                yield None
            if segment.deleted:
                continue
            timestamp_ms = yield from self._lookup.max_timestamp(segment)
            if timestamp_ms >= 0:
                newest_ms[segment.base_offset] = timestamp_ms
        return newest_ms

    def _delete_expired(
        self, now_ms: int, newest_ms: dict[int, int], limit: LogStartLimit | None
    ) -> Promise[int]:
        """Delete the segments that are too old, or beyond the size limit, and not kept by `limit`. The result
        is the number of bytes deleted."""
        segments = self._segments
        count = self._count_deletable(segments.config, self._deletable(), now_ms, newest_ms)
        log_start = self._allowed_log_start(count, limit)
        bytes_before = segments.size_bytes()
        if log_start == segments.log_start_offset:
            unlinked = segments.context.run_later(self.unlink_below_log_start())
        else:
            unlinked = self._move_log_start(log_start)
        return unlinked.map(lambda _: max(0, bytes_before - segments.size_bytes()))

    def _allowed_log_start(self, count: int, limit: LogStartLimit | None) -> int:
        """The log start offset if the oldest `count` segments are deleted, or those that `limit` does not
        keep."""
        segments = self._segments
        log_start = segments.log_start_offset
        ends = [segments.end_of(segment) for segment in segments[:count]]
        if limit is not None and ends and ends[-1] > log_start:
            highest = limit(log_start, ends[-1])
            ends = [end for end in ends if end <= highest]
        return max([log_start, *ends])

    def _deletable(self) -> list[Segment]:
        """The segments that are sealed and committed, oldest first."""
        segments = self._segments
        return [segment for segment in segments[:-1] if segments.end_of(segment) <= segments.high_watermark]

    def _count_deletable(
        self, config: PartitionConfig, candidates: list[Segment], now_ms: int, newest_ms: dict[int, int]
    ) -> int:
        """How many of `candidates`, from the oldest on, are too old or beyond the size limit."""
        expired = self._count_expired(config, candidates, now_ms, newest_ms)
        return max(expired, self._count_over_size(config, candidates, expired))

    def _count_expired(
        self, config: PartitionConfig, candidates: list[Segment], now_ms: int, newest_ms: dict[int, int]
    ) -> int:
        """How many of `candidates`, from the oldest on, are older than `retention_ms`."""
        if config.retention_ms < 0:
            return 0
        count = 0
        for segment in candidates:
            time_ms = newest_ms.get(segment.base_offset)
            if time_ms is None:
                time_ms = self._lookup.last_arrival(segment)
            if now_ms - time_ms <= config.retention_ms:
                break
            count += 1
        return count

    def _count_over_size(self, config: PartitionConfig, candidates: list[Segment], expired: int) -> int:
        """How many of `candidates`, the oldest segments, can be deleted, the `expired` ones included, with at
        least `retention_bytes` left."""
        if config.retention_bytes < 0:
            return 0
        excess = self._segments.size_bytes() - config.retention_bytes
        excess -= sum(segment.size for segment in self._segments[:expired])
        count = expired
        for segment in candidates[expired:]:
            if segment.size > excess:
                break
            excess -= segment.size
            count += 1
        return count

    def _move_log_start(self, offset: int) -> Promise[None]:
        """Make `offset` the log start offset, durably, then unlink the segments that lie wholly before it."""
        self._segments.requested_log_start = max(self._segments.requested_log_start, offset)
        return self._record_log_start(offset).chain(lambda _: self._on_log_start_durable(offset))

    def _on_log_start_durable(self, offset: int) -> Promise[None]:
        segments = self._segments
        if segments.deleted:
            raise PartitionDeleted("the topic was deleted")
        if offset > segments.log_start_offset:
            segments.advance_log_start(offset)
            self._derived.epochs.advance_log_start(offset)
        return segments.context.run_later(self.unlink_below_log_start())


def _counts_from_record_time(config: PartitionConfig) -> bool:
    return config.retention_by_record_time and config.retention_ms >= 0
