"""Small file systems for tests of real faults: a tmpfs, and an ext4 image on a loop device.

They need to be mounted, which most machines permit only to root: without that the test is skipped, and says
so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT SHOWN HERE: this needs a mount, which is not permitted: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


@contextlib.contextmanager
def tmpfs(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system in memory of this size, mounted at `folder`."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder)
    try:
        yield folder
    finally:
        _unmount(folder)


@contextlib.contextmanager
def ext4(folder: Path, megabytes: int, *, backed_megabytes: int | None = None) -> Iterator[Path]:
    """An ext4 of this size on a loop device, mounted at `folder`; its image is in a tmpfs next to it.

    With `backed_megabytes` the tmpfs has room for no more than that of the image. A write beyond it fails
    only when the kernel writes the page back."""
    with tmpfs(folder.with_name(folder.name + "-image"), backed_megabytes or megabytes + 1) as below:
        image = below / "image"
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        # Its own journal is written whole: it shall be the data that does not fit.
        options = ["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-J", "size=4"]
        made = subprocess.run(
            ["mkfs.ext4", "-q", "-F", *options, str(image)], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip("NOT SHOWN HERE: there is no mkfs.ext4")
        folder.mkdir()
        _mount("-o", "loop", image, folder)
        try:
            yield folder
        finally:
            _unmount(folder)


def replace_device(folder: Path, megabytes: int) -> None:
    """Replace the device of the ext4 at `folder` by one that works: drop what was only in the page cache,
    check, mount again. No process may have a file open in it."""
    below = folder.with_name(folder.name + "-image")
    for _ in range(100):  # the process that waited for the disk outlives a killed server for a moment
        if subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0:
            break
        time.sleep(0.1)
    _mount("-o", f"remount,size={megabytes}m", below)
    checked = subprocess.run(["e2fsck", "-fy", str(below / "image")], capture_output=True, check=False)
    assert checked.returncode in (0, 1), checked.stdout  # 1: it has corrected something
    _mount("-o", "loop", below / "image", folder)


def fill(folder: Path, *, leave_bytes: int) -> Path:
    """A file of another program that leaves `leave_bytes` of free space."""
    path = folder / "somebody-elses"
    system = os.statvfs(folder)
    with path.open("ab") as file:
        file.write(bytes(max(0, system.f_bavail * system.f_frsize - leave_bytes)))
        file.flush()
        os.fsync(file.fileno())
    return path
