"""Taking what a search finds into a file: NDJSON, CSV, Parquet.

Owns: the forms of a file, and how much of it is held in memory. Refuses: to end a file as if it were whole
when it is not, because the search broke off or because something could not be read: the connection is cut
instead. `replay.py` takes what is found into a topic.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem import parquet
from mainstem.contract import Event, StreamError
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, NDJSON, Call, Endpoint, StreamedResponse, json_line
from mainstem.doors.http.events_json import EventJson, event_to_json_in_slices
from mainstem.doors.http.field_types import Millis, PartitionNumber
from mainstem.doors.http.routes.search import Glob, Updates, start_search
from mainstem.search.contract import Done, Hit, Progress, SearchRequest, Unreadable
from mainstem.timespec import format_iso

PART_BYTES = 64 << 10
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
CSV_COLUMNS = ("topic", "partition", "offset", "time", "key", "value")


class MatchesJson(msgspec.Struct, forbid_unknown_fields=True):
    """All events that match, in the order of their offsets."""

    query: Annotated[str, Meta(max_length=10_000, description="See docs/SEARCH.md; empty: every event.")] = ""
    topics: Annotated[list[Glob], Meta(description="Globs; none: all but internal ones.")] = []
    partitions: list[PartitionNumber] | None = None
    since_ms: Annotated[Millis | None, Meta(description="Events of this time or later.")] = None
    until_ms: Annotated[Millis | None, Meta(description="Events before this time.")] = None

    def request(self, *, only_count: bool = False) -> SearchRequest:
        """As the search takes it."""
        return SearchRequest(
            query=self.query,
            topics=self.topics,
            partitions=self.partitions,
            since_ms=self.since_ms,
            until_ms=self.until_ms,
            limit=None,
            newest_first=False,
            only_count=only_count,
        )

    def about(self) -> dict[str, audit.Value]:
        """What an audit line says of it."""
        told: dict[str, audit.Value] = {"query": self.query, "topics": ",".join(self.topics) or "*"}
        if self.partitions is not None:
            told["partitions"] = ",".join(map(str, self.partitions))
        if self.since_ms is not None:
            told["since"] = format_iso(self.since_ms)
        if self.until_ms is not None:
            told["until"] = format_iso(self.until_ms)
        return told


class ExportJson(MatchesJson, forbid_unknown_fields=True):
    """What to write to a file, and how."""

    format: Annotated[
        Literal["ndjson", "csv", "parquet"],
        Meta(
            description="ndjson: events as elsewhere; csv: without headers; parquet: exact, if the server has"
            " pyarrow."
        ),
    ] = "ndjson"


async def export(call: Call) -> Response:
    """Write all events that match to a file: NDJSON, CSV or Parquet. A file that is not whole ends with a
    broken connection."""
    wanted = await call.json_body(ExportJson)
    if wanted.format == "parquet":
        parquet.require_pyarrow()
    updates, release = await start_search(call, call.context.search().search(wanted.request()))
    parts = _parts(call, wanted, updates)
    media = {"ndjson": NDJSON, "csv": CSV, "parquet": PARQUET}[wanted.format]
    name = f'attachment; filename="events.{wanted.format}"'
    started, release = await start_stream(parts, release)
    return StreamedResponse(started, media, release, content_disposition=name)


async def start_stream(
    parts: AsyncGenerator[bytes, None], release: Callable[[], Awaitable[None]]
) -> tuple[AsyncIterator[bytes], Callable[[], Awaitable[None]]]:
    """`parts`, begun: so that what goes wrong at once is a problem, not a broken answer; and a `release` that
    also ends them, so that their audit line is written whatever becomes of the client."""
    try:
        first = await anext(parts, b"")
    except BaseException:
        await release()
        raise

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    async def end() -> None:
        try:
            await parts.aclose()
        finally:
            await release()

    return all_of_them(), end


async def _parts(call: Call, wanted: ExportJson, updates: Updates) -> AsyncGenerator[bytes, None]:
    """The file. ConnectionError at its end if it is not whole."""
    sink = _DownloadBuffer()
    form = None if wanted.format == "ndjson" else _WRITERS[wanted.format](sink)
    events, missing, done = 0, "", False
    with audit.action(call, "export", dry_run=False, **wanted.about(), format=wanted.format) as line:
        try:
            async for update in updates:
                if isinstance(update, Hit):
                    events += 1
                    if form is None:
                        sink.write(
                            json_line(await event_to_json_in_slices(update.event, call.context.yield_to_loop))
                            + b"\n"
                        )
                    elif form.add(update.event):
                        await asyncio.to_thread(form.flush)
                elif isinstance(update, Unreadable):
                    at = update.position
                    missing = missing or f"{at.topic}/{at.partition} from {at.offset} on: {update.reason}"
                if sink.size >= PART_BYTES or (sink.size and isinstance(update, Progress)):
                    line.count(events=events)
                    yield sink.take()
                done = isinstance(update, Done)
        except StreamError as error:
            missing = str(error)
        line.count(events=events)
        if done and not missing:
            if form is not None:
                await asyncio.to_thread(form.close)
        else:
            line.ended("failed", missing or "the search was cut off")
        yield sink.take()
    if missing or not done:
        raise ConnectionError("the file is not whole")


class _DownloadBuffer:
    """A file that is read from its beginning while it is written at its end."""

    closed = False

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._taken = 0

    @property
    def size(self) -> int:
        """Bytes to take."""
        return len(self._buffer)

    def write(self, data: bytes) -> int:
        """See io."""
        self._buffer += data
        return len(data)

    def take(self) -> bytes:
        """All that was written since."""
        taken = bytes(self._buffer)
        self._taken += len(taken)
        self._buffer.clear()
        return taken

    def tell(self) -> int:
        """See io."""
        return self._taken + len(self._buffer)

    def flush(self) -> None:
        """See io."""

    def close(self) -> None:
        """See io."""


class _FileWriter(Protocol):
    """Events as the bytes of a file."""

    def add(self, event: Event) -> bool:
        """Write it; or take it, and say whether it is time to flush."""

    def flush(self) -> None:
        """Write what was taken. In a thread."""

    def close(self) -> None:
        """Write the end of the file. In a thread."""


class _CsvWriter:
    """Holds nothing back."""

    def __init__(self, sink: _DownloadBuffer) -> None:
        self._write = sink.write
        self._row(CSV_COLUMNS)

    def add(self, event: Event) -> bool:
        time = format_iso(event.timestamp_ms)
        self._row((event.topic, event.partition, event.offset, time, _cell(event.key), _cell(event.value)))
        return False

    def flush(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """The last row is the end."""

    def _row(self, cells: tuple[object, ...]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        self._write(line.getvalue().encode())


_WRITERS: dict[str, Callable[[_DownloadBuffer], _FileWriter]] = {
    "csv": _CsvWriter,
    "parquet": parquet.ParquetWriter,
}


def _cell(content: bytes | None) -> str:
    """Its characters; base64 where it is not UTF-8."""
    try:
        return (content or b"").decode()
    except UnicodeDecodeError:
        return base64.b64encode(content or b"").decode()


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/export",
        handle=export,
        tag="search",
        bodies={JSON: ExportJson},
        reply=EventJson,
        media=NDJSON,
        other_media=(CSV, PARQUET),
        problems=("query", "busy"),
    ),
)
