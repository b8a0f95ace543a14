"""Request bodies: receives them within limits of size and time, and decodes their JSON.

Owns: those limits, decoding JSON from clients with the position of any error, and decoding long arrays piece
by piece, so that the event loop is never blocked for longer than one piece takes. Refuses: bodies that are
too large, too slow or not UTF-8.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mainstem.doors.http.problem import Problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message

    from mainstem.clock import Clock
    from mainstem.doors.http.body_memory import BodyMemory

T = TypeVar("T")

PROGRESS_BYTES = 64 << 10
SILENCE_TIMEOUT_S = 30.0
"""How long the next PROGRESS_BYTES of a body, or the rest of it, may take to arrive."""
WANTED_TIMEOUT_S = 10.0
"""The same while other bodies wait for the memory that this one holds."""
COMMAND_BYTES_MAX = 1 << 20
"""Maximum size of a body without events."""
PIECE_BYTES = 128 << 10
"""Bytes of a long array that are decoded at once; then other tasks may run."""
WHOLE_NUMBER_BYTES_MAX = 64 << 10
"""Maximum size of a body in which whole numbers may be written as 2.0."""
CUTS_TRIED = 4
"""Number of wrong cuts after which `array_pieces` doubles the size of the piece."""
_BLANKS = b" \t\r\n"
_COMMA = re.compile(rb"[ \t\r\n]{0,64},")


async def chunks(
    request: Request, clock: Clock, memory: BodyMemory, *, endless: bool = False
) -> AsyncIterator[bytes]:
    """The parts of the body as they arrive. Raises the problem `slow-body` if PROGRESS_BYTES of it, or the
    rest, take too long, or if the client leaves. An `endless` body may trickle in as long as it holds no
    counted memory; only its pauses are limited then."""
    last_s = clock.monotonic()
    received = since_last = 0
    while True:
        message = await _next_message(request, clock, memory, last_s, received)
        if message["type"] == "http.disconnect":
            raise Problem("slow-body", "the client closed the connection")
        chunk = message.get("body", b"")
        received += len(chunk)
        since_last += len(chunk)
        arrived_s = clock.monotonic()
        if since_last >= PROGRESS_BYTES or (endless and not memory.is_counted):
            last_s, since_last = arrived_s, 0
        if chunk:
            yield chunk
        last_s += clock.monotonic() - arrived_s  # the server's own time does not count
        if not message.get("more_body", False):
            return


async def _next_message(
    request: Request, clock: Clock, memory: BodyMemory, last_s: float, received: int
) -> Message:
    """The next part, unless SILENCE_TIMEOUT_S have passed since `last_s`, or WANTED_TIMEOUT_S if others wait
    for the memory."""
    while True:
        limit_s = min(SILENCE_TIMEOUT_S, WANTED_TIMEOUT_S) if memory.is_wanted else SILENCE_TIMEOUT_S
        left_s = last_s + limit_s - clock.monotonic()
        try:
            # In steps: others may begin to wait for the memory meanwhile.
            async with asyncio.timeout(max(0.0, min(left_s, WANTED_TIMEOUT_S))):
                return await request.receive()
        except TimeoutError:
            if left_s > WANTED_TIMEOUT_S:
                continue
            detail = (
                f"{received} bytes arrived, and less than {PROGRESS_BYTES} of them in {limit_s:g} seconds"
            )
            raise Problem("slow-body", detail) from None


async def read_whole(request: Request, clock: Clock, memory: BodyMemory, limit: int) -> bytes:
    """The whole body. Raises the problem `body-too-large` if it has more than `limit` bytes, `busy` if there
    is no memory for it."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise too_large(limit)
    body = bytearray()
    async for chunk in chunks(request, clock, memory):
        if len(body) + len(chunk) > limit:
            raise too_large(limit)
        await memory.hold(len(body) + len(chunk))
        body += chunk
    return bytes(body)


def too_large(limit: int) -> Problem:
    """The problem of a body above the limit, in bytes."""
    return Problem("body-too-large", f"the body is larger than {limit} bytes")


# ----------------------------------------------------------------------------------------------------------
# JSON


def read_json(data: bytes | msgspec.Raw, body_type: type[T]) -> T:
    """A client's JSON as `body_type`. The problem of bad JSON says where it is bad."""
    try:
        data = bytes(data)
        data.decode()  # fields of type msgspec.Raw are not decoded below, but must be UTF-8, too
        try:
            return msgspec.json.decode(data, type=body_type)
        except msgspec.ValidationError as error:
            if "got `float`" not in str(error) or len(data) > WHOLE_NUMBER_BYTES_MAX:
                raise
            return msgspec.json.decode(_with_whole_numbers(data), type=body_type)
    except UnicodeDecodeError as error:
        raise Problem("invalid", f"the body is not UTF-8 at byte {error.start}") from None
    except msgspec.DecodeError as error:  # also ValidationError, which is a subclass
        raise Problem("invalid", f"in the body: {error}") from None
    except RecursionError:
        raise Problem("invalid", "the body is nested too deeply") from None


def _with_whole_numbers(data: bytes) -> bytes:
    """The same JSON with 2 in place of 2.0: in JSON Schema both are the same integer. A member `value` is a
    payload and is not changed."""
    first = data.lstrip(_BLANKS)[:1]
    if first == b"{":
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        return msgspec.json.encode(
            {name: raw if name == "value" else _raw_with_whole_numbers(raw) for name, raw in members.items()}
        )
    if first == b"[":
        return msgspec.json.encode(
            [_raw_with_whole_numbers(raw) for raw in msgspec.json.decode(data, type=list[msgspec.Raw])]
        )
    if first.isdigit() or first == b"-":
        number = msgspec.json.decode(data)
        if isinstance(number, float) and number.is_integer():
            return b"%d" % number
    return data


def _raw_with_whole_numbers(raw: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(_with_whole_numbers(bytes(raw)))


def array_pieces(data: bytes) -> Iterator[list[msgspec.Raw]]:
    """The elements of a JSON array, some at a time, so that other tasks can run between two pieces.

    A piece is cut after a closing brace that a comma follows. Whether that brace ends an element or is inside
    one, the JSON decoder decides: with a bracket before and after it, the piece decodes only if the brace
    ends an element. After a wrong cut an empty piece is returned, so that other tasks can run here, too.
    """
    data = data.strip(_BLANKS)
    start, size = 1, PIECE_BYTES
    while True:
        wrong_cuts = 0
        for cut, next_start in _cuts(data, start, size):
            try:
                yield read_json(b"[" + data[start:cut] + b"]", list[msgspec.Raw])
            except Problem:
                yield []
                wrong_cuts += 1
                if wrong_cuts == CUTS_TRIED:
                    size *= 2
                    break
            else:
                start, size = next_start, PIECE_BYTES
                break
        else:
            break
    yield _last_piece(data, start)


def _cuts(data: bytes, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a piece that begins at `start` may end, and where the next piece would begin."""
    cut = start + size
    while (cut := data.find(b"}", cut) + 1) > 0:
        comma = _COMMA.match(data, cut)
        if comma is not None:
            yield cut, comma.end()


def _last_piece(data: bytes, start: int) -> list[msgspec.Raw]:
    try:
        elements = read_json(b"[" + data[start:], list[msgspec.Raw])
        if not elements and start > 1:
            raise Problem("invalid", "in the body: no element after the last comma")
    except Problem:
        read_json(data, list[msgspec.Raw])  # raises the problem with the position in the whole body
        raise
    return elements
