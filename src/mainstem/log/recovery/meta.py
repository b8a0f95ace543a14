"""`meta.properties`: the format of the data folder, its ids, and whether it is a copy of another folder.

Owns: the file, its versions and the upgrade from older ones; detecting a copy; the smallest leader epoch.
Refuses: folders of a newer version.

A folder that was restored from a copy lacks the events that came after the copy, and will give their offsets
to other events. Clients that remember the lost events learn that as after a change of leader in Kafka: from a
leader epoch that is larger than any epoch of the lost time. So a copy has to be detected. `backup` and
`restore` write into the file that it is a copy. A copy made by other means is detected by its `.lock`: the
file names the `.lock` beside it (inode number and time of change, which no tool can set). A copy below the
file system is not detected: an image of the disk, or a snapshot that was rolled back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from uuid import UUID

from mainstem import base64url
from mainstem.log import paths
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogFolderError

VERSION = 2
"""Rises when the format changes so that an older server would misread the files. 1: that of 0.1.0."""

COPY = "copy"
EPOCH_MARGIN = 1 << 16
"""More leader epochs than the unclean starts and failed commits of one folder's lifetime."""
_EPOCH_SECONDS_FROM = 1_577_836_800
"""The year 2020. The seconds since then are a larger number than any epoch of a folder that began one each
second, so that two folders restored from the same copy continue with different epochs."""
_EPOCH_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Meta:
    """The content of the file."""

    cluster_id: str
    """base64url of 16 random bytes without padding: 22 characters, like Kafka's."""
    folder_id: UUID
    """Also written in each journal file, so that a file copied from another folder is not replayed."""
    version: int = VERSION
    """Format of the folder, `VERSION` at most."""
    lock: str = ""
    """`Disk.identity` of the `.lock` beside this file; `COPY` in a copy; empty in a folder that was made
    before the field existed."""
    epoch_floor: int = 0
    """Smallest leader epoch that a partition may have."""


def load(disk: Disk, rng: random.Random) -> Meta:
    """Read the file; make it in a new folder. LogFolderError: the format is newer, or the file is missing or
    unreadable beside data."""
    if not disk.exists(paths.META):
        if disk.list(paths.PARTITIONS) or disk.list(paths.JOURNAL):
            raise LogFolderError(f"{paths.META} is missing beside data: restore the file from a backup")
        return _make(disk, rng)
    return read(disk)


def read(disk: Disk) -> Meta:
    """Read the file. LogFolderError: as `load`, or there is no such file."""
    if not disk.exists(paths.META):
        raise LogFolderError(f"this is not a data folder of mainstem: it has no {paths.META}")
    return decode(disk.read_all(paths.META))


def decode(data: bytes) -> Meta:
    """The contents of the file's bytes. LogFolderError: the format is newer, or the bytes are unreadable."""
    values = _parse(data)
    try:
        version = int(values["version"])
    except (KeyError, ValueError):
        raise LogFolderError(
            f"{paths.META} has no readable version: restore the file from a backup"
        ) from None
    if version > VERSION:
        raise LogFolderError(
            f"the folder has format {version}, newer than the {VERSION} of this server: use a newer mainstem"
        )
    try:
        floor = int(values.get("epoch.floor", "0"))
        return Meta(values["cluster.id"], UUID(values["folder.id"]), version, values.get("lock", ""), floor)
    except (KeyError, ValueError):
        raise LogFolderError(
            f"{paths.META} has no readable cluster.id and folder.id: restore the file from a backup"
        ) from None


def _make(disk: Disk, rng: random.Random) -> Meta:
    cluster_id = base64url.encode(rng.randbytes(16))
    meta = Meta(cluster_id, UUID(bytes=rng.randbytes(16)), lock=disk.identity(paths.LOCK))
    _write(disk, meta)
    return meta


def is_copy(disk: Disk, meta: Meta) -> bool:
    """Whether the folder is known to be a copy of another. Only right once the folder is locked."""
    return meta.lock not in ("", disk.identity(paths.LOCK))


def begin_copy(disk: Disk, meta: Meta, epoch: int, wall_ms: int) -> Meta:
    """Raise the epoch floor of a copy above all leader epochs of the folder it was copied from. `epoch`: the
    largest one that is known. Each start does this until `adopt`. Blocks."""
    seconds = wall_ms // 1000 - _EPOCH_SECONDS_FROM
    floor = max(meta.epoch_floor, epoch) + EPOCH_MARGIN
    meta = replace(meta, epoch_floor=min(max(floor, seconds), _EPOCH_MAX - EPOCH_MARGIN))
    _write(disk, meta)
    return meta


def adopt(disk: Disk, meta: Meta) -> Meta:
    """Record that the folder is an original from now on. Blocks."""
    meta = replace(meta, lock=disk.identity(paths.LOCK))
    _write(disk, meta)
    return meta


def upgrade(disk: Disk, meta: Meta) -> Meta:
    """Give a folder of an older format this format's version before anything else is written, so that an
    older server refuses it. This format reads the files of all older ones as they are."""
    if meta.version == VERSION:
        return meta
    meta = replace(meta, version=VERSION)
    _write(disk, meta)
    return meta


def encode(meta: Meta) -> bytes:
    """The bytes of the file."""
    lines = [f"version={meta.version}", f"cluster.id={meta.cluster_id}", f"folder.id={meta.folder_id}"]
    if meta.lock:
        lines.append(f"lock={meta.lock}")
    if meta.epoch_floor:
        lines.append(f"epoch.floor={meta.epoch_floor}")
    return "".join(f"{line}\n" for line in lines).encode()


def _write(disk: Disk, meta: Meta) -> None:
    assert 0 <= meta.epoch_floor <= _EPOCH_MAX, "an epoch fits into a batch"
    data = encode(meta)
    assert decode(data) == meta, "what is written is read as the same"
    disk.replace_now(paths.META, data)


def _parse(data: bytes) -> dict[str, str]:
    lines = data.decode("utf-8", "replace").splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
    return {key.strip(): value.strip() for key, value in pairs}
