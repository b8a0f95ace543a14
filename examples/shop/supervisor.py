"""Keeps the shop's programs running: the server, then the services; what dies is started again.

In production this is the work of systemd or of Kubernetes. What it needs of the services is little: they can
be killed at any time, and SIGTERM stops them cleanly.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
"""Where Python finds `examples`."""
SERVER = "server"
SERVICES = ("orders", "payments", "shipping", "notifications")
START_S = 60.0
STOP_S = 20.0
RESTART_S = 1.0
"""The pause before what has died is started again."""


class StartFailed(Exception):
    """A program does not start; its log says why."""


class Supervisor:
    """The shop's programs. A context manager: they run inside, and have stopped when it is left."""

    def __init__(
        self, folder: Path, *, kafka: str, http: str, report: Callable[[str], None], serve: Sequence[str] = ()
    ) -> None:
        """`folder`: for all data and logs. `kafka`, `http`: HOST:PORT of the server's doors. `report` is
        called with lines for people. `serve`: further options of `mainstem serve`."""
        self.folder = folder.absolute()
        self.kafka, self.http = kafka, http
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        """Those that run now, by name."""
        self.restarts: dict[str, int] = {}
        self._report = report
        self._serve_options = serve
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            await self._start_server()
        except BaseException:
            await self._stop([SERVER])
            raise
        self._keepers.append(asyncio.ensure_future(self._keep(SERVER, self._start_server)))
        for service in SERVICES:
            await self.add(service, "-m", "mainstem", "run", f"examples.shop.{service}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop in the reverse order, so that each can still publish what it has done."""
        self._stopping = True
        await self._stop([name for name in self.processes if name not in (SERVER, *SERVICES)])
        await self._stop(SERVICES)
        await self._stop([SERVER])
        await asyncio.gather(*self._keepers)

    async def add(self, name: str, *arguments: str) -> None:
        """Run a Python program of the shop, too, from now on."""

        async def start() -> None:
            await self._start(name, arguments)

        await start()
        self._keepers.append(asyncio.ensure_future(self._keep(name, start)))

    def log_of(self, name: str) -> Path:
        """The file with what a program has printed, all of its runs."""
        return self.folder / f"{name}.log"

    async def _keep(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        """Wait for a program to end, and start it again."""
        while True:
            code = await self.processes[name].wait()
            if self._stopping:
                return
            how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
            self._report(f"{name} {how}; starting it again")
            self.restarts[name] = self.restarts.get(name, 0) + 1
            await asyncio.sleep(RESTART_S)
            if self._stopping:
                return
            try:
                await start()
            except StartFailed as error:  # killed while it started, for example: once more
                self._report(f"{name}: {error}")
            else:
                self._report(f"{name} runs again, process {self.processes[name].pid}")

    async def _start(
        self, name: str, arguments: Sequence[str], stdout: int | None = None
    ) -> asyncio.subprocess.Process:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("MAINSTEM_")}
        environ |= {"MAINSTEM_AT": self.kafka, "SHOP_DATA": str(self.folder)}
        with self.log_of(name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *arguments),
                cwd=ROOT,
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the supervisor alone, which stops them in order
            )
        self.processes[name] = process
        if self._stopping:  # while it was started
            process.kill()
        return process

    async def _start_server(self) -> None:
        """Start the server, and wait until it accepts clients. StartFailed."""
        options = ("--data", str(self.folder / "stream"), "--kafka", self.kafka, "--http", self.http)
        arguments = ("-m", "mainstem", "serve", *options, *self._serve_options)
        process = await self._start(SERVER, arguments, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                ready = (await process.stdout.readline()).decode()
        except TimeoutError:
            process.kill()
            raise StartFailed(f"the server is not ready after {START_S:g} s") from None
        doors = dict(re.findall(r"(kafka|http)=(\S+)", ready))
        if len(doors) < 2:
            lines = self.log_of(SERVER).read_text(errors="replace").strip().splitlines()
            raise StartFailed(lines[-1] if lines else "the server does not start")
        self.kafka, self.http = doors["kafka"], doors["http"]  # with port 0, those that it has chosen

    async def _stop(self, names: Sequence[str]) -> None:
        """SIGTERM, and SIGKILL for what has not ended by then."""
        processes = [self.processes[name] for name in names if name in self.processes]
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()
        waiting = [asyncio.ensure_future(process.wait()) for process in processes]
        if waiting:
            await asyncio.wait(waiting, timeout=STOP_S)
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
