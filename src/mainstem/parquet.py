"""Events as a Parquet file, written as they come.

Owns: the columns, and how much is held in memory before it is written: a row group. Refuses: to guess at what
payloads say: keys, values and headers are bytes, as they are. Needs the extra `parquet` (pyarrow), which is
imported at the first use. Used by the HTTP door and the command line.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Protocol

from mainstem.contract import InvalidArgument

if TYPE_CHECKING:
    from mainstem.contract import Event

ROWS_AT_ONCE = 500
"""Turned into columns together: about a millisecond, in which Python does nothing else."""
GROUP_EVENTS = 50_000
GROUP_BYTES = 16 << 20
"""Of keys, values and headers. What is encoded takes some times that for a moment."""

COLUMNS = (
    ("topic", "string", ""),
    ("partition", "int32", ""),
    ("offset", "int64", ""),
    ("timestamp", "timestamp[ms, UTC]", "null: the event has none"),
    ("key", "binary", "null: no key"),
    ("value", "binary", "null: no payload"),
    ("headers", "list<struct<name: string, value: binary>>", "in their order; a value may be null"),
)
"""Name, type, what to know of it. docs/CLI.md has the same table; a test compares."""


class ParquetSink(Protocol):
    """Where the file goes: any file open for bytes, or something that is as one. It need not seek."""

    def write(self, data: bytes, /) -> int: ...

    def tell(self) -> int: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...

    @property
    def closed(self) -> bool: ...


def require_pyarrow() -> None:
    """InvalidArgument, with what to do, where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise InvalidArgument(
            "Parquet needs pyarrow, which is not installed here: pip install 'mainstem[parquet]'"
        )


class ParquetWriter:
    """Writes to `sink`: `add` events, then `close`, without which the file is none."""

    def __init__(self, sink: ParquetSink) -> None:
        require_pyarrow()
        import pyarrow
        from pyarrow import parquet

        header = pyarrow.struct([("name", pyarrow.string()), ("value", pyarrow.binary())])
        kinds = {
            "string": pyarrow.string(),
            "int32": pyarrow.int32(),
            "int64": pyarrow.int64(),
            "timestamp[ms, UTC]": pyarrow.timestamp("ms", tz="UTC"),
            "binary": pyarrow.binary(),
        }
        schema = pyarrow.schema([(name, kinds.get(kind, pyarrow.list_(header))) for name, kind, _ in COLUMNS])
        self._pyarrow: Any = pyarrow
        self._schema = schema
        self._writer: Any = parquet.ParquetWriter(sink, schema, compression="zstd", version="2.6")
        self._rows: list[tuple[object, ...]] = []
        self._batches: list[Any] = []
        self._events = self._bytes = 0

    def add(self, event: Event) -> bool:
        """Take an event; whether it is time to `flush`."""
        headers = [{"name": name, "value": value} for name, value in event.headers]
        time = event.timestamp_ms if event.timestamp_ms >= 0 else None
        self._rows.append((event.topic, event.partition, event.offset, time, event.key, event.value, headers))
        self._events += 1
        self._bytes += len(event.key or b"") + len(event.value or b"")
        self._bytes += sum(len(name) + len(value or b"") for name, value in event.headers)
        if len(self._rows) >= ROWS_AT_ONCE:
            self._into_columns()
        return self._events >= GROUP_EVENTS or self._bytes >= GROUP_BYTES

    def _into_columns(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._rows = []
            named = dict(zip(self._schema.names, columns, strict=True))
            self._batches.append(self._pyarrow.RecordBatch.from_pydict(named, schema=self._schema))

    def flush(self) -> None:
        """Write what was added, as one row group. Compresses, and leaves the interpreter to others while it
        does; may be called in a thread, one call at a time."""
        self._into_columns()
        if self._batches:
            table = self._pyarrow.Table.from_batches(self._batches)
            self._batches = []
            self._writer.write_table(table, row_group_size=self._events)
            self._events = self._bytes = 0

    def close(self) -> None:
        """Write the rest and the end of the file."""
        self.flush()
        self._writer.close()
