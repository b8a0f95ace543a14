"""Watches the Python files of a folder for changes, by their times.

Owns: which files count. Refuses: to import anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

FILES_MAX = 10_000
LEFT_OUT = frozenset({"node_modules", "__pycache__", "site-packages", "venv"})


class SourceWatch:
    """The Python files below a folder. Hidden folders and those of packages are left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._times = dict(self._look())

    def changed(self) -> str | None:
        """The name of a file that was made, changed or removed since the last call; None: there is none."""
        times = dict(self._look())
        before, self._times = self._times, times
        if times == before:
            return None
        for path in {**times, **before}:
            if times.get(path) != before.get(path):
                return os.path.relpath(path, self._folder)
        return None

    def _look(self) -> Iterator[tuple[str, int]]:
        files = 0
        for folder, folders, names in os.walk(self._folder):
            folders[:] = [name for name in folders if name[:1] != "." and name not in LEFT_OUT]
            for name in names:
                if not name.endswith(".py"):
                    continue
                files += 1
                if files > FILES_MAX:
                    return
                path = os.path.join(folder, name)
                try:
                    yield path, os.stat(path).st_mtime_ns
                except OSError:
                    continue  # removed just now
