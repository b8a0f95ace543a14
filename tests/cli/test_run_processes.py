"""`mainstem run` as a process: workers that die come back, signals stop it, changes of files restart it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mainstem.cli import run
from mainstem.cli.exit_codes import ExitCode
from tests.support.ports import free_port
from tests.support.server import Server

PROGRAM = """
import asyncio, gc, os, mainstem
stream = mainstem.connect()

@stream.subscriber("TOPIC", group="billing", concurrency=2)
async def bill(order: str) -> None:
    assert gc.get_freeze_count(), "what was set up before the first event is frozen"
    with open("ledger", "a") as ledger:
        print(os.getpid(), order, file=ledger)
    if order == "endless":
        await asyncio.sleep(600)
"""
DEADLINE_S = 60


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, Path("log").read_text()
        time.sleep(0.05)


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with open("log", "ab") as log:
        command = (sys.executable, "-m", "mainstem", "run", "program", *arguments)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def handled() -> list[tuple[int, str]]:
    if not os.path.exists("ledger"):
        return []
    lines = Path("ledger").read_text().splitlines()
    return [(int(process), order) for process, _, order in (line.partition(" ") for line in lines)]


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def produce(address: str, *orders: str) -> None:
    Path("orders").write_text("".join(f"{order}\n" for order in orders))
    assert run(["produce", Path.cwd().name, "orders", "--at", address]) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("run") / "data", http="127.0.0.1:0") as started:
        yield started


@pytest.fixture
def address(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM.replace("TOPIC", tmp_path.name))
    return server.address


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again_and_sigterm_ends_all(address: str) -> None:
    port = free_port()
    with running("--at", address, "--workers", "2", "--health", f"127.0.0.1:{port}") as process:
        wait_until(lambda: page(port, "/readyz")[0] == 200)
        produce(address, "first")
        wait_until(handled)
        killed = handled()[0][0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: page(port, "/readyz")[0] == 503)
        assert page(port, "/livez")[0] == 200
        wait_until(lambda: page(port, "/readyz")[0] == 200)
        produce(address, *map(str, range(20)))
        wait_until(lambda: {str(number) for number in range(20)} <= {order for _, order in handled()})
        wait_until(lambda: "mainstem_subscriber_done_total" in page(port, "/metrics")[1])
        process.terminate()
        assert process.wait(30) == ExitCode.DONE
    assert killed not in {process for process, order in handled() if order != "first"}


@pytest.mark.slow
def test_a_second_signal_cancels_the_handlers_and_a_change_starts_the_program_again(address: str) -> None:
    with running("--at", address, "--reload", "--grace", "0") as process:
        produce(address, "one")
        wait_until(handled)
        program = Path("program.py")
        program.write_text(program.read_text().replace("print(os.getpid(),", 'print(os.getpid(), "new",'))
        wait_until(lambda: "has changed" in Path("log").read_text())
        produce(address, "two")
        wait_until(lambda: "new two" in {order for _, order in handled()})
        process.terminate()
        assert process.wait(30) == ExitCode.DONE
    with running("--at", address, "--grace", "500") as process:
        produce(address, "endless")
        wait_until(lambda: "new endless" in {order for _, order in handled()})
        process.terminate()
        time.sleep(0.3)
        process.terminate()
        assert process.wait(30) == ExitCode.INTERRUPTED


@pytest.mark.slow
def test_a_program_that_cannot_start_ends_with_the_reason(address: str) -> None:
    for arguments in (("--at", "127.0.0.1:1"), ("--at", "127.0.0.1:1", "--workers", "2")):
        with running(*arguments) as process:
            assert process.wait(DEADLINE_S) == ExitCode.NOT_REACHABLE
    port = free_port()
    with running("--at", address, "--health", f"127.0.0.1:{port}"):
        wait_until(lambda: page(port, "/readyz")[0] == 200)
        with running("--at", address, "--health", f"127.0.0.1:{port}") as process:
            assert process.wait(DEADLINE_S) == ExitCode.ADDRESS
