"""The server's end of the sync process.

Owns: starting `sync_process.py`, its sockets, the requests in flight and their replies. Refuses: to open
files, to decide what is synced (`real_disk.py` does both), and to run without an event loop.

When the process dies, every request in flight fails: it is not known whether its sync happened, and a second
sync could falsely succeed (the kernel reports a write error once). A new process is started for the next
request. If the one that died had not replied to anything, requests fail for a second before that, so that a
process that cannot run does not cost all of the processor.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from mainstem.log.disk import sync_process
from mainstem.log.disk.sync_process import BACKGROUND, COMMIT, JOURNAL, READ
from mainstem.promise import Promise

__all__ = ["BACKGROUND", "COMMIT", "JOURNAL", "READ", "Descriptors", "Errnos", "SyncClient"]

Descriptors: TypeAlias = tuple[list[int], int, list[int]]
"""All descriptors of a request; how many of them are files; those to close after sending."""
Errnos: TypeAlias = list[int]
"""One for each descriptor; 0 means success."""

_SOCKET_TYPE = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM
_NO_DESCRIPTORS: list[int] = [-1]
RESTART_WAIT_S = 1.0
"""After the death of a process that had not replied to anything."""
_IN_FLIGHT_MAX = 16
"""Requests of one channel in the socket at a time. Others are queued here, where they need no descriptor."""


class _DiskRequest:
    __slots__ = ("arguments", "descriptors", "operation", "promise")

    def __init__(
        self,
        operation: int,
        descriptors: Callable[[], Descriptors],
        arguments: tuple[int, int],
    ) -> None:
        self.operation = operation
        self.descriptors = descriptors
        self.arguments = arguments
        self.promise: Promise[Errnos] = Promise()


class _ClientChannel:
    """The server's end of one channel."""

    def __init__(
        self, end: socket.socket, process: subprocess.Popen[bytes], *, keeps_descriptors: bool
    ) -> None:
        self.socket = end
        self.process = process
        self.keeps_descriptors = keeps_descriptors
        self.kept_descriptors = _NO_DESCRIPTORS
        """The server's descriptors of the last request, which the process keeps open."""
        self.queued: deque[_DiskRequest] = deque()
        self.in_flight: dict[int, _DiskRequest] = {}
        self.received = bytearray()
        self.busy_since_s = 0.0
        """Loop time of the last reply, or of the first request that was sent while none was in flight."""


class SyncClient:
    """Sends requests to the sync process. Used only from the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, free_descriptors: Callable[[], None]) -> None:
        """`free_descriptors` is called before the process is started, which needs 12 descriptors for a
        moment."""
        self._loop = loop
        self._free_descriptors = free_descriptors
        self._process: subprocess.Popen[bytes] | None = None
        self._channels: list[_ClientChannel] = []
        self._next_id = 0
        self._has_replied = True
        """Whether the process that was started last has replied to any request."""
        self._restart_at_s = 0.0
        """Loop time before which no process is started."""
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the running sync process."""
        return self._process.pid if self._process else None

    def submit(
        self,
        channel: int,
        operation: int,
        descriptors: Callable[[], Descriptors],
        arguments: tuple[int, int] = (0, 0),
    ) -> Promise[Errnos]:
        """Queue a request. `descriptors` is called when it is sent; `arguments` are position and length.
        Fails with OSError."""
        request = _DiskRequest(operation, descriptors, arguments)
        if self._closed:
            request.promise.fail(OSError(errno.ESHUTDOWN, "the disk is closed"))
            return request.promise
        if self._process is None:
            if self._loop.time() < self._restart_at_s:
                request.promise.fail(OSError(errno.EIO, "the sync process died before its first reply"))
                return request.promise
            try:
                self._start()
            except OSError as error:
                request.promise.fail(error)
                return request.promise
        self._channels[channel].queued.append(request)
        self._send(self._channels[channel])
        return request.promise

    def on_descriptor_closed(self, descriptor: int) -> None:
        """Called before the server closes this descriptor: the sync process must not keep its copy open."""
        if self._channels and self._channels[JOURNAL].kept_descriptors == [descriptor]:
            self._channels[JOURNAL].kept_descriptors = _NO_DESCRIPTORS
            self.submit(JOURNAL, sync_process.SYNC, lambda: ([], 0, []))

    def stalled_s(self, channel: int) -> float:
        """Seconds without a reply on this channel while a request is in flight; otherwise 0."""
        if not self._channels or not self._channels[channel].in_flight:
            return 0.0
        return self._loop.time() - self._channels[channel].busy_since_s

    def start(self) -> None:
        """Start the sync process now rather than at the first request. OSError."""
        if self._process is None and not self._closed:
            self._start()

    def _start(self) -> None:
        self._free_descriptors()
        pairs = [socket.socketpair(socket.AF_UNIX, _SOCKET_TYPE) for _ in sync_process.CHANNEL_THREADS]
        their_ends = [pair[1].fileno() for pair in pairs]
        # By path, isolated and without site-packages: the interpreter and this one file start in 15 ms.
        command = [sys.executable, "-I", "-S", sync_process.__file__, *map(str, their_ends)]
        try:
            self._process = subprocess.Popen(command, pass_fds=their_ends, stdin=subprocess.DEVNULL, cwd="/")
        finally:
            for pair in pairs:
                pair[1].close()
                if self._process is None:
                    pair[0].close()
        self._has_replied = False
        self._channels = [
            _ClientChannel(pair[0], self._process, keeps_descriptors=number == JOURNAL)
            for number, pair in enumerate(pairs)
        ]
        for channel in self._channels:
            channel.socket.setblocking(False)
            self._loop.add_reader(channel.socket, self._on_readable, channel)

    def _send(self, channel: _ClientChannel) -> None:
        while channel.queued and len(channel.in_flight) < _IN_FLIGHT_MAX:
            request = channel.queued.popleft()
            try:
                descriptors, files, to_close = request.descriptors()
            except OSError as error:
                request.promise.fail(error)
                continue
            assert len(descriptors) <= sync_process.DESCRIPTORS_MAX, "the process would lose descriptors"
            self._next_id = (self._next_id + 1) & 0xFFFFFFFF
            is_repeated = channel.keeps_descriptors and descriptors == channel.kept_descriptors
            operation = sync_process.SYNC_AGAIN if is_repeated else request.operation
            counts = (files, len(descriptors) - files)
            message = sync_process.REQUEST.pack(self._next_id, operation, *counts, *request.arguments)
            try:
                if is_repeated:
                    channel.socket.send(message)
                else:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                    channel.socket.sendmsg([message], rights)
                    if channel.keeps_descriptors:
                        channel.kept_descriptors = descriptors
            except BlockingIOError:
                channel.queued.appendleft(request)
                if not channel.in_flight:
                    self._loop.call_later(0.001, self._send, channel)
                return
            except OSError as error:
                if not isinstance(error, ConnectionError):
                    request.promise.fail(error)
                    continue
                channel.queued.appendleft(request)
                self._loop.call_soon(self._on_process_died, channel.process)
                return
            finally:
                for descriptor in to_close:
                    os.close(descriptor)
            if not channel.in_flight:
                channel.busy_since_s = self._loop.time()
            channel.in_flight[self._next_id] = request

    def _on_readable(self, channel: _ClientChannel) -> None:
        try:
            data = channel.socket.recv(1 << 12)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._on_process_died(channel.process)
            return
        self._has_replied = True
        channel.busy_since_s = self._loop.time()
        channel.received += data
        replies = []
        start = 0
        while len(channel.received) - start >= sync_process.REPLY.size:
            request_id, count = sync_process.REPLY.unpack_from(channel.received, start)
            body = start + sync_process.REPLY.size
            end = body + 4 * count
            if len(channel.received) < end:
                break
            errnos = list(struct.unpack_from(f"={count}i", channel.received, body))
            replies.append((channel.in_flight.pop(request_id), errnos))
            start = end
        del channel.received[:start]
        self._send(channel)
        for request, errnos in replies:
            self._complete(request, errnos)

    def _complete(self, request: _DiskRequest, errnos: Errnos) -> None:
        try:
            request.promise.resolve(errnos)
        except Exception as error:  # raised by a caller's callback; the other replies must still be passed on
            self._loop.call_exception_handler({"message": "after a sync", "exception": error})

    def _on_process_died(self, process: subprocess.Popen[bytes]) -> None:
        if process is not self._process:  # reported before; a new process may run by now
            return
        channels = self._channels
        self._stop_process(kill=True)
        if not self._has_replied:
            self._restart_at_s = self._loop.time() + RESTART_WAIT_S
        lost = [request for channel in channels for request in (*channel.in_flight.values(), *channel.queued)]
        for request in lost:
            try:
                request.promise.fail(OSError(errno.EIO, "the sync process died"))
            except Exception as error:
                self._loop.call_exception_handler({"message": "after a failed sync", "exception": error})

    def _stop_process(self, *, kill: bool) -> None:
        for channel in self._channels:
            if not self._loop.is_closed():
                self._loop.remove_reader(channel.socket)
            channel.socket.close()
        self._channels = []
        process, self._process = self._process, None
        if process is not None:
            if kill:
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
                return
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop the sync process. Requests in flight fail."""
        self._closed = True
        channels = self._channels
        self._stop_process(kill=False)
        for channel in channels:
            for request in (*channel.in_flight.values(), *channel.queued):
                request.promise.fail(OSError(errno.ESHUTDOWN, "the disk is closed"))
