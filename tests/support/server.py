"""A real `mainstem serve` in a subprocess, on a free port, for tests that need sockets, signals or kill
-9."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

READY = re.compile(
    r"^mainstem ready in [\d.]+ s  kafka=(\S+):(\d+)(?:  (?!data=)\w+=\S+)*  data=(.+)  durability=(disk|os)$"
)


class Server:
    """`Server(tmp_path).start()`; afterwards `address` is HOST:PORT. A context manager: stopped at the end,
    if it lives.

    Settings are given as keywords (`log_segment_bytes=1048576`) and travel as MAINSTEM_* variables. Standard
    error goes to `<data>.log`, so that a failed test can show it: `logs()`.
    """

    def __init__(self, data: Path | str, **settings: object) -> None:
        self.data = Path(data)
        self.log_path = self.data.with_name(self.data.name + ".log")
        self.settings: dict[str, object] = {"kafka": "127.0.0.1:0", **settings}
        if "http" not in self.settings:
            self.settings.setdefault("doors", "kafka")  # the usual port is one for the whole machine
        self.module = "mainstem"
        """The program: `python -m MODULE serve`."""
        self.environ: dict[str, str] = {}
        """Variables of its environment beside ours."""
        self.process: subprocess.Popen[str] | None = None
        self.deaths = 0
        """By kill -9."""
        self.ready_line = ""
        self.host = ""
        self.port = 0
        self.http = ""
        """HOST:PORT of the HTTP door; empty if it has none. Set http="127.0.0.1:0" for one."""

    @property
    def address(self) -> str:
        """HOST:PORT to connect to."""
        return f"{self.host}:{self.port}"

    def start(self, *, timeout_s: float = 120.0, same_port: bool = False) -> Server:
        """Start and wait for the ready line. AssertionError with the logs if it does not come. `same_port`:
        the port of the last start again, for clients that should come back by themselves."""
        assert self.process is None, "it runs"
        settings = dict(self.settings)
        if same_port and self.port:
            settings["kafka"] = f"{self.host}:{self.port}"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
        environ |= {f"MAINSTEM_{name.upper()}": str(value) for name, value in settings.items()}
        environ |= {**self.environ, "MAINSTEM_DATA": str(self.data)}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "serve"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environ,
            )
        self.ready_line = self._first_line(timeout_s)
        match = READY.match(self.ready_line)
        if match is None:
            self.kill()
            raise AssertionError(f"not ready: {self.ready_line!r}\n{self.logs()}")
        self.host, self.port = match[1].rpartition("//")[2].strip("[]"), int(match[2])
        self.http = "".join(re.findall(r"  http=(\S+)", self.ready_line))
        return self

    def _first_line(self, timeout_s: float) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + timeout_s
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return ""
        return self.process.stdout.readline().rstrip("\n")

    def stop(self, *, timeout_s: float = 30.0) -> int:
        """SIGTERM and wait; the exit code (0 after a clean stop)."""
        return self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> int:
        """kill -9 and wait."""
        self.deaths += 1
        return self._end(signal.SIGKILL, 30.0)

    def _end(self, number: int, timeout_s: float) -> int:
        process, self.process = self.process, None
        assert process is not None, "it does not run"
        process.send_signal(number)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"did not stop in {timeout_s} s\n{self.logs()}") from None
        finally:
            if process.stdout is not None:
                process.stdout.close()
        return code

    def restart(self, *, kill: bool = False, same_port: bool = True) -> Server:
        """Stop (or kill -9) it and start it again on the same folder and, by default, the same port."""
        if kill:
            self.kill()
        else:
            assert self.stop() == 0, self.logs()
        return self.start(same_port=same_port)

    def logs(self) -> str:
        """What it has logged, all starts together."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def __enter__(self) -> Server:
        return self if self.process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.kill() if kind else self.stop()
