"""A real RabbitMQ for comparison runs: a node of Debian's rabbitmq-server, on free ports, in its own folder.

    python -m tests.compat.rabbitmq.broker      # prints its addresses, serves until Ctrl-C

Owns: the folder, the node, its port mapper and its settings. Refuses to start when the package is missing.
For tests and for people who write them; no part of mainstem uses it.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

START_SECONDS_MAX = 120.0
PLUGINS = (
    "rabbitmq_management",
    "rabbitmq_stream",
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_random_exchange",
)
SETTINGS = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
stream.listeners.tcp.1 = 127.0.0.1:{stream}
stream.advertised_host = 127.0.0.1
stream.advertised_port = {stream}
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
log.file.level = warning
log.console = false
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the three protocols of one server are answered, each HOST:PORT. The login is guest, guest."""

    amqp: str
    stream: str
    management: str

    @property
    def url(self) -> str:
        """As AMQP clients want it."""
        return f"amqp://guest:guest@{self.amqp}/"


def programs() -> Path | None:
    """The folder of RabbitMQ's own programs: the wrappers of Debian's `/usr/sbin` run it as another user."""
    folders = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    return folders[-1] if folders else None


def missing() -> str | None:
    """What to install, or None."""
    return None if programs() else "rabbitmq-server: apt-get install rabbitmq-server"


def _environment(folder: Path, epmd: int, amqp: int) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
    return environ | {
        "HOME": str(folder),  # of its Erlang cookie
        "ERL_EPMD_PORT": str(epmd),
        "RABBITMQ_NODENAME": f"compat{amqp}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
    }


def _wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"RabbitMQ ended at its start with code {server.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.2)
    raise RuntimeError(f"RabbitMQ did not open port {port} in {START_SECONDS_MAX:.0f} s")


@contextlib.contextmanager
def rabbitmq() -> Iterator[Addresses]:
    """Run a fresh RabbitMQ."""
    home = programs()
    if home is None:
        raise RuntimeError(f"no RabbitMQ: {missing()}")
    amqp, stream, management, epmd = free_port(), free_port(), free_port(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
    (folder / "rabbitmq.conf").write_text(SETTINGS.format(amqp=amqp, stream=stream, management=management))
    (folder / "enabled_plugins").write_text(f"[{','.join(PLUGINS)}].\n")
    environ = _environment(folder, epmd, amqp)
    log = (folder / "output.log").open("wb")
    try:
        server = subprocess.Popen(
            [str(home / "rabbitmq-server")], env=environ, stdout=log, stderr=log, start_new_session=True
        )
        try:
            for port in (amqp, stream, management):
                _wait_until_open(port, server)
            yield Addresses(*(f"127.0.0.1:{port}" for port in (amqp, stream, management)))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # its folder goes with it
            server.wait()
            subprocess.run(["epmd", "-port", str(epmd), "-kill"], capture_output=True, check=False)
    except Exception:
        log.flush()
        print((folder / "output.log").read_text()[-4000:], file=sys.stderr)
        raise
    finally:
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Serve until the process gets a signal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with rabbitmq() as server:
        print(
            f"rabbitmq ready: amqp={server.amqp} stream={server.stream} management={server.management}",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
