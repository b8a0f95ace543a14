"""The files of index parts, and the checks that a part is whole and belongs to these bytes of the log.

Owns: the names and formats of the files, and removing parts. Parts are optional: if one is missing or
damaged, its blocks are searched without it. Refuses: to import tantivy; only `terms.py`, `builder.py` and
`reader.py` do.

    search-index/<topic id>-<partition>/<segment base>-<start>/
        manifest     "MSINDEX2" | msgpack of PartManifest | CRC32C of all before, uint32
        batches      position in the segment, first offset: 2 x uint64 of each batch or damaged range,
                     then the end of the part and the offset after it
        ...          tantivy's files

A part covers some closed blocks of one segment. It never changes, and is removed with its segment. It is
built under a name that ends in PARTIAL and renamed when it is complete. Nothing is synced, because the
manifest has the CRC of every file: after a start, each part is read in full and checked before its first use
(`check_part`). From then on, only its `fingerprint` is compared: if a file changed, the part is checked
again. As with token filters, the header of the last batch proves that the log was not truncated and written
again.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import msgspec
from crc32c import crc32c

from mainstem.log.paths import parse_partition, segment_name
from mainstem.log.storage.record_batch import HEADER_BYTES
from mainstem.search.ipc import IndexPart

ROOT = "search-index"
MAGIC = b"MSINDEX2"
"""Must change when `tokens.filter_tokens` or `terms.document` changes, so that all parts are built again."""
MANIFEST = "manifest"
TABLE = "batches"
PARTIAL, REMOVING = ".partial", ".gone"
ROW = struct.Struct(">QQ")
_CRC = struct.Struct(">I")
_READ_BYTES = 1 << 20
_NAME = re.compile(r"[0-9]{20}-[0-9]{10,}(\.partial)?(\.gone)?")
_LOCK_PREFIX = ".tantivy-"
"""Prefix of tantivy's lock files, which are not part of the data."""


class DamagedPart(Exception):
    """Raised for an index part that must not be used: it is incomplete, differs from its manifest, was built
    by another version of tantivy, or belongs to other bytes of the log."""


class PartManifest(msgspec.Struct, array_like=True, frozen=True):
    """The manifest of an index part: which bytes of the log it covers, and the checksums of its files."""

    tantivy_version: str
    base: int
    """Base offset of the segment."""
    start: int
    end: int
    """Positions in the segment."""
    unindexed: list[tuple[int, int]]
    """Positions of blocks that are not indexed, because a batch in them cannot be decoded."""
    last_position: int
    """Position of the last batch."""
    last_header: bytes
    """Header of the last batch."""
    files: dict[str, tuple[int, int]]
    """Size and CRC32C of each file by name."""


_decode = msgspec.msgpack.Decoder(PartManifest).decode


def part_name(base: int, start: int) -> str:
    """Name of the folder of the part that begins at position `start` of the segment with this base offset."""
    return f"{base:020}-{start:010}"


def is_part_path(path: Path) -> bool:
    """Whether the path has a part's name, complete or partial, in a folder with a partition's name. Only such
    paths are ever removed."""
    return _NAME.fullmatch(path.name) is not None and parse_partition(path.parent.name) is not None


def crc_of(path: Path) -> int:
    """CRC32C of a file. Raises OSError."""
    crc = 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            crc = crc32c(data, crc)
    return crc


def file_checksums(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and CRC32C of each file of a part except the manifest. Raises OSError."""
    return {
        path.name: (path.stat().st_size, crc_of(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST and not path.name.startswith(_LOCK_PREFIX)
    }


def write_manifest(folder: Path, manifest: PartManifest) -> None:
    """Write the manifest, which must be the last file of a part. Raises OSError."""
    assert 0 <= manifest.start <= manifest.last_position < manifest.end, "the last batch lies in the part"
    data = MAGIC + msgspec.msgpack.encode(manifest)
    (folder / MANIFEST).write_bytes(data + _CRC.pack(crc32c(data)))


def read_manifest(folder: Path) -> PartManifest:
    """The manifest of the part in this folder. Raises DamagedPart if it is missing or damaged."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise DamagedPart(str(error)) from None
    body = data[: -_CRC.size]
    if not body.startswith(MAGIC) or data[-_CRC.size :] != _CRC.pack(crc32c(body)):
        raise DamagedPart(f"{folder / MANIFEST} is damaged")
    try:
        return _decode(body[len(MAGIC) :])
    except msgspec.DecodeError as error:
        raise DamagedPart(f"{folder / MANIFEST}: {error}") from None


def fingerprint(folder: str) -> str:
    """A digest of the names, sizes, times and inodes of a part's files, which changes when a file does.
    Raises OSError."""
    rows = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(_LOCK_PREFIX):
                status = entry.stat(follow_symlinks=False)
                rows.append((entry.name, status.st_size, status.st_mtime_ns, status.st_ino))
    return blake2b(repr(sorted(rows)).encode(), digest_size=16).hexdigest()


def check_part(folder: Path, partition: Path, tantivy_version: str) -> IndexPart:
    """Read an index part in full and compare it with its manifest and with the log. Returns the part with its
    fingerprint. Raises DamagedPart if it must not be used."""
    try:
        part_fingerprint = fingerprint(str(folder))
        manifest = read_manifest(folder)
        if manifest.tantivy_version != tantivy_version:
            raise DamagedPart(f"it was built by tantivy {manifest.tantivy_version}")
        if file_checksums(folder) != manifest.files:
            raise DamagedPart("its files differ from its manifest")
        if not _belongs(manifest, partition):
            raise DamagedPart("it belongs to other bytes of the log")
        if fingerprint(str(folder)) != part_fingerprint:
            raise DamagedPart("a file changed while it was checked")
    except OSError as error:
        raise DamagedPart(str(error)) from None
    return _part(folder, partition, manifest, part_fingerprint)


def find_parts(root: Path, partitions: Path) -> list[IndexPart]:
    """Find the index parts of an earlier run below `root`. They are not checked yet: their fingerprint is
    empty. Incomplete parts, and parts whose data was deleted, are removed."""
    parts = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if parse_partition(folder.name) is None:
            continue
        for path in filter(is_part_path, sorted(folder.iterdir()) if folder.is_dir() else ()):
            try:
                if path.suffix in (PARTIAL, REMOVING):
                    raise DamagedPart("it is incomplete")
                manifest = read_manifest(path)
                if not _belongs(manifest, partitions / folder.name):
                    raise DamagedPart("it belongs to other bytes of the log")
            except (DamagedPart, OSError):
                remove_parts([str(path)])
                continue
            parts.append(_part(path, partitions / folder.name, manifest, ""))
        _remove_if_empty(folder)
    return parts


def _part(folder: Path, partition: Path, manifest: PartManifest, part_fingerprint: str) -> IndexPart:
    segment = partition / segment_name(manifest.base)
    return IndexPart(
        str(folder), str(segment), manifest.start, manifest.end, manifest.unindexed, part_fingerprint
    )


def _belongs(manifest: PartManifest, partition: Path) -> bool:
    """Whether the segment still has the bytes that the part was built from."""
    try:
        descriptor = os.open(partition / segment_name(manifest.base), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(descriptor).st_size < manifest.end:
            return False
        return os.pread(descriptor, HEADER_BYTES, manifest.last_position) == manifest.last_header
    finally:
        os.close(descriptor)


def remove_parts(folders: Iterable[str]) -> None:
    """Remove parts, and folders that are empty afterwards. A part is renamed first, so that an interrupted
    removal is recognised and finished by `find_parts`."""
    for path in filter(is_part_path, map(Path, folders)):
        renamed = path
        if path.suffix != REMOVING:
            renamed = path.with_name(path.name + REMOVING)
            shutil.rmtree(renamed, ignore_errors=True)
            try:
                os.rename(path, renamed)
            except OSError:
                renamed = path
        if renamed.is_dir() and not renamed.is_symlink():
            shutil.rmtree(renamed, ignore_errors=True)
        else:
            renamed.unlink(missing_ok=True)
        _remove_if_empty(renamed.parent)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # It is not empty, or does not exist.
