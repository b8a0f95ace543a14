"""An HTTP/1.1 client for endpoints that are not trusted.

Owns: connections, which are kept for further requests of the same endpoint, the check of the address that
each of them goes to, and TLS. Refuses: redirects, proxies, cookies, compression, answers of more than a few
kilobytes (the rest is not read), and to interpret a status; deadlines are the caller's.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h11

from mainstem.clock import Clock
from mainstem.push.addresses import AllowedAddresses
from mainstem.push.errors import PushFailed
from mainstem.push.resolver import Resolve, is_address
from mainstem.queues.push_settings import EndpointUrl

ANSWER_BYTES_MAX = 4 << 10
"""Of the head of an answer, and again of its body."""
INTERIM_ANSWERS_MAX = 10
"""Answers of the kind 100 to 199 that may come before the one that counts."""
IDLE_S_MAX = 15.0
AGE_S_MAX = 60.0
"""A connection that was idle for this time, or has this age, is not used again: the name of the endpoint may
have another address by then."""
IDLE_CONNECTIONS_MAX = 200
"""Of all endpoints together; then one is closed after its request."""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of this machine, and not of the endpoint."""


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """What an endpoint answered."""

    status: int
    retry_after: str = ""
    """The header Retry-After; empty: there is none."""

    @property
    def is_success(self) -> bool:
        """Whether the status is from 200 to 299."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class PushRequest:
    """A request that is ready to be sent."""

    endpoint: EndpointUrl
    headers: Sequence[tuple[str, str]]
    body: bytes


class _Connection:
    """A connection to an endpoint; `send` sends one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, now_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=ANSWER_BYTES_MAX)
        self.created_s = self.used_s = now_s
        self.has_answered = False
        """Whether a byte of the answer to the present request has arrived."""

    async def send(self, request: PushRequest) -> PushAnswer:
        """Send a request and read its answer. OSError, EOFError, h11.ProtocolError."""
        self.has_answered = False
        headers = [
            ("host", request.endpoint.authority),
            ("content-length", str(len(request.body))),
            *request.headers,
        ]
        head = self._parser.send(h11.Request(method="POST", target=request.endpoint.target, headers=headers))
        self._writer.write(head or b"")
        self._writer.write(self._parser.send(h11.Data(data=request.body)) or b"")
        self._writer.write(self._parser.send(h11.EndOfMessage()) or b"")
        await self._writer.drain()
        answer = await self._receive_answer()
        await self._receive_body()
        return answer

    async def _receive_answer(self) -> PushAnswer:
        for _ in range(INTERIM_ANSWERS_MAX + 1):
            event = await self._next_event()
            if isinstance(event, h11.Response):
                retry_after = next((value for name, value in event.headers if name == b"retry-after"), b"")
                return PushAnswer(event.status_code, retry_after.decode("latin-1"))
            if not isinstance(event, h11.InformationalResponse):
                break
        raise EOFError

    async def _receive_body(self) -> None:
        """Read the body as far as it is read at all, so that the connection can be used again."""
        size = 0
        while size <= ANSWER_BYTES_MAX:
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                return
            size += len(event.data)

    async def _next_event(self) -> h11.Event:
        while (event := self._parser.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(ANSWER_BYTES_MAX)
            self.has_answered |= bool(data)
            if not data and not self.has_answered:
                raise EOFError
            self._parser.receive_data(data)
        if isinstance(event, h11.Event):
            return event
        raise EOFError

    def can_send_again(self, now_s: float) -> bool:
        """Make it ready for a further request. False: it is to be closed."""
        if self._parser.our_state is not h11.DONE or self._parser.their_state is not h11.DONE:
            return False
        self._parser.start_next_cycle()
        self.used_s = now_s
        return True

    def is_usable(self, now_s: float) -> bool:
        """Whether it may be used, as far as this side knows."""
        is_open = not self._reader.at_eof() and not self._writer.is_closing()
        return is_open and now_s - self.used_s < IDLE_S_MAX and now_s - self.created_s < AGE_S_MAX

    def close(self) -> None:
        """Close it at once."""
        self._writer.transport.abort()


class PushClient:
    """Sends requests. `resolve` looks names up; `make_tls` makes what TLS is checked by."""

    def __init__(
        self,
        clock: Clock,
        allowed: AllowedAddresses,
        resolve: Resolve,
        make_tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._clock = clock
        self._allowed = allowed
        self._resolve = resolve
        self._tls = functools.cache(make_tls)  # reads the certificates of all authorities: 20 ms
        self._idle: dict[tuple[bool, str, int], list[_Connection]] = {}
        self._idle_count = 0
        self._closed = False

    async def send(self, request: PushRequest) -> PushAnswer:
        """Send a request. Returns the answer. PushFailed. If it is cancelled, its connection is closed."""
        connection = self._take_idle(request.endpoint)
        if connection is not None:
            try:
                return await self._send_over(connection, request)
            except (OSError, EOFError, h11.ProtocolError):
                if connection.has_answered:
                    raise PushFailed("the endpoint broke the connection within its answer") from None
                # It was closed while it was idle, most likely: the same request over another one.
        connection = await self._connect(request.endpoint)
        try:
            return await self._send_over(connection, request)
        except h11.ProtocolError:  # its text has a part of the answer, which is not shown
            raise PushFailed("the endpoint does not answer in HTTP") from None
        except EOFError:
            raise PushFailed("the endpoint closed the connection without an answer") from None
        except OSError as error:
            raise PushFailed(f"the connection broke: {_text(error)}") from None

    async def _send_over(self, connection: _Connection, request: PushRequest) -> PushAnswer:
        is_done = False
        try:
            answer = await connection.send(request)
            is_done = True
            return answer
        finally:
            if is_done and self._may_keep() and connection.can_send_again(self._clock.monotonic()):
                self._idle.setdefault(_place(request.endpoint), []).append(connection)
                self._idle_count += 1
            else:
                connection.close()

    def _may_keep(self) -> bool:
        return not self._closed and self._idle_count < IDLE_CONNECTIONS_MAX

    def _take_idle(self, endpoint: EndpointUrl) -> _Connection | None:
        connections = self._idle.get(_place(endpoint), [])
        now_s = self._clock.monotonic()
        chosen: _Connection | None = None
        while connections and chosen is None:
            connection = connections.pop()
            self._idle_count -= 1
            if connection.is_usable(now_s):
                chosen = connection
            else:
                connection.close()
        if not connections:
            self._idle.pop(_place(endpoint), None)
        return chosen

    async def _connect(self, endpoint: EndpointUrl) -> _Connection:
        """Connect to the first of the host's addresses that is allowed and accepts."""
        try:
            addresses = await self._resolve(endpoint.host)
        except OSError as error:
            raise PushFailed(f"the name {endpoint.host} is not found: {_text(error)}") from None
        problem = PushFailed(f"the name {endpoint.host} has no address")
        refusals = [self._allowed.problem(address) for address in addresses]
        for address, refusal in zip(addresses, refusals, strict=True):
            if refusal is None:
                try:
                    return await self._open(endpoint, address)
                except PushFailed as error:
                    problem = error
        if refusals and all(refusals):
            named = "" if is_address(endpoint.host) else f"{endpoint.host}: "
            raise PushFailed(f"{named}{refusals[0]}", was_sent=False)
        raise problem

    async def _open(self, endpoint: EndpointUrl, address: str) -> _Connection:
        tls = self._tls() if endpoint.is_tls else None
        try:
            reader, writer = await asyncio.open_connection(
                address,
                endpoint.port,
                ssl=tls,
                server_hostname=endpoint.host if tls else None,
                limit=2 * ANSWER_BYTES_MAX,
            )
        except ssl.SSLCertVerificationError as error:
            raise PushFailed(f"the certificate is not accepted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise PushFailed(f"TLS failed: {error.reason or 'no reason given'}") from None
        except OSError as error:
            is_ours = error.errno in EXHAUSTED
            raise PushFailed(f"no connection to {address}: {_text(error)}", was_sent=not is_ours) from None
        return _Connection(reader, writer, self._clock.monotonic())

    def forget_idle(self) -> None:
        """Close the connections that were idle for too long. Call it now and then."""
        now_s = self._clock.monotonic()
        for place, connections in list(self._idle.items()):
            usable = [connection for connection in connections if connection.is_usable(now_s)]
            for connection in connections:
                if connection not in usable:
                    connection.close()
            self._idle_count -= len(connections) - len(usable)
            if usable:
                self._idle[place] = usable
            else:
                del self._idle[place]

    def close(self) -> None:
        """Close all idle connections; those in use are closed after their request. Idempotent."""
        self._closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        self._idle_count = 0


def _place(endpoint: EndpointUrl) -> tuple[bool, str, int]:
    return endpoint.is_tls, endpoint.host, endpoint.port


def _text(error: OSError) -> str:
    return (error.strerror or str(error))[:200]
