"""Looks for offsets that no batch has at the ends of a partition's sealed segments.

Owns: the check after a start that met other sealed segments than the checkpoint knows. Refuses: to read them
whole: the last entry of the index leads to the last batches, and only headers are read.
"""

from __future__ import annotations

import logging

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.errors import StorageError
from mainstem.log.partition.batch_scan import ScanInvalidated, scan_batches
from mainstem.log.partition.index_loading import header_at_entry
from mainstem.log.partition.segments import Segments
from mainstem.log.storage.index import last_offset_entry
from mainstem.log.storage.record_batch import BatchHeader
from mainstem.log.storage.segment import Segment

_CHUNK_BYTES = 4096

log = logging.getLogger(__name__)


def run(segments: Segments) -> None:
    """Remember the offsets that are lost before the end of each sealed segment, and log them. Lost offsets
    within a segment are found when they are read. Blocks."""
    for segment in segments[:-1]:
        if segments.end_of(segment) > segments.log_start_offset:
            try:
                segments.context.run_blocking(_check_end(segments, segment))
            except (OSError, StorageError) as error:
                log.warning("%s: its end could not be checked: %s", segment.path, error)


def _check_end(segments: Segments, segment: Segment) -> ReadSteps[None]:
    limit = segments.log_limit(segment)
    start = 0, segment.base_offset
    entry = last_offset_entry(segment.index_files()[0], limit[0])
    if entry is not None:
        header = yield from header_at_entry(segment, entry[1], entry[0], limit)
        if header is not None:
            start = entry[1], header.base_offset
    while True:
        try:
            yield from scan_batches(segment, *start, limit, _pass, chunk_bytes=_CHUNK_BYTES)
        except ScanInvalidated:
            continue  # the damage is known now, so the next scan passes it
        return


def _pass(_: int, __: BatchHeader) -> None:
    """Visit a batch: only what is missing counts."""
