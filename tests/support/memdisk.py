"""A disk in memory for tests of the log: honest, counts calls, can be cold, and fails when told to.

It does not model power cuts: that is `simdisk.py`. Also two committers: one that commits at once, one that
does what the test says.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias
from uuid import UUID

from mainstem.clock import Clock
from mainstem.log.commit.contract import CommittedPartition, PendingWrite
from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.disk.contract import Buffer, File
from mainstem.log.disk.nonblocking_read import LogContext
from mainstem.log.partition.partition import Partition
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.promise import Promise
from tests.support.clock import SimClock

TOPIC = UUID(int=7)
Verdicts: TypeAlias = list[OSError | None]


class MemoryFile:
    """An open file. Still readable after an unlink, as on Unix."""

    def __init__(self, disk: MemoryDisk, path: str, data: bytearray) -> None:
        self._disk = disk
        self._data = data
        self.path = path
        self.closed = False

    def _use(self, call: str) -> None:
        assert not self.closed, f"{call} on the closed {self.path}"
        self._disk.count(call, self.path)

    def pwrite(self, data: Buffer, position: int) -> None:
        try:
            self._use("pwrite")
        except OSError:
            half = bytes(data)[: len(data) // 2]
            self._data[position : position + len(half)] = half
            raise
        if position > len(self._data):
            self._data.extend(bytes(position - len(self._data)))
        self._data[position : position + len(data)] = data

    def pread(self, length: int, position: int) -> bytes:
        self._use("pread")
        return bytes(self._data[position : position + length])

    def pread_nowait(self, length: int, position: int) -> bytes | None:
        self._use("pread_nowait")
        if self._disk.cold and (self.path, position, length) not in self._disk.prefetched:
            return None
        return bytes(self._data[position : position + length])

    def truncate(self, size: int) -> None:
        self._use("truncate")
        del self._data[size:]
        self._data.extend(bytes(size - len(self._data)))

    def size(self) -> int:
        return len(self._data)

    def close(self) -> None:
        self.closed = True


class MemoryDisk:
    """Implements `mainstem.log.disk.contract.Disk`."""

    def __init__(self, clock: SimClock | None = None) -> None:
        self.max_unsynced_files = 256
        self.files: dict[str, bytearray] = {}
        self.folders: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.cold = False
        """Nothing is in the page cache until it was warmed."""
        self.prefetched: set[tuple[str, int, int]] = set()
        self.fail: Callable[[str, str], bool] = lambda call, path: False
        """(call, path) -> the call fails with ENOSPC."""
        self.opened: list[MemoryFile] = []
        self._clock = clock

    def count(self, call: str, path: str) -> None:
        self.calls[call] += 1
        if self.fail(call, path):
            raise OSError(errno.ENOSPC, f"{call} {path}")

    def open(self, path: str, *, create: bool = False) -> MemoryFile:
        self.count("open", path)
        if create:
            if path in self.files:
                raise FileExistsError(path)
            assert path.rpartition("/")[0] in self.folders, f"no folder for {path}"
            self.files[path] = bytearray()
        elif path not in self.files:
            raise FileNotFoundError(path)
        file = MemoryFile(self, path, self.files[path])
        self.opened.append(file)
        return file

    def exists(self, path: str) -> bool:
        return path in self.files

    def size(self, path: str) -> int:
        if path not in self.files:
            raise FileNotFoundError(path)
        return len(self.files[path])

    def list(self, folder: str) -> list[str]:
        prefix = folder + "/"
        return sorted({path[len(prefix) :].split("/")[0] for path in self.files if path.startswith(prefix)})

    def make_folder(self, folder: str) -> None:
        self.count("make_folder", folder)
        self.folders.add(folder)

    def remove_folder(self, folder: str) -> None:
        self.folders.discard(folder)
        for path in [path for path in self.files if path.startswith(folder + "/")]:
            del self.files[path]

    def rename(self, source: str, target: str) -> None:
        self.count("rename", source)
        self.files[target] = self.files.pop(source)

    def unlink(self, path: str) -> None:
        self.count("unlink", path)
        self.files.pop(path, None)

    def read_all(self, path: str) -> bytes:
        self.count("read_all", path)
        return bytes(self.files[path])

    def write_all(self, path: str, data: Buffer) -> None:
        self.count("write_all", path)
        self.files[path] = bytearray(data)

    def append(self, path: str, data: Buffer, position: int) -> None:
        self.count("append", path)
        file = self.files.setdefault(path, bytearray())
        assert position <= len(file), f"a hole in {path}"
        file[position : position + len(data)] = data

    def replace_now(self, path: str, data: Buffer) -> None:
        self.write_all(path, data)

    def replace(self, path: str, data: Buffer) -> Promise[None]:
        self.write_all(path, data)
        return Promise.resolved(None)

    def sync(
        self, files: Sequence[File], folders: Sequence[str] = (), *, background: bool = False
    ) -> Promise[None]:
        self.count("sync", "")
        return Promise.resolved(None)

    def sync_each(self, files: Sequence[File], folders: Sequence[str] = ()) -> Promise[Verdicts]:
        return Promise.resolved([None for _ in (*files, *folders)])

    def sync_now(self, files: Sequence[File], folders: Sequence[str] = ()) -> None:
        self.count("sync_now", "")

    def sync_each_now(self, files: Sequence[File], folders: Sequence[str]) -> Verdicts:
        self.count("sync_now", "")
        return [None for _ in (*files, *folders)]

    stalled_s = 0.0

    def sync_stalled_s(self) -> float:
        return self.stalled_s

    def prefetch(self, file: File, position: int, length: int) -> Promise[None]:
        self.count("warm", file.path)
        later: Promise[None] = Promise()

        def done() -> None:
            self.prefetched.add((file.path, position, length))
            later.resolve(None)

        if self._clock is None:
            done()
        else:
            self._clock.call_soon(done)
        return later

    def lock(self, path: str) -> None:
        self.count("lock", path)

    def identity(self, path: str) -> str:
        return path

    def unshare(self, path: str) -> bool:
        return False

    def zero_file(self, path: str, size: int) -> Promise[None]:
        self.write_all(path, bytes(size))
        return Promise.resolved(None)

    free = 1 << 40
    capacity = 1 << 41

    def free_bytes(self) -> int:
        self.count("free_bytes", "")
        return self.free

    def capacity_bytes(self) -> int:
        return self.capacity

    def close(self) -> None:
        """Nothing to end."""


class ManualCommitter:
    """Commits, or rolls back, when the test says so."""

    def __init__(self) -> None:
        self.pending: list[PendingWrite] = []
        self.log_starts: list[tuple[CommittedPartition, int, Promise[None]]] = []
        self.rolls = 0
        self.last_arrival_ms = 0
        self.arrivals: list[tuple[int, int]] = []
        """What the journal would hand over after a crash; a test that checkpoints clears it."""

    def append(self, write: PendingWrite) -> None:
        assert write.file.size() == write.position + len(write.data)
        assert write.arrival_ms >= self.last_arrival_ms
        self.last_arrival_ms = write.arrival_ms
        write.data = bytes(write.data)
        self.pending.append(write)

    def segment_rolled(self, partition: CommittedPartition, old: File, new: File) -> None:
        self.rolls += 1
        old.close()

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        later: Promise[None] = Promise()
        self.log_starts.append((partition, offset, later))
        return later

    def forget_partition(self, partition: CommittedPartition) -> Promise[None]:
        self.pending = [write for write in self.pending if write.partition is not partition]
        return Promise.resolved(None)

    def commit(self, count: int | None = None) -> None:
        """The first `count` appends, or all."""
        now = self.pending[:count]
        del self.pending[:count]
        for write in now:
            if not self.arrivals or write.arrival_ms >= self.arrivals[-1][0] + 1000:
                self.arrivals.append((write.arrival_ms, write.base_offset))
            write.partition.on_committed(write.end_offset, write.segment, write.position + len(write.data))
        starts, self.log_starts = self.log_starts, []
        for _, _, later in starts:
            later.resolve(None)

    def fail(self) -> None:
        """Roll all partitions with something pending back, and go on in the new epoch."""
        partitions = {id(write.partition): write.partition for write in self.pending}
        self.pending.clear()
        for partition in partitions.values():
            partition.roll_back()
        for partition in partitions.values():
            partition.resume()


class ImmediateCommitter(ManualCommitter):
    """Commits before `append` returns, as with durability "os"."""

    def append(self, write: PendingWrite) -> None:
        super().append(write)
        self.commit()

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        return Promise.resolved(None)


class PartitionRig:
    """A partition on a disk in memory with everything a test wants to reach, and the way to start it
    again."""

    def __init__(
        self,
        config: PartitionConfig | None = None,
        *,
        committer: ManualCommitter | None = None,
        disk: MemoryDisk | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        self.clock = SimClock()
        self.disk = disk or MemoryDisk(self.clock)
        self.committer = committer or ImmediateCommitter()
        self.config = config or PartitionConfig()
        self.log_config = log_config
        self.replayed = (0, 0)
        """Place of the last checkpoint, for `state`."""
        self.partition = self.open(RecoveredState())

    def checkpoint(self) -> None:
        """What a checkpoint does to a partition; and the journal forgets what came before."""
        self.partition.save_side_files()
        self.committer.arrivals.clear()
        self.replayed = self.partition.segments.committed_end

    def open(self, state: RecoveredState) -> Partition:
        """A new Partition object."""
        clock: Clock = self.clock
        context = LogContext(self.disk, clock, self.log_config)
        self.partition = Partition(context, self.committer, TOPIC, 0, self.config, state)
        return self.partition

    def state(self, *, clean: bool = True) -> RecoveredState:
        """What recovery would hand over after a stop now: everything committed is there, nothing else."""
        old = self.partition
        segment, position = old.segments.committed_end
        segments = tuple(one.base_offset for one in old.segments if one.base_offset <= segment)
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
        """Start again without having stopped; what was committed is there."""
        state = state or self.state(clean=False)
        self._cut(state)
        self.committer.pending.clear()
        self.committer.last_arrival_ms = 0
        self.open(state)
        self.committer.arrivals.clear()
        self.replayed = self.partition.segments.committed_end
        return self.partition

    def _cut(self, state: RecoveredState) -> None:
        """As recovery does: nothing lies beyond the end."""
        last = max(state.segments, default=-1)
        for path in list(self.disk.files):
            base, _, suffix = path.rpartition("/")[2].partition(".")
            if base.isdigit() and int(base) > last:
                del self.disk.files[path]
            elif base.isdigit() and int(base) == last and suffix == "log":
                del self.disk.files[path][state.end_position :]

    def wait(self, later: Promise[object]) -> None:
        """Run the clock until `later` is done."""
        for _ in range(10_000):
            if later.done:
                return
            self.clock.run()
            self.clock.advance(0.001)
        raise AssertionError("never done")
