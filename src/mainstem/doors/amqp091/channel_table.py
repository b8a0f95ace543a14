"""The channels of a connection: which are open, and which frame is whose.

Owns: the states of channels, and the methods that open and close them (AMQP 0-9-1, 1.5). Refuses: frames of
channels that were never opened. Those of a channel that has been closed are ignored if they only settle what
it had delivered: the client may have sent them before it knew.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mainstem.amqp.errors import AmqpError
from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.connection_context import PUBLISHES_MAX
from mainstem.doors.amqp091.content import ChannelEntry, ChannelState, close_fields, unexpected_frame
from mainstem.doors.amqp091.control_methods import (
    AccessRequest,
    AccessRequestOk,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
)
from mainstem.doors.amqp091.methods import BasicAck, BasicNack, BasicPublish, BasicReject

if TYPE_CHECKING:
    from mainstem.doors.amqp091.connection_context import ChannelOwner
    from mainstem.doors.amqp091.contract import ChannelHandler, VhostConnection
    from mainstem.doors.amqp091.method import Method

log = logging.getLogger("mainstem.amqp091")

PUBLISH_START = frames.PUBLISH_ID.to_bytes(4, "big")
ACK_START = frames.ACK_ID.to_bytes(4, "big")
ACK_BYTES = 13
_ack = struct.Struct(">QB")
SETTLING = (BasicAck, BasicNack, BasicReject)


class ChannelTable:
    """The channels of one connection."""

    def __init__(self, owner: ChannelOwner, may_publish: Callable[[], bool]) -> None:
        """`may_publish`: whether a message can be stored now; if not, its frames are not taken."""
        self._owner = owner
        self._may_publish = may_publish
        self._work: VhostConnection | None = None
        self._entries: dict[int, ChannelEntry] = {}
        self._closed: set[int] = set()
        """Numbers that were open once, and are not now."""
        self._reserved_bytes = 0
        """Of the door's budget, for bodies that are not whole."""

    def __len__(self) -> int:
        return len(self._entries)

    def open(self, work: VhostConnection) -> None:
        """From now on channels can be opened."""
        self._work = work

    def handlers(self) -> Iterator[ChannelHandler]:
        """The work of the open channels."""
        return (entry.handler for entry in self._entries.values() if entry.state is ChannelState.OPEN)

    def forget(self) -> None:
        """The connection is over: its work ends the channels itself."""
        self._work = None
        self._entries.clear()
        self._release(self._reserved_bytes)

    # --- frames

    def on_frame(self, kind: int, number: int, data: bytes, start: int, end: int) -> bool:
        """Take a frame of a channel of a running connection; False: not now."""
        entry = self._entries.get(number)
        if entry is None or entry.state is not ChannelState.OPEN:
            self._on_frame_of_none(kind, number, entry, data[start:end])
            return True
        method: Method | None = entry.publish
        try:
            if kind == frames.METHOD:
                if data.startswith(PUBLISH_START, start) and not self._may_publish():
                    return False
                method = self._method(entry, data, start, end)
                if method is not None:
                    self._on_method(number, entry, method)
            elif kind == frames.HEADER:
                entry.header(data, start, end, self._owner.message_max_bytes)
            elif kind == frames.BODY:
                return self._on_body(entry, data[start:end])  # False: there is no memory
            elif kind == frames.HEARTBEAT:
                raise unexpected_frame(f"a heartbeat on channel {number}")
            else:
                raise AmqpError(501, False, f"FRAME_ERROR - type {kind}")
        except AmqpError as error:
            self._owner.fail(number, error, method)
        except Exception:
            log.exception("a channel failed: its connection is closed")
            self._owner.fail(number, AmqpError(541, False, "INTERNAL_ERROR"), method)
        return True

    def _method(self, entry: ChannelEntry, data: bytes, start: int, end: int) -> Method | None:
        """The method of a frame, if it is complete; None: its content follows, or it is damaged."""
        if entry.publish is not None:
            raise unexpected_frame(
                "expected content header for class 60, got non content header frame instead"
            )
        if data.startswith(ACK_START, start) and end - start == ACK_BYTES:
            tag, bits = _ack.unpack_from(data, start + 4)
            return BasicAck(tag, bool(bits & 1))
        payload = data[start:end]
        if data.startswith(PUBLISH_START, start):
            entry.publish = self._publish(payload)
            return None
        return self._owner.decode(payload)

    def _publish(self, payload: bytes) -> BasicPublish | None:
        known = self._owner.publishes
        publish = known.get(payload)
        if publish is None:
            method = self._owner.decode(payload)
            if not isinstance(method, BasicPublish):
                return None
            publish = method
            if len(known) >= PUBLISHES_MAX:
                known.clear()
            known[payload] = publish
        return publish

    def _on_method(self, number: int, entry: ChannelEntry, method: Method) -> None:
        if method.CLASS_ID not in (ChannelOpen.CLASS_ID, AccessRequest.CLASS_ID):
            entry.handler.on_method(method)
        elif isinstance(method, ChannelClose):
            entry.state = ChannelState.CLOSING
            self._forget_content(entry)
            self._owner.start_task(self._close(number, entry))
        elif isinstance(method, ChannelOpen):
            raise AmqpError(504, False, "CHANNEL_ERROR - second 'channel.open' seen")
        elif isinstance(method, AccessRequest):
            self._owner.send_method(number, AccessRequestOk(ticket=1))
        elif not isinstance(method, ChannelCloseOk):
            entry.handler.on_method(method)

    def _on_body(self, entry: ChannelEntry, piece: bytes) -> bool:
        if entry.missing_bytes(len(piece)) > 0:
            if not self._owner.reserve(len(piece)):
                return False
            entry.reserved_bytes += len(piece)
            self._reserved_bytes += len(piece)
        try:
            entry.body(piece)
        finally:
            if entry.reserved_bytes and entry.publish is None:
                self._release_of(entry)
        return True

    # --- channels that are not open

    def _on_frame_of_none(self, kind: int, number: int, entry: ChannelEntry | None, payload: bytes) -> None:
        method = self._owner.decode(payload) if kind == frames.METHOD else None
        if kind == frames.METHOD and method is None:
            return
        if entry is None and isinstance(method, ChannelOpen):
            self._open(number)
        elif entry is not None and entry.state is ChannelState.FAILED:
            if isinstance(method, ChannelCloseOk):
                self._remove(number)
            elif isinstance(method, ChannelClose):
                self._owner.send_method(number, ChannelCloseOk())
        elif entry is not None or number in self._closed:
            if isinstance(method, (*SETTLING, ChannelClose, ChannelCloseOk)):
                if isinstance(method, ChannelClose) and entry is None:
                    self._owner.send_method(number, ChannelCloseOk())
                return
            self._refuse(method)
        else:
            self._refuse(method)

    def _refuse(self, method: Method | None) -> None:
        self._owner.end_with_error(AmqpError(504, False, "CHANNEL_ERROR - expected 'channel.open'"), method)

    def _open(self, number: int) -> None:
        if len(self._entries) >= self._owner.channel_max:
            text = (
                f"NOT_ALLOWED - number of channels opened ({len(self._entries)}) has reached the negotiated"
                f" channel_max ({self._owner.channel_max})"
            )
            self._owner.end_with_error(AmqpError(530, False, text), None)
            return
        assert self._work is not None, "a running connection is open to a virtual host"
        try:
            handler = self._work.channel(number)
        except AmqpError as error:
            self._owner.end_with_error(error, ChannelOpen())
            return
        self._closed.discard(number)
        self._entries[number] = ChannelEntry(handler)
        self._owner.send_method(number, ChannelOpenOk())

    def _remove(self, number: int) -> None:
        self._entries.pop(number, None)
        self._closed.add(number)

    def fail(self, number: int, error: AmqpError, method: Method | None) -> None:
        """Close a channel with an error. `method`: what caused it."""
        entry = self._entries.get(number)
        if entry is None or entry.state is not ChannelState.OPEN:
            return
        entry.state = ChannelState.FAILED
        self._forget_content(entry)
        self._owner.send_method(number, ChannelClose(*close_fields(error, method)))
        self._owner.start_task(self._end(entry))

    def check_oldest(self, now: float, timeout_ms: int) -> None:
        """Close the channels whose clients have left a delivery unanswered for too long."""
        for number, entry in list(self._entries.items()):
            try:
                if entry.state is ChannelState.OPEN:
                    entry.handler.check_oldest(now, timeout_ms)
            except AmqpError as error:
                self.fail(number, error, None)

    async def _close(self, number: int, entry: ChannelEntry) -> None:
        """Answer channel.close when nothing of the channel is left."""
        await self._end(entry)
        if self._entries.get(number) is entry:
            self._remove(number)
            self._owner.send_method(number, ChannelCloseOk())

    @staticmethod
    async def _end(entry: ChannelEntry) -> None:
        try:
            await entry.handler.close()
        except Exception:
            log.exception("ending the work of a channel failed")

    # --- memory

    def _forget_content(self, entry: ChannelEntry) -> None:
        entry.forget_content()
        self._release_of(entry)

    def _release_of(self, entry: ChannelEntry) -> None:
        count, entry.reserved_bytes = entry.reserved_bytes, 0
        self._release(count)

    def _release(self, count: int) -> None:
        if count:
            self._reserved_bytes -= count
            self._owner.release_memory(count, is_all=not self._reserved_bytes)
