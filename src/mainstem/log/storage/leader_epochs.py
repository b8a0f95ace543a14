"""The leader epochs of a partition: from which offset on each was in force.

Owns: the list of (epoch, first offset) and its file `leader-epoch-checkpoint` in Apache Kafka's text form.
Refuses: to be authoritative: the batch headers are, and the file can be built again from them.

Kafka: LeaderEpochFileCache, LeaderEpochCheckpointFile.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

NAME = "leader-epoch-checkpoint"
_VERSION = "0"


class LeaderEpochs:
    """Strictly rising epochs with strictly rising first offsets."""

    def __init__(self, entries: list[tuple[int, int]] | None = None) -> None:
        self.entries = entries or []
        self.dirty = False
        """True: the epochs have changed since the file was last written."""

    def begin(self, epoch: int, offset: int) -> None:
        """Add `epoch`, which is in force from `offset` on. Epochs that began there or later have no batch and
        are removed."""
        if self.entries and self.entries[-1][0] >= epoch:
            return
        self.truncate(offset)
        assert not self.entries or self.entries[-1] < (epoch, offset), "epochs and their offsets rise"
        self.entries.append((epoch, offset))
        self.dirty = True

    def truncate(self, offset: int) -> None:
        """Remove the epochs that began at `offset` or later: the log now ends there."""
        while self.entries and self.entries[-1][1] >= offset:
            self.entries.pop()
            self.dirty = True

    def advance_log_start(self, offset: int) -> None:
        """Remove the epochs that ended before `offset`, where the log now begins, and let the one in force
        there begin there."""
        i = self._entry_at(offset)
        if i > 0:
            del self.entries[:i]
            self.dirty = True
        if self.entries and self.entries[0][1] < offset:
            self.entries[0] = (self.entries[0][0], offset)
            self.dirty = True

    def end_offset(self, epoch: int, log_end: int) -> tuple[int, int]:
        """The reply to OffsetForLeaderEpoch: (the largest epoch not above `epoch`, its end offset). (-1, -1)
        for an epoch that has not begun. For an epoch before the first known one: (`epoch`, where the first
        known one begins)."""
        if epoch < 0 or not self.entries or epoch > self.entries[-1][0]:
            return -1, -1
        i = bisect_right(self.entries, epoch, key=lambda entry: entry[0])
        if i == 0:
            return epoch, self.entries[0][1]
        end = self.entries[i][1] if i < len(self.entries) else log_end
        return self.entries[i - 1][0], end

    def epoch_at(self, offset: int) -> int:
        """The epoch in force at `offset`; -1 before the first."""
        i = self._entry_at(offset)
        return self.entries[i][0] if i >= 0 else -1

    def _entry_at(self, offset: int) -> int:
        return bisect_right(self.entries, offset, key=lambda entry: entry[1]) - 1

    def encode(self) -> bytes:
        """Kafka's text form: version, number of entries, then `epoch offset` lines."""
        lines = [_VERSION, str(len(self.entries)), *(f"{epoch} {offset}" for epoch, offset in self.entries)]
        return ("\n".join(lines) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes) -> LeaderEpochs | None:
        """The epochs in the bytes of a file; None if it is damaged."""
        try:
            version, count, *lines = data.decode("ascii").split("\n")
            pairs = [line.split() for line in lines if line]
            entries = [(int(epoch), int(offset)) for epoch, offset in pairs]
            whole = version == _VERSION and int(count) == len(entries) and data.endswith(b"\n")
        except ValueError:
            return None
        rising = all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(entries))
        return cls(entries) if whole and rising else None
