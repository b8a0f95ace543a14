"""Stores of runs for tests: in memory, with a count of what is read."""

from __future__ import annotations


class MemoryRuns:
    """Runs in a dict, which a test may damage."""

    def __init__(self) -> None:
        self.runs: dict[int, bytes] = {}
        self.reads = 0
        self.most_bytes = 0
        """The most that was ever stored."""

    def write(self, run_id: int, data: bytes) -> None:
        """See `RunStore`."""
        assert run_id not in self.runs, "a run is written once"
        self.runs[run_id] = data
        self.most_bytes = max(self.most_bytes, sum(map(len, self.runs.values())))

    def read(self, run_id: int, start: int, size: int) -> bytes:
        """See `RunStore`."""
        self.reads += 1
        return self.runs.get(run_id, b"")[start : start + size]

    def delete(self, run_id: int) -> None:
        """See `RunStore`."""
        self.runs.pop(run_id, None)
