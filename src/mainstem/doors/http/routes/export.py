"""Exporting the matches of a query as a file: NDJSON, CSV or Parquet.

Owns: the formats, and how much of a file is held in memory. Refuses: to end an incomplete file as if it were
complete. If the search fails or a range cannot be read, the connection is broken instead.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from starlette.responses import Response

from mainstem import parquet
from mainstem.contract import Event, StreamError
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import (
    JSON,
    NDJSON,
    Call,
    Endpoint,
    StreamedResponse,
    json_line,
    start_stream,
)
from mainstem.doors.http.rights import SEARCHED
from mainstem.doors.http.search_slots import Updates, start_search
from mainstem.http_api.event_encoding import event_to_json_in_slices
from mainstem.http_api.events import EventJson
from mainstem.http_api.replay import ExportJson
from mainstem.search.contract import Done, Hit, Progress, Unreadable
from mainstem.timespec import format_iso

PART_BYTES = 64 << 10
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
CSV_COLUMNS = ("topic", "partition", "offset", "time", "key", "value")


async def export(call: Call) -> Response:
    """Write all matches to a file: NDJSON, CSV or Parquet. If the file is incomplete, the connection is
    broken before its end."""
    body = await call.json_body(ExportJson)
    if body.format == "parquet":
        parquet.require_pyarrow()
    updates, release = await start_search(call, call.search().search(body.request()))
    media = {"ndjson": NDJSON, "csv": CSV, "parquet": PARQUET}[body.format]
    parts, end = await start_stream(call, _parts(call, body, updates), release)
    disposition = f'attachment; filename="events.{body.format}"'
    return StreamedResponse(parts, media, end, content_disposition=disposition)


async def _parts(call: Call, body: ExportJson, updates: Updates) -> AsyncGenerator[bytes, None]:
    """The file, part by part. Raises ConnectionError at the end if the file is incomplete."""
    buffer = _DownloadBuffer()
    writer = None if body.format == "ndjson" else _WRITERS[body.format](buffer)
    events, missing, done = 0, "", False
    details = audit.matches_details(body)
    with audit.action(call, "export", dry_run=False, **details, format=body.format) as line:
        try:
            async for update in updates:
                if isinstance(update, Hit):
                    events += 1
                    if writer is None:
                        event = await event_to_json_in_slices(update.event, call.context.yield_to_loop)
                        buffer.write(json_line(event) + b"\n")
                    elif writer.add(update.event):
                        await asyncio.to_thread(writer.flush)
                elif isinstance(update, Unreadable):
                    position = update.position
                    place = f"{position.topic}/{position.partition} from offset {position.offset}"
                    missing = missing or f"{place}: {update.reason}"
                if buffer.size >= PART_BYTES or (buffer.size and isinstance(update, Progress)):
                    line.count(events=events)
                    yield buffer.drain()
                done = isinstance(update, Done)
        except StreamError as error:
            missing = str(error)
        line.count(events=events)
        if done and not missing:
            if writer is not None:
                await asyncio.to_thread(writer.close)
        else:
            line.fail("failed", missing or "the search was cut off")
        yield buffer.drain()
    if missing or not done:
        raise ConnectionError("the file is incomplete")


class _DownloadBuffer:
    """A file object from whose beginning one reads while another writes to its end."""

    closed = False

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._drained_bytes = 0

    @property
    def size(self) -> int:
        """Bytes that can be drained."""
        return len(self._buffer)

    def write(self, data: bytes) -> int:
        """Append all of `data` and return its length; as in `io.RawIOBase`."""
        self._buffer += data
        return len(data)

    def drain(self) -> bytes:
        """Remove and return all bytes written since the last call."""
        data = bytes(self._buffer)
        self._drained_bytes += len(data)
        self._buffer.clear()
        return data

    def tell(self) -> int:
        """The number of bytes written so far; as in `io.RawIOBase`."""
        return self._drained_bytes + len(self._buffer)

    def flush(self) -> None:
        """Does nothing: bytes are written at once."""

    def close(self) -> None:
        """Does nothing: the buffer is drained after the writer has closed it."""


class _FileWriter(Protocol):
    """Writes events in one format."""

    def add(self, event: Event) -> bool:
        """Write the event, or keep it; returns whether it is time to flush."""

    def flush(self) -> None:
        """Write the events that are kept. Called in a thread."""

    def close(self) -> None:
        """Write the end of the file. Called in a thread."""


class _CsvWriter:
    """Writes each event at once."""

    def __init__(self, buffer: _DownloadBuffer) -> None:
        self._write = buffer.write
        self._row(CSV_COLUMNS)

    def add(self, event: Event) -> bool:
        time = format_iso(event.timestamp_ms)
        self._row((event.topic, event.partition, event.offset, time, _cell(event.key), _cell(event.value)))
        return False

    def flush(self) -> None:
        """Does nothing: no event is kept."""

    def close(self) -> None:
        """Does nothing: a CSV file ends with its last row."""

    def _row(self, cells: tuple[object, ...]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        self._write(line.getvalue().encode())


_WRITERS: dict[str, Callable[[_DownloadBuffer], _FileWriter]] = {
    "csv": _CsvWriter,
    "parquet": parquet.ParquetWriter,
}


def _cell(content: bytes | None) -> str:
    """The characters of a key or payload; base64 if it is not UTF-8."""
    try:
        return (content or b"").decode()
    except UnicodeDecodeError:
        return base64.b64encode(content or b"").decode()


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/export",
        handle=export,
        rights=SEARCHED,
        tag="search",
        bodies={JSON: ExportJson},
        reply=EventJson,
        media=NDJSON,
        other_media=(CSV, PARQUET),
        problems=("query", "busy"),
    ),
)
