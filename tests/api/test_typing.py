"""The types of the Python API as users have them: the wheel alone, and two type checkers at their strictest.

In `make test` the project's own mypy checks tests/api/typed_uses.py; here it is checked as a user's program.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the uses as `program.py`, and an environment `.venv` with the package from its wheel; its
    dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("project")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, timeout=300)
    venv.create(folder / ".venv", symlinks=True)
    (packages,) = folder.glob(".venv/lib/python*/site-packages")
    (wheel,) = folder.glob("mainstem-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(("mainstem", "_editable", "__editable")) and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    shutil.copy(ROOT / "tests" / "api" / "typed_uses.py", folder / "program.py")
    return folder


def test_mypy_strict_agrees(project: Path) -> None:
    options = ["--strict", "--python-executable", str(project / ".venv/bin/python"), "--no-incremental"]
    command = [sys.executable, "-m", "mypy", *options, "program.py"]
    checked = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
    assert checked.stdout.startswith("Success"), checked.stdout + checked.stderr


def test_pyright_strict_agrees(project: Path) -> None:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed: make deps-all")
    settings = {
        "include": ["program.py"],
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
        "reportUnusedFunction": "none",
        "venvPath": ".",
        "venv": ".venv",
    }
    (project / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson"]
    checked = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
    report = json.loads(checked.stdout)
    problems = [
        f"{problem['range']['start']['line'] + 1}: {problem['message']}"
        for problem in report["generalDiagnostics"]
        if problem["severity"] != "information"
    ]
    assert problems == []
    assert report["summary"]["filesAnalyzed"] == 1
