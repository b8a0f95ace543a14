"""Walking over batches whose presence nothing promises.

Owns: `take`, which says how far the bytes of a segment are batches that may follow a known end, and
`behind`, which looks for whole ones behind bytes that are none. Refuses: to change anything. Called by
`recovery.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mainstem.log.disk.contract import File
from mainstem.log.storage import record_batch

_PIECE = 1 << 20
EPOCH_ANY = (1 << 31) - 1
OFFSET_ANY = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class BatchRun:
    """Batches that follow each other, as bytes of one file."""

    data: memoryview
    next_offset: int
    epoch: int
    """Of the last one."""


def valid_run_at(
    file: File,
    position: int,
    offset: int,
    epoch: int,
    *,
    end_position: int | None = None,
    epoch_max: int = EPOCH_ANY,
) -> BatchRun | None:
    """The next whole batches at `position`: the first has base offset `offset`, each follows the one
    before, CRCs are right, leader epochs never fall and lie in `epoch`..`epoch_max`. None if there is none.
    About 1 MB at once; ask again for more. No batch reaches past `end_position`. Blocks."""
    room = file.size() - position
    if end_position is not None:
        room = min(room, end_position - position)
    data = file.pread(min(_PIECE, room), position) if room >= record_batch.HEADER_BYTES else b""
    if len(data) < record_batch.HEADER_BYTES:
        return None
    first = record_batch.read_header(data)
    if first.is_plausible and len(data) < first.total_bytes <= room:
        if first.base_offset != offset or not epoch <= first.leader_epoch <= epoch_max:
            return None
        data = file.pread(first.total_bytes, position)
    view = memoryview(data)
    end = 0
    for at, header in record_batch.iter_batches(view):
        if header.base_offset != offset or not epoch <= header.leader_epoch <= epoch_max:
            break
        if not record_batch.crc_matches(view[at : at + header.total_bytes], header):
            break
        end, offset, epoch = at + header.total_bytes, header.next_offset, header.leader_epoch
    return BatchRun(view[:end], offset, epoch) if end else None


def next_valid_batch(file: File, position: int, offset: int, epoch: int) -> tuple[int, int] | None:
    """At `position` is no whole batch that begins with `offset`: (position, base offset) of the next whole
    one with a later offset and no older epoch; None if there is none. Blocks."""
    size = file.size()
    head = file.pread(record_batch.HEADER_BYTES, position)
    if len(head) == record_batch.HEADER_BYTES:
        header = record_batch.read_header(head)
        after = position + header.total_bytes, header.next_offset
        if (
            header.is_plausible
            and header.base_offset == offset
            and valid_run_at(file, *after, epoch) is not None
        ):
            return after  # not one that is part of its records
    position += 1  # it may be whole but for its offset
    while position + record_batch.HEADER_BYTES <= size:
        data = file.pread(_PIECE, position)
        for at in record_batch.find_headers(data, offset, OFFSET_ANY):
            base = record_batch.read_header(data, at).base_offset
            if valid_run_at(file, position + at, base, epoch) is not None:
                return position + at, base
        position += max(len(data) - record_batch.HEADER_BYTES + 1, 1)
    return None
