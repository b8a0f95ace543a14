"""Fuzzing: the inputs that once reached new code, each time; and a minute of looking for others."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.fuzz.seeds import CORPUS, NAMES
from tests.fuzz.targets import FuzzTarget, targets

CORPUS_BYTES_MAX = 500_000
SECONDS = 60 // len(NAMES)


@cache
def made() -> dict[str, FuzzTarget]:
    return targets()


@pytest.mark.parametrize("target", NAMES)
def test_the_kept_inputs_do_no_harm(target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for file in inputs:
        made()[target](file.read_bytes())


def test_the_corpus_is_of_the_targets_and_small() -> None:
    assert set(NAMES) == set(made()) == {folder.name for folder in CORPUS.iterdir()}
    assert sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file()) < CORPUS_BYTES_MAX


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
