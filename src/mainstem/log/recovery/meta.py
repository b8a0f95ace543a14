"""`meta.properties`: which format the data folder has, whose it is, and whether it is a copy of another.

Owns: the file, its versions and the upgrade from older ones; noticing a copy; the least leader epoch.
Refuses: folders of a newer version. Called by `startup.py`, `log.py`, `backup.py` and `doctor.py`.

A folder that was brought back from a copy has lost what came after the copy, and its offsets will be given
again. Clients that remember later ones must be told, as after a change of leader in Kafka: by a leader epoch
that is greater than any that the lost time can have had. So a copy has to be noticed. `backup` and `restore`
say so in the file. A copy made by other means is known by its `.lock`: the file notes which one it is (inode
number and time of change, which no tool can set). What stays unnoticed is a copy below the file system: an
image of the disk, a snapshot that was rolled back.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, replace
from uuid import UUID

from mainstem.log import paths
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogFolderError

VERSION = 1
"""Rises when the files change so that an older server would misread them. Nothing older than 1 was
released."""


COPY = "copy"
EPOCH_MARGIN = 1 << 16
"""More leader epochs than unclean starts and failed commits make in the life of a folder."""
_EPOCH_SECONDS_FROM = 1_577_836_800
"""2020: seconds since then are greater than any epoch that one a second can have made, so that two folders
that were brought back from one copy do not go on with the same epoch."""
_EPOCH_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Meta:
    """The file's content."""

    cluster_id: str
    """base64url of 16 random bytes without padding: 22 characters, as Kafka makes them."""
    folder_id: UUID
    """Stands in journal files, so that a file copied from another folder is not replayed."""
    version: int = VERSION
    """Of the folder's format, `VERSION` at most."""
    lock: str = ""
    """`Disk.identity` of the `.lock` beside this file; `COPY` in a copy; empty: not noted yet."""
    epoch_floor: int = 0
    """No partition has a leader epoch below this."""


def load(disk: Disk, rng: random.Random) -> Meta:
    """Read it; make it in a new folder. LogFolderError: newer format, or not readable as what it should
    be."""
    if not disk.exists(paths.META):
        if disk.list(paths.PARTITIONS) or disk.list(paths.JOURNAL):
            raise LogFolderError(f"{paths.META} is missing, but there is data: restore it from a backup")
        return _make(disk, rng)
    return read(disk)


def read(disk: Disk) -> Meta:
    """Of a folder that is there. LogFolderError: see `load`, and if it has none."""
    if not disk.exists(paths.META):
        raise LogFolderError(f"this is no data folder of mainstem: it has no {paths.META}")
    values = _parse(disk.read_all(paths.META))
    try:
        version = int(values["version"])
    except (KeyError, ValueError):
        raise LogFolderError(f"{paths.META} has no readable version: restore it from a backup") from None
    if version > VERSION:
        raise LogFolderError(
            f"the folder has format {version}, newer than the {VERSION} of this server: use a newer mainstem"
        )
    try:
        floor = int(values.get("epoch.floor", "0"))
        return Meta(values["cluster.id"], UUID(values["folder.id"]), version, values.get("lock", ""), floor)
    except (KeyError, ValueError):
        raise LogFolderError(
            f"{paths.META} has no readable cluster.id and folder.id: restore it from a backup"
        ) from None


def _make(disk: Disk, rng: random.Random) -> Meta:
    cluster_id = base64.urlsafe_b64encode(rng.randbytes(16)).rstrip(b"=").decode()
    meta = Meta(cluster_id, UUID(bytes=rng.randbytes(16)), lock=disk.identity(paths.LOCK))
    _write(disk, meta)
    return meta


def is_copy(disk: Disk, meta: Meta) -> bool:
    """Whether the folder is a copy of another, as far as it can be known. Once it is locked."""
    return meta.lock not in ("", disk.identity(paths.LOCK))


def begin_copy(disk: Disk, meta: Meta, epoch: int, wall_ms: int) -> Meta:
    """Make the first start of a copy have greater leader epochs than the folder it was copied from; `epoch`:
    the greatest that is known. Until `adopt`, each start begins so. Blocks."""
    seconds = wall_ms // 1000 - _EPOCH_SECONDS_FROM
    floor = max(meta.epoch_floor, epoch) + EPOCH_MARGIN
    meta = replace(meta, epoch_floor=min(max(floor, seconds), _EPOCH_MAX - EPOCH_MARGIN))
    _write(disk, meta)
    return meta


def adopt(disk: Disk, meta: Meta) -> Meta:
    """From now on the folder is no copy but one of its own. Blocks."""
    meta = replace(meta, lock=disk.identity(paths.LOCK))
    _write(disk, meta)
    return meta


def upgrade(disk: Disk, meta: Meta) -> Meta:
    """Mark a folder of an older format as one of this format, before anything is written in it: from then on
    an older server refuses it. Every format so far reads the files of those before it as they are."""
    if meta.version == VERSION:
        return meta
    meta = replace(meta, version=VERSION)
    _write(disk, meta)
    return meta


def encode(meta: Meta) -> bytes:
    """The file's bytes."""
    lines = [f"version={meta.version}", f"cluster.id={meta.cluster_id}", f"folder.id={meta.folder_id}"]
    if meta.lock:
        lines.append(f"lock={meta.lock}")
    if meta.epoch_floor:
        lines.append(f"epoch.floor={meta.epoch_floor}")
    return "".join(f"{line}\n" for line in lines).encode()


def _write(disk: Disk, meta: Meta) -> None:
    disk.replace_now(paths.META, encode(meta))


def _parse(data: bytes) -> dict[str, str]:
    lines = data.decode("utf-8", "replace").splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
    return {key.strip(): value.strip() for key, value in pairs}
