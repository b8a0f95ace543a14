"""The producer snapshot of one partition: its file, and what was last read from or written to it.

Owns: reading the file when it is first needed, the check that it belongs to this log, and writing it.
Refuses: the file's format (`storage/producer_snapshot.py`) and deciding when it is written (`side_files.py`).
"""

from __future__ import annotations

import logging

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.partition.segments import Segments
from mainstem.log.storage import producer_snapshot
from mainstem.log.storage.producer_snapshot import ProducerSnapshot
from mainstem.log.storage.record_batch import HEADER_BYTES, read_header

log = logging.getLogger(__name__)


class SnapshotFile:
    """The newest producer snapshot of one partition."""

    __slots__ = ("_latest", "_segments", "_was_read")

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._latest: ProducerSnapshot | None = None
        self._was_read = False

    @property
    def latest(self) -> ProducerSnapshot | None:
        """The snapshot that was saved last; None if there is none or it belongs to another log. Blocks at
        first use, for a small file."""
        if not self._was_read:
            self._latest = self._read()
            self._was_read = True
        return self._latest

    def save(self, snapshot: ProducerSnapshot) -> None:
        """Write the file, unsynced. OSError."""
        assert snapshot.offset <= self._segments.high_watermark, "a snapshot covers committed batches only"
        self._segments.context.disk.write_all(self._path, producer_snapshot.encode(snapshot))
        self._latest = snapshot
        self._was_read = True

    @property
    def _path(self) -> str:
        return f"{self._segments.folder}/{producer_snapshot.NAME}"

    def _read(self) -> ProducerSnapshot | None:
        context = self._segments.context
        if not self._segments or not context.disk.exists(self._path):
            return None
        snapshot = producer_snapshot.decode(context.disk.read_all(self._path))
        if snapshot is None or not context.run_blocking(self._names_a_batch(snapshot)):
            log.warning("%s does not match the log; producer state is rebuilt from the log", self._path)
            return None
        return snapshot

    def _names_a_batch(self, snapshot: ProducerSnapshot) -> ReadSteps[bool]:
        """Whether the log has the batch that the snapshot names as the last one it covers."""
        segments = self._segments
        segment = segments.with_base(snapshot.segment)
        if segment is None or snapshot.offset > segments.high_watermark:
            return False
        if snapshot.last_batch_position < 0:
            return snapshot.position == 0 and snapshot.offset == segment.base_offset
        data = yield segment, HEADER_BYTES, snapshot.last_batch_position
        if len(data) < HEADER_BYTES or snapshot.position > segments.readable_bytes(segment):
            return False
        header = read_header(data)
        return (
            header.crc == snapshot.last_batch_crc
            and header.next_offset == snapshot.offset
            and snapshot.last_batch_position + header.total_bytes == snapshot.position
        )
