"""An HTTP client for the door of a mainstem server, with streamed replies.

Owns: connections, which of them are used again, timeouts, and turning problems into errors of the contract.
Refuses: redirects, proxies, compression and lines without a limit; and to send a secret without TLS to
another machine. It connects only to the address that it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import h11
import msgspec

from mainstem.client_security import PLAINTEXT, ClientSecurity, ClientSecurityError
from mainstem.contract import InvalidArgument, NotReachable, StreamError
from mainstem.http_api.problems import ProblemJson, QueryProblemJson, error_of
from mainstem.search.query.errors import QueryError
from mainstem.version import __version__

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 120.0
"""How long a reply may send nothing before it is given up; a search reports its progress far more often."""
READ_BYTES = 256 << 10
LINE_BYTES_MAX = 256 << 20
PROBLEM_BYTES_MAX = 1 << 20
SPARE_CONNECTIONS_MAX = 8
"""Connections that are kept open for the next requests. A server closes those that wait for long."""
SECURE = "https://"


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
                    async with asyncio.timeout(self._silence_timeout_s):
                        data = await self._reader.read(READ_BYTES)
                    self._parser.receive_data(data)
                elif isinstance(event, h11.Event) and not isinstance(event, h11.InformationalResponse):
                    return event
        except TimeoutError:
            silence = f"{self._silence_timeout_s:g} s"
            raise NotReachable(f"the HTTP door at {self._address} sent nothing for {silence}") from None
        except (OSError, h11.RemoteProtocolError):
            raise NotReachable(f"the HTTP door at {self._address} broke the connection") from None


class _DoorConnection:
    """A connection to the door, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.parser = h11.Connection(our_role=h11.CLIENT)
        self.was_used = False
        """Whether it is used again, so that the server may have closed it in the meantime."""

    @property
    def is_open(self) -> bool:
        return not self.reader.at_eof() and not self.writer.transport.is_closing()

    def abort(self) -> None:
        self.writer.transport.abort()


class HttpDoorClient:
    """Sends requests to the HTTP door of a server: HOST:PORT, by TLS with https:// in front.

    `keeps_connections`: requests that can be repeated use connections again, until `close`. Without it there
    is a connection for each request, and nothing to close. All requests are made in one event loop.
    """

    def __init__(
        self, address: str, security: ClientSecurity = PLAINTEXT, *, keeps_connections: bool = False
    ) -> None:
        self.address = address.removeprefix(SECURE)
        """HOST:PORT."""
        self._security = security
        self._secure = address.startswith(SECURE)
        self._host, _, self._port = self.address.rpartition(":")
        self._keeps_connections = keeps_connections
        self._spare: list[_DoorConnection] = []
        self._context: ssl.SSLContext | None = None

    async def request_json(
        self, method: str, path: str, body: object, reply_type: type[T], *, repeatable: bool = False
    ) -> T:
        """The JSON of the reply to a request. `repeatable`: sending it twice does no harm, so that it may go
        out on a connection that the server perhaps has closed. Errors: as `send`; NotReachable also for a
        reply that is not this type."""
        data = await self._whole_reply(method, path, body, repeatable=repeatable)
        try:
            return msgspec.json.decode(data, type=reply_type)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NotReachable(f"the reply of {self.address} is not that of a mainstem server") from None

    async def _whole_reply(self, method: str, path: str, body: object, *, repeatable: bool) -> bytes:
        if not (repeatable and self._keeps_connections):
            async with self.send(method, path, body) as reply:
                return await reply.read_whole()
        while True:
            connection = self._spare_connection() or await self._connect()
            is_done = False
            try:
                reply = self._start(connection, method, path, body, SILENCE_TIMEOUT_S, is_last=False)
                try:
                    await reply.receive_head()
                except NotReachable:
                    if connection.was_used:
                        continue  # closed meanwhile: a connection that is new decides
                    raise
                data = await reply.read_whole()
                if reply.status >= 300:
                    raise error_from_problem(data, reply.status)
                is_done = True
                return data
            finally:
                if is_done:
                    self._keep(connection)
                else:  # also if the call was cancelled: the server then stops its work
                    connection.abort()

    @asynccontextmanager
    async def send(
        self, method: str, path: str, body: object = None, *, silence_timeout_s: float = SILENCE_TIMEOUT_S
    ) -> AsyncGenerator[HttpReply, None]:
        """Send a request with a JSON body, on a connection of its own. Leaving the context closes the
        connection, and then the server stops its work. Raises NotReachable, or the error that the problem in
        the reply reports."""
        connection = await self._connect()
        try:
            reply = self._start(connection, method, path, body, silence_timeout_s, is_last=True)
            await reply.receive_head()
            if reply.status >= 300:
                raise error_from_problem(await reply.read_whole(PROBLEM_BYTES_MAX), reply.status)
            yield reply
        finally:
            connection.abort()

    def close(self) -> None:
        """Close the connections that wait for a request."""
        while self._spare:
            self._spare.pop().abort()
        self._keeps_connections = False

    def _spare_connection(self) -> _DoorConnection | None:
        while self._spare:
            connection = self._spare.pop()
            if connection.is_open:
                connection.was_used = True
                return connection
            connection.abort()
        return None

    def _keep(self, connection: _DoorConnection) -> None:
        parser = connection.parser
        is_reusable = parser.our_state is h11.DONE and parser.their_state is h11.DONE
        if is_reusable and self._keeps_connections and len(self._spare) < SPARE_CONNECTIONS_MAX:
            parser.start_next_cycle()
            self._spare.append(connection)
        else:
            connection.abort()

    async def _connect(self) -> _DoorConnection:
        if self._secure and self._context is None:
            try:
                self._context = self._security.ssl_context()
            except ClientSecurityError as error:
                raise InvalidArgument(str(error)) from None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return _DoorConnection(
                    *await asyncio.open_connection(
                        self._host.strip("[]"), int(self._port), limit=READ_BYTES, ssl=self._context
                    )
                )
        except (OSError, ValueError) as error:
            why = "no response" if isinstance(error, TimeoutError) else str(error)
            raise NotReachable(f"cannot connect to {self.address} ({why})") from None

    def _start(
        self,
        connection: _DoorConnection,
        method: str,
        path: str,
        body: object,
        silence_timeout_s: float,
        *,
        is_last: bool,
    ) -> HttpReply:
        """Send a request; `is_last`: the server closes the connection after it."""
        parser = connection.parser
        content = b"" if body is None else msgspec.json.encode(body)
        headers = [("host", self.address), ("user-agent", f"mainstem/{__version__}")]
        if is_last:
            headers.append(("connection", "close"))
        if (authorization := self._authorization()) is not None:
            headers.append(("authorization", authorization))
        if body is not None:
            headers += [("content-type", "application/json"), ("content-length", str(len(content)))]
        head = parser.send(h11.Request(method=method, target=path, headers=headers)) or b""
        data = parser.send(h11.Data(data=content)) or b"" if content else b""
        end = parser.send(h11.EndOfMessage()) or b""
        connection.writer.write(head + data + end)
        return HttpReply(self.address, connection.reader, parser, silence_timeout_s)

    def _authorization(self) -> str | None:
        """What a request logs in with; None where others could read it."""
        return self._security.authorization() if self._secure or is_loopback(self._host) else None


def is_loopback(host: str) -> bool:
    """Whether no other machine can read what is sent there without TLS."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"
