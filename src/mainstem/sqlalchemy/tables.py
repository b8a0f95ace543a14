"""The tables of the outbox and the inbox: their columns, for SQLite, PostgreSQL, MySQL and MariaDB.

Owns: the schema. Refuses: statements. A change here needs a migration of everybody's databases.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

from mainstem.contract import InvalidArgument
from mainstem.outbox.contract import NAME_CHARS_MAX, REFUSED_CHARS_MAX

EVENT_ID_CHARS_MAX = 255
BYTES_MAX = (1 << 32) - 1
"""Of a value: MySQL chooses the type of the column by it."""


_MYSQL = ("mysql", "mariadb")


def _name(length: int) -> String:
    """Text in which case counts, also for MySQL."""
    return String(length).with_variant(String(length, collation="utf8mb4_bin"), *_MYSQL)


def outbox_table(metadata: MetaData, name: str) -> Table:
    """The table of the events that are to be published."""
    _check_new(metadata, name)
    return Table(
        name,
        metadata,
        # SQLite would give the id of a deleted last row again, and so the name of another event.
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("topic", _name(NAME_CHARS_MAX), nullable=False),
        Column("key", LargeBinary(BYTES_MAX)),
        Column("value", LargeBinary(BYTES_MAX)),
        Column("headers", LargeBinary(BYTES_MAX)),
        Column("time_ms", BigInteger, nullable=False),
        Column("refused", String(REFUSED_CHARS_MAX)),
        sqlite_autoincrement=True,
    )


def marks_table(metadata: MetaData, name: str) -> Table:
    """The table of the marks of topics (`outbox/recall.py`)."""
    _check_new(metadata, name)
    return Table(
        name,
        metadata,
        Column("topic", _name(NAME_CHARS_MAX), primary_key=True),
        Column("topic_id", String(64), nullable=False),
        Column("offsets", Text, nullable=False),
        Column("is_open", Boolean, nullable=False),
    )


def inbox_table(metadata: MetaData, name: str) -> Table:
    """The table of the events that groups have handled."""
    _check_new(metadata, name)
    return Table(
        name,
        metadata,
        Column("group_name", _name(NAME_CHARS_MAX), primary_key=True),
        Column("event_id", _name(EVENT_ID_CHARS_MAX), primary_key=True),
        Column("time_ms", BigInteger, nullable=False),
        Index(f"ix_{name}_time_ms", "time_ms"),
    )


def _check_new(metadata: MetaData, name: str) -> None:
    if name in metadata.tables:
        raise InvalidArgument(f"the MetaData has a table {name} already: give another name")
