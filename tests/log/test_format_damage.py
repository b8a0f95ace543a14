"""The table "Damage" of FORMAT.md: each row says all five things, and every test that it names exists."""

from __future__ import annotations

from pathlib import Path

import mainstem.log
from tests.faults.test_faults_page import ROOT, defined_in, named

COLUMNS = ["damage", "kept", "dropped", "reported", "test"]
PAGE = (Path(mainstem.log.__path__[0]) / "FORMAT.md").read_text()
FILES = (
    ".index",
    ".timeindex",
    ".arrivals",
    "leader-epoch-checkpoint",
    "producers.snapshot",
    "meta.properties",
    "checkpoint file",
    "journal",
    "active segment",
    "state snapshot",
    "state log",
    "token filter",
    "index part",
)
"""Files of which the table has at least one row."""


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.partition("\n## Damage\n")[2].splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert table[0] == COLUMNS
    return table[2:]


def test_each_damage_has_a_whole_row() -> None:
    for row in rows():
        assert len(row) == len(COLUMNS), row
        assert all(row), row
    damages = [row[0] for row in rows()]
    assert len(damages) == len(set(damages)) >= 25
    assert [file for file in FILES if not any(file in damage for damage in damages)] == []


def test_each_damage_names_tests_that_exist() -> None:
    for row in rows():
        tests = named(row[-1])
        assert tests, row
        assert row[-1] == " ".join(f"`{file}::{test}`" for file, test in tests), "the cell holds tests alone"
        for file, test in tests:
            assert test in defined_in(ROOT / file), f"{file}::{test}"


def test_every_test_of_damage_is_in_the_table() -> None:
    """What the files of tests about damage say of a damaged file has its row."""
    words = ("damaged", "flipped", "truncated", "cut", "missing", "gap", "zeros")
    files = ["tests/log/test_damage.py", "tests/log/test_recovery.py"]
    tests = {(file, test) for row in rows() for file, test in named(row[-1])}
    absent = [
        test
        for file in files
        for test in sorted(defined_in(ROOT / file))
        if any(word in test.split("_") for word in words) and (file, test) not in tests
    ]
    assert [test for test in absent if not test.startswith("test_inspect_")] == []
