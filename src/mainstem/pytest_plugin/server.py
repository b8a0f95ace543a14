"""A mainstem server as a process, for all tests of a run of pytest.

Owns: starting it, names of topics that no other test has, and killing it. Refuses: to be the broker of most
tests: `mainstem_broker` starts in a hundredth of the time, and is new for each.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

DOORS = ("kafka", "http")
START_S = 30.0
STOP_S = 10.0
READY = re.compile(r"mainstem ready in .*")
_ADDRESS = re.compile(r"(\w+)=(\S+)")


class ServerProcess:
    """`mainstem serve` on free ports of this machine, with a data folder of its own."""

    def __init__(self, folder: Path, *, durability: str = "os") -> None:
        """`folder`: for its data, which `start` finds again after a `kill`. `durability`: see
        docs/SETTINGS.md; "os" survives a kill of the process, not one of the machine."""
        self.folder = folder / "data"
        self._log = folder / "server.log"
        self._durability = durability
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self.addresses: dict[str, str] = {}
        """HOST:PORT by the name of each door: `kafka`, `http`. The ports are the same after a restart."""

    @property
    def address(self) -> str:
        """HOST:PORT for `mainstem.connect`, and for Kafka clients."""
        return self.addresses["kafka"]

    @property
    def pid(self) -> int:
        """Process id. RuntimeError: it does not run."""
        if self._process is None:
            raise RuntimeError("the server does not run: start() it")
        return self._process.pid

    def topic(self, name: str) -> str:
        """A name that no other test on this server has: `orders-1`. Nothing is created."""
        return f"{name}-{next(self._numbers)}"

    def start(self) -> None:
        """Start it, and wait until it accepts clients. RuntimeError: it does not within START_S, with what it
        has logged."""
        if self._process is not None:
            return
        command = [sys.executable, "-m", "mainstem", "serve", "--data", str(self.folder)]
        command += ["--durability", self._durability, "--doors", "kafka,http"]
        command += ["--kafka", self.addresses.get("kafka", "127.0.0.1:0")]
        command += ["--http", self.addresses.get("http", "127.0.0.1:0")]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=_environment()
            )
        timer = threading.Timer(START_S, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            ready = next(filter(READY.match, (line.decode() for line in process.stdout)), None)
        finally:
            timer.cancel()
        if ready is None:
            process.kill()
            process.wait()
            process.stdout.close()
            raise RuntimeError(f"mainstem serve did not start:\n{self._log.read_text()[-2_000:]}")
        self._process = process
        self.addresses = {name: address for name, address in _ADDRESS.findall(ready) if name in DOORS}

    def kill(self) -> None:
        """End it as a crash does (SIGKILL). `start` starts it again, on the same ports and data."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it cleanly; after STOP_S, as `kill` does."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _environment() -> dict[str, str]:
    """The environment without this project's variables, which are for those who run the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
