"""Taking a partition's log back to its committed end.

Owns: what goes when a commit failed: segments that hold nothing committed, the tail of the last one, and all
that was derived from it. Refuses: to touch a committed byte. Called by `partition.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.log.disk.contract import File
from mainstem.log.partition import index_loading

if TYPE_CHECKING:
    from mainstem.log.partition.partition import Partition


def truncate_to_watermark(partition: Partition) -> None:
    """Cut files, index, arrivals, windows and epochs. If a file cannot be cut, the partition is fenced, and
    this is to be done again before it takes appends: it may be done any number of times."""
    partition.truncation_count += 1
    end = partition.high_watermark
    partition.log_end_offset = end
    partition.derived.truncate(end)
    partition.reader.forget_cursors()
    partition.truncation_pending = True
    try:
        _cut_files(partition, end)
        partition.truncation_pending = False
    except OSError as error:
        partition.fence(f"uncommitted bytes could not be cut: {error}")


def _cut_files(partition: Partition, end: int) -> None:
    dropped: File | None = None
    segments = partition.segments
    while len(segments) > 1 and segments[-1].base_offset > end:
        dropped = segments[-1].writer or dropped
        segments[-1].unlink()
        segments.pop()
    if not segments:
        return
    active = segments[-1]
    partition.trust(active)
    committed, position = partition.committed_end
    if active.base_offset != committed:
        position = 0  # begun exactly at the watermark
    active.truncate(position, end)
    if partition.ready and active.writer is None:
        active.writer = partition.context.disk.open(active.path)
        if dropped is not None:
            partition.committer.segment_rolled(partition, dropped, active.writer)
    active.file().truncate(position)
    index_loading.resume_index(partition, active)
