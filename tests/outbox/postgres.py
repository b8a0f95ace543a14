"""A PostgreSQL server of its own for a test: in a folder, at a socket in it, without a password."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType


class PostgresServer:
    """A context manager: the server runs inside. PostgreSQL refuses to run as root, so the user `postgres` of
    its package runs it then."""

    def __init__(self) -> None:
        # The path of a socket has 107 bytes at most, so it has a short folder of its own.
        self._socket_folder = Path(tempfile.mkdtemp(prefix="pg-"))

    @staticmethod
    def programs() -> Path | None:
        """The folder with PostgreSQL's programs; None: it is not installed."""
        for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
            if (folder / "initdb").exists():
                return folder
        program = shutil.which("initdb")
        return None if program is None else Path(program).parent

    @property
    def url(self) -> str:
        """For SQLAlchemy, with psycopg."""
        return f"postgresql+psycopg://postgres@/postgres?host={self._socket_folder}"

    def _run(self, program: str, *arguments: str) -> None:
        programs = self.programs()
        assert programs is not None
        user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        subprocess.run(
            [str(programs / program), *arguments],
            cwd="/",
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )

    def __enter__(self) -> PostgresServer:
        data = self._socket_folder / "data"
        if os.getuid() == 0:
            shutil.chown(self._socket_folder, "postgres")
        self._run("initdb", "--pgdata", str(data), "--username", "postgres", "--auth", "trust", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={self._socket_folder} -c fsync=off"
        self._run("pg_ctl", "--pgdata", str(data), "--options", options, "--wait", "start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run("pg_ctl", "--pgdata", str(self._socket_folder / "data"), "--mode", "immediate", "stop")
        finally:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
