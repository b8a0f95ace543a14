"""Fuzzing: every kept input, and a minute of looking for new ones."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.fuzz import archives
from tests.fuzz.seeds import NAMES
from tests.fuzz.targets import FuzzTarget, targets

CORPUS_BYTES_MAX = 500_000
SECONDS = 60 // len(NAMES)


@cache
def fuzz_targets() -> dict[str, FuzzTarget]:
    return targets()


@pytest.mark.parametrize("target", NAMES)
def test_the_kept_inputs_do_no_harm(target: str) -> None:
    inputs = archives.load(target)
    assert inputs
    for data in inputs.values():
        fuzz_targets()[target](data)


def test_the_corpus_is_of_the_targets_and_small() -> None:
    archived = [path.name.removesuffix(archives.SUFFIX) for path in archives.CORPUS.iterdir()]
    assert set(NAMES) == set(fuzz_targets()) == set(archived)
    assert len(archived) == len(NAMES)
    assert sum(len(data) for name in NAMES for data in archives.load(name).values()) < CORPUS_BYTES_MAX


def test_an_archive_of_the_same_inputs_is_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "CORPUS", tmp_path)
    archives.add("batch", [b"first", b"second"])
    packed = archives.path_of("batch").read_bytes()
    archives.add("batch", [b"second"])
    assert archives.path_of("batch").read_bytes() == packed
    assert sorted(archives.load("batch").values()) == [b"first", b"second"]


@pytest.mark.slow
@pytest.mark.parametrize("target", NAMES)
def test_some_seconds_of_fuzzing_find_nothing(target: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        assert not os.environ.get("CI"), "atheris is missing: make deps-all"
        pytest.skip("atheris is missing: make deps-all")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seconds", str(SECONDS), "--target", target],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
