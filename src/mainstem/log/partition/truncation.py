"""Cuts the files of a partition back to the committed end, after a commit failed.

Owns: deleting the segments that hold nothing committed, cutting the active one, and its index. Refuses: to
touch a committed byte.
"""

from __future__ import annotations

from collections.abc import Callable

from mainstem.log.disk.contract import File
from mainstem.log.partition.index_loading import IndexLoader
from mainstem.log.partition.segments import Segments


def truncate_files(
    segments: Segments, index_loader: IndexLoader, on_writer_replaced: Callable[[File, File], None]
) -> None:
    """Make the files end at the high watermark. OSError: they do not yet; call it again, any number of times,
    before the next append. `on_writer_replaced(old, new)`: the active segment was deleted, and the one before
    it is written to again through `new`."""
    watermark = segments.high_watermark
    assert segments.log_end_offset == watermark, "the offsets are truncated before the files"
    dropped: File | None = None
    while len(segments) > 1 and segments[-1].base_offset > watermark:
        dropped = segments[-1].writer or dropped
        segments[-1].unlink()
        segments.drop_last()
    active = segments.active
    if active is None:
        return
    segments.mark_side_files_complete(active)
    # An active segment other than the committed one begins exactly at the watermark.
    position = segments.committed_position if active.base_offset == segments.committed_segment else 0
    assert position or active.base_offset == watermark, "no committed batch is cut"
    active.truncate(position, watermark)
    if segments.accepts_appends and active.writer is None:
        active.writer = segments.context.disk.open(active.path)
        if dropped is not None:
            on_writer_replaced(dropped, active.writer)
    active.file().truncate(position)
    index_loader.catch_up_after_truncation(active)
