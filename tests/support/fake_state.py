"""A state partition and a disk in memory, whose commits a test makes succeed or fail: for tests of the
coordinator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mainstem.log.disk.contract import Buffer
from mainstem.log.errors import OffsetOutOfRange, StorageError
from mainstem.log.storage import record_batch as batches
from mainstem.promise import Promise


@dataclass(frozen=True)
class FakeAppended:
    base_offset: int
    next_offset: int


@dataclass(frozen=True)
class FakeSlice:
    data: bytes
    next_offset: int


class FakeStateLog:
    """Keeps batches in a list. `auto`: each append is durable at once (as with `durability=os`)."""

    def __init__(self, *, auto: bool = True) -> None:
        self.auto = auto
        self.batches: list[tuple[int, int, bytes]] = []
        self.log_start_offset = 0
        self.high_watermark = 0
        self.log_end_offset = 0
        self.waiters: list[tuple[int, Promise[None]]] = []
        self.refuse: str | None = None

    def append(self, batch: memoryview) -> FakeAppended:
        if self.refuse:
            raise StorageError(self.refuse)
        base = self.log_end_offset
        self.log_end_offset = base + batches.validate(batch).next_offset
        batches.assign_offsets(batch, base, 0, None)
        self.batches.append((base, self.log_end_offset, bytes(batch)))
        if self.auto:
            self.commit()
        return FakeAppended(base, self.log_end_offset)

    def when_committed(self, next_offset: int) -> Promise[None]:
        if self.high_watermark >= next_offset:
            return Promise.resolved(None)
        later: Promise[None] = Promise()
        self.waiters.append((next_offset, later))
        return later

    def commit(self, until: int | None = None) -> None:
        """Make appends durable: all, or those below `until` (a batch's end)."""
        self.high_watermark = self.log_end_offset if until is None else until
        due = [waiter for waiter in self.waiters if waiter[0] <= self.high_watermark]
        self.waiters = [waiter for waiter in self.waiters if waiter[0] > self.high_watermark]
        for _, later in due:
            later.resolve(None)

    def fail(self) -> None:
        """The commit fails: what is not durable is cut off."""
        self.batches = [batch for batch in self.batches if batch[1] <= self.high_watermark]
        self.log_end_offset = self.high_watermark
        waiters, self.waiters = self.waiters, []
        for _, later in waiters:
            later.fail(StorageError("the commit failed"))

    def read_blocking(self, offset: int, max_bytes: int) -> FakeSlice:
        if not self.log_start_offset <= offset <= self.high_watermark:
            raise OffsetOutOfRange(f"{offset}")
        out, next_offset = b"", offset
        for _, end, data in self.batches:
            if end > offset and end <= self.high_watermark and (not out or len(out) + len(data) <= max_bytes):
                out, next_offset = out + data, end
        return FakeSlice(out, next_offset)

    def delete_records(self, before: int) -> Promise[int]:
        assert self.log_start_offset <= before <= self.high_watermark
        self.log_start_offset = before
        self.batches = [batch for batch in self.batches if batch[1] > before]
        return Promise.resolved(before)


class FakeStateDisk:
    """The few calls of `Disk` that the coordinator makes. `hold`: replacements wait until the test lets
    them go."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.hold = False
        self.held: list[Callable[[], None]] = []
        self.broken: OSError | None = None

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
        if self.broken is not None:
            return Promise.failed(self.broken)
        later: Promise[None] = Promise()

        def done() -> None:
            self.files[path] = bytes(data)
            later.resolve(None)

        if self.hold:
            self.held.append(done)
        else:
            done()
        return later
