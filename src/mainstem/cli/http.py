"""A client for mainstem's own HTTP door: one request a connection, answers that stream.

Owns: the connection, what it waits for, and errors of the door as errors of the contract. Refuses: redirects,
proxies, compression, and lines without an end: it talks to one address, which the cluster itself has named.
Used by `remote.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import msgspec

from mainstem import __version__
from mainstem.contract import (
    EventTooLarge,
    InvalidArgument,
    NotAllowed,
    NotReachable,
    PositionOutOfRange,
    StreamError,
    UnknownTopic,
)
from mainstem.search.query.errors import QueryError

CONNECT_S = 5.0
SILENCE_S = 120.0
"""So long an answer may be silent; a search tells of its progress far more often."""
READ_BYTES = 256 << 10
LINE_BYTES_MAX = 256 << 20
REFUSAL_BYTES_MAX = 1 << 20

_ERRORS: dict[str, type[StreamError]] = {
    "unknown-topic": UnknownTopic,
    "out-of-range": PositionOutOfRange,
    "event-too-large": EventTooLarge,
    "not-allowed": NotAllowed,
    "forbidden-host": NotAllowed,
    "not-reachable": NotReachable,
    "invalid": InvalidArgument,
    "unfit": InvalidArgument,
}


class _Problem(msgspec.Struct):
    """What a refusal of the door is (RFC 9457), as far as people are told."""

    type: str = ""
    title: str = ""
    detail: str = ""
    fix: str = ""
    column: int = 0
    length: int = 1


def error_from_problem(problem: bytes | msgspec.Raw, status: int = 0) -> Exception:
    """The error that a JSON problem stands for."""
    try:
        told = msgspec.json.decode(problem, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NotReachable(f"the HTTP door answers with status {status}, and does not say why")
    kind = told.type.removeprefix("urn:mainstem:")
    if kind == "query":
        return QueryError(told.detail, told.column, told.length)
    return _ERRORS.get(kind, StreamError)(told.detail or told.title)


class HttpReply:
    """An answer whose head is there. Its body is read once, by `whole` or by `lines`."""

    def __init__(
        self, at: str, reader: asyncio.StreamReader, parser: h11.Connection, silence_s: float
    ) -> None:
        self._at = at
        self._silence_s = silence_s
        self._reader = reader
        self._parser = parser
        self.status = 0

    async def begin(self) -> None:
        """Wait for the head."""
        event = await self._next()
        assert isinstance(event, h11.Response), "h11 gives the head first"
        self.status = event.status_code

    async def whole(self, most: int = LINE_BYTES_MAX) -> bytes:
        """The body, to its end or to about `most` bytes."""
        parts = bytearray()
        async for part in self._parts():
            parts += part
            if len(parts) > most:
                break
        return bytes(parts)

    async def lines(self) -> AsyncIterator[bytes]:
        """The body's lines, as they come. NotReachable when it is cut off."""
        rest = bytearray()
        async for part in self._parts():
            rest += part
            if b"\n" in part:
                *whole, last = bytes(rest).split(b"\n")
                for line in whole:
                    yield line
                rest = bytearray(last)
            elif len(rest) > LINE_BYTES_MAX:
                raise StreamError(f"{self._at}: a line of the answer is longer than {LINE_BYTES_MAX} bytes")
        if rest:
            yield bytes(rest)

    async def _parts(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return

    async def _next(self) -> h11.Event:
        try:
            while True:
                event = self._parser.next_event()
                if event is h11.NEED_DATA:
                    data = await asyncio.wait_for(self._reader.read(READ_BYTES), self._silence_s)
                    self._parser.receive_data(data)
                elif isinstance(event, h11.Event) and not isinstance(event, h11.InformationalResponse):
                    return event
        except TimeoutError:
            raise NotReachable(f"the HTTP door at {self._at} was silent for {self._silence_s:g} s") from None
        except (OSError, h11.RemoteProtocolError):
            raise NotReachable(f"the HTTP door at {self._at} broke the connection") from None


@asynccontextmanager
async def send_request(
    at: str, method: str, path: str, body: object = None, *, silence_s: float = SILENCE_S
) -> AsyncIterator[HttpReply]:
    """Send a request, JSON in its body, to HOST:PORT. Leaving the context closes the connection, which tells
    the door to stop what it does. NotReachable, or what a problem stands for."""
    host, _, port = at.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=READ_BYTES)
    except (OSError, ValueError) as error:
        why = "no answer" if isinstance(error, TimeoutError) else str(error)
        raise NotReachable(f"nothing answers at {at} ({why})") from None
    parser = h11.Connection(our_role=h11.CLIENT)
    try:
        writer.write(_request(parser, at, method, path, body))
        reply = HttpReply(at, reader, parser, silence_s)
        await reply.begin()
        if reply.status >= 300:
            raise error_from_problem(await reply.whole(REFUSAL_BYTES_MAX), reply.status)
        yield reply
    finally:
        writer.transport.abort()


def _request(parser: h11.Connection, at: str, method: str, path: str, body: object) -> bytes:
    content = b"" if body is None else msgspec.json.encode(body)
    headers = [("host", at), ("user-agent", f"mainstem/{__version__}"), ("connection", "close")]
    if body is not None:
        headers += [("content-type", "application/json"), ("content-length", str(len(content)))]
    head = parser.send(h11.Request(method=method, target=path, headers=headers)) or b""
    data = parser.send(h11.Data(data=content)) or b"" if content else b""
    end = parser.send(h11.EndOfMessage()) or b""
    return head + data + end
