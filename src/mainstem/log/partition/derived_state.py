"""The producer windows and leader epochs of one partition: state that follows from its log.

Owns: loading them when they are first needed, from their files if those are right, else from batch headers.
Refuses: to load them earlier: a start with thousands of partitions opens none of their files. The first use
blocks, for small files.
"""

from __future__ import annotations

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.partition.batch_scan import ScanInvalidated, scan_batches
from mainstem.log.partition.index_loading import BUILD_CHUNK_BYTES, IndexLoader
from mainstem.log.partition.offset_lookup import OffsetLookup
from mainstem.log.partition.segments import Segments
from mainstem.log.partition.snapshot_file import SnapshotFile
from mainstem.log.storage import leader_epochs
from mainstem.log.storage.leader_epochs import LeaderEpochs
from mainstem.log.storage.producer_state import ProducerWindows
from mainstem.log.storage.record_batch import HEADER_BYTES, BatchHeader, read_header
from mainstem.log.storage.segment import Segment


class DerivedState:
    """The producer windows and leader epochs of one partition."""

    __slots__ = (
        "_index_loader", "_lookup", "_segments", "_snapshot_file", "_start_epoch", "_was_clean",
        "loaded_epochs", "loaded_windows",
    )  # fmt: skip

    def __init__(
        self,
        segments: Segments,
        index_loader: IndexLoader,
        lookup: OffsetLookup,
        snapshot_file: SnapshotFile,
        *,
        start_epoch: int,
        was_clean: bool,
    ) -> None:
        """`start_epoch`: the leader epoch of this start; `was_clean`: the last stop was clean."""
        self._segments = segments
        self._index_loader = index_loader
        self._lookup = lookup
        self._snapshot_file = snapshot_file
        self._start_epoch = start_epoch
        self._was_clean = was_clean
        self.loaded_windows: ProducerWindows | None = None
        """The producer windows; None until they are first used."""
        self.loaded_epochs: LeaderEpochs | None = None
        """The leader epochs; None until they are first used."""

    @property
    def windows(self) -> ProducerWindows:
        """The producer windows."""
        if self.loaded_windows is None:
            self.loaded_windows = self._load_windows()
        return self.loaded_windows

    @property
    def epochs(self) -> LeaderEpochs:
        """The leader epochs, the present one included."""
        if self.loaded_epochs is None:
            self.loaded_epochs = self._load_epochs()
        return self.loaded_epochs

    def truncate_to_watermark(self) -> None:
        """Forget what follows from batches that were not committed."""
        if self.loaded_windows is not None:
            self.loaded_windows.roll_back()
        if self.loaded_epochs is not None:
            self.loaded_epochs.truncate(self._segments.high_watermark)

    def save_epochs(self) -> None:
        """Write the file of the leader epochs if they have changed. OSError."""
        epochs = self.loaded_epochs
        if epochs is not None and epochs.dirty:
            self._segments.context.disk.write_all(self._epochs_path, epochs.encode())
            epochs.dirty = False

    # --- producer windows ---------------------------------------------------------------------------------

    def _load_windows(self) -> ProducerWindows:
        """The windows of the snapshot, and of the batches after it; without a snapshot, those of the batches
        that arrived within the expiry."""
        context = self._segments.context
        windows = ProducerWindows(context.config.producer_expiry_ms)
        snapshot = self._snapshot_file.latest
        if snapshot is None:
            segments = self._segments[:]
            latest_arrivals_ms = self._lookup.latest_arrivals(segments)
            oldest_ms = context.clock.wall_ms() - windows.expiry_ms
            for index in reversed(range(len(segments) - 1)):
                if self._lookup.last_arrival(segments[index], latest_arrivals_ms[index]) < oldest_ms:
                    del segments[: index + 1], latest_arrivals_ms[: index + 1]
                    break
        else:
            segments = self._segments.from_base(snapshot.segment)
            latest_arrivals_ms = self._lookup.latest_arrivals(segments)
            for producer_id, window in snapshot.windows.items():
                windows.restore(producer_id, window)
        for segment, latest_ms in zip(segments, latest_arrivals_ms, strict=True):
            start = 0, segment.base_offset
            if snapshot is not None and segment.base_offset == snapshot.segment:
                start = snapshot.position, snapshot.offset
            self._replay(windows, segment, start, latest_ms)
        return windows

    def _replay(
        self, windows: ProducerWindows, segment: Segment, start: tuple[int, int], latest_arrival_ms: int
    ) -> None:
        """Add the committed batches of `segment` from `start` (position, offset) on to `windows`."""
        arrivals, base_offset = segment.arrivals, segment.base_offset

        def visit(_: int, header: BatchHeader) -> None:
            arrival_ms = arrivals.arrival_of(header.base_offset - base_offset)
            windows.replay(header, latest_arrival_ms if arrival_ms is None else arrival_ms)

        limit = self._segments.committed_limit(segment)
        scan = scan_batches(segment, *start, limit, visit, chunk_bytes=BUILD_CHUNK_BYTES)
        try:
            self._segments.context.run_blocking(scan)
        except ScanInvalidated:
            # The damage is known now, so the next scan passes it; a batch is never counted twice.
            self._replay(windows, segment, start, latest_arrival_ms)

    # --- leader epochs ------------------------------------------------------------------------------------

    @property
    def _epochs_path(self) -> str:
        return f"{self._segments.folder}/{leader_epochs.NAME}"

    def _load_epochs(self) -> LeaderEpochs:
        """The epochs of their file, else of the batch headers. After a crash the file may lack the newest
        epochs: it is whole if it knows the epoch of the last batch."""
        segments, disk = self._segments, self._segments.context.disk
        epochs = None
        if segments and disk.exists(self._epochs_path):
            epochs = LeaderEpochs.parse(disk.read_all(self._epochs_path))
        if epochs is not None and not self._was_clean:
            last_offset = segments.log_end_offset - 1
            if self._epoch_of_last_batch() != epochs.epoch_at(last_offset):
                epochs = None
        if epochs is None:
            epochs = LeaderEpochs()
            for segment in segments:
                segments.context.run_blocking(self._add_epochs_of(segment, epochs))
        epochs.truncate(segments.log_end_offset)
        epochs.begin(self._start_epoch, segments.log_end_offset)
        epochs.advance_log_start(segments.log_start_offset)
        return epochs

    def _epoch_of_last_batch(self) -> int:
        """-1: there is no batch, or the last one cannot be found."""
        for segment in reversed(self._segments):
            limit = self._segments.log_limit(segment)
            if limit[0]:
                index = self._segments.context.run_blocking(self._index_loader.load(segment))
                last = self._index_loader.last_batch(segment, index, limit)
                return last[1].leader_epoch if last is not None else -1
        return -1

    def _add_epochs_of(self, segment: Segment, epochs: LeaderEpochs) -> ReadSteps[None]:
        """Add the epochs that begin in `segment`. If the next segment begins with the same epoch as this one,
        no other can lie between: it is not scanned."""
        data = yield segment, HEADER_BYTES, 0
        if len(data) < HEADER_BYTES:
            return
        first = read_header(data)
        epochs.begin(first.leader_epoch, segment.base_offset)
        following = next(self._segments.after(segment), None)
        if following is not None:
            data = yield following, HEADER_BYTES, 0
            if len(data) == HEADER_BYTES and read_header(data).leader_epoch == first.leader_epoch:
                return

        def visit(_: int, header: BatchHeader) -> None:
            epochs.begin(header.leader_epoch, header.base_offset)

        limit = self._segments.log_limit(segment)
        try:
            yield from scan_batches(segment, 0, segment.base_offset, limit, visit)
        except ScanInvalidated:
            yield from scan_batches(segment, 0, segment.base_offset, limit, visit)
