"""The plugin beside those of others, loaded by its entry point, and a server as a process. Each test starts
pytest as a process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.pytest_plugin.project import APP, ARGUMENTS, IS_INSTALLED, NO_ASYNCIO, PLUGIN

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

ASYNC = """
import pytest
pytestmark = MARK

async def pays(broker, number):
    async with broker.running(stream):
        await orders.publish(Order(number, "ann", 9.5))
        (event,) = await broker.expect(payments, "state:paid")
        assert event.value == Payment(number, "paid")

@pytest.mark.parametrize("number", range(6))
async def test_pays(mainstem_broker, number):
    await pays(mainstem_broker, number)

def test_without_a_loop(mainstem_broker):
    with mainstem_broker.running(stream), stream.sync as connected:
        connected.publish("orders", {"id": 7, "customer": "ann", "total": 5})
        assert mainstem_broker.sync.expect(payments, "order:7")
"""


def installed(folder: Path) -> Path:
    """A folder for the path of Python that has this project's metadata, as an installation has it."""
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    info = folder / "site" / "mainstem_test-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mainstem-test\nVersion: 0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]) + "\n")
    return folder / "site"


def run(folder: Path, code: str, *arguments: str, by_entry_point: bool = False, settings: str = "") -> str:
    """Run pytest in a process. Returns its output, and fails if it does."""
    (folder / "app.py").write_text(APP)
    (folder / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{settings}\n")
    (folder / "test_app.py").write_text(f"from app import *\n{code}")
    path = [str(ROOT / "src")]
    given = [*ARGUMENTS, *(() if settings else NO_ASYNCIO)]
    if not IS_INSTALLED and by_entry_point:
        path.append(str(installed(folder)))
    elif not IS_INSTALLED:
        given += ["-p", PLUGIN]
    command = [sys.executable, "-m", "pytest", "-q", *given, *arguments]
    path += filter(None, [os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_with_pytest_asyncio(tmp_path: Path, mode: str) -> None:
    if importlib.util.find_spec("pytest_asyncio") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("pytest-asyncio is not installed")
    code = ASYNC.replace("MARK", "[]")
    if mode == "strict":
        code = code.replace("@pytest.mark.param", "@pytest.mark.asyncio\n@pytest.mark.param")
    settings = f"asyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function"
    assert "7 passed" in run(tmp_path, code, settings=settings)


def test_with_xdist(tmp_path: Path) -> None:
    code = ASYNC.replace("MARK", "[pytest.mark.anyio]")
    code += "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    assert "7 passed" in run(tmp_path, code, "-n", "2")


def test_by_its_entry_point_and_it_can_be_turned_off(tmp_path: Path) -> None:
    code = "def test_fixture(mainstem_broker):\n    mainstem_broker.sync.expect_none('orders')\n"
    assert "1 passed" in run(tmp_path, code, by_entry_point=True)


def test_unused_it_imports_nothing_else() -> None:
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport mainstem.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    imported = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert imported == ["mainstem", "mainstem.pytest_plugin", "mainstem.version"]


SERVER = """
import asyncio, mainstem

def test_events_survive_a_kill(mainstem_server):
    topic = mainstem_server.topic("orders")
    assert topic != mainstem_server.topic("orders")
    with mainstem.connect(mainstem_server.address).sync as connected:
        connected.publish(topic, {"id": 1})
    mainstem_server.kill()
    mainstem_server.start()
    with mainstem.connect(mainstem_server.address).sync as connected:
        assert [event.value for event in connected.read(topic)] == [{"id": 1}]

def test_it_is_shared(mainstem_server):
    assert mainstem_server.pid and set(mainstem_server.addresses) == {"kafka", "http"}
"""


def test_a_server_as_a_process(tmp_path: Path) -> None:
    assert "2 passed" in run(tmp_path, SERVER)
