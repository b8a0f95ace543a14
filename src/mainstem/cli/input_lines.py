"""Reads lines of files and of standard input in bounded memory; what is gzip or zstd is decompressed.

Owns: `InputLines`, and how compression is recognized: by the first bytes, whatever the name of the file.
Refuses: lines longer than LINE_BYTES_MAX, which are skipped and reported, and other compressions, whose bytes
would become events. A byte order mark at the start is no part of the first line.
"""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 18
LINE_BYTES_MAX = 64 << 20
ZSTD_RATIO = 12
"""The compression ratio that a progress bar assumes; events compress well."""

# cramjam can decompress a buffer into a file in bounded memory, but not piece by piece into Python. So it
# runs in a process of its own and writes to a pipe, while this process publishes.
_UNZSTD = """
import mmap, sys, cramjam
with open(sys.argv[1], "rb") as file:
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        cramjam.zstd.decompress_into(data, cramjam.File("/dev/stdout", read=False, truncate=False))
    except (cramjam.DecompressionError, OSError) as error:
        sys.exit(str(error))
"""


GZIP, ZSTD, BYTE_ORDER_MARK = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf"
UNREADABLE_FORMATS = (
    (b"\xfd7zXZ\x00", "is compressed with xz", "xz -dc"),
    (b"BZh91AY&SY", "is compressed with bzip2", "bzip2 -dc"),
    (b"\x04\x22\x4d\x18", "is compressed with lz4", "lz4 -dc"),
    (b"PK\x03\x04", "is a zip file", "unzip -p"),
)
"""First bytes of what this module cannot read, what it is, and the command that makes lines of it."""
MAGIC_BYTES = 10


class InputError(Exception):
    """A file cannot be read. The message says which and why."""


class InputLines:
    """`for number, line in lines.read(path)`: line numbers from 1, and lines without their end. A line that
    is too long is None.

    For a progress bar, `read_bytes` counts the bytes read of the files as they are stored, and `total_bytes`
    is their size; 0 if it is not known, because standard input is among them.
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
        """The lines of one file; `-` is standard input. Raises InputError if it cannot be read to its end."""
        try:
            yield from _split(self._chunks(path))
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None

    def _chunks(self, path: str) -> Iterator[bytes]:
        if path == "-":
            yield from self._decoded(path, sys.stdin.buffer)
            return
        with open(path, "rb") as file:
            yield from self._decoded(path, file)

    def _decoded(self, path: str, file: BinaryIO) -> Iterator[bytes]:
        assert isinstance(file, io.BufferedReader), "standard input and files are buffered"
        # Only what is there: a slow pipe is not waited for, and no compressor writes less than this at once.
        magic = file.peek(MAGIC_BYTES)[:MAGIC_BYTES]
        name = "standard input" if path == "-" else path
        if magic[:2] in (b"\xff\xfe", b"\xfe\xff") and 0 in magic[2:4]:  # with a character of ASCII
            command = "iconv -f UTF-16 -t UTF-8 FILE | mainstem produce TOPIC"
            raise InputError(f"{name} is UTF-16; make lines of it: {command}")
        for prefix, what, command in UNREADABLE_FORMATS:
            if magic.startswith(prefix):
                raise InputError(f"{name} {what}; make lines of it: {command} FILE | mainstem produce TOPIC")
        if magic.startswith(ZSTD):
            if not Path(path).is_file():
                command = "zstd -dc FILE | mainstem produce TOPIC"
                raise InputError(f"{name} is compressed with zstd; name a file, or: {command}")
            chunks = self._zstd(path)
        elif magic.startswith(GZIP):
            chunks = self._gzip(file)
        else:
            chunks = self._plain(file)
        yield from _without_byte_order_mark(chunks)

    def _plain(self, file: io.BufferedReader) -> Iterator[bytes]:
        # read1 returns the bytes that are available: the writer of a pipe may be slow, and its first lines
        # must not wait for later ones.
        while chunk := file.read1(CHUNK_BYTES):
            self.read_bytes += len(chunk)
            yield chunk

    def _gzip(self, stored: io.BufferedReader) -> Iterator[bytes]:
        import gzip

        read_before = self.read_bytes
        with gzip.open(stored, "rb") as file:
            while chunk := file.read1(CHUNK_BYTES):
                if stored.seekable():
                    self.read_bytes = read_before + stored.tell()
                yield chunk

    def _zstd(self, path: str) -> Iterator[bytes]:
        stored_bytes, read_before, decompressed_bytes = Path(path).stat().st_size, self.read_bytes, 0
        if not stored_bytes:
            return
        with subprocess.Popen(
            [sys.executable, "-c", _UNZSTD, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            try:
                while chunk := child.stdout.read(CHUNK_BYTES):
                    decompressed_bytes += len(chunk)
                    # The child does not report how much it has read.
                    self.read_bytes = read_before + min(decompressed_bytes // ZSTD_RATIO, stored_bytes)
                    yield chunk
                messages = child.stderr.read().decode(errors="replace").strip().splitlines()
                if child.wait():
                    raise OSError(f"incomplete zstd data: {messages[-1] if messages else 'it ended early'}")
            finally:
                child.kill()
        self.read_bytes = read_before + stored_bytes


def _without_byte_order_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    start = b""
    for chunk in chunks:
        start += chunk
        if start != BYTE_ORDER_MARK[: len(start)]:
            break
    yield start.removeprefix(BYTE_ORDER_MARK)
    yield from chunks


def _split(chunks: Iterator[bytes]) -> Iterator[tuple[int, bytes | None]]:
    number = 0
    partial: list[bytes] = []
    """The beginning of a line whose end has not been read yet."""
    partial_bytes = 0
    for chunk in chunks:
        first, newline, rest = chunk.partition(b"\n")
        if partial_bytes <= LINE_BYTES_MAX:
            partial.append(first)
        partial_bytes += len(first)
        if not newline:
            continue
        number += 1
        yield number, _join(partial, partial_bytes)
        *lines, last = rest.split(b"\n")
        for line in lines:
            number += 1
            yield number, line[:-1] if line.endswith(b"\r") else line
        partial, partial_bytes = [last], len(last)
    if partial_bytes:
        yield number + 1, _join(partial, partial_bytes)


def _join(parts: list[bytes], total_bytes: int) -> bytes | None:
    return None if total_bytes > LINE_BYTES_MAX else b"".join(parts).removesuffix(b"\r")
