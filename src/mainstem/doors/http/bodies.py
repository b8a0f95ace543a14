"""Bodies of requests: how they arrive, and how they become what a route wants.

Owns: the limits of size and time while a body comes, JSON of strangers with the place of what is wrong in it,
and long arrays in pieces. Refuses: bodies that are too large, too slow or no UTF-8. Never keeps the loop for
longer than a piece takes. Used by `endpoint.py` and `publish.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from mainstem.doors.http.problem import Problem

if TYPE_CHECKING:
    from mainstem.clock import Clock

T = TypeVar("T")

SILENCE_TIMEOUT_S = 30.0
"""So long a body may stay silent."""
MIN_BYTES_PER_S = 4_096
"""A body of limited length comes at least this fast, once SILENCE_TIMEOUT_S are over."""
COMMAND_BYTES_MAX = 1 << 20
"""A body without events at most."""
PIECE_BYTES = 128 << 10
"""Of a long array, decoded in one turn of the loop."""
WHOLE_NUMBER_BYTES_MAX = 64 << 10
"""So far 2.0 is taken for 2."""
TRIES = 4
"""Ends of a piece that are tried before it may be twice as long."""
_BLANKS = b" \t\r\n"
_COMMA = re.compile(rb"[ \t\r\n]{0,64},")


async def chunks(request: Request, clock: Clock, *, endless: bool = False) -> AsyncIterator[bytes]:
    """The body as it comes. `endless`: only silence is limited, not how long it takes in all."""
    stream = aiter(request.stream())
    began, received = clock.monotonic(), 0
    while True:
        left_s = SILENCE_TIMEOUT_S
        if not endless:
            left_s = min(left_s, began + SILENCE_TIMEOUT_S + received / MIN_BYTES_PER_S - clock.monotonic())
        try:
            chunk = await asyncio.wait_for(anext(stream), max(0.0, left_s))
        except StopAsyncIteration:
            return
        except TimeoutError:
            told = f"{received} bytes came in {clock.monotonic() - began:.0f} seconds"
            raise Problem("slow-body", told) from None
        except ClientDisconnect:
            raise Problem("slow-body", "the client went away") from None
        received += len(chunk)
        yield chunk


async def read_whole(request: Request, clock: Clock, limit: int) -> bytes:
    """All of the body, up to `limit`."""
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdigit() and int(told[:20]) > limit:
        raise too_large(limit)
    parts = bytearray()
    async for chunk in chunks(request, clock):
        parts += chunk
        if len(parts) > limit:
            raise too_large(limit)
    return bytes(parts)


def too_large(limit: int) -> Problem:
    """The problem of a body above the limit."""
    return Problem("body-too-large", f"the body is larger than {limit} bytes")


# ----------------------------------------------------------------------------------------------------------
# JSON


def read_json(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """JSON of strangers as `kind`, or the problem with its place."""
    try:
        data = bytes(data)
        data.decode()  # strings that nobody looks into (msgspec.Raw) are UTF-8, too
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.ValidationError as error:
            if "got `float`" not in str(error) or len(data) > WHOLE_NUMBER_BYTES_MAX:
                raise
            return msgspec.json.decode(_whole_numbers(data), type=kind)
    except UnicodeDecodeError as error:
        raise Problem("invalid", f"the body is not UTF-8 at byte {error.start}") from None
    except msgspec.DecodeError as error:  # ValidationError is one
        raise Problem("invalid", f"in the body: {error}") from None
    except RecursionError:
        raise Problem("invalid", "the body is nested too deeply") from None


def _whole_numbers(data: bytes) -> bytes:
    """The same JSON with 2.0 as 2, which is one number to JSON Schema; not in a member `value`, which is a
    payload."""
    first = data.lstrip(_BLANKS)[:1]
    if first == b"{":
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        return msgspec.json.encode(
            {name: raw if name == "value" else _whole_in(raw) for name, raw in members.items()}
        )
    if first == b"[":
        return msgspec.json.encode(
            [_whole_in(raw) for raw in msgspec.json.decode(data, type=list[msgspec.Raw])]
        )
    if first.isdigit() or first == b"-":
        number = msgspec.json.decode(data)
        if isinstance(number, float) and number.is_integer():
            return b"%d" % number
    return data


def _whole_in(raw: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(_whole_numbers(bytes(raw)))


def array_pieces(data: bytes) -> Iterator[list[msgspec.Raw]]:
    """The elements of a JSON array, some at a time, so that others may have their turn between two pieces.

    A piece is cut behind an object. Whether that is the end of an element, or inside of one, JSON itself
    tells: only then does the piece decode when a bracket is set before and behind it. After a cut that was
    none an empty piece is given, for others to have their turn.
    """
    data = data.strip(_BLANKS)
    at, size = 1, PIECE_BYTES
    while True:
        tries = 0
        for cut, next_at in _cuts(data, at, size):
            try:
                yield read_json(b"[" + data[at:cut] + b"]", list[msgspec.Raw])
            except Problem:
                yield []
                tries += 1
                if tries == TRIES:
                    size *= 2
                    break
            else:
                at, size = next_at, PIECE_BYTES
                break
        else:
            break
    yield _last_piece(data, at)


def _cuts(data: bytes, at: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a piece from `at` on may end, and where the next one then begins."""
    cut = at + size
    while (cut := data.find(b"}", cut) + 1) > 0:
        comma = _COMMA.match(data, cut)
        if comma is not None:
            yield cut, comma.end()


def _last_piece(data: bytes, at: int) -> list[msgspec.Raw]:
    try:
        found = read_json(b"[" + data[at:], list[msgspec.Raw])
        if not found and at > 1:
            raise Problem("invalid", "in the body: a comma and nothing behind it")
    except Problem:
        read_json(data, list[msgspec.Raw])  # tells the place in the whole
        raise
    return found
