"""Data folders for the servers that do not slow each other down."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """A new folder. Afterwards its files are emptied; they are removed when the run ends.

    When ext4 without a journal looks for an inode for a new file, it skips each that was freed in the last
    minutes. If a thousand partitions were removed after each visit, the next server would pay up to a
    millisecond for every file it makes, because of the one before it.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        yield folder
    finally:
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    os.truncate(path, 0)
