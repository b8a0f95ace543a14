"""The segments of one partition and the offsets that bound them.

Owns: the list of segments, oldest first; log start offset, high watermark and log end offset; where the
committed bytes end; which side files may be incomplete; making and opening the active segment's file, and
when it is full. Every module of the partition reaches the log through `Segments`. Refuses: what the files
hold, and deciding when an offset moves (`partition.py`).

Invariant: log_start_offset <= high_watermark <= log_end_offset. `Segments.set_offsets` asserts it and is the
only place where an offset changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import overload

from mainstem.log.config import PartitionConfig
from mainstem.log.disk.nonblocking_read import LogContext
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.log.storage.index import MAX_RELATIVE_OFFSET, SegmentIndex
from mainstem.log.storage.segment import Segment

_base_offset = attrgetter("base_offset")


class Segments:
    """The segments of one partition, oldest first, as a sequence; the last one is the active segment."""

    __slots__ = (
        "_incomplete_side_files",
        "_list",
        "_sealed_bytes",
        "accepts_appends",
        "acknowledged_end",
        "active",
        "active_since_ms",
        "committed_position",
        "committed_segment",
        "config",
        "context",
        "deleted",
        "folder",
        "high_watermark",
        "last_arrival_ms",
        "log_end_offset",
        "log_start_offset",
        "requested_log_start",
        "truncation_count",
    )  # fmt: skip

    def __init__(
        self, context: LogContext, folder: str, config: PartitionConfig, state: RecoveredState
    ) -> None:
        self.context = context
        """Open files and loaded indexes that all partitions of the log share."""
        self.folder = folder
        """Path of the partition's folder."""
        self.config = config
        """The topic's settings. May be replaced at any time."""
        sizes: list[int | None] = [None] * len(state.segments[:-1])
        if state.sealed_sizes is not None:
            sizes[:] = state.sealed_sizes
        sizes.append(state.end_position)
        self._list: list[Segment] = []
        self._sealed_bytes = 0
        """Bytes of all segments but the active one."""
        self.acknowledged_end = state.acknowledged_end
        """Where the log ended according to what was acknowledged: after its end if events are lost there."""
        self.active: Segment | None = None
        """The segment that appends go to; None until the first append."""
        self.active_since_ms = -1
        """Wall ms at which the first batch of the active segment arrived."""
        for base_offset, size in zip(state.segments, sizes, strict=False):
            self.add(Segment(context, folder, base_offset, size))
        self.set_offsets(state.log_start, state.end_offset, state.end_offset)
        self.requested_log_start = state.log_start
        """The log start offset that the committer was asked to make durable; at least `log_start_offset`."""
        self.committed_segment = state.segments[-1] if state.segments else state.end_offset
        """Base offset of the segment in which the committed bytes end."""
        self.committed_position = state.end_position
        """Position in that segment at which the committed bytes end."""
        self.last_arrival_ms = state.arrivals[-1][0] if state.arrivals else -1
        """Wall ms at which the newest batch arrived; -1: not known."""
        self.accepts_appends = False
        """True: the active segment is open for writing and the producer windows are loaded."""
        self.deleted = False
        """True: the topic was deleted."""
        self.truncation_count = 0
        """Number of truncations. If it has risen, bytes that were read before may no longer be there."""
        unclean = () if state.clean else state.segments[:-1]
        self._incomplete_side_files = frozenset(base for base in unclean if base >= state.replayed_segment)
        """Base offsets of the segments whose side files may be incomplete."""

    # --- the list -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._list)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._list)

    def __reversed__(self) -> Iterator[Segment]:
        return reversed(self._list)

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> list[Segment]: ...
    def __getitem__(self, index: int | slice) -> Segment | list[Segment]:
        return self._list[index]

    def add(self, segment: Segment) -> None:
        """Make `segment` the active one."""
        active = self.active
        assert active is None or active.base_offset < segment.base_offset, "segments are in offset order"
        if active is not None:
            self._sealed_bytes += active.size
        self._list.append(segment)
        self.active = segment

    def open_active(self) -> Segment:
        """The active segment, open for appends; the first one is made, with its folder. OSError."""
        segment = self.active
        if segment is None:
            self.context.disk.make_folder(self.folder)
            segment = self.create()
        if segment.writer is None:
            segment.writer = self.context.disk.open(segment.path)
        return segment

    def create(self) -> Segment:
        """Make the segment that begins at the log end offset, and make it the active one. OSError: nothing
        has changed."""
        disk = self.context.disk
        segment = Segment(self.context, self.folder, self.log_end_offset, 0)
        try:
            segment.writer = disk.open(segment.path, create=True)
        except FileExistsError:
            # Of a roll that failed half-way, or restored by hand: what it holds is not part of this log.
            if disk.size(segment.path):
                disk.rename(segment.path, segment.path + ".quarantine")
                segment.writer = disk.open(segment.path, create=True)
            else:
                segment.writer = disk.open(segment.path)
        segment.set_index(SegmentIndex(), None)
        segment.arrivals.truncate(0)
        self.add(segment)
        return segment

    def is_active_full(self, size: int, next_offset: int, now_ms: int) -> bool:
        """Whether the active segment has no space for a batch of `size` bytes that ends before `next_offset`,
        or is too old for it (Kafka: LogSegment.shouldRoll; age counts from the arrival of its first
        batch)."""
        segment, config = self.active, self.config
        assert segment is not None, "a partition that accepts appends has an active segment"
        segment_size = segment.size
        return segment_size > 0 and (
            segment_size + size > config.segment_bytes
            or now_ms - self.active_since_ms > config.segment_ms
            or next_offset - 1 - segment.base_offset > MAX_RELATIVE_OFFSET
            or (segment.index is not None and segment.index.is_full(config.segment_index_bytes))
        )

    def drop_first(self) -> None:
        """Remove the oldest segment, whose files are deleted."""
        assert len(self._list) > 1, "the active segment is never removed"
        assert self.end_of(self._list[0]) <= self.log_start_offset, "no readable batch is removed"
        self._sealed_bytes -= self._list[0].size
        del self._list[0]

    def drop_last(self) -> None:
        """Remove the active segment, whose files are deleted; the one before it is active again."""
        assert len(self._list) > 1, "the last segment is never removed"
        assert self._list[-1].base_offset > self.high_watermark, "no committed batch is removed"
        self._list.pop()
        self.active = self._list[-1]
        self._sealed_bytes -= self.active.size

    def holding(self, offset: int) -> Segment | None:
        """The segment that holds `offset`; None before the first one."""
        position = bisect_right(self._list, offset, key=_base_offset) - 1
        return self._list[position] if position >= 0 else None

    def with_base(self, base_offset: int) -> Segment | None:
        """The segment that begins with `base_offset`; None if there is none."""
        segment = self.holding(base_offset)
        return segment if segment is not None and segment.base_offset == base_offset else None

    def from_base(self, base_offset: int) -> list[Segment]:
        """The segments whose base offset is `base_offset` or larger."""
        return self._list[bisect_left(self._list, base_offset, key=_base_offset) :]

    def after(self, segment: Segment) -> Iterator[Segment]:
        """The segments that follow `segment`."""
        for index in range(bisect_right(self._list, segment.base_offset, key=_base_offset), len(self._list)):
            yield self._list[index]

    def size_bytes(self) -> int:
        """Bytes in the `.log` files, committed or not."""
        active = self.active
        return self._sealed_bytes + active.size if active is not None else 0

    def sealed_before_committed_end(self) -> tuple[int, int] | None:
        """Number and bytes of the sealed segments for a checkpoint row: those before the committed end that
        end after the requested log start. None: some are damaged, and the next start has to look again."""
        if self.damaged_offsets():
            return None
        count, size = max(0, len(self._list) - 1), self._sealed_bytes
        for segment in reversed(self._list[:-1]):
            if segment.base_offset < self.committed_segment:
                break
            count, size = count - 1, size - segment.size
        for segment in self._list[:-1]:
            if (
                segment.base_offset >= self.committed_segment
                or self.end_of(segment) > self.requested_log_start
            ):
                break
            count, size = count - 1, size - segment.size
        return count, size

    def damaged_offsets(self) -> list[tuple[int, int]]:
        """The ranges of offsets (first, next) that are known to be lost."""
        start = self.log_start_offset
        first = self._list[0].base_offset if self._list else self.log_end_offset
        ranges = [(start, first)] if start < first else []
        for _, lost in sorted(self.context.lost_offsets.get(self.folder, {}).items()):
            ranges += [(max(start, offset), following) for offset, following in lost if following > start]
        if self.acknowledged_end > self.log_end_offset:
            ranges.append((self.log_end_offset, self.acknowledged_end))
        return ranges

    # --- offsets ------------------------------------------------------------------------------------------

    def set_offsets(self, log_start: int, high_watermark: int, log_end: int) -> None:
        """Set the log start offset, the high watermark and the log end offset."""
        assert log_start <= high_watermark <= log_end, "log start <= high watermark <= log end"
        self.log_start_offset = log_start
        self.high_watermark = high_watermark
        self.log_end_offset = log_end

    def advance_log_start(self, offset: int) -> None:
        """Make `offset` the log start offset, as the committer has durably recorded. Offsets below cannot be
        read any more."""
        assert self.log_start_offset <= offset <= self.requested_log_start, "the log start only rises"
        self.set_offsets(offset, self.high_watermark, self.log_end_offset)

    def truncate_to_watermark(self) -> None:
        """Make the log end at the high watermark again. The segments that begin after it remain in the
        list."""
        self.truncation_count += 1
        self.set_offsets(self.log_start_offset, self.high_watermark, self.high_watermark)

    @property
    def committed_end(self) -> tuple[int, int]:
        """(base offset of the segment, position in it) at which the committed bytes end."""
        return self.committed_segment, self.committed_position

    # --- limits of one segment ----------------------------------------------------------------------------

    def end_of(self, segment: Segment) -> int:
        """The offset at which `segment` ends, committed or not."""
        following = bisect_right(self._list, segment.base_offset, key=_base_offset)
        return self._list[following].base_offset if following < len(self._list) else self.log_end_offset

    def log_limit(self, segment: Segment) -> tuple[int, int]:
        """(position, offset) at which `segment` ends, committed or not."""
        return segment.size, self.end_of(segment)

    def committed_limit(self, segment: Segment) -> tuple[int, int]:
        """(position, offset) at which the committed part of `segment` ends."""
        return self.readable_bytes(segment), min(self.end_of(segment), self.high_watermark)

    def readable_bytes(self, segment: Segment, past_watermark: bool = False) -> int:
        """The position up to which `segment` may be read: only committed bytes, unless `past_watermark`."""
        if past_watermark or segment.base_offset < self.committed_segment:
            return segment.size
        return self.committed_position if segment.base_offset == self.committed_segment else 0

    # --- side files ---------------------------------------------------------------------------------------

    def has_complete_side_files(self, segment: Segment) -> bool:
        """Whether the index files of `segment` hold all of it and were synced before the last stop."""
        return segment is not self.active and segment.base_offset not in self._incomplete_side_files

    def mark_side_files_complete(self, segment: Segment) -> None:
        """Note that the index files of `segment` hold all of it."""
        self._incomplete_side_files -= {segment.base_offset}

    def mark_side_files_incomplete(self, segment: Segment) -> None:
        """Note that the index files of `segment` lack entries: it was sealed before its index was loaded."""
        self._incomplete_side_files |= {segment.base_offset}
