"""The lock that makes a relay the only one of its outbox, in the words of each database.

A lock of the connection (PostgreSQL, MySQL, MariaDB), or of a file beside the database (SQLite): the death of
the process releases both. Owns: taking them. Refuses: leases by time, which a paused process outlives, and
database libraries: statements have no parameters, and run through a callable.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from typing import Protocol, TypeAlias

from mainstem.contract import InvalidArgument

Scalar: TypeAlias = Callable[[str], object]
"""Runs a statement on the connection, and returns the first column of its first row."""


class RelayLock(Protocol):
    """One relay's lock."""

    def take(self, scalar: Scalar) -> bool:
        """Take the lock for the life of the connection. False: another relay has it."""

    def release(self) -> None:
        """Release what the end of the connection does not. Idempotent."""


def relay_lock(vendor: str, database: str, name: str, *, pool: object) -> RelayLock:
    """The lock with this name. `vendor`: sqlite, postgresql, mysql or mariadb; `database`: its name, or its
    path; `pool`: what a database in memory lives in. InvalidArgument: a database without such locks."""
    if vendor == "sqlite":
        if database in ("", ":memory:") or database.startswith("file:"):
            return _ProcessLock(f"{id(pool)}/{name}")
        return _FileLock(f"{database}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-relay")
    if vendor == "postgresql":
        return _AdvisoryLock(name)
    if vendor in ("mysql", "mariadb"):
        return _NamedLock(f"{database}/{name}")
    raise InvalidArgument(f"an outbox needs SQLite, PostgreSQL, MySQL or MariaDB, not {vendor}")


class _FileLock:
    """An exclusive lock of SQLite on an empty file beside the database: writers of the database go on."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: sqlite3.Connection | None = None

    def take(self, scalar: Scalar) -> bool:
        file = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            file.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            file.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                return False
            raise
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class _ProcessLock:
    """For a database in memory, which no other process sees."""

    _taken: set[str] = set()  # noqa: RUF012 - one for the process

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_ours = False

    def take(self, scalar: Scalar) -> bool:
        self._is_ours = self._name not in self._taken
        self._taken.add(self._name)
        return self._is_ours

    def release(self) -> None:
        if self._is_ours:
            self._taken.discard(self._name)
            self._is_ours = False


class _AdvisoryLock:
    """PostgreSQL's lock of a session. Behind PgBouncer it needs pool_mode=session."""

    def __init__(self, name: str) -> None:
        digest = hashlib.blake2b(f"mainstem-outbox/{name}".encode(), digest_size=8).digest()
        self._key = int.from_bytes(digest, "big", signed=True)

    def take(self, scalar: Scalar) -> bool:
        return bool(scalar(f"SELECT pg_try_advisory_lock({self._key})"))

    def release(self) -> None:
        pass


class _NamedLock:
    """MySQL's and MariaDB's lock of a session, by a name of at most 64 characters for the whole server."""

    def __init__(self, name: str) -> None:
        self._name = f"mainstem-outbox-{hashlib.sha256(name.encode()).hexdigest()[:32]}"

    def take(self, scalar: Scalar) -> bool:
        return bool(scalar(f"SELECT GET_LOCK('{self._name}', 0)") == 1)

    def release(self) -> None:
        pass
