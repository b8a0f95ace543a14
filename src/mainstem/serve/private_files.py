"""Keeps the files with the verifiers of passwords for the account of the server.

Owns: the check at each start of the modes of the files that have them: the log of the coordinator, its
snapshots, the journal. They are made with the mode 0600; copying a folder may change that. Refuses: to read
them, and to touch other files.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mainstem.log import paths

log = logging.getLogger("mainstem.serve.private_files")


def tighten(folder: Path) -> int:
    """Take the rights of others to the files with verifiers away, and say so. Returns how many others could
    read."""
    loose = []
    for path in _private(folder):
        try:
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode) and mode & 0o077:
                loose.append(path)
                os.chmod(path, stat.S_IMODE(mode) & 0o700)
        except OSError as error:
            log.warning("%s: its mode cannot be made 0600: %s", path, error.strerror)
    if loose:
        log.warning(
            "%d files with verifiers of passwords could be read by other users of this machine, such as %s:"
            " that is no more so; if they may have been read, change the passwords",
            len(loose),
            loose[0],
        )
    return len(loose)


def _private(folder: Path) -> Iterator[Path]:
    state_log = paths.partition_folder(paths.STATE_TOPIC, 0)
    for name in (paths.STATE_FOLDERS[paths.STATE_TOPIC], state_log, paths.JOURNAL):
        part = folder / name
        if part.is_dir():
            yield part
            yield from part.iterdir()
