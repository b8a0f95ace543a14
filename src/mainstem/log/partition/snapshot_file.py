"""The producer snapshot of one partition: its file, and what was last read from or written to it.

Owns: reading the file when it is first needed, the check that it belongs to this log, and writing it.
Refuses: the file's format (`storage/producer_snapshot.py`) and deciding when it is written (`side_files.py`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, starmap

from crc32c import crc32c

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.partition.segments import Segments
from mainstem.log.storage import producer_snapshot
from mainstem.log.storage.producer_snapshot import ProducerSnapshot
from mainstem.log.storage.producer_state import ProducerWindow, ProducerWindows
from mainstem.log.storage.record_batch import HEADER_BYTES, read_header
from mainstem.promise import Promise
from mainstem.turns import run_in_turns

PRODUCERS_PER_TURN = 2_000
"""Producers that are looked through or written in one turn of the event loop, 4 ms."""
PIECE_PRODUCERS = 500
"""Producers of one write."""

log = logging.getLogger(__name__)


class SnapshotFile:
    """The newest producer snapshot of one partition."""

    __slots__ = ("_latest", "_segments", "_was_read", "_writing")

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._latest: ProducerSnapshot | None = None
        self._was_read = False
        self._writing: ProducerSnapshot | None = None
        """What is being written in several turns of the loop."""

    @property
    def latest(self) -> ProducerSnapshot | None:
        """The snapshot that was saved last; None if there is none or it belongs to another log. Blocks at
        first use, for a small file."""
        if not self._was_read:
            self._latest = self._read()
            self._was_read = True
        return self._latest

    def save_now(self, snapshot: ProducerSnapshot) -> None:
        """Write the file, unsynced. OSError."""
        assert snapshot.offset <= self._segments.high_watermark, "a snapshot covers committed batches only"
        self._writing = None
        self._segments.context.disk.write_all(self._path, producer_snapshot.encode(snapshot))
        self._saved(snapshot)

    def save(self, snapshot: ProducerSnapshot, windows: ProducerWindows) -> None:
        """Write the file, unsynced, without the producers that have expired; they are removed from `windows`,
        too. If there are many producers, it is written in several turns of the event loop, and gets its name
        at the end; a save during that time does nothing. OSError of the first turn."""
        assert snapshot.offset <= self._segments.high_watermark, "a snapshot covers committed batches only"
        if self._writing is not None:
            return
        self._writing = snapshot
        clock = self._segments.context.clock
        written = run_in_turns(clock, self._write(snapshot, windows, clock.wall_ms()), PRODUCERS_PER_TURN)
        if written.done:
            self._writing = None
            written.result()
        written.then(self._log_failure)

    def _write(self, snapshot: ProducerSnapshot, windows: ProducerWindows, now_ms: int) -> Iterator[int]:
        writing = self._writing
        fresh: dict[int, ProducerWindow] = {}
        for producer_id, window in snapshot.windows.items():
            if not windows.expire(producer_id, window, now_ms):
                fresh[producer_id] = window
            yield 1
        if self._writing is not writing:  # a clean stop has written a newer one
            return
        snapshot = replace(snapshot, windows=fresh)
        if len(fresh) < PRODUCERS_PER_TURN:
            self._segments.context.disk.write_all(self._path, producer_snapshot.encode(snapshot))
        else:
            yield from self._write_pieces(snapshot)
        if self._writing is not writing:
            return
        self._saved(snapshot)
        self._writing = None

    def _write_pieces(self, snapshot: ProducerSnapshot) -> Iterator[int]:
        disk, temporary = self._segments.context.disk, self._path + ".tmp"
        disk.unlink(temporary)
        place = producer_snapshot.encode_place(snapshot)
        items = iter(snapshot.windows.items())
        crc, position = crc32c(place), len(producer_snapshot.encode_prefix(0)) + len(place)
        writing = self._writing
        with contextlib.closing(disk.open(temporary, create=True)) as file:
            while piece := b"".join(starmap(producer_snapshot.encode_window, islice(items, PIECE_PRODUCERS))):
                file.pwrite(piece, position)
                crc, position = crc32c(piece, crc), position + len(piece)
                yield PIECE_PRODUCERS
                if self._writing is not writing:
                    disk.unlink(temporary)
                    return
            file.pwrite(producer_snapshot.encode_prefix(crc) + place, 0)
        disk.rename(temporary, self._path)

    def _saved(self, snapshot: ProducerSnapshot) -> None:
        self._latest = snapshot
        self._was_read = True

    def _log_failure(self, written: Promise[None]) -> None:
        self._writing = None
        error = written.error
        if isinstance(error, FileNotFoundError):
            return  # the partition was deleted meanwhile
        if isinstance(error, OSError):
            log.warning("%s was not saved; producer state is rebuilt from the log: %s", self._path, error)
        elif error is not None:
            raise error

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
