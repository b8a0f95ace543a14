"""A state log and a disk in memory whose commits succeed or fail when a test says so, for the coordinator."""

from __future__ import annotations

from mainstem.log.disk.contract import Buffer
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


class FakeStateDisk:
    """The calls of `Disk` that the coordinator makes. `replace_error`: what each replacement fails with."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.replace_error: OSError | None = None

    def list(self, folder: str) -> list[str]:
        return sorted(path[len(folder) + 1 :] for path in self.files if path.startswith(folder + "/"))

    def exists(self, path: str) -> bool:
        return True

    def read_all(self, path: str) -> bytes:
        return self.files[path]

    def unlink(self, path: str) -> None:
        self.files.pop(path, None)

    def replace_now(self, path: str, data: Buffer) -> None:
        self.files[path] = bytes(data)

    def replace(self, path: str, data: Buffer) -> Promise[None]:
        if self.replace_error is not None:
            return Promise.failed(self.replace_error)
        self.files[path] = bytes(data)
        return Promise.resolved(None)
