"""Lines of files and of standard input, `.zst` and `.gz` decompressed on the way, in bounded memory.

Owns: `Lines`. Refuses: lines above LINE_BYTES_MAX, which are passed over with a report. Used by `produce`.
"""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

CHUNK_BYTES = 1 << 18
LINE_BYTES_MAX = 64 << 20

# cramjam decompresses from a buffer into a file without taking more memory than its window, but not piece
# by piece into Python: so it writes to a pipe, in a process of its own, which also leaves this one the time
# to publish.
_UNZSTD = """
import mmap, sys, cramjam
with open(sys.argv[1], "rb") as file:
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        cramjam.zstd.decompress_into(data, cramjam.File("/dev/stdout", read=False, truncate=False))
    except (cramjam.DecompressionError, OSError) as error:
        sys.exit(str(error))
"""


class InputError(Exception):
    """A file that cannot be read. The message says which and why."""


class InputLines:
    """`for number, line in lines.of(path)`: numbers from 1, lines without their end; None for one that is
    too long.

    `read_bytes` counts what was read of the files as they are stored, for a progress bar; `total_bytes` is
    their size, 0 when it is not known (standard input).
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.read_bytes = 0
        self.total_bytes = 0
        for path in paths:
            if path != "-":
                try:
                    self.total_bytes += Path(path).stat().st_size
                except OSError as error:
                    raise InputError(f"{path}: {error.strerror}") from None
        if "-" in paths:
            self.total_bytes = 0

    def read(self, path: str) -> Iterator[tuple[int, bytes | None]]:
        """The lines of one file, `-` for standard input. InputError when it cannot be read (to its end)."""
        try:
            yield from _split(self._chunks(path))
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None

    def _chunks(self, path: str) -> Iterator[bytes]:
        if path == "-":
            yield from self._count(sys.stdin.buffer)
        elif path.endswith(".zst"):
            yield from self._zstd(path)
        elif path.endswith(".gz"):
            yield from self._gzip(path)
        else:
            with open(path, "rb", buffering=0) as file:
                yield from self._count(file)

    def _count(self, file: IO[bytes] | io.RawIOBase) -> Iterator[bytes]:
        # read1: what there is now; a pipe's writer may be slow, and its first lines should not wait for the
        # last.
        read = getattr(file, "read1", file.read)
        while chunk := read(CHUNK_BYTES):
            self.read_bytes += len(chunk)
            yield chunk

    def _gzip(self, path: str) -> Iterator[bytes]:
        import gzip

        with open(path, "rb") as raw, gzip.open(raw, "rb") as file:
            before = self.read_bytes
            while chunk := file.read(CHUNK_BYTES):
                self.read_bytes = before + raw.tell()
                yield chunk

    def _zstd(self, path: str) -> Iterator[bytes]:
        stored, before, out = Path(path).stat().st_size, self.read_bytes, 0
        if not stored:
            return
        with subprocess.Popen(
            [sys.executable, "-c", _UNZSTD, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            try:
                while chunk := child.stdout.read(CHUNK_BYTES):
                    out += len(chunk)
                    # How far the child has read is not told: events are much alike, so 12 to 1 shows the
                    # progress.
                    self.read_bytes = before + min(out // 12, stored)
                    yield chunk
                problem = child.stderr.read().decode(errors="replace").strip()
                if child.wait():
                    raise OSError(
                        f"not whole zstd: {problem.splitlines()[-1] if problem else 'it ended early'}"
                    )
            finally:
                child.kill()
        self.read_bytes = before + stored


def _split(chunks: Iterator[bytes]) -> Iterator[tuple[int, bytes | None]]:
    number = 0
    kept: list[bytes] = []
    kept_bytes = 0
    for chunk in chunks:
        first, newline, rest = chunk.partition(b"\n")
        if kept_bytes <= LINE_BYTES_MAX:
            kept.append(first)
        kept_bytes += len(first)
        if not newline:
            continue
        number += 1
        yield number, _line(kept, kept_bytes)
        *lines, last = rest.split(b"\n")
        for line in lines:
            number += 1
            yield number, line[:-1] if line.endswith(b"\r") else line
        kept, kept_bytes = [last], len(last)
    if kept_bytes:
        yield number + 1, _line(kept, kept_bytes)


def _line(parts: list[bytes], total_bytes: int) -> bytes | None:
    return None if total_bytes > LINE_BYTES_MAX else b"".join(parts).removesuffix(b"\r")
