"""A MariaDB server of its own for a test: in a folder, at a socket in it, without a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

START_S_MAX = 60.0


class MariaServer:
    """A context manager: the server runs inside, with a database `shop`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="maria-"))
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_installed() -> bool:
        """Whether the server's programs are there."""
        return all(shutil.which(program) for program in ("mariadbd", "mariadb-install-db", "mariadb"))

    @property
    def url(self) -> str:
        """For SQLAlchemy, with PyMySQL."""
        return f"mysql+pymysql://root@localhost/shop?unix_socket={self.folder / 'socket'}"

    def __enter__(self) -> MariaServer:
        user = ["--user=root"] if os.getuid() == 0 else []
        data = f"--datadir={self.folder / 'data'}"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", data, *user],
            check=True,
            capture_output=True,
        )
        self._process = subprocess.Popen(
            [
                *("mariadbd", "--no-defaults", data, *user, "--skip-networking"),
                *(f"--socket={self.folder / 'socket'}", "--innodb-flush-log-at-trx-commit=0"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        create = ["mariadb", "--no-defaults", f"--socket={self.folder / 'socket'}", "-uroot", "-e"]
        deadline = time.monotonic() + START_S_MAX
        while subprocess.run([*create, "CREATE DATABASE shop"], capture_output=True).returncode:
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.__exit__(None, None, None)
                raise AssertionError("MariaDB does not start")
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
