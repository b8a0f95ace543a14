"""`mainstem inspect` in a pipe, with missing files and of runs of waiting events; its reports of damage of
segments are tested in test_tail.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mainstem.cli.commands import inspect as inspect_command
from mainstem.queues.delay_run import encode_run, pack_entry
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


RUN_ID = 5 << 32 | 7
"""Of view 5."""


def inspected_run(
    folder: Path, data: bytes, name: str = f"{RUN_ID:016x}.run"
) -> tuple[int, list[list[object]]]:
    """(exit code, rows without their file) of a run of waiting events."""
    (folder / name).write_bytes(data)
    result = CliRunner().invoke(inspect_command.command, [str(folder), "--json"], standalone_mode=False)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return result.return_value, [list(row.values())[1:] for row in rows]


def waiting_run() -> bytes:
    return encode_run(RUN_ID, 0, b"".join(pack_entry(1_000 + number, 0, number) for number in range(1_500)))


def test_a_run_of_waiting_events_is_shown_by_block(tmp_path: Path) -> None:
    code, rows = inspected_run(tmp_path, waiting_run())
    assert code == 0
    assert rows == [
        [32, 16_388, 5, 1_024, "1970-01-01T00:00:01.000Z", "1970-01-01T00:00:02.023Z", "ok"],
        [16_420, 7_620, 5, 476, "1970-01-01T00:00:02.024Z", "1970-01-01T00:00:02.499Z", "ok"],
    ]


@pytest.mark.parametrize(
    ("data", "name", "whole", "problem"),
    [
        (b"", f"{RUN_ID:016x}.run", 0, "the header has 0 of 32 bytes"),
        (waiting_run()[:20_000], f"{RUN_ID:016x}.run", 1, "block 1 has 3580 of 7620 bytes"),
        (waiting_run() + b"x", f"{RUN_ID:016x}.run", 2, "bytes after its end"),
        (waiting_run(), f"{RUN_ID + 1:016x}.run", 0, f"holds run {RUN_ID}"),
        (waiting_run(), "a run.run", 0, "its name is not the number of a run"),
    ],
)
def test_damage_of_a_run_is_shown(tmp_path: Path, data: bytes, name: str, whole: int, problem: str) -> None:
    code, rows = inspected_run(tmp_path, data, name)
    assert code == 4
    assert [row[-1] for row in rows] == ["ok"] * whole + [f"damaged: {problem}"]
