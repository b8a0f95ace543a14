"""The servers beside which mainstem is compared: Google's emulator, and pstest, the fake of its Go client.

    python -m tests.compat.pubsub.references emulator      # prints its address, serves until Ctrl-C

Owns: their processes and their folders. For tests and for people who write them; no part of mainstem uses it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.compat.suites import BUILT
from tests.support.ports import free_port

START_SECONDS_MAX = 60.0
PSTEST = BUILT / "bin" / "pstest"
SDK = Path("/usr/lib/google-cloud-sdk/platform/pubsub-emulator/lib")


def emulator_jar() -> Path | None:
    """The emulator of google-cloud-cli-pubsub-emulator, which only Google's own registry has."""
    jars = sorted(SDK.glob("cloud-pubsub-emulator-*-all.jar"))
    return jars[-1] if jars and shutil.which("java") else None


def missing(name: str) -> str | None:
    """What to install for a reference, or None."""
    if name == "emulator":
        return None if emulator_jar() else "google-cloud-cli-pubsub-emulator and java"
    return None if PSTEST.exists() else "make deps-all"


def _command(name: str, port: int) -> list[str]:
    if name == "emulator":
        quiet = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"]
        return ["java", *quiet, "-jar", str(emulator_jar()), "--host=127.0.0.1", f"--port={port}"]
    return [str(PSTEST), f"127.0.0.1:{port}"]


@contextlib.contextmanager
def _reference(name: str) -> Iterator[str]:
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix=f"pubsub-{name}-"))
    try:
        with (folder / "output.log").open("wb") as log:
            server = subprocess.Popen(_command(name, port), stdout=log, stderr=log, start_new_session=True)
            try:
                _wait_until_open(port, server)
                yield f"127.0.0.1:{port}"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGKILL)
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the reference ended at its start with code {server.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the reference did not open port {port} in {START_SECONDS_MAX:.0f} s")


REFERENCES: Mapping[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "emulator": lambda: _reference("emulator"),
    "pstest": lambda: _reference("pstest"),
}
"""A context manager that runs a fresh server and yields its HOST:PORT."""


def main() -> None:
    """Serve until the process gets a signal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with REFERENCES[sys.argv[1]]() as address, contextlib.suppress(KeyboardInterrupt):
        print(f"ready {address}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
