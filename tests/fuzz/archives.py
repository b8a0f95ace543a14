"""The kept corpus of the fuzzer: one archive of inputs for each target.

Owns: where the archives are, and how they are read and written. Inputs are named by their SHA-1 and packed in
that order without dates or owners, so that the same inputs make the same archive.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
SUFFIX = ".tar.xz"


def path_of(target: str) -> Path:
    """The archive of a target."""
    return CORPUS / f"{target}{SUFFIX}"


def load(target: str) -> dict[str, bytes]:
    """The kept inputs of a target by name; empty if it has no archive yet."""
    path = path_of(target)
    if not path.exists():
        return {}
    with tarfile.open(path) as archive:
        files = ((member.name, archive.extractfile(member)) for member in archive)
        return {name: file.read() for name, file in files if file is not None}


def add(target: str, inputs: Iterable[bytes]) -> None:
    """Keep these inputs too."""
    inputs_by_hash = load(target) | {hashlib.sha1(data).hexdigest(): data for data in inputs}
    CORPUS.mkdir(exist_ok=True)
    with tarfile.open(path_of(target), "w:xz", preset=9) as archive:
        for name in sorted(inputs_by_hash):
            member = tarfile.TarInfo(name)
            member.size = len(inputs_by_hash[name])
            archive.addfile(member, io.BytesIO(inputs_by_hash[name]))


def extract(target: str, folder: Path) -> None:
    """Write the kept inputs of a target as files into `folder`, for the fuzzer."""
    for name, data in load(target).items():
        (folder / name).write_bytes(data)
