"""The record parser of aiokafka, which is none of its public API, at both ends of the range that we allow."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
RANGE = next(
    requirement.specifier
    for requirement in map(
        Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    )
    if requirement.name == "aiokafka"
)
PARSER_TESTS = ("tests/log/test_record_batch.py", "tests/search/test_worker.py", "tests/test_subscription.py")


def laid(end: str) -> tuple[Path, Version]:
    """The folder with that end of the range, and its version."""
    folder = ROOT / ".cache" / "compat" / f"aiokafka-{end}"
    versions = [entry.version for entry in distributions(name="aiokafka", path=[str(folder)])]
    if not versions:
        pytest.skip(f"{folder.relative_to(ROOT)}: run `make deps-all`")
    return folder, Version(versions[0])


@pytest.mark.slow
def test_the_ends_are_those_of_the_range() -> None:
    lowest = next(Version(part.version) for part in RANGE if part.operator == ">=")
    assert laid("oldest")[1] == lowest
    assert RANGE.contains(laid("newest")[1])


@pytest.mark.slow
@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_the_parser_works_at_this_end_of_the_range(end: str) -> None:
    folder, version = laid(end)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT / "src", ROOT)))}
    program = (
        "import aiokafka; from mainstem.log.storage.record_batch import record_parser;"
        "print(aiokafka.__version__, record_parser()[0].__module__)"
    )
    imported = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, check=True, capture_output=True, text=True
    ).stdout.split()
    assert imported == [str(version), "aiokafka.record._crecords.default_records"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "not slow", *PARSER_TESTS]
    completed = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=110)
    assert completed.returncode == 0, completed.stdout[-4000:]


@pytest.mark.slow
def test_mainstem_and_faststream_of_today_resolve_together() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    completed = subprocess.run(
        [*command, "--disable-pip-version-check", "--report", "-", ".", "faststream[kafka]"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    if "Failed to establish a new connection" in completed.stderr:
        pytest.skip("the package index is not reachable")
    assert completed.returncode == 0, completed.stderr[-2000:]
    assert re.search(r'"name": "aiokafka",\s+"version": "([0-9.]+)"', completed.stdout) is not None
