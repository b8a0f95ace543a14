"""The locked dependencies are those that pyproject.toml asks for, and their list is valid CycloneDX."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = re.compile(r"^([a-z0-9._-]+)==([^ ;]+)[^\n]*((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)", re.M)


def locked_versions() -> set[tuple[str, str]]:
    """(name, version); two versions of what a later Python has a later one of."""
    return {(name, version) for name, version, _ in LOCKED.findall(LOCK)}


def asked_for() -> list[Requirement]:
    extras = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    return [Requirement(text) for text in (*PROJECT["dependencies"], *extras)]


@pytest.mark.parametrize("requirement", asked_for(), ids=lambda requirement: str(requirement.name))
def test_each_dependency_is_locked_at_a_version_that_fits(requirement: Requirement) -> None:
    versions = [version for name, version in locked_versions() if name == requirement.name]
    assert versions, "run `make lock`"
    assert all(requirement.specifier.contains(version) for version in versions), "run `make lock`"


def test_every_line_of_the_lock_has_hashes_and_names_no_server() -> None:
    assert len(locked_versions()) == len(re.findall(r"^[a-z0-9]", LOCK, re.M))
    assert "http" not in LOCK.replace("httpx", "")


def test_the_tables_of_an_outbox_import_nothing_that_installing_them_does_not_bring() -> None:
    code = (
        "import sys; before = set(sys.modules); import mainstem.sqlalchemy;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    imported = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    owners = packages_distributions()
    needed = {canonicalize_name(owner) for name in imported for owner in owners.get(name, ())}
    assert "sqlalchemy" in needed
    assert needed - {name for name, _ in locked_versions()} <= {"mainstem"}


@pytest.mark.slow
def test_the_bill_of_materials_is_valid_and_lists_what_is_locked(tmp_path: Path) -> None:
    if importlib.util.find_spec("cyclonedx_py") is None:
        pytest.skip("cyclonedx-bom is not installed: make deps-all")
    target = tmp_path / "sbom.cdx.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "requirements.lock"]
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--validate", "-o", str(target)]
    subprocess.run([*command, *options], cwd=ROOT, check=True, capture_output=True, timeout=120)
    listed = json.loads(target.read_text())
    assert listed["bomFormat"] == "CycloneDX"
    assert listed["metadata"]["component"]["name"] == "mainstem"
    assert {(item["name"], item["version"]) for item in listed["components"]} == locked_versions()
