"""`meta.properties`: which format the data folder has, and whose it is.

Owns: the file, its versions and the upgrade from older ones. Refuses: folders of a newer version. Called by
`log.py` alone.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, replace
from uuid import UUID

from mainstem.log import layout
from mainstem.log.disk import Disk
from mainstem.log.errors import LogFolderError

VERSION = 1
"""Rises when the files change so that an older server would misread them. Nothing older than 1 was
released."""


@dataclass(frozen=True, slots=True)
class Meta:
    """The file's content."""

    cluster_id: str
    """base64url of 16 random bytes without padding: 22 characters, as Kafka makes them."""
    folder_id: UUID
    """Stands in journal files, so that a file copied from another folder is not replayed."""
    version: int = VERSION
    """Of the folder's format, `VERSION` at most."""


def load(disk: Disk, rng: random.Random) -> Meta:
    """Read it; make it in a new folder. LogFolderError: newer format, or not readable as what it should
    be."""
    if not disk.exists(layout.META):
        if disk.list(layout.PARTITIONS) or disk.list(layout.JOURNAL):
            raise LogFolderError(f"{layout.META} is missing, but there is data: restore it from a backup")
        return _make(disk, rng)
    values = _parse(disk.read_all(layout.META))
    try:
        version = int(values["version"])
    except (KeyError, ValueError):
        raise LogFolderError(f"{layout.META} has no readable version: restore it from a backup") from None
    if version > VERSION:
        raise LogFolderError(
            f"the folder has format {version}, newer than the {VERSION} of this server: use a newer mainstem"
        )
    try:
        return Meta(values["cluster.id"], UUID(values["folder.id"]), version)
    except (KeyError, ValueError):
        raise LogFolderError(
            f"{layout.META} has no readable cluster.id and folder.id: restore it from a backup"
        ) from None


def _make(disk: Disk, rng: random.Random) -> Meta:
    cluster_id = base64.urlsafe_b64encode(rng.randbytes(16)).rstrip(b"=").decode()
    meta = Meta(cluster_id, UUID(bytes=rng.randbytes(16)))
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


def _write(disk: Disk, meta: Meta) -> None:
    text = f"version={meta.version}\ncluster.id={meta.cluster_id}\nfolder.id={meta.folder_id}\n"
    disk.replace_now(layout.META, text.encode())


def _parse(data: bytes) -> dict[str, str]:
    lines = data.decode("utf-8", "replace").splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
    return {key.strip(): value.strip() for key, value in pairs}
