"""Rows to events, and what names an event of an outbox.

Owns: the header `mainstem-outbox`, how the headers of an event and the offsets of a mark are packed into
columns, and which rows are a batch. Refuses: the encoding of values, which topics have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from mainstem.contract import Headers, InvalidArgument, NewEvent
from mainstem.outbox.contract import BATCH_BYTES, SOURCE_PATTERN, OutboxRow

OUTBOX_HEADER = "mainstem-outbox"
"""The header that names the row of an event: `SOURCE/ID`."""

_decode_headers = msgspec.msgpack.Decoder(tuple[tuple[str, bytes | None], ...]).decode


def checked_source(source: str) -> str:
    """The name of a source. InvalidArgument: not 1 to 100 letters, digits, dots, dashes and underscores."""
    if not re.fullmatch(SOURCE_PATTERN, source):
        raise InvalidArgument(
            f"{source[:100]!r} is not the name of an outbox: 1 to 100 letters, digits, dots and dashes"
        )
    return source


def pack_headers(headers: Headers) -> bytes | None:
    """The headers in a column; None without any."""
    return msgspec.msgpack.encode(headers) if headers else None


def pack_offsets(offsets: Sequence[int]) -> str:
    """The offsets of a mark in a column."""
    return " ".join(map(str, offsets))


def unpack_offsets(text: str) -> list[int]:
    """The offsets that a column of a mark has."""
    return [int(offset) for offset in text.split()]


def first_batch(rows: Iterable[OutboxRow]) -> list[OutboxRow]:
    """The first rows, up to the one with which they have BATCH_BYTES in all."""
    batch: list[OutboxRow] = []
    size_bytes = 0
    for row in rows:
        batch.append(row)
        size_bytes += len(row.value or b"") + len(row.key or b"") + len(row.headers or b"")
        if size_bytes >= BATCH_BYTES:
            break
    return batch


def event_of_row(row: OutboxRow, source: str) -> NewEvent:
    """The event to publish."""
    headers = () if row.headers is None else _decode_headers(row.headers)
    named = (*headers, (OUTBOX_HEADER, b"%s/%d" % (source.encode(), row.id)))
    return NewEvent(row.value, row.key, named, row.time_ms)


def row_id(headers: Headers, prefix: bytes) -> int | None:
    """The id of the row that an event was published from; None: it is of no row, or of another source.
    `prefix`: the source with a slash."""
    for name, value in headers:
        if name == OUTBOX_HEADER and value is not None and value.startswith(prefix):
            digits = value[len(prefix) :]
            if digits.isdigit():
                return int(digits)
    return None
