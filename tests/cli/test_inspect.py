"""`mainstem inspect` in a pipe and with missing files; its reports of damage are tested in test_tail.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import command
from tests.log.batches import batch


def segment(folder: Path, batches: int) -> Path:
    path = folder / "00000000000000000000.log"
    batch_bytes = bytes(batch())
    path.write_bytes(
        b"".join(base_offset.to_bytes(8, "big") + batch_bytes[8:] for base_offset in range(batches))
    )  # outside the CRC
    return path


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    arguments = ["inspect", str(segment(tmp_path, 20_000))]
    process = subprocess.Popen(
        [sys.executable, "-m", "mainstem", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    done = command("inspect", str(tmp_path / "nothing.log"))
    assert (done.code, done.out) == (1, "")
    assert done.err == f"mainstem: {tmp_path / 'nothing.log'}: No such file or directory\n"
