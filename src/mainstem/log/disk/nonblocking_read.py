"""Non-blocking reads: a read is written once, as a generator, and runs in one of three ways.

Owns: `ReadSteps`, a generator that yields the byte ranges it needs and receives their bytes, and its runners:
from the page cache on the loop, through the sync process when the bytes are not there, or blocking. Also what
all partitions of a log share: the disk, the clock and the bounded cache of loaded indexes. Refuses: to block
the loop.
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
"""After this many prefetches of one range, memory is so short that the pages are evicted before they are
read."""
WRITE_ERROR_LOG_INTERVAL_S = 10.0

log = logging.getLogger(__name__)


class ReadSource(Protocol):
    """Something that can be read from: a segment."""

    def file(self) -> File:
        """The source's open file. LogError if it was deleted."""


ReadRequest: TypeAlias = tuple[ReadSource, int, int]
"""(source, length, position): a request for `length` bytes; fewer are returned only at the end of the
file."""

ReadSteps: TypeAlias = Generator[ReadRequest | None, bytes | bytearray, T]
"""A read as a generator. It yields requests, or None to let other work run, and returns its result."""


class LogContext:
    """What all partitions of one log share, and the runners of their reads."""

    def __init__(self, disk: Disk, clock: Clock, config: LogConfig | None = None) -> None:
        self.disk = disk
        self.clock = clock
        self.config = config or LogConfig()
        self.indexes = IndexCache()
        self.lost_offsets: dict[str, dict[int, list[tuple[int, int]]]] = {}
        """The ranges of offsets (first, next) that are known to be damaged, by folder and base offset of the
        segment."""
        self._logged_at_s = -WRITE_ERROR_LOG_INTERVAL_S

    def set_lost_offsets(self, folder: str, base_offset: int, lost: list[tuple[int, int]]) -> None:
        """Replace the lost offsets of one segment in `lost_offsets`."""
        if lost:
            self.lost_offsets.setdefault(folder, {})[base_offset] = lost
        elif folder in self.lost_offsets:
            self.lost_offsets[folder].pop(base_offset, None)
            if not self.lost_offsets[folder]:
                del self.lost_offsets[folder]

    def write_error(self, where: str, what: str) -> StorageError:
        """The error to raise for a write that failed at `where` (a folder). Logs it, but not for each retry
        of each producer."""
        if self.clock.monotonic() - self._logged_at_s >= WRITE_ERROR_LOG_INTERVAL_S:
            self._logged_at_s = self.clock.monotonic()
            log.error("%s: %s; producers get a retriable error", where, what)
        return StorageError(what)

    def run(self, steps: ReadSteps[T]) -> T | Promise[T]:
        """Run a read. Returns its result if the page cache has all bytes that it requests; otherwise a
        Promise of it. Errors: those of `steps`; StorageError for an OSError."""
        request: ReadRequest | None
        try:
            request = next(steps)
            while request is not None:
                data = _read_cached(*request)
                if data is None:
                    break
                request = steps.send(data)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except OSError as error:
            steps.close()
            raise StorageError(f"reading failed: {error}") from error
        return _PendingRead(self, steps, request).promise

    def run_later(self, steps: ReadSteps[T]) -> Promise[T]:
        """As `run`, but always returns a Promise and never raises."""
        try:
            result = self.run(steps)
        except Exception as error:
            return Promise.failed(error)
        return result if isinstance(result, Promise) else Promise.resolved(result)

    def run_blocking(self, steps: ReadSteps[T]) -> T:
        """Run a read and return its result. Blocks on the disk: for start-up, shutdown and small files.
        Errors as with `run`."""
        try:
            request = next(steps)
            while True:
                if request is None:
                    request = steps.send(b"")
                else:
                    request = steps.send(_read(*request))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except OSError as error:
            steps.close()
            raise StorageError(f"reading failed: {error}") from error


def _read_cached(source: ReadSource, length: int, position: int) -> bytes | bytearray | None:
    """The bytes, if the page cache has them. A file that was removed from under the server has none, as if it
    had been emptied: what was in it is damaged, and other files can be read."""
    try:
        return source.file().pread_nowait(length, position)
    except FileNotFoundError:
        return b""


def _read(source: ReadSource, length: int, position: int) -> bytes:
    """As `_read_cached`, but waits for the disk."""
    try:
        return source.file().pread(length, position)
    except FileNotFoundError:
        return b""


class _PendingRead(Generic[T]):
    """A read that waits for the sync process or for its next turn of the loop."""

    def __init__(self, context: LogContext, steps: ReadSteps[T], request: ReadRequest | None) -> None:
        self.promise: Promise[T] = Promise()
        self._context = context
        self._steps = steps
        self._tries = 0
        self._prefetch(request)

    def _prefetch(self, request: ReadRequest | None) -> None:
        if request is None:
            self._context.clock.call_soon(lambda: self._resume(b""))
            return
        source, length, position = request
        try:
            file = source.file()
        except FileNotFoundError:
            self._context.clock.call_soon(lambda: self._resume(b""))
            return
        except Exception as error:
            self._fail(error)
            return
        prefetched = self._context.disk.prefetch(file, position, length)
        prefetched.then(lambda promise: self._prefetched(request, promise))

    def _prefetched(self, request: ReadRequest, prefetched: Promise[None]) -> None:
        source, length, position = request
        try:
            prefetched.result()
            data = _read_cached(source, length, position)
            if data is None and self._tries >= PREFETCH_TRIES_MAX:
                data = _read(source, length, position)
        except Exception as error:
            self._fail(error)
            return
        if data is None:
            self._tries += 1
            self._prefetch(request)
            return
        self._tries = 0
        self._resume(data)

    def _resume(self, data: bytes | bytearray) -> None:
        """Continue with `data`, as far as the page cache has what is requested."""
        try:
            request = self._steps.send(data)
            while request is not None:
                cached = _read_cached(*request)
                if cached is None:
                    break
                request = self._steps.send(cached)
        except StopIteration as stop:
            self.promise.resolve(stop.value)
            return
        except Exception as error:
            self._fail(error)
            return
        self._prefetch(request)

    def _fail(self, error: Exception) -> None:
        self._steps.close()
        if isinstance(error, OSError):
            wrapped = StorageError(f"reading failed: {error}")
            wrapped.__cause__ = error
            error = wrapped
        self.promise.fail(error)


class Evictable(Protocol):
    """Something that holds an index in memory and can read it again from its files."""

    def index_bytes(self) -> int:
        """Bytes of memory that the index takes now."""

    def evict(self) -> None:
        """Drop the index, unless that would lose something."""


class IndexCache:
    """The indexes of sealed segments that are in memory. Evicts the least recently used ones above a
    limit."""

    BYTES_MAX = 64 << 20

    def __init__(self) -> None:
        self._holders: OrderedDict[Evictable, int] = OrderedDict()
        """Bytes of memory by holder; the least recently used first."""
        self._bytes = 0

    def mark_used(self, holder: Evictable) -> None:
        """Note that the index of `holder` was just used. If all indexes are above the limit, evict others."""
        self.remove(holder)
        size = self._holders[holder] = holder.index_bytes()
        self._bytes += size
        while self._bytes > self.BYTES_MAX and len(self._holders) > 1:
            oldest, size = self._holders.popitem(last=False)
            self._bytes -= size
            oldest.evict()
        assert self._bytes >= 0, "each holder is counted once"

    def remove(self, holder: Evictable) -> None:
        """Remove `holder`, which is deleted or active again: its index must not be evicted."""
        self._bytes -= self._holders.pop(holder, 0)
