"""The checkpoint file, and every way it can be damaged."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import mainstem.log
from mainstem.log.commit import checkpoint as files
from mainstem.log.commit.checkpoint import Checkpoint, CheckpointRow
from tests.support.clock import SimClock
from tests.support.simdisk import SimDisk

ROWS = (
    CheckpointRow(UUID(int=1), 0, 3, 0, 0, 4096, 70),
    CheckpointRow(UUID(int=77), 12, 0, 5, 2**40, 2**31, 2**40 + 9, (30_000, 2**45)),
)


def make(number: int, clean: bool = False) -> Checkpoint:
    return Checkpoint(number, first_seq=7, next_group=1234, clean=clean, rows=ROWS)


def new_disk() -> SimDisk:
    return SimDisk(SimClock(), random.Random(1))


def test_a_checkpoint_decodes_to_what_was_encoded() -> None:
    for checkpoint in (make(1), make(2, clean=True), Checkpoint(0, 1, 1, True, ())):
        assert files.decode(files.encode(checkpoint)) == checkpoint
    assert files.ROW_BYTES == 68


def test_any_damaged_byte_makes_a_checkpoint_invalid() -> None:
    data = files.encode(make(3))
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x20
        assert files.decode(bytes(damaged)) is None
        assert files.decode(data[:position]) is None
    assert files.decode(data + b"\0") is None


def test_the_newest_whole_checkpoint_is_loaded() -> None:
    disk = new_disk()
    assert files.load(disk) is None
    for number in (1, 2, 3):
        files.store_now(disk, make(number))
        loaded = files.load(disk)
        assert loaded is not None
        assert loaded.number == number
    disk.write_all("checkpoint-1", b"torn")
    assert files.damaged_files(disk) == ["checkpoint-1"]
    loaded = files.load(disk)
    assert loaded is not None
    assert loaded.number == 2


def test_a_power_cut_during_a_store_leaves_the_previous_or_the_new_checkpoint() -> None:
    for seed in range(60):
        clock = SimClock()
        disk = SimDisk(clock, random.Random(seed))
        files.store_now(disk, make(1))
        files.store_now(disk, make(2))
        files.store(disk, make(3))
        clock.advance(disk.rng.random() * 0.006)
        loaded = files.load(disk.power_cut(SimClock()))
        assert loaded is not None
        assert loaded.number in (2, 3)


def test_a_stored_checkpoint_survives_a_power_cut() -> None:
    for seed in range(20):
        clock = SimClock()
        disk = SimDisk(clock, random.Random(seed))
        files.store_now(disk, make(1))
        done = files.store(disk, make(2))
        clock.advance(1)
        done.result()
        loaded = files.load(disk.power_cut(SimClock()))
        assert loaded is not None
        assert loaded.number == 2


def test_the_example_of_the_page_decodes() -> None:
    page = (Path(mainstem.log.__path__[0]) / "FORMAT.md").read_text()
    data = bytes.fromhex(page.split("```hex checkpoint\n", 1)[1].split("```", 1)[0])
    row = CheckpointRow(UUID(int=77), 2, 1, 0, 400, 8192, 500, (3, 24576))
    assert files.decode(data) == Checkpoint(2, 3, 41, False, (row,))
    assert files.encode(Checkpoint(2, 3, 41, False, (row,))) == data
    data = bytes.fromhex(page.split("```hex checkpoint-version-1\n", 1)[1].split("```", 1)[0])
    assert files.decode(data) == Checkpoint(2, 3, 41, False, (replace(row, sealed=None),))
    assert f"{files.ROW_BYTES} bytes:" in page
