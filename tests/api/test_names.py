"""The public names of the package: few, described, imported when they are used; and its page runs."""

from __future__ import annotations

import ast
import asyncio
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Coroutine
from typing import Any

import pytest

import mainstem
from tests.support.server import Server
from tests.test_docs import ROOT, fences, page

NAMES_MAX = 40


def test_public_names_are_few_and_described() -> None:
    names = {*mainstem.__all__, "open"} - {"__version__"}
    assert len(names) <= NAMES_MAX
    assert set(mainstem._MODULES) == names - {"connect", "open"}
    assert [name for name in sorted(names) if not inspect.getdoc(getattr(mainstem, name))] == []
    assert mainstem.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert "open" not in mainstem.__all__  # `from mainstem import *` must not hide Python's own
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = mainstem.nothing


def test_the_import_is_light() -> None:
    program = """
import sys, mainstem
before = set(sys.modules)
stream = mainstem.connect()
heavy = {"confluent_kafka", "aiokafka", "msgspec", "asyncio", "mainstem.api.stream"}
print(sorted(heavy & before), sorted({"confluent_kafka", "aiokafka", "click", "rich"} & set(sys.modules)))
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[] []"


def blocks() -> list[str]:
    return fences(page("PYTHON.md"), "python")


def test_every_example_of_the_page_is_code() -> None:
    assert len(blocks()) >= 6
    for block in blocks():
        compile(block, "PYTHON.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.slow
def test_the_page_runs_as_it_is_written(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAINSTEM_AT", server.address)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks():
        code = compile(block, "PYTHON.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result: Coroutine[Any, Any, None] | None = eval(code, names)
        if result is not None:
            asyncio.run(result)
    printed = capsys.readouterr().out
    assert "bill order 1" in printed
