"""`mainstem inspect` in a pipe and with files that are none; what it tells of damage is in test_tail.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import command
from tests.log.batches import batch


def segment(folder: Path, batches: int) -> Path:
    path = folder / "00000000000000000000.log"
    one = bytes(batch())
    path.write_bytes(b"".join(at.to_bytes(8, "big") + one[8:] for at in range(batches)))  # outside the CRC
    return path


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
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


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = command("inspect", str(tmp_path / "nothing.log"))
    assert (done.code, done.out) == (1, "")
    assert done.err == f"mainstem: {tmp_path / 'nothing.log'}: No such file or directory\n"
