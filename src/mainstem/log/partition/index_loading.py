"""Getting a segment's index into memory, and a partition's snapshot from its file.

Owns: when an index file is believed, and building it from the log when not. Refuses: to believe one that
the log contradicts, and to build the same one twice. Called by `partition.py`, `reader.py` and `lookup.py`.

Rules: FORMAT.md, part "Indexes".
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from typing import TYPE_CHECKING

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.errors import LogError
from mainstem.log.partition import offset_lookup
from mainstem.log.partition.batch_scan import ScanInvalidated, header_fits, scan_batches
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.log.storage import leader_epochs as epoch_file
from mainstem.log.storage import producer_snapshot as snapshots
from mainstem.log.storage.index import SegmentIndex
from mainstem.log.storage.leader_epochs import LeaderEpochs
from mainstem.log.storage.producer_snapshot import ProducerSnapshot
from mainstem.log.storage.producer_state import ProducerWindows
from mainstem.log.storage.record_batch import HEADER_BYTES, BatchHeader, read_header
from mainstem.log.storage.segment import Segment

if TYPE_CHECKING:
    from mainstem.log.partition.partition import Partition

BUILD_CHUNK_BYTES = 256 << 10

log = logging.getLogger(__name__)


def index_of(partition: Partition, segment: Segment) -> ReadSteps[SegmentIndex]:
    """The segment's index, loaded and up to the segment's end."""
    if segment.index is not None:
        if segment is not partition.active:
            partition.context.indexes.mark_used(segment)
        return segment.index
    index = None
    in_files: tuple[int, int] | None = None
    if not segment.index_rebuilt:
        index = _from_files(partition, segment)
        in_files = index.entries if index is not None else None
    if index is not None and not (yield from _entry_holds(segment, index, *_end(partition, segment))):
        index = None
    if index is None:
        return (yield from rebuild_index(partition, segment))
    return (yield from _catch_up(partition, segment, index, in_files))


def rebuild_index(partition: Partition, segment: Segment) -> ReadSteps[SegmentIndex]:
    """From the log alone. The files are written anew when the index is saved next."""
    segment.index_rebuilt = True
    segment.index = None
    return (yield from _catch_up(partition, segment, SegmentIndex(), None))


def _from_files(partition: Partition, segment: Segment) -> SegmentIndex | None:
    end_position, end_offset = _end(partition, segment)
    index = SegmentIndex.parse(*segment.index_files(), end_offset - segment.base_offset, end_position)
    if index is None:
        log.warning("%s: its index files are damaged; building them from the log", segment.path)
        return None
    if partition.is_doubtful(segment):
        # Its files were written now and then and not synced: only what the snapshot counts is believed.
        known = partition.derived.snapshot
        if known is None or known.segment != segment.base_offset or known.index_entries is None:
            return None
        return index if index.truncate_to_entries(known.index_entries) else None
    return index


def _entry_holds(
    segment: Segment, index: SegmentIndex, end_position: int, end_offset: int
) -> ReadSteps[bool]:
    """The last entry of `.index` is what the batch header there says."""
    position, claimed = index.position_before(end_offset - segment.base_offset)
    if claimed is None:
        return True
    return (yield from entry_header(segment, position, claimed, (end_position, end_offset))) is not None


def entry_header(
    segment: Segment, position: int, claimed: int, end: tuple[int, int]
) -> ReadSteps[BatchHeader | None]:
    """The header that an index entry points at, if it ends with the relative offset that the entry claims."""
    data = yield segment, HEADER_BYTES, position
    if len(data) < HEADER_BYTES:
        return None
    header = read_header(data)
    if header.last_offset - segment.base_offset != claimed:
        return None
    return header if header_fits(header, position, header.base_offset, end) else None


def _catch_up(
    partition: Partition, segment: Segment, index: SegmentIndex, in_files: tuple[int, int] | None
) -> ReadSteps[SegmentIndex]:
    """Walk the log from where `index` ends to where the segment ends, also what is appended meanwhile, and
    install it. Begins again when the log was cut meanwhile or a batch turned out to be damaged."""
    while True:
        cuts = partition.truncation_count
        position = index.resume_position()
        offset = segment.base_offset
        end = _end(partition, segment)
        if position:
            _, claimed = index.position_before(end[1] - segment.base_offset)
            header = yield from entry_header(segment, position, claimed or 0, end)
            if header is None:
                index, in_files = SegmentIndex(), None
                continue
            offset = header.base_offset
        at = [position, offset]

        def visit(
            position: int, header: BatchHeader, at: list[int] = at, index: SegmentIndex = index
        ) -> None:
            index.add_header(segment.base_offset, position, header, partition.config.index_interval_bytes)
            at[:] = position + header.total_bytes, header.next_offset

        try:
            while partition.truncation_count == cuts and at[0] < end[0]:
                yield from scan_batches(segment, at[0], at[1], end, visit, chunk_bytes=BUILD_CHUNK_BYTES)
                at[:] = end  # damage at the end leaves the visitor behind
                end = _end(partition, segment)
        except ScanInvalidated:
            index, in_files = SegmentIndex(), None
            continue
        if partition.truncation_count == cuts:
            break
        index, in_files = SegmentIndex(), None
    if segment.index is None:
        segment.set_index(index, in_files)
        if segment is not partition.active:
            index.add_time_entry()
            if not segment.deleted and partition.end_of(segment) <= partition.high_watermark:
                _keep(partition, segment)
        return index
    return segment.index


def _keep(partition: Partition, segment: Segment) -> None:
    """Write the index of a sealed segment. If that fails, the read that needed the index goes on all the
    same."""
    try:
        segment.save_side_files(partition.end_of(segment))
        partition.trust(segment)
    except OSError as error:
        log.warning("%s: its index was not saved: %s", segment.path, error)


def _end(partition: Partition, segment: Segment) -> tuple[int, int]:
    return segment.size, partition.end_of(segment)


def resume_index(partition: Partition, segment: Segment) -> None:
    """After a cut: what the index of the active segment knew of the batches behind its last entry is void."""
    index, segment.index = segment.index, None
    if index is not None:
        try:
            partition.context.run_blocking(_catch_up(partition, segment, index, segment.saved_entries))
        except LogError as error:
            log.warning("%s: its index is built from the log when needed: %s", segment.path, error)


# --- the partition's own files ----------------------------------------------------------------------------


def restore(partition: Partition, state: RecoveredState) -> None:
    """What a new Partition does after an unclean stop: put back the arrivals that the journal kept, read
    windows and epochs (their log is in the page cache now). May block."""
    if not state.segments:
        return
    if state.arrivals:
        _put_back_arrivals(partition, state)
    if state.fenced is not None:
        return  # of what is only read nothing is needed now, and the disk may fail under it
    if not state.clean and (state.replayed_segment, state.replayed_position) != partition.committed_end:
        _ = partition.derived.windows
        _ = partition.derived.epochs


def _put_back_arrivals(partition: Partition, state: RecoveredState) -> None:
    """What the journal kept: no pair where one came less than a second before, as in the files. But each
    segment needs one at its beginning."""
    last = -1
    for segment in partition.segments:
        if partition.end_of(segment) <= state.arrivals[0][1]:
            last = segment.base_offset
    before = partition.segment_of(last)
    last_ms = before.arrivals.last_ms if before is not None and last >= 0 else -1
    for segment in partition.segments:
        base, end = segment.base_offset, partition.end_of(segment)
        if end <= state.arrivals[0][1]:
            continue
        arrivals = segment.arrivals
        last_ms = max([last_ms, *(wall_ms for wall_ms, offset in state.arrivals if offset <= base)])
        if not arrivals.times and last_ms >= 0:
            arrivals.add(last_ms, 0)
        for wall_ms, offset in state.arrivals:
            known = arrivals.offsets[-1] if arrivals.times else -1
            if base <= offset < end and offset - base > known and wall_ms >= arrivals.last_ms:
                # Also less than a second after the last: what follows has no pair of its own in the journal.
                arrivals.times.append(wall_ms)
                arrivals.offsets.append(offset - base)
                arrivals.last_ms = wall_ms
        last_ms = max(last_ms, arrivals.last_ms)
        try:
            segment.save_side_files(min(end, state.end_offset))  # the journal will not have them again
        except OSError as error:
            log.warning("%s: its arrivals were not saved: %s", segment.path, error)


def load_snapshot(partition: Partition) -> ProducerSnapshot | None:
    """The partition's snapshot, if the log still has the batch that it names. Blocks."""
    path = f"{partition.folder}/{snapshots.NAME}"
    disk = partition.context.disk
    if not partition.segments or not disk.exists(path):
        return None
    found = snapshots.decode(disk.read_all(path))
    if found is None or not partition.context.run_blocking(_names_a_batch(partition, found)):
        log.warning("%s does not belong to this log: reading the log instead", path)
        return None
    return found


def _names_a_batch(partition: Partition, found: ProducerSnapshot) -> ReadSteps[bool]:
    segment = next((one for one in partition.segments if one.base_offset == found.segment), None)
    if segment is None or found.offset > partition.high_watermark:
        return False
    if found.last_batch_position < 0:
        return found.position == 0 and found.offset == segment.base_offset
    data = yield segment, HEADER_BYTES, found.last_batch_position
    if len(data) < HEADER_BYTES or found.position > partition.limit_of(segment):
        return False
    header = read_header(data)
    return (
        header.crc == found.last_batch_crc
        and header.next_offset == found.offset
        and found.last_batch_position + header.total_bytes == found.position
    )


def load_windows(partition: Partition) -> ProducerWindows:
    """The producer windows: those of the snapshot, and what the log has after it; without a snapshot, what
    the log has that arrived within the expiry. Blocks."""
    windows = ProducerWindows(partition.context.config.producer_expiry_ms)
    known = partition.derived.snapshot
    segments, first, start = partition.segments, 0, (0, 0)
    if known is not None:
        first = bisect_left(segments, known.segment, key=lambda segment: segment.base_offset)
        start = known.position, known.offset
        for producer_id, window in known.windows.items():
            windows.restore(producer_id, window)
    segments = segments[first:]
    bounds = offset_lookup.arrival_bounds(partition, segments)
    if known is None:
        oldest = partition.context.clock.wall_ms() - windows.expiry_ms
        for at in reversed(range(len(segments) - 1)):
            if offset_lookup.last_arrival(partition, segments[at], bounds[at]) < oldest:
                del segments[: at + 1], bounds[: at + 1]
                break
    for segment, bound in zip(segments, bounds, strict=True):
        base = segment.base_offset
        end = partition.limit_of(segment), min(partition.end_of(segment), partition.high_watermark)
        begin = start if known is not None and base == known.segment else (0, base)
        _replay(partition, windows, segment, begin, end, bound)
    return windows


def _replay(
    partition: Partition,
    windows: ProducerWindows,
    segment: Segment,
    start: tuple[int, int],
    end: tuple[int, int],
    bound: int,
) -> None:
    """`bound`: the latest that a batch of it can have arrived."""
    arrivals, base = segment.arrivals, segment.base_offset

    def visit(_: int, header: BatchHeader) -> None:
        arrival_ms = arrivals.arrival_of(header.base_offset - base)
        windows.replay(header, bound if arrival_ms is None else arrival_ms)

    try:
        partition.context.run_blocking(
            scan_batches(segment, *start, end, visit, chunk_bytes=BUILD_CHUNK_BYTES)
        )
    except ScanInvalidated:
        # The damage is known now, so the walk goes past it; batches that were replayed are not counted twice.
        _replay(partition, windows, segment, start, end, bound)


def load_epochs(partition: Partition) -> LeaderEpochs:
    """The leader epochs: from their file, or from the batch headers without it. Blocks. After a crash the
    file is a beginning of the truth, so one that knows the last batch's epoch is whole."""
    path = f"{partition.folder}/{epoch_file.NAME}"
    disk = partition.context.disk
    found = LeaderEpochs.parse(disk.read_all(path)) if partition.segments and disk.exists(path) else None
    doubtful = found is not None and not partition.was_clean
    if found is None or (doubtful and _last_epoch(partition) != found.epoch_at(partition.log_end_offset - 1)):
        found = LeaderEpochs()
        for segment in partition.segments:
            partition.context.run_blocking(_epochs_of(partition, segment, found))
    found.truncate(partition.log_end_offset)
    found.begin(partition.epoch, partition.log_end_offset)
    found.advance_log_start(partition.log_start_offset)
    return found


def _last_epoch(partition: Partition) -> int:
    """Of the last batch; -1: there is none, or it cannot be found."""
    for segment in reversed(partition.segments):
        end = _end(partition, segment)
        if end[0]:
            index = partition.context.run_blocking(index_of(partition, segment))
            last = last_batch(partition, segment, index, end)
            return last[1].leader_epoch if last is not None else -1
    return -1


def last_batch(
    partition: Partition, segment: Segment, index: SegmentIndex, end: tuple[int, int]
) -> tuple[int, BatchHeader] | None:
    """(position, header) of the batch of `segment` that ends at `end` (position, offset): a short walk from
    the index. None: it cannot be found. Blocks."""
    position, claimed = index.position_before(end[1] - 1 - segment.base_offset)
    base = segment.base_offset
    if claimed is not None:
        header = partition.context.run_blocking(entry_header(segment, position, claimed, end))
        if header is None:
            return None
        base = header.base_offset
    last: list[tuple[int, BatchHeader]] = []

    def visit(at: int, header: BatchHeader) -> None:
        last[:] = [(at, header)]

    try:
        partition.context.run_blocking(scan_batches(segment, position, base, end, visit))
    except ScanInvalidated:
        return None
    return last[0] if last else None


def _epochs_of(partition: Partition, segment: Segment, found: LeaderEpochs) -> ReadSteps[None]:
    """Add the epochs that begin in `segment`. One that begins and ends with the same epoch is not walked."""
    data = yield segment, HEADER_BYTES, 0
    if len(data) < HEADER_BYTES:
        return
    first = read_header(data)
    found.begin(first.leader_epoch, segment.base_offset)
    following = partition.segment_of(partition.end_of(segment))
    if following is not None and following is not segment:
        data = yield following, HEADER_BYTES, 0
        if len(data) == HEADER_BYTES and read_header(data).leader_epoch == first.leader_epoch:
            return

    def visit(_: int, header: BatchHeader) -> None:
        found.begin(header.leader_epoch, header.base_offset)

    try:
        yield from scan_batches(segment, 0, segment.base_offset, _end(partition, segment), visit)
    except ScanInvalidated:
        yield from scan_batches(segment, 0, segment.base_offset, _end(partition, segment), visit)
