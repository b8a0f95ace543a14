"""Index parts on disk: what lies where, and what proves that a part is whole and of these bytes.

Owns: the folder of a part, its manifest, its table of batches, and when a part is believed. Refuses: tantivy,
which only `terms.py`, `builder.py` and `reader.py` import; and to be needed: a part that is missing or
damaged only means that its blocks are searched without it.

    search-index/<topic id>-<partition>/<segment base>-<start>/
        manifest     "MSINDEX1" | msgpack of PartManifest | CRC32C of all before, uint32
        batches      position in the segment, first offset: 2 x uint64 of each batch or stretch of damage,
                     then the end of the part and the offset after it
        ...          tantivy's files

A part is of some closed blocks of one segment, so that it goes when that goes, and never changes. It is made
under a name that ends in PARTIAL and renamed when it is whole. Nothing is synced: the manifest has the CRC of
every file, and a part is read in full once in the life of a server before it is first used (`check_part`).
From then on its `fingerprint` is what is compared: a file that was touched since means that the part is
checked again. As with token filters, the header of the last batch proves that the log was not cut and written
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
MAGIC = b"MSINDEX1"
"""Another one when `tokens.filter_tokens` or `terms.document` changes: then all parts are made again."""
MANIFEST = "manifest"
TABLE = "batches"
PARTIAL, REMOVING = ".partial", ".gone"
ROW = struct.Struct(">QQ")
_CRC = struct.Struct(">I")
_PIECE_BYTES = 1 << 20
_NAME = re.compile(r"[0-9]{20}-[0-9]{10,}(\.partial)?(\.gone)?")
_LOCKS = ".tantivy-"
"""How the names of lock files begin, which say nothing."""


class DamagedPart(Exception):
    """The part is not what its manifest says, or its manifest is of no use."""


class PartManifest(msgspec.Struct, array_like=True, frozen=True):
    """What a part is."""

    made_by: str
    """The version of tantivy, whose files another one may not read."""
    base: int
    """Of the segment."""
    start: int
    end: int
    unindexed: list[tuple[int, int]]
    """Blocks, by position, about which the part says nothing: something in them cannot be decoded."""
    last: int
    """Position of the last batch."""
    last_header: bytes
    files: dict[str, tuple[int, int]]
    """Size and CRC32C of each file."""


_decode = msgspec.msgpack.Decoder(PartManifest).decode


def part_name(base: int, start: int) -> str:
    """The folder of the part that begins there."""
    return f"{base:020}-{start:010}"


def is_part_path(path: Path) -> bool:
    """It has a part's name, whole or not, in a folder with a partition's name. Nothing else is ever removed,
    whatever folder is given."""
    return _NAME.fullmatch(path.name) is not None and parse_partition(path.parent.name) is not None


def crc_of(path: Path) -> int:
    """CRC32C of a file. OSError."""
    crc = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            crc = crc32c(piece, crc)
    return crc


def file_checksums(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and CRC32C of each file but the manifest. OSError."""
    return {
        path.name: (path.stat().st_size, crc_of(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST and not path.name.startswith(_LOCKS)
    }


def write_manifest(folder: Path, manifest: PartManifest) -> None:
    """The last file of a part. OSError."""
    data = MAGIC + msgspec.msgpack.encode(manifest)
    (folder / MANIFEST).write_bytes(data + _CRC.pack(crc32c(data)))


def read_manifest(folder: Path) -> PartManifest:
    """DamagedPart: it is not there, or not whole."""
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
    """Changes when a file of the part is written, replaced or removed. OSError."""
    rows = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(_LOCKS):
                found = entry.stat(follow_symlinks=False)
                rows.append((entry.name, found.st_size, found.st_mtime_ns, found.st_ino))
    return blake2b(repr(sorted(rows)).encode(), digest_size=16).hexdigest()


def check_part(folder: Path, partition: Path, made_by: str) -> IndexPart:
    """Read all of a part. DamagedPart: it is not to be used."""
    try:
        before = fingerprint(str(folder))
        manifest = read_manifest(folder)
        if manifest.made_by != made_by:
            raise DamagedPart(f"it was made by tantivy {manifest.made_by}")
        if file_checksums(folder) != manifest.files:
            raise DamagedPart("its files are not what its manifest says")
        if not _belongs(manifest, partition):
            raise DamagedPart("it is of other bytes")
        if fingerprint(str(folder)) != before:
            raise DamagedPart("it was written to while it was read")
    except OSError as error:
        raise DamagedPart(str(error)) from None
    return _part(folder, partition, manifest, before)


def find_parts(root: Path, partitions: Path) -> list[IndexPart]:
    """The parts that an earlier run has left, unchecked. Those of no data, or half made, are removed."""
    parts = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if parse_partition(folder.name) is None:
            continue
        for path in filter(is_part_path, sorted(folder.iterdir()) if folder.is_dir() else ()):
            try:
                if path.suffix in (PARTIAL, REMOVING):
                    raise DamagedPart("it was being made, or removed")
                manifest = read_manifest(path)
                if not _belongs(manifest, partitions / folder.name):
                    raise DamagedPart("it is of other bytes")
            except (DamagedPart, OSError):
                remove_parts([str(path)])
                continue
            parts.append(_part(path, partitions / folder.name, manifest, ""))
        _remove_if_empty(folder)
    return parts


def _part(folder: Path, partition: Path, manifest: PartManifest, mark: str) -> IndexPart:
    segment = partition / segment_name(manifest.base)
    return IndexPart(str(folder), str(segment), manifest.start, manifest.end, manifest.unindexed, mark)


def _belongs(manifest: PartManifest, partition: Path) -> bool:
    """The segment still has the bytes of which the part was made."""
    try:
        descriptor = os.open(partition / segment_name(manifest.base), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(descriptor).st_size < manifest.end:
            return False
        return os.pread(descriptor, HEADER_BYTES, manifest.last) == manifest.last_header
    finally:
        os.close(descriptor)


def remove_parts(folders: Iterable[str]) -> None:
    """Remove parts, and folders of partitions that have none any more. What is broken off is found by the
    name that it has by then."""
    for path in filter(is_part_path, map(Path, folders)):
        gone = path
        if path.suffix != REMOVING:
            gone = path.with_name(path.name + REMOVING)
            shutil.rmtree(gone, ignore_errors=True)
            try:
                os.rename(path, gone)
            except OSError:
                gone = path
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone, ignore_errors=True)
        else:
            gone.unlink(missing_ok=True)
        _remove_if_empty(gone.parent)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # others are in it, or it is none
