"""The server's end of the sync process.

Owns: starting `sync_process.py`, its sockets, requests under way and their answers. Refuses: to open files or
to decide what is synced (`real_disk.py` does), and to run without an event loop.

When the process dies, every request under way fails: whether its sync happened is not known, and asking again
could get a false "good" (the kernel reports a write error once). A new process is started for the next
request, unless the one that died had not answered anything: then the requests fail until the server is
started again.
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

__all__ = ["BACKGROUND", "COMMIT", "JOURNAL", "READ", "Codes", "Descriptors", "SyncClient"]

Descriptors: TypeAlias = tuple[list[int], int, list[int]]
"""All descriptors of a request, how many of them are files, those to close after sending."""
Codes: TypeAlias = list[int]
"""One errno a descriptor; 0 is good."""

_SOCKET_TYPE = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM
_NO_DESCRIPTORS: list[int] = [-1]
_IN_FLIGHT_MAX = (
    16  # a lane's requests in the socket at once; the others wait here, where they cost no descriptor
)


class _SyncRequest:
    __slots__ = ("arguments", "descriptors", "later", "operation")

    def __init__(
        self,
        operation: int,
        descriptors: Callable[[], Descriptors],
        arguments: tuple[int, int],
    ) -> None:
        self.operation = operation
        self.descriptors = descriptors
        self.arguments = arguments
        self.later: Promise[Codes] = Promise()


class _ClientChannel:
    def __init__(self, end: socket.socket, process: subprocess.Popen[bytes], *, keeps: bool) -> None:
        self.socket = end
        self.process = process
        self.keeps = keeps
        self.waiting: deque[_SyncRequest] = deque()
        self.under_way: dict[int, _SyncRequest] = {}
        self.received = bytearray()
        self.kept = _NO_DESCRIPTORS
        """Those of our descriptors that the process `keeps` from the last request."""
        self.since = 0.0
        """When the first request went after it had none, or when it last answered: the loop's time."""


class SyncClient:
    """Requests to the sync process. Used from the event loop's thread alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make_room: Callable[[], None]) -> None:
        """`make_room` is called before the process is started, which takes 12 descriptors for a moment."""
        self._loop = loop
        self._free_descriptors = make_room
        self._process: subprocess.Popen[bytes] | None = None
        self._channels: list[_ClientChannel] = []
        self._next_id = 0
        self._has_replied = True
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process else None

    def submit(
        self,
        lane: int,
        operation: int,
        descriptors: Callable[[], Descriptors],
        arguments: tuple[int, int] = (0, 0),
    ) -> Promise[Codes]:
        """Queue a request. `descriptors` is called when it is sent. Fails with OSError."""
        request = _SyncRequest(operation, descriptors, arguments)
        if self._closed:
            request.later.fail(OSError(errno.ESHUTDOWN, "the disk is closed"))
            return request.later
        if self._process is None:
            if not self._has_replied:
                request.later.fail(OSError(errno.EIO, "the sync process died twice in a row"))
                return request.later
            try:
                self._start()
            except OSError as error:
                request.later.fail(error)
                return request.later
        self._channels[lane].waiting.append(request)
        self._send(self._channels[lane])
        return request.later

    def on_descriptor_closed(self, descriptor: int) -> None:
        """It is about to be closed: the process shall not keep it open."""
        if self._channels and self._channels[JOURNAL].kept == [descriptor]:
            self._channels[JOURNAL].kept = _NO_DESCRIPTORS
            self.submit(JOURNAL, sync_process.SYNC, lambda: ([], 0, []))

    def stalled_s(self, lane: int) -> float:
        """Seconds without an answer on this lane while one is owed; else 0."""
        if not self._channels or not self._channels[lane].under_way:
            return 0.0
        return self._loop.time() - self._channels[lane].since

    def start(self) -> None:
        """Start the process now rather than at the first request. Raises OSError."""
        if self._process is None and not self._closed:
            self._start()

    def _start(self) -> None:
        self._free_descriptors()
        pairs = [socket.socketpair(socket.AF_UNIX, _SOCKET_TYPE) for _ in sync_process.CHANNEL_THREADS]
        theirs = [pair[1].fileno() for pair in pairs]
        # By path, isolated and without site-packages: the interpreter and this one file, 15 ms.
        command = [sys.executable, "-I", "-S", sync_process.__file__, *map(str, theirs)]
        try:
            self._process = subprocess.Popen(command, pass_fds=theirs, stdin=subprocess.DEVNULL, cwd="/")
        finally:
            for pair in pairs:
                pair[1].close()
                if self._process is None:
                    pair[0].close()
        self._has_replied = False
        self._channels = [
            _ClientChannel(pair[0], self._process, keeps=lane == JOURNAL) for lane, pair in enumerate(pairs)
        ]
        for lane in self._channels:
            lane.socket.setblocking(False)
            self._loop.add_reader(lane.socket, self._on_readable, lane)

    def _send(self, lane: _ClientChannel) -> None:
        while lane.waiting and len(lane.under_way) < _IN_FLIGHT_MAX:
            request = lane.waiting.popleft()
            try:
                descriptors, files, ours = request.descriptors()
            except OSError as error:
                request.later.fail(error)
                continue
            self._next_id = (self._next_id + 1) & 0xFFFFFFFF
            again = lane.keeps and descriptors == lane.kept
            operation = sync_process.SYNC_AGAIN if again else request.operation
            counts = (files, len(descriptors) - files)
            message = sync_process.REQUEST.pack(self._next_id, operation, *counts, *request.arguments)
            try:
                if again:
                    lane.socket.send(message)
                else:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                    lane.socket.sendmsg([message], rights)
                    if lane.keeps:
                        lane.kept = descriptors
            except BlockingIOError:
                lane.waiting.appendleft(request)
                if not lane.under_way:
                    self._loop.call_later(0.001, self._send, lane)
                return
            except OSError as error:
                if not isinstance(error, ConnectionError):
                    request.later.fail(error)
                    continue
                lane.waiting.appendleft(request)
                self._loop.call_soon(self._on_process_died, lane.process)
                return
            finally:
                for descriptor in ours:
                    os.close(descriptor)
            if not lane.under_way:
                lane.since = self._loop.time()
            lane.under_way[self._next_id] = request

    def _on_readable(self, lane: _ClientChannel) -> None:
        try:
            data = lane.socket.recv(1 << 12)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._on_process_died(lane.process)
            return
        self._has_replied = True
        lane.since = self._loop.time()
        lane.received += data
        answers = []
        at = 0
        while len(lane.received) - at >= sync_process.REPLY.size:
            request_id, count = sync_process.REPLY.unpack_from(lane.received, at)
            end = at + sync_process.REPLY.size + 4 * count
            if len(lane.received) < end:
                break
            verdicts = list(struct.unpack_from(f"={count}i", lane.received, at + sync_process.REPLY.size))
            answers.append((lane.under_way.pop(request_id), verdicts))
            at = end
        del lane.received[:at]
        self._send(lane)
        for request, verdicts in answers:
            self._finish(request, verdicts)

    def _finish(self, request: _SyncRequest, verdicts: list[int]) -> None:
        try:
            request.later.resolve(verdicts)
        except Exception as error:  # a caller's callback: the other answers must still be given
            self._loop.call_exception_handler({"message": "after a sync", "exception": error})

    def _on_process_died(self, process: subprocess.Popen[bytes]) -> None:
        if process is not self._process:  # it was told before; there may be a new one by now
            return
        lanes = self._channels
        self._stop_process(kill=True)
        lost = [request for lane in lanes for request in (*lane.under_way.values(), *lane.waiting)]
        for request in lost:
            try:
                request.later.fail(OSError(errno.EIO, "the sync process died"))
            except Exception as error:
                self._loop.call_exception_handler({"message": "after a failed sync", "exception": error})

    def _stop_process(self, *, kill: bool) -> None:
        for lane in self._channels:
            if not self._loop.is_closed():
                self._loop.remove_reader(lane.socket)
            lane.socket.close()
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
        """End the process; what is under way fails."""
        self._closed = True
        lanes = self._channels
        self._stop_process(kill=False)
        for lane in lanes:
            for request in (*lane.under_way.values(), *lane.waiting):
                request.later.fail(OSError(errno.ESHUTDOWN, "the disk is closed"))
