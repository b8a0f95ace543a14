"""Descriptors of deleted files are closed, whatever the disk answers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mainstem.log.disk.deleted_files import DeletedFiles
from mainstem.log.disk.open_files import OpenFiles


def test_a_file_of_a_disk_that_is_gone_can_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted_files = DeletedFiles(OpenFiles(10))
    descriptor = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)

    def fail(_: int) -> os.stat_result:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        deleted_files.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    deleted_files.end()
