"""A partition on a memory disk, with everything that a test wants to reach."""

from __future__ import annotations

from uuid import UUID

from mainstem.clock import Clock
from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.disk.nonblocking_read import LogContext
from mainstem.log.partition.partition import Partition
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.promise import Promise
from tests.log.committers import ImmediateCommitter, ManualCommitter
from tests.support.clock import SimClock
from tests.support.fake_disk import FakeDisk

TOPIC = UUID(int=7)


class PartitionRig:
    """A partition on a fake disk, which can be stopped, crashed and started again."""

    def __init__(
        self,
        config: PartitionConfig | None = None,
        *,
        committer: ManualCommitter | None = None,
        disk: FakeDisk | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        self.clock = SimClock()
        self.disk = disk or FakeDisk(self.clock)
        self.committer = committer or ImmediateCommitter()
        self.config = config or PartitionConfig()
        self.log_config = log_config
        self.replayed = (0, 0)
        """(segment, position) of the last checkpoint, for `state`."""
        self.partition = self.open(RecoveredState())

    def checkpoint(self) -> None:
        """Do what a checkpoint does to a partition; the journal then drops earlier records."""
        self.partition.save_side_files()
        self.committer.arrivals.clear()
        self.replayed = self.partition.segments.committed_end

    def open(self, state: RecoveredState) -> Partition:
        """Make a new Partition object from `state`."""
        clock: Clock = self.clock
        context = LogContext(self.disk, clock, self.log_config)
        self.partition = Partition(context, self.committer, TOPIC, 0, self.config, state)
        return self.partition

    def state(self, *, clean: bool = True) -> RecoveredState:
        """What recovery would return after a stop now: everything that is committed, and nothing else."""
        old = self.partition
        segment, position = old.segments.committed_end
        segments = tuple(entry.base_offset for entry in old.segments if entry.base_offset <= segment)
        return RecoveredState(
            segments=segments,
            epoch=old.epoch if clean else old.epoch + 1,
            log_start=old.segments.requested_log_start,
            end_offset=old.high_watermark,
            end_position=position,
            clean=clean,
            replayed_segment=self.replayed[0],
            replayed_position=self.replayed[1],
            arrivals=() if clean else tuple(self.committer.arrivals),
        )

    def restart(self) -> Partition:
        """Stop cleanly and start again."""
        self.partition.close()
        self.committer.last_arrival_ms = 0
        self.committer.arrivals.clear()
        self.open(self.state())
        self.replayed = self.partition.segments.committed_end
        return self.partition

    def crash(self, state: RecoveredState | None = None) -> Partition:
        """Start again without a stop. Everything that was committed is kept."""
        state = state or self.state(clean=False)
        self._truncate(state)
        self.committer.pending.clear()
        self.committer.last_arrival_ms = 0
        self.open(state)
        self.committer.arrivals.clear()
        self.replayed = self.partition.segments.committed_end
        return self.partition

    def _truncate(self, state: RecoveredState) -> None:
        """Truncate the log to the end of `state`, as recovery does."""
        last = max(state.segments, default=-1)
        for path in list(self.disk.files):
            base, _, suffix = path.rpartition("/")[2].partition(".")
            if base.isdigit() and int(base) > last:
                del self.disk.files[path]
            elif base.isdigit() and int(base) == last and suffix == "log":
                del self.disk.files[path][state.end_position :]

    def wait(self, promise: Promise[object]) -> None:
        """Run the clock until `promise` is done."""
        for _ in range(10_000):
            if promise.done:
                return
            self.clock.run()
            self.clock.advance(0.001)
        raise AssertionError("never done")
