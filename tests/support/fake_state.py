"""A state log and a disk in memory whose commits succeed or fail when a test says so, for the coordinator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mainstem.coordinator.runtime.snapshot import SnapshotWriter, path_of, read
from mainstem.log.disk.contract import Buffer, Disk
from mainstem.log.errors import OffsetOutOfRange, StorageError
from mainstem.log.partition.partition import AppendedBatch, BatchSlice
from mainstem.log.storage import record_batch
from mainstem.promise import Promise


class FakeStateLog:
    """Keeps batches in a list. `auto_commit`: each append is durable at once, as with `durability=os`."""

    def __init__(self, *, auto_commit: bool = True) -> None:
        self.auto_commit = auto_commit
        self.batches: list[tuple[int, int, bytes]] = []
        self.log_start_offset = 0
        self.high_watermark = 0
        self.log_end_offset = 0
        self.waiters: list[tuple[int, Promise[None]]] = []
        self.append_error: str | None = None

    def append(self, batch: memoryview) -> AppendedBatch:
        if self.append_error:
            raise StorageError(self.append_error)
        base = self.log_end_offset
        self.log_end_offset = base + record_batch.validate(batch).next_offset
        record_batch.assign_offsets(batch, base, 0, None)
        self.batches.append((base, self.log_end_offset, bytes(batch)))
        if self.auto_commit:
            self.commit()
        return AppendedBatch(base, self.log_end_offset, -1, False)

    def when_committed(self, next_offset: int) -> Promise[None]:
        if self.high_watermark >= next_offset:
            return Promise.resolved(None)
        promise: Promise[None] = Promise()
        self.waiters.append((next_offset, promise))
        return promise

    def commit(self, until: int | None = None) -> None:
        """Make appends durable: all, or those below `until` (a batch's end)."""
        self.high_watermark = self.log_end_offset if until is None else until
        due = [waiter for waiter in self.waiters if waiter[0] <= self.high_watermark]
        self.waiters = [waiter for waiter in self.waiters if waiter[0] > self.high_watermark]
        for _, promise in due:
            promise.resolve(None)

    def fail(self) -> None:
        """Fail the commit: what is not durable is truncated."""
        self.batches = [batch for batch in self.batches if batch[1] <= self.high_watermark]
        self.log_end_offset = self.high_watermark
        waiters, self.waiters = self.waiters, []
        for _, promise in waiters:
            promise.fail(StorageError("the commit failed"))

    def read_blocking(self, offset: int, max_bytes: int) -> BatchSlice:
        if not self.log_start_offset <= offset <= self.high_watermark:
            raise OffsetOutOfRange(f"{offset}")
        data, next_offset = b"", offset
        for _, end, batch in self.batches:
            fits = not data or len(data) + len(batch) <= max_bytes
            if offset < end <= self.high_watermark and fits:
                data, next_offset = data + batch, end
        return BatchSlice(data, next_offset)

    def delete_records(self, before: int) -> Promise[int]:
        assert self.log_start_offset <= before <= self.high_watermark
        self.log_start_offset = before
        self.batches = [batch for batch in self.batches if batch[1] > before]
        return Promise.resolved(before)


class FakeStateFile:
    """An open file of `FakeStateDisk`."""

    def __init__(self, disk: FakeStateDisk, path: str) -> None:
        self.disk, self.path = disk, path

    def pwrite(self, data: Buffer, position: int) -> None:
        if self.disk.write_error is not None:
            raise self.disk.write_error
        self.disk.largest_write = max(self.disk.largest_write, len(data))
        before = self.disk.files[self.path]
        padded = before + bytes(max(position - len(before), 0))
        self.disk.files[self.path] = padded[:position] + bytes(data) + padded[position + len(data) :]

    def pread(self, length: int, position: int) -> bytes:
        return self.disk.files[self.path][position : position + length]

    def size(self) -> int:
        return len(self.disk.files[self.path])

    def close(self) -> None:
        pass


class FakeStateDisk:
    """The calls of `Disk` that the coordinator makes. `write_error`, `sync_error`: what each write or sync
    fails with."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.write_error: OSError | None = None
        self.sync_error: OSError | None = None
        self.largest_write = 0
        """Bytes of the largest write."""

    def list(self, folder: str) -> list[str]:
        return sorted(path[len(folder) + 1 :] for path in self.files if path.startswith(folder + "/"))

    def exists(self, path: str) -> bool:
        return True

    def unlink(self, path: str) -> None:
        self.files.pop(path, None)

    def open(self, path: str, *, create: bool = False) -> FakeStateFile:
        assert create == (path not in self.files)
        self.files.setdefault(path, b"")
        return FakeStateFile(self, path)

    def rename(self, source: str, target: str) -> None:
        self.files[target] = self.files.pop(source)

    def sync(
        self, files: Sequence[FakeStateFile], folders: Sequence[str] = (), *, background: bool = False
    ) -> Promise[None]:
        return Promise.resolved(None) if self.sync_error is None else Promise.failed(self.sync_error)

    def sync_now(self, files: Sequence[FakeStateFile], folders: Sequence[str] = ()) -> None:
        self.sync(files, folders).result()


def unpacked_snapshot(data: bytes, offset: int) -> list[bytes]:
    """The records of a snapshot file with these bytes. StateDamaged, StateTooNew."""
    disk, path = FakeStateDisk(), path_of(offset)
    disk.files[path] = data
    return [bytes(record) for record in read(cast(Disk, disk), path, offset)]


def packed_snapshot(offset: int, records: Sequence[bytes]) -> bytes:
    """The bytes of a snapshot file."""
    disk = FakeStateDisk()
    writer = SnapshotWriter(cast(Disk, disk), offset)
    writer.add(records)
    writer.finish()
    writer.publish()
    return disk.files[path_of(offset)]
