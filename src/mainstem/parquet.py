"""Writes events to a Parquet file as a stream.

Owns: the columns, and the size of a row group, which is what is kept in memory before it is written. Refuses:
decoding payloads; keys, values and headers stay bytes. Needs the extra `parquet` (pyarrow), which is imported
at the first use.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

from mainstem.contract import Event, InvalidArgument

ROWS_PER_BATCH = 500
"""Rows that are converted to columns together. It takes about 1 ms, during which Python does nothing else."""
GROUP_EVENTS = 50_000
GROUP_BYTES = 16 << 20
"""Bytes of keys, values and headers in a row group. Encoding it needs several times that for a moment."""

COLUMNS = (
    ("topic", "string", ""),
    ("partition", "int32", ""),
    ("offset", "int64", ""),
    ("timestamp", "timestamp[ms, UTC]", "null: the event has none"),
    ("key", "binary", "null: no key"),
    ("value", "binary", "null: no payload"),
    ("headers", "list<struct<name: string, value: binary>>", "in their order; a value may be null"),
)
"""Name, type, remark. docs/CLI.md has the same table; a test compares them."""


class ParquetSink(Protocol):
    """Where the file is written: an open binary file, or an object with these methods. It need not seek."""

    def write(self, data: bytes, /) -> int: ...

    def tell(self) -> int: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...

    @property
    def closed(self) -> bool: ...


def require_pyarrow() -> None:
    """Check that pyarrow is installed. If not, InvalidArgument says what to do."""
    if importlib.util.find_spec("pyarrow") is None:
        raise InvalidArgument(
            "Parquet needs pyarrow, which is not installed here: pip install 'mainstem[parquet]'"
        )


class ParquetWriter:
    """Writes events to `sink`: `add` each event, then `close`. Without `close` the file is not valid."""

    def __init__(self, sink: ParquetSink) -> None:
        require_pyarrow()
        import pyarrow
        from pyarrow import parquet

        header = pyarrow.struct([("name", pyarrow.string()), ("value", pyarrow.binary())])
        types = {
            "string": pyarrow.string(),
            "int32": pyarrow.int32(),
            "int64": pyarrow.int64(),
            "timestamp[ms, UTC]": pyarrow.timestamp("ms", tz="UTC"),
            "binary": pyarrow.binary(),
        }
        schema = pyarrow.schema(
            [(name, types.get(type_, pyarrow.list_(header))) for name, type_, _ in COLUMNS]
        )
        self._pyarrow: Any = pyarrow
        self._schema = schema
        self._writer: Any = parquet.ParquetWriter(sink, schema, compression="zstd", version="2.6")
        self._rows: list[tuple[object, ...]] = []
        self._batches: list[Any] = []
        self._events = self._bytes = 0

    def add(self, event: Event) -> bool:
        """Add an event. True when the row group is full and has to be written with `flush`."""
        headers = [{"name": name, "value": value} for name, value in event.headers]
        time = event.timestamp_ms if event.timestamp_ms >= 0 else None
        self._rows.append((event.topic, event.partition, event.offset, time, event.key, event.value, headers))
        self._events += 1
        self._bytes += len(event.key or b"") + len(event.value or b"")
        self._bytes += sum(len(name) + len(value or b"") for name, value in event.headers)
        if len(self._rows) >= ROWS_PER_BATCH:
            self._rows_to_columns()
        return self._events >= GROUP_EVENTS or self._bytes >= GROUP_BYTES

    def _rows_to_columns(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._rows = []
            columns_by_name = dict(zip(self._schema.names, columns, strict=True))
            self._batches.append(self._pyarrow.RecordBatch.from_pydict(columns_by_name, schema=self._schema))

    def flush(self) -> None:
        """Write the added events as one row group. Releases the interpreter while it compresses. May be
        called in a thread, one call at a time."""
        self._rows_to_columns()
        if self._batches:
            table = self._pyarrow.Table.from_batches(self._batches)
            self._batches = []
            self._writer.write_table(table, row_group_size=self._events)
            self._events = self._bytes = 0

    def close(self) -> None:
        """Write the remaining events and the end of the file."""
        self.flush()
        self._writer.close()
