"""TLS between a connection and the protocol that serves it.

Owns: the handshake and its deadline, decryption into the protocol's buffer, encryption of what it sends, and
how much of that may wait for a client that does not read. Refuses: clients that do not finish the handshake
in time, and those whose certificate belongs to no user.

Event loops have TLS of their own. This one is here for the memory and the limits of many connections: one
buffer receives for all of them, replies are encrypted only when the client reads, and the size of the write
buffer is what the client has not read, which limits depend on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from mainstem.access_contract import Principal
from mainstem.doors.net.tls import ServerTls

RECEIVED_BYTES = 256 << 10
SLICE_BYTES = 256 << 10
"""Most bytes that are encrypted at once."""
RECORD_BYTES = 16 << 10
"""Bytes of a full record of TLS: shorter pieces are joined to one."""
SOCKET_HIGH_BYTES = 16 << 10
"""When more than this waits in the plain transport, nothing more is encrypted until nothing waits there."""
HIGH_BYTES, LOW_BYTES = 64 << 10, 16 << 10
"""The limits of the write buffer until the protocol sets others."""

_received = memoryview(bytearray(RECEIVED_BYTES))
"""What a socket has received, of whichever connection: it is decrypted before another one receives."""


class TlsTransport(asyncio.BufferedProtocol, asyncio.Transport):
    """The protocol of the plain transport, and the transport of `protocol`. `on_principal` is called with the
    user whom the client's certificate names, before `protocol.connection_made`; `warn` with the kind and the
    text of a warning about a client."""

    def __init__(
        self,
        tls: ServerTls,
        protocol: asyncio.BaseProtocol,
        host: str,
        default_principal: Principal,
        on_principal: Callable[[Principal], None],
        warn: Callable[[str, str], None],
    ) -> None:
        super().__init__()
        self._tls = tls
        self._host = host
        self._default_principal = default_principal
        self._on_principal = on_principal
        self._warn = warn
        self._protocol: Any = protocol
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._context = tls.context
        self._ssl = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._socket: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = self._has_ended = self._is_closing = self._is_lost = False
        """Open from the end of the handshake on; ended when the client sends no more; lost when the protocol
        knows of the end of the connection."""
        self._is_reading_paused = self._is_socket_full = self._is_writing_paused = False
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        """Of `_unsent`: not encrypted yet."""
        self._high, self._low = HIGH_BYTES, LOW_BYTES

    # --- asyncio's side: the protocol of the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = transport
        self._socket.set_write_buffer_limits(min(SOCKET_HIGH_BYTES, self._low), 0)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._tls.options.handshake_s, self.abort)
        self._tls.handshake_begins(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _received

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_closing:
            return
        self._incoming.write(_received[:nbytes])
        if self._is_open or self._shake_hands():
            self._read()

    def eof_received(self) -> bool:
        if not self._is_open:
            self._close_socket()
        else:
            self._read()  # what was received while reading was paused
            self._end_of_data()
        return True  # it is closed when what is unsent has been sent

    def pause_writing(self) -> None:
        self._is_socket_full = True

    def resume_writing(self) -> None:
        self._is_socket_full = False
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_handshake()
        self._is_closing = True
        self._unsent.clear()
        self._unsent_bytes = 0
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(exc)

    # --- the handshake

    def _shake_hands(self) -> bool:
        """Go on with the handshake; whether it is over and the client is served."""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._fail(error)
            return False
        self._flush()
        self._end_handshake()
        certificate = self._ssl.getpeercert(binary_form=True)
        principal = self._tls.principal(certificate, self._default_principal)
        if principal is None:
            self._warn("certificate", f"no rule maps the certificate of {self._host}: connection closed")
            self._close_socket()
            return False
        self._on_principal(principal)
        self._is_open = True
        self._protocol.connection_made(self)
        return True

    def _end_handshake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._tls.handshake_ends(self)

    def _fail(self, error: ssl.SSLError) -> None:
        """Close the connection of a client that broke the protocol, and say why, without its own words."""
        reason = (error.reason or "protocol error").lower().replace("_", " ")
        self._warn("handshake", f"TLS with {self._host} failed: {reason}: connection closed")
        self._flush()  # the alert
        self._close_socket()

    def _close_socket(self) -> None:
        self._is_closing = True
        self._socket.close()

    # --- reading

    def _read(self) -> None:
        """Decrypt all that was received, until the protocol wants no more."""
        try:
            while not (self._is_reading_paused or self._is_closing or self._has_ended):
                count = self._read_into_buffer() if self._is_buffered else self._read_bytes()
                if not count:
                    self._end_of_data()
                elif self._is_drained():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(error)
        if self._outgoing.pending and not self._is_closing:
            self._flush()

    def _read_bytes(self) -> int:
        data = self._ssl.read(RECEIVED_BYTES)
        if data:
            self._protocol.data_received(data)
        return len(data)

    def _read_into_buffer(self) -> int:
        """Fill the protocol's buffer as far as there is data; the number of bytes, 0 at the end of the data.
        SSLWantReadError: there were none."""
        count = 0
        with memoryview(self._protocol.get_buffer(-1)) as buffer:
            size = len(buffer)
            while count < size:
                try:
                    read = self._ssl.read(size - count, buffer[count:])
                except ssl.SSLWantReadError:
                    if not count:
                        raise
                    break
                count += read  # type: ignore[operator]
                if not read or self._is_drained():
                    break
        if count:
            self._protocol.buffer_updated(count)
        return count

    def _is_drained(self) -> bool:
        """Whether all that was received is decrypted and read. The library would say so by an exception,
        which takes longer."""
        return not (self._incoming.pending or self._ssl.pending())

    def _end_of_data(self) -> None:
        """The client sends no more."""
        if self._has_ended or self._is_closing:
            return
        self._has_ended = True
        if not self._protocol.eof_received():
            self.close()

    # --- writing

    def _send(self) -> None:
        """Encrypt and send as much as the client reads."""
        while self._unsent and not self._is_socket_full:
            data = self._next_piece()
            self._unsent_bytes -= len(data)
            self._ssl.write(data)
            self._flush()
        if self._is_closing:
            if not self._unsent:
                self._say_goodbye()
            return
        unsent = self.get_write_buffer_size()
        if unsent > self._high and not self._is_writing_paused:
            self._is_writing_paused = True
            self._protocol.pause_writing()
        elif unsent <= self._low and self._is_writing_paused:
            self._is_writing_paused = False
            self._protocol.resume_writing()

    def _next_piece(self) -> memoryview | bytes:
        first = self._unsent.popleft()
        if len(first) > SLICE_BYTES:
            self._unsent.appendleft(first[SLICE_BYTES:])
            return first[:SLICE_BYTES]
        if len(first) >= RECORD_BYTES or not self._unsent:
            return first
        pieces, size = [first], len(first)
        while self._unsent and size + len(self._unsent[0]) <= RECORD_BYTES:
            pieces.append(self._unsent.popleft())
            size += len(pieces[-1])
        return b"".join(pieces)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._socket.write(self._outgoing.read())

    def _say_goodbye(self) -> None:
        """End TLS, and close the socket without waiting for the client's answer (RFC 8446, 6.1)."""
        try:
            self._ssl.unwrap()
        except ssl.SSLError:
            pass  # the answer is not there yet, or never will be
        self._flush()
        self._socket.close()

    # --- the protocol's side: its transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's transports of TLS; the rest is of the socket."""
        if name == "ssl_object":
            return self._ssl
        if name == "sslcontext":
            return self._context
        return self._socket.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return not (self._is_reading_paused or self._is_closing)

    def pause_reading(self) -> None:
        if not self._is_closing:
            self._is_reading_paused = True
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        if not self._is_closing and self._is_reading_paused:
            self._is_reading_paused = False
            self._socket.resume_reading()
            asyncio.get_running_loop().call_soon(self._read)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low
        self._socket.set_write_buffer_limits(min(SOCKET_HIGH_BYTES, self._low), 0)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not read, as far as this machine knows."""
        size: int = self._socket.get_write_buffer_size()
        return self._unsent_bytes + size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._unsent or self._is_socket_full or self._is_closing or not 0 < len(data) <= RECORD_BYTES:
            self.writelines((data,))
            return
        self._ssl.write(data)
        self._socket.write(self._outgoing.read())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._is_closing:
            return
        for data in list_of_data:
            if len(data):
                self._unsent.append(memoryview(data))
                self._unsent_bytes += len(data)
        self._send()

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        """Send what is unsent, then end TLS and close."""
        if self._is_closing:
            return
        self._is_closing = True
        self._socket.pause_reading()
        if not self._unsent:
            self._say_goodbye()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self._is_closing = True
        self._unsent.clear()
        self._unsent_bytes = 0
        self._socket.abort()
