"""Reading without waiting: one way to write a read, three ways to run it.

Owns: `ReadSteps`, a generator that asks for byte ranges and is given them, and the runner that gets them from
the page cache on the loop, through the helper process when they are not there, or by waiting. Owns also
what the partitions of a log share: open files and loaded indexes, both bounded. Refuses: to wait on the
loop. Called by the log's modules.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Generator
from typing import Generic, Protocol, TypeAlias, TypeVar

from mainstem.clock import Clock
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Disk, File
from mainstem.log.errors import StorageError
from mainstem.promise import Promise

T = TypeVar("T")
PREFETCH_TRIES_MAX = 3
WRITE_ERROR_LOG_INTERVAL_S = 10.0

log = logging.getLogger(__name__)


class ReadSource(Protocol):
    """What can be read from: a segment."""

    def file(self) -> File:
        """Its file, open. LogError if it is gone."""


ReadRequest: TypeAlias = tuple[ReadSource, int, int]
"""(source, length, position): answered with up to `length` bytes, fewer only at the end of the file."""

ReadSteps: TypeAlias = Generator[ReadRequest | None, bytes | bytearray, T]
"""A read as a generator. Yields what it wants, or None to let others have a turn; returns its result."""


class LogContext:
    """What all partitions of one log share."""

    def __init__(self, disk: Disk, clock: Clock, config: LogConfig | None = None) -> None:
        self.disk = disk
        self.clock = clock
        self.config = config or LogConfig()
        self.indexes = IndexCache()
        self._logged_at_s = -WRITE_ERROR_LOG_INTERVAL_S

    def write_error(self, where: str, what: str) -> StorageError:
        """The error of a write that the disk refused; logged, but not with each try of each producer."""
        if self.clock.monotonic() - self._logged_at_s >= WRITE_ERROR_LOG_INTERVAL_S:
            self._logged_at_s = self.clock.monotonic()
            log.error("%s: %s; producers are told to try again", where, what)
        return StorageError(what)

    def run(self, steps: ReadSteps[T]) -> T | Promise[T]:
        """The result at once when the page cache has all that is wanted, else later. Errors: those of
        `steps`, StorageError for an OSError."""
        want: ReadRequest | None
        try:
            want = next(steps)
            while want is not None:
                source, length, position = want
                data = source.file().pread_nowait(length, position)
                if data is None:
                    break
                want = steps.send(data)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except OSError as error:
            steps.close()
            raise StorageError(f"reading failed: {error}") from error
        return _PendingRead(self, steps, want).later

    def run_later(self, steps: ReadSteps[T]) -> Promise[T]:
        """As `run`, but always a Promise, and never raises."""
        try:
            result = self.run(steps)
        except Exception as error:
            return Promise.failed(error)
        return result if isinstance(result, Promise) else Promise.resolved(result)

    def run_blocking(self, steps: ReadSteps[T]) -> T:
        """The result; waits for the disk. For start-up, shutdown and small files."""
        try:
            want = next(steps)
            while True:
                if want is None:
                    want = steps.send(b"")
                else:
                    source, length, position = want
                    want = steps.send(source.file().pread(length, position))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except OSError as error:
            steps.close()
            raise StorageError(f"reading failed: {error}") from error


class _PendingRead(Generic[T]):
    """A read that has to wait: for the helper, or for its next turn of the loop."""

    def __init__(self, shared: LogContext, steps: ReadSteps[T], want: ReadRequest | None) -> None:
        self.later: Promise[T] = Promise()
        self._context = shared
        self._steps = steps
        self._tries = 0
        self._request(want)

    def _request(self, want: ReadRequest | None) -> None:
        if want is None:
            self._context.clock.call_soon(lambda: self._resume(b""))
            return
        source, length, position = want
        try:
            file = source.file()
        except Exception as error:
            self._fail(error)
            return
        self._context.disk.prefetch(file, position, length).then(
            lambda warmed: self._prefetched(want, warmed)
        )

    def _prefetched(self, want: ReadRequest, warmed: Promise[None]) -> None:
        source, length, position = want
        try:
            warmed.result()
            file = source.file()
            data = file.pread_nowait(length, position)
            if data is None and self._tries >= PREFETCH_TRIES_MAX:
                data = file.pread(length, position)  # memory is so short that the pages are gone again
        except Exception as error:
            self._fail(error)
            return
        if data is None:
            self._tries += 1
            self._request(want)
            return
        self._tries = 0
        self._resume(data)

    def _resume(self, data: bytes | bytearray) -> None:
        """Go on with `data` as far as the page cache reaches."""
        try:
            want = self._steps.send(data)
            while want is not None:
                source, length, position = want
                found = source.file().pread_nowait(length, position)
                if found is None:
                    break
                want = self._steps.send(found)
        except StopIteration as stop:
            self.later.resolve(stop.value)
            return
        except Exception as error:
            self._fail(error)
            return
        self._request(want)

    def _fail(self, error: Exception) -> None:
        self._steps.close()
        if isinstance(error, OSError):
            wrapped = StorageError(f"reading failed: {error}")
            wrapped.__cause__ = error
            error = wrapped
        self.later.fail(error)


class Evictable(Protocol):
    """What holds an index in memory that can be read again from its files."""

    def index_bytes(self) -> int:
        """Memory that it takes now."""

    def evict(self) -> None:
        """Give it up. May refuse."""


class IndexCache:
    """Indexes of sealed segments in memory, the longest unused given up when they take too much together."""

    BYTES_MAX = 64 << 20

    def __init__(self) -> None:
        self._holders: OrderedDict[Evictable, int] = OrderedDict()
        self._bytes = 0

    def mark_used(self, holder: Evictable) -> None:
        """`holder` was read from just now."""
        self.remove(holder)
        size = self._holders[holder] = holder.index_bytes()
        self._bytes += size
        while self._bytes > self.BYTES_MAX and len(self._holders) > 1:
            oldest, size = self._holders.popitem(last=False)
            self._bytes -= size
            oldest.evict()

    def remove(self, holder: Evictable) -> None:
        """It is gone, or active again."""
        self._bytes -= self._holders.pop(holder, 0)
