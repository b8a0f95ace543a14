"""Writing what a partition derives from its log: index entries, arrivals, snapshot, epochs.

Owns: when the disposable files are written and that they hold nothing that is not committed. Refuses: to
fail: a disposable file that cannot be written is built again later. Called by `partition.py`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mainstem.log.errors import LogError
from mainstem.log.partition import index_loading
from mainstem.log.storage import leader_epochs, producer_snapshot
from mainstem.log.storage.producer_snapshot import ProducerSnapshot
from mainstem.log.storage.segment import Segment
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.log.partition.partition import Partition

log = logging.getLogger(__name__)


def save(partition: Partition) -> None:
    """At a checkpoint: new entries of the active segment, the snapshot, the epochs. Unsynced."""
    active = partition.active
    if active is None:
        return
    try:
        save_epochs(partition)  # found by a start after a crash, perhaps
        if not partition.ready:
            return
        active.save_side_files(partition.high_watermark)
        _save_snapshot(partition)
    except (OSError, LogError) as error:
        log.warning("%s: index and snapshot were not saved: %s", partition.folder, error)


def sealed(partition: Partition, segment: Segment) -> None:
    """`segment` was sealed: write its files whole and sync them in the background."""
    shared = partition.context
    if segment.index is None:
        return
    try:
        segment.save_side_files(partition.end_of(segment))
        files = [shared.disk.open(path) for path in segment.side_files()]
        _save_snapshot(partition)
        save_epochs(partition)
    except (OSError, LogError) as error:
        log.warning("%s: its index was not saved: %s", segment.path, error)
        return

    def synced(later: Promise[None]) -> None:
        for file in files:
            file.close()
        if later.error is not None:
            log.warning("%s: its index could not be synced: %s", segment.path, later.error)

    partition.trust(segment)
    shared.indexes.mark_used(segment)
    shared.disk.sync(files, background=True).then(synced)


def close(partition: Partition) -> None:
    """At a clean stop, when everything is committed. Files stay open: the last checkpoint syncs them.
    Blocks."""
    active = partition.active
    if active is None:
        return
    try:
        if not partition.was_clean:
            _ = partition.derived.epochs  # the next start believes the file
        save_epochs(partition)
        if not partition.ready:
            return
        index = partition.context.run_blocking(index_loading.index_of(partition, active))
        index.add_time_entry()
        active.save_side_files(partition.high_watermark)
        _save_snapshot(partition)
    except (OSError, LogError) as error:
        log.warning("%s: index and snapshot were not saved: %s", partition.folder, error)


def save_epochs(partition: Partition) -> None:
    """If they have changed. OSError."""
    known = partition.derived.loaded_epochs
    if known is not None and known.dirty:
        partition.context.disk.write_all(f"{partition.folder}/{leader_epochs.NAME}", known.encode())
        known.dirty = False


def _save_snapshot(partition: Partition) -> None:
    offset = partition.high_watermark
    base, position = partition.committed_end
    segment = next((one for one in reversed(partition.segments) if one.base_offset == base), None)
    known = partition.derived.snapshot
    if segment is None or (known is not None and known.offset == offset and known.segment == base):
        return
    index, last = segment.index, None
    if index is not None and position:
        last = index_loading.last_batch(partition, segment, index, (position, offset))
    if last is None and position:
        return
    taken = ProducerSnapshot(
        segment=base,
        position=position,
        offset=offset,
        last_batch_position=last[0] if last else -1,
        last_batch_crc=last[1].crc if last else 0,
        last_arrival_ms=partition.last_arrival_ms,
        index_entries=index.entries_below(offset - base) if index is not None else None,
        windows=partition.derived.windows.committed_windows(partition.context.clock.wall_ms()),
    )
    partition.derived.windows.expire(partition.context.clock.wall_ms())
    partition.context.disk.write_all(
        f"{partition.folder}/{producer_snapshot.NAME}", producer_snapshot.encode(taken)
    )
    partition.derived.snapshot = taken
