"""Leader epochs: from which offset on each was in force.

Owns: the list (epoch, first offset) of one partition and its file `leader-epoch-checkpoint` in Apache
Kafka's text form. Refuses: to be the truth: that is in the batch headers, the file is disposable. Called by
`partition.py`.

Kafka: LeaderEpochFileCache, LeaderEpochCheckpointFile.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

NAME = "leader-epoch-checkpoint"
_VERSION = "0"


class LeaderEpochs:
    """Rising epochs with rising first offsets."""

    def __init__(self, entries: list[tuple[int, int]] | None = None) -> None:
        self.entries = entries or []
        self.dirty = False
        """Changed since it was last written."""

    def begin(self, epoch: int, offset: int) -> None:
        """`epoch` is in force from `offset` on. Epochs that began there or later never got a batch: they
        go."""
        if self.entries and self.entries[-1][0] >= epoch:
            return
        self.truncate(offset)
        self.entries.append((epoch, offset))
        self.dirty = True

    def truncate(self, offset: int) -> None:
        """The log now ends at `offset`."""
        while self.entries and self.entries[-1][1] >= offset:
            self.entries.pop()
            self.dirty = True

    def advance_log_start(self, offset: int) -> None:
        """The log now begins at `offset`: epochs that ended before it go, the one in force there begins
        there."""
        at = self._entry_at(offset)
        if at > 0:
            del self.entries[:at]
            self.dirty = True
        if self.entries and self.entries[0][1] < offset:
            self.entries[0] = (self.entries[0][0], offset)
            self.dirty = True

    def end_offset(self, epoch: int, log_end: int) -> tuple[int, int]:
        """OffsetForLeaderEpoch: (the largest epoch not above the one asked for, its end offset). (-1, -1)
        for an epoch that has not begun. For one before the first that is known: (that epoch, where the
        first begins)."""
        if epoch < 0 or not self.entries or epoch > self.entries[-1][0]:
            return -1, -1
        at = bisect_right(self.entries, epoch, key=lambda entry: entry[0])
        if at == 0:
            return epoch, self.entries[0][1]
        end = self.entries[at][1] if at < len(self.entries) else log_end
        return self.entries[at - 1][0], end

    def epoch_at(self, offset: int) -> int:
        """The epoch in force at `offset`; -1 before the first."""
        found = self._entry_at(offset)
        return self.entries[found][0] if found >= 0 else -1

    def _entry_at(self, offset: int) -> int:
        return bisect_right(self.entries, offset, key=lambda entry: entry[1]) - 1

    def encode(self) -> bytes:
        """Kafka's text: version, number of entries, then `epoch offset` lines."""
        lines = [_VERSION, str(len(self.entries)), *(f"{epoch} {offset}" for epoch, offset in self.entries)]
        return ("\n".join(lines) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes) -> LeaderEpochs | None:
        """From the file; None if it is not whole."""
        try:
            version, count, *lines = data.decode("ascii").split("\n")
            pairs = [line.split() for line in lines if line]
            entries = [(int(epoch), int(offset)) for epoch, offset in pairs]
            whole = version == _VERSION and int(count) == len(entries) and data.endswith(b"\n")
        except ValueError:
            return None
        rising = all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(entries))
        return cls(entries) if whole and rising else None
