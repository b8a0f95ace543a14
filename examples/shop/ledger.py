"""Books of what was done, by the id of the event that caused it: what makes an effect happen once.

An event may be delivered again, because a service was killed after its work and before its acknowledgement.
So each effect is entered under the event's id, and who comes second gets the first one's entry. A service
that has tables of its own uses `mainstem.sqlalchemy.Inbox` for this.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def shop_folder() -> Path:
    """Where the shop keeps its books: SHOP_DATA, or ./shop-data."""
    return Path(os.environ.get("SHOP_DATA", "shop-data"))


class Book(Generic[T]):
    """Entries of one kind, in an SQLite file of their own. Its calls block for about a millisecond."""

    def __init__(self, name: str, model: type[T]) -> None:
        self._file = f"{name}.sqlite"
        self._model = model

    def once(self, key: str, entry: T) -> T:
        """The entry of this key; `entry` becomes it if there is none."""
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")  # no other process is between the look and the entry
            row = database.execute("SELECT entry FROM entries WHERE key = ?", (key,)).fetchone()
            if row is not None:
                return msgspec.json.decode(row[0], type=self._model)
            database.execute("INSERT INTO entries VALUES (?, ?)", (key, msgspec.json.encode(entry)))
            return entry

    def put(self, key: str, entry: T) -> None:
        """Set the entry of this key."""
        with self._opened() as database:
            database.execute(
                "INSERT OR REPLACE INTO entries VALUES (?, ?)", (key, msgspec.json.encode(entry))
            )

    def get(self, key: str) -> T | None:
        """The entry of this key."""
        with self._opened() as database:
            row = database.execute("SELECT entry FROM entries WHERE key = ?", (key,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=self._model)

    def all(self) -> list[T]:
        """All entries, in the order in which they were made."""
        with self._opened() as database:
            rows = database.execute("SELECT entry FROM entries ORDER BY rowid").fetchall()
        return [msgspec.json.decode(entry, type=self._model) for (entry,) in rows]

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The database, in a transaction that is committed at the end."""
        shop_folder().mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(shop_folder() / self._file, timeout=30)) as database:
            # Survives a kill of the process, as the demo needs it; for power cuts, leave this line out.
            database.execute("PRAGMA synchronous = OFF")
            database.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, entry BLOB)")
            with database:
                yield database
