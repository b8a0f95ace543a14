"""What a partition derives from its log, loaded when first needed.

Owns: producer windows, leader epochs and the snapshot in memory. Refuses: to read them before somebody asks:
a start with thousands of partitions opens none of their files. The first use may wait for small files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.log.partition import index_loading
from mainstem.log.storage.leader_epochs import LeaderEpochs
from mainstem.log.storage.producer_snapshot import ProducerSnapshot
from mainstem.log.storage.producer_state import ProducerWindows

if TYPE_CHECKING:
    from mainstem.log.partition.partition import Partition


class DerivedState:
    """Of one partition."""

    __slots__ = ("_partition", "_snapshot", "_snapshot_read", "loaded_epochs", "loaded_windows")

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._snapshot: ProducerSnapshot | None = None
        self._snapshot_read = False
        self.loaded_windows: ProducerWindows | None = None
        """None until somebody asked for `windows`."""
        self.loaded_epochs: LeaderEpochs | None = None
        """None until somebody asked for `epochs`."""

    @property
    def snapshot(self) -> ProducerSnapshot | None:
        """What was last saved, if it belongs to this log."""
        if not self._snapshot_read:
            self._snapshot = index_loading.load_snapshot(self._partition)
            self._snapshot_read = True
        return self._snapshot

    @snapshot.setter
    def snapshot(self, snapshot: ProducerSnapshot) -> None:
        self._snapshot = snapshot
        self._snapshot_read = True

    @property
    def windows(self) -> ProducerWindows:
        """The producer windows."""
        if self.loaded_windows is None:
            self.loaded_windows = index_loading.load_windows(self._partition)
        return self.loaded_windows

    @property
    def epochs(self) -> LeaderEpochs:
        """The leader epochs, the present one included."""
        if self.loaded_epochs is None:
            self.loaded_epochs = index_loading.load_epochs(self._partition)
        return self.loaded_epochs

    def truncate(self, offset: int) -> None:
        """The log now ends at `offset`, the committed end."""
        if self.loaded_windows is not None:
            self.loaded_windows.roll_back()
        if self.loaded_epochs is not None:
            self.loaded_epochs.truncate(offset)
