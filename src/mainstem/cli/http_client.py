"""An HTTP client for the door of a mainstem server: one connection per request, streamed replies.

Owns: the connection, its timeouts, and turning problems into errors of the contract. Refuses: redirects,
proxies, compression and lines without a limit. It connects only to the address that the cluster itself has
reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import msgspec

from mainstem import __version__
from mainstem.contract import NotReachable, StreamError
from mainstem.http_api.problems import ProblemJson, QueryProblemJson, error_of
from mainstem.search.query.errors import QueryError

CONNECT_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 120.0
"""How long a reply may send nothing before it is given up; a search reports its progress far more often."""
READ_BYTES = 256 << 10
LINE_BYTES_MAX = 256 << 20
PROBLEM_BYTES_MAX = 1 << 20


def error_from_problem(problem: bytes | msgspec.Raw, status: int = 0) -> Exception:
    """The error that a problem in JSON reports. `status` is named if the JSON is not a problem."""
    try:
        decoded = msgspec.json.decode(problem, type=ProblemJson)
        if decoded.kind == "query":
            query_problem = msgspec.json.decode(problem, type=QueryProblemJson)
            return QueryError(query_problem.detail, query_problem.column, query_problem.length)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NotReachable(f"the HTTP door replied with status {status} and gave no reason")
    return error_of(decoded)


class HttpReply:
    """A reply whose head has been received. Its body can be read once, by `read_whole` or by `lines`."""

    def __init__(
        self, address: str, reader: asyncio.StreamReader, parser: h11.Connection, silence_timeout_s: float
    ) -> None:
        self._address = address
        self._silence_timeout_s = silence_timeout_s
        self._reader = reader
        self._parser = parser
        self.status = 0

    async def receive_head(self) -> None:
        """Wait for the head of the reply."""
        event = await self._next_event()
        assert isinstance(event, h11.Response), "h11 returns the head first"
        self.status = event.status_code

    async def read_whole(self, max_bytes: int = LINE_BYTES_MAX) -> bytes:
        """The body, to its end or until it is longer than `max_bytes`."""
        body = bytearray()
        async for part in self._parts():
            body += part
            if len(body) > max_bytes:
                break
        return bytes(body)

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines of the body, as they arrive. Raises NotReachable if the connection breaks before the
        end."""
        partial_line = bytearray()
        async for part in self._parts():
            partial_line += part
            if b"\n" in part:
                *lines, last = bytes(partial_line).split(b"\n")
                for line in lines:
                    yield line
                partial_line = bytearray(last)
            elif len(partial_line) > LINE_BYTES_MAX:
                raise StreamError(
                    f"{self._address}: a line of the reply is longer than {LINE_BYTES_MAX} bytes"
                )
        if partial_line:
            yield bytes(partial_line)

    async def _parts(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return

    async def _next_event(self) -> h11.Event:
        try:
            while True:
                event = self._parser.next_event()
                if event is h11.NEED_DATA:
                    data = await asyncio.wait_for(self._reader.read(READ_BYTES), self._silence_timeout_s)
                    self._parser.receive_data(data)
                elif isinstance(event, h11.Event) and not isinstance(event, h11.InformationalResponse):
                    return event
        except TimeoutError:
            silence = f"{self._silence_timeout_s:g} s"
            raise NotReachable(f"the HTTP door at {self._address} sent nothing for {silence}") from None
        except (OSError, h11.RemoteProtocolError):
            raise NotReachable(f"the HTTP door at {self._address} broke the connection") from None


@asynccontextmanager
async def send_request(
    address: str, method: str, path: str, body: object = None, *, silence_timeout_s: float = SILENCE_TIMEOUT_S
) -> AsyncIterator[HttpReply]:
    """Send a request with a JSON body to HOST:PORT. Leaving the context closes the connection, and then the
    server stops its work. Raises NotReachable, or the error that the problem in the reply reports."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=READ_BYTES)
    except (OSError, ValueError) as error:
        why = "no response" if isinstance(error, TimeoutError) else str(error)
        raise NotReachable(f"cannot connect to {address} ({why})") from None
    parser = h11.Connection(our_role=h11.CLIENT)
    try:
        writer.write(_encode_request(parser, address, method, path, body))
        reply = HttpReply(address, reader, parser, silence_timeout_s)
        await reply.receive_head()
        if reply.status >= 300:
            raise error_from_problem(await reply.read_whole(PROBLEM_BYTES_MAX), reply.status)
        yield reply
    finally:
        writer.transport.abort()


def _encode_request(parser: h11.Connection, address: str, method: str, path: str, body: object) -> bytes:
    content = b"" if body is None else msgspec.json.encode(body)
    headers = [("host", address), ("user-agent", f"mainstem/{__version__}"), ("connection", "close")]
    if body is not None:
        headers += [("content-type", "application/json"), ("content-length", str(len(content)))]
    head = parser.send(h11.Request(method=method, target=path, headers=headers)) or b""
    data = parser.send(h11.Data(data=content)) or b"" if content else b""
    end = parser.send(h11.EndOfMessage()) or b""
    return head + data + end
