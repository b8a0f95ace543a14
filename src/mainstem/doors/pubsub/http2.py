"""A server's connection of HTTP/2, without a socket: bytes in, requests out, frames back (RFC 9113).

Owns: the order of frames, the state of streams, the windows of what comes in, and the limits on all of it.
Refuses: what is against the protocol, by ending the stream or the connection as the RFC says; and clients
that open too many streams, send header blocks that are too large, end streams before they
are answered time and again (CVE-2023-44487), make the server end them (CVE-2025-8671), or send frames that
carry nothing. What comes on a stream is given to a `StreamUser`, and what is sent has its order from
`h2_sender.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from mainstem.doors.pubsub import frames
from mainstem.doors.pubsub.flood_meter import FloodMeter
from mainstem.doors.pubsub.frames import HEAD_BYTES, PREFACE, U32, WINDOW_AT_FIRST, WINDOW_MAX, H2Error
from mainstem.doors.pubsub.h2_blocks import BlockAssembler
from mainstem.doors.pubsub.h2_rules import (
    ALL_UNSENT_MAX,
    CLOSED_KEPT,
    CONNECTION_WINDOW_BYTES,
    DRAIN_PING,
    EMPTY_FRAMES_MAX,
    EMPTY_FRAMES_PER_S,
    GOAWAY_ALL,
    ON_ITSELF,
    RESETS_MAX,
    RESETS_PER_S,
    STREAM_UNSENT_MAX,
    STREAM_WINDOW_BYTES,
    STREAMS_MAX,
    UNSENT_SMALL,
    USEFUL,
    ConnectionFailure,
    StreamFailure,
    check_setting,
    depends_on_itself,
    unpadded,
)
from mainstem.doors.pubsub.h2_sender import FrameSender
from mainstem.doors.pubsub.h2_stream import Buffer, H2Stream, StreamUser
from mainstem.doors.pubsub.header_block import HEADER_LIST_BYTES_MAX, Headers
from mainstem.doors.pubsub.request_head import MalformedRequest, RequestHead, check_trailers, read_head


class Http2User(Protocol):
    """What the requests of a connection are given to."""

    def on_request(self, stream: H2Stream, head: RequestHead) -> StreamUser:
        """A request begins. Its body follows, by `StreamUser.on_data`, at least with `is_last`."""

    def has_room(self) -> bool:
        """Whether one more request may begin beside those that are worked on, also without a stream."""

    def on_failure(self, kind: str, text: str) -> None:
        """The client is disconnected for what it did: for the log."""

    def wake(self) -> None:
        """There is something to send."""


class Http2Connection:
    """One connection. After `received` and `wake`, its owner writes what `output` returns, and closes the
    socket when `is_over`."""

    def __init__(self, user: Http2User, now: Callable[[], float]) -> None:
        self._user = user
        self._rest = b""
        self._has_preface = self._has_settings = False
        self._blocks = BlockAssembler()
        self._streams: dict[int, H2Stream] = {}
        self._last_id = 0
        self._closed: deque[int] = deque(maxlen=CLOSED_KEPT)
        self._reset_here: deque[int] = deque(maxlen=CLOSED_KEPT)
        self._receive_window = CONNECTION_WINDOW_BYTES
        self._uncredited = 0
        self._initial_send_window = WINDOW_AT_FIRST
        self._sender = FrameSender()
        self._credited_frames = 0
        self._empty = FloodMeter(now, EMPTY_FRAMES_MAX, EMPTY_FRAMES_PER_S)
        self._resets = FloodMeter(now, RESETS_MAX, RESETS_PER_S)
        self.is_over = False
        """Whether the socket is to be closed when what is in `output` is sent."""
        self.is_draining = False
        self._last_allowed = GOAWAY_ALL
        """The highest stream that is answered, once the connection is to end."""
        sender = self._sender
        sender.put(
            frames.settings_frame(
                {
                    frames.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                    frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
                    frames.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES_MAX,
                }
            )
        )
        sender.put(frames.window_update(0, CONNECTION_WINDOW_BYTES - WINDOW_AT_FIRST))

    # --- the owner's side

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return len(self._streams)

    @property
    def is_greeted(self) -> bool:
        """Whether the client has sent its preface and settings."""
        return self._has_settings

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for windows or for the socket on all streams."""
        return sum(stream.pending_bytes for stream in self._streams.values())

    def received(self, data: bytes) -> None:
        """Handle bytes of the client."""
        if self.is_over:
            return
        try:
            self._read(self._rest + data if self._rest else data)
        except ConnectionFailure as failure:
            self._fail(failure)

    def output(self, limit_bytes: int) -> list[Buffer]:
        """What is to be written now; data of streams only up to this limit."""
        sender = self._sender
        for stream in sender.fill(limit_bytes):
            self._ended(stream)
        if sender.data_frames != self._credited_frames:
            self._empty.relieve(USEFUL * (sender.data_frames - self._credited_frames))
            self._credited_frames = sender.data_frames
        out, sender.out, sender.out_bytes = sender.out, [], 0
        return out

    @property
    def has_data(self) -> bool:
        """Whether the windows allow to send more."""
        return self._sender.has_data

    def ping(self) -> None:
        """Ask whether the client is there."""
        self._sender.put(frames.ping(b"\0" * 8))

    def drain(self) -> None:
        """Take no new requests. The client learns that there will be none before they are refused: requests
        that are on their way are answered (RFC 9113, 6.8)."""
        if not self.is_draining and not self.is_over:
            self.is_draining = True
            self._sender.put(frames.goaway_frame(GOAWAY_ALL, H2Error.NO_ERROR))
            self._sender.put(frames.ping(DRAIN_PING))
            self._user.wake()

    def end_draining(self) -> None:
        """Refuse the requests that come from now on, and end when the others are answered."""
        if self.is_draining and self._last_allowed == GOAWAY_ALL:
            self._last_allowed = self._last_id
            self._sender.put(frames.goaway_frame(self._last_id, H2Error.NO_ERROR))
            self._end_if_drained()
            self._user.wake()

    def lost(self) -> None:
        """The socket is gone."""
        self.is_over = True
        for stream in list(self._streams.values()):
            self._forget(stream)
            if stream.user is not None:
                stream.user.on_reset()

    # --- what streams call

    def send_headers(self, stream: H2Stream, block: bytes, *, ends_stream: bool) -> None:
        self._sender.put_headers(stream.id, block, ends_stream=ends_stream)
        if ends_stream:
            self._ended(stream)
        self._user.wake()

    def send_data(self, stream: H2Stream) -> None:
        if stream.pending_bytes > UNSENT_SMALL and (
            stream.pending_bytes > STREAM_UNSENT_MAX or self.unsent_bytes > ALL_UNSENT_MAX
        ):
            self._user.on_failure("unread", "a client does not take what it asks for: the call is ended")
            self._abort(stream, H2Error.ENHANCE_YOUR_CALM)
            return
        self._sender.queue(stream)
        self._user.wake()

    def reset(self, stream: H2Stream, code: H2Error) -> None:
        self._forget(stream)
        self._reset_here.append(stream.id)
        self._sender.put(frames.reset_frame(stream.id, code))
        self._user.wake()

    def credit(self, stream: H2Stream, count: int) -> None:
        stream.uncredited += count
        if stream.uncredited >= STREAM_WINDOW_BYTES // 2:
            stream.receive_window += stream.uncredited
            self._sender.put(frames.window_update(stream.id, stream.uncredited))
            stream.uncredited = 0
            self._user.wake()

    # --- frames

    def _read(self, data: bytes) -> None:
        position, end = 0, len(data)
        if not self._has_preface:
            if not data.startswith(PREFACE[:end]):
                raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "no preface of HTTP/2")
            if end < len(PREFACE):
                self._rest = data
                return
            self._has_preface = True
            position = len(PREFACE)
        while end - position >= HEAD_BYTES and not self.is_over:
            head = U32.unpack_from(data, position)[0]
            length, kind = head >> 8, head & 0xFF
            if length > frames.FRAME_BYTES_MAX:
                raise ConnectionFailure(H2Error.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            body = position + HEAD_BYTES
            if end - body < length:
                break
            position = body + length
            stream = U32.unpack_from(data, body - 4)[0] & 0x7FFFFFFF
            try:
                self._frame(kind, data[body - 5], stream, data[body:position])
            except StreamFailure as failure:
                self._fail_stream(failure.stream, failure.code)
        self._rest = data[position:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if not self._has_settings:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._has_settings = True
        if self._blocks.open_stream and (kind != frames.CONTINUATION or stream != self._blocks.open_stream):
            raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == frames.DATA:
            self._on_data(flags, stream, payload)
        elif kind == frames.HEADERS:
            self._on_block(stream, self._blocks.begin(flags, stream, payload))
        elif kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream, payload)
        elif kind == frames.CONTINUATION:
            self._on_block(stream, self._blocks.go_on(flags, payload))
        else:
            self._on_other(kind, flags, stream, payload)

    def _on_other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.RST_STREAM:
            self._on_rst_stream(stream, payload)
            return
        self._count_empty()
        if kind == frames.PRIORITY:
            if stream == 0:
                raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "PRIORITY without a stream")
            if len(payload) != 5:
                raise StreamFailure(stream, H2Error.FRAME_SIZE_ERROR)
            if depends_on_itself(stream, payload):
                raise StreamFailure(stream, H2Error.PROTOCOL_ERROR)
        elif kind in (frames.SETTINGS, frames.PING, frames.GOAWAY):
            if stream != 0:
                raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "a frame of the connection on a stream")
            if kind == frames.SETTINGS:
                self._on_settings(flags, payload)
            elif kind == frames.PING:
                self._on_ping(flags, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    def _count_empty(self) -> None:
        if self._empty.add():
            raise ConnectionFailure(H2Error.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def _count_reset(self) -> None:
        if self._resets.add():
            raise ConnectionFailure(H2Error.ENHANCE_YOUR_CALM, "too many requests that are given up")

    # --- frames of a stream

    def _on_block(self, stream_id: int, block: tuple[int, Headers] | None) -> None:
        """A header block, if it is whole."""
        if block is None:
            return
        flags, headers = block
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._on_trailers(flags, stream, headers)
            return
        if stream_id <= self._last_id or not stream_id & 1:
            if stream_id in self._reset_here:
                return
            code = H2Error.STREAM_CLOSED if stream_id in self._closed else H2Error.PROTOCOL_ERROR
            raise ConnectionFailure(code, "HEADERS on a stream that cannot be opened")
        self._last_id = stream_id
        if stream_id > self._last_allowed:
            return
        if flags & ON_ITSELF:
            raise StreamFailure(stream_id, H2Error.PROTOCOL_ERROR)
        if len(self._streams) >= STREAMS_MAX or not self._user.has_room():
            raise StreamFailure(stream_id, H2Error.REFUSED_STREAM)
        self._open(flags, stream_id, headers)

    def _open(self, flags: int, stream_id: int, headers: Headers) -> None:
        is_last = bool(flags & frames.END_STREAM)
        try:
            head = read_head(headers)
        except MalformedRequest:
            raise StreamFailure(stream_id, H2Error.PROTOCOL_ERROR) from None
        if is_last and head.content_length:
            raise StreamFailure(stream_id, H2Error.PROTOCOL_ERROR)
        self._empty.relieve(USEFUL)
        stream = H2Stream(self, stream_id, self._initial_send_window, STREAM_WINDOW_BYTES)
        stream.body_left = head.content_length
        self._streams[stream_id] = stream
        stream.user = self._user.on_request(stream, head)
        if is_last and not stream.is_closed:
            self._client_ended(stream, b"")

    def _on_trailers(self, flags: int, stream: H2Stream, headers: Headers) -> None:
        if stream.client_ended:
            raise StreamFailure(stream.id, H2Error.STREAM_CLOSED)
        try:
            check_trailers(headers)
        except MalformedRequest:
            raise StreamFailure(stream.id, H2Error.PROTOCOL_ERROR) from None
        if not flags & frames.END_STREAM or stream.body_left or flags & ON_ITSELF:
            raise StreamFailure(stream.id, H2Error.PROTOCOL_ERROR)
        self._client_ended(stream, b"")

    def _client_ended(self, stream: H2Stream, data: bytes) -> None:
        stream.client_ended = True
        assert stream.user is not None, "it was given its user when it was opened"
        stream.user.on_data(data, is_last=True)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFailure(H2Error.FLOW_CONTROL_ERROR, "more data than the window allows")
        self._uncredited += size
        if self._uncredited >= CONNECTION_WINDOW_BYTES // 2:
            self._sender.put(frames.window_update(0, self._uncredited))
            self._receive_window += self._uncredited
            self._uncredited = 0
        data = unpadded(flags, payload)
        stream = self._streams.get(stream_id)
        if stream is None or stream.client_ended:
            self._count_empty()
            if stream is None and self._is_late(stream_id):
                return
            raise StreamFailure(stream_id, H2Error.STREAM_CLOSED)
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamFailure(stream_id, H2Error.FLOW_CONTROL_ERROR)
        is_last = bool(flags & frames.END_STREAM)
        if not data and not is_last:
            self._count_empty()
        elif data:
            self._empty.relieve(USEFUL)
        if stream.body_left is not None:
            stream.body_left -= len(data)
            if stream.body_left < 0 or (is_last and stream.body_left):
                raise StreamFailure(stream_id, H2Error.PROTOCOL_ERROR)
        if size != len(data):
            stream.consumed(size - len(data))
        if is_last:
            self._client_ended(stream, data)
        elif data:
            assert stream.user is not None, "it was given its user when it was opened"
            stream.user.on_data(data, is_last=False)

    def _is_late(self, stream_id: int) -> bool:
        """Whether a frame for a stream that is not open may have been sent before its end was known.
        ConnectionFailure: the stream was never opened."""
        if stream_id == 0 or stream_id > self._last_id or not stream_id & 1:
            raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "a frame on a stream that is not open")
        return stream_id in self._reset_here or stream_id > self._last_allowed

    def _on_rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFailure(H2Error.FRAME_SIZE_ERROR, "RST_STREAM of another size")
        stream = self._streams.get(stream_id)
        if stream is None:
            self._is_late(stream_id)
            self._count_empty()
            return
        self._forget(stream)
        self._closed.append(stream_id)
        assert stream.user is not None, "it was given its user when it was opened"
        stream.user.on_reset()
        self._count_reset()

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFailure(H2Error.FRAME_SIZE_ERROR, "WINDOW_UPDATE of another size")
        self._count_empty()
        increment = U32.unpack(payload)[0] & 0x7FFFFFFF
        if stream_id == 0:
            self._sender.window += increment
            if not increment:
                raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            if self._sender.window > WINDOW_MAX:
                raise ConnectionFailure(H2Error.FLOW_CONTROL_ERROR, "a window that is too large")
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            self._is_late(stream_id)
            return
        if not increment:
            raise StreamFailure(stream_id, H2Error.PROTOCOL_ERROR)
        stream.send_window += increment
        if stream.send_window > WINDOW_MAX:
            raise StreamFailure(stream_id, H2Error.FLOW_CONTROL_ERROR)

    # --- frames of the connection

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise ConnectionFailure(
                    H2Error.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with values"
                )
            return
        if len(payload) % frames.SETTING.size:
            raise ConnectionFailure(H2Error.FRAME_SIZE_ERROR, "SETTINGS of another size")
        for name, value in frames.SETTING.iter_unpack(payload):
            check_setting(name, value)
            if name == frames.INITIAL_WINDOW_SIZE:
                self._set_initial_window(value)
        self._sender.put(frames.SETTINGS_ACK)

    def _set_initial_window(self, value: int) -> None:
        change = value - self._initial_send_window
        self._initial_send_window = value
        for stream in self._streams.values():
            stream.send_window += change
            if stream.send_window > WINDOW_MAX:
                raise ConnectionFailure(H2Error.FLOW_CONTROL_ERROR, "a window that is too large")

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ConnectionFailure(H2Error.FRAME_SIZE_ERROR, "PING of another size")
        if not flags & frames.ACK:
            self._sender.put(frames.ping_ack(payload))
        elif payload == DRAIN_PING:
            self.end_draining()

    # --- ends

    def _fail(self, failure: ConnectionFailure) -> None:
        self._sender.put(frames.goaway_frame(self._last_id, failure.code, str(failure)))
        self._user.on_failure(failure.code.name.lower().replace("_", "-"), str(failure))
        self.lost()

    def _fail_stream(self, stream_id: int, code: H2Error) -> None:
        """End a stream for what the client sent on it."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._abort(stream, code)
        else:
            self._last_id = max(self._last_id, stream_id)
            self._reset_here.append(stream_id)
            self._sender.put(frames.reset_frame(stream_id, code))
        self._count_reset_here()

    def _count_reset_here(self) -> None:
        if self._resets.add() and not self.is_over:
            self._fail(ConnectionFailure(H2Error.ENHANCE_YOUR_CALM, "too many requests that must be ended"))

    def _abort(self, stream: H2Stream, code: H2Error) -> None:
        self.reset(stream, code)
        if stream.user is not None:
            stream.user.on_reset()

    def _ended(self, stream: H2Stream) -> None:
        """The response is sent. A client that still sends its request is asked to stop."""
        self._forget(stream)
        if stream.client_ended:
            self._closed.append(stream.id)
            self._resets.relieve(1)
        else:
            self._reset_here.append(stream.id)
            self._sender.put(frames.reset_frame(stream.id, H2Error.NO_ERROR))
            self._count_reset_here()

    def _forget(self, stream: H2Stream) -> None:
        stream.is_closed = True
        stream.pending.clear()
        stream.pending_bytes = 0
        self._streams.pop(stream.id, None)
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._last_allowed != GOAWAY_ALL and not self._streams:
            self.is_over = True
