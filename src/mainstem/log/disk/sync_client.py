"""The server's end of the sync process.

Owns: starting `helper.py`, its sockets, requests under way and their answers. Refuses: to open files or
to decide what is synced (`disk.py` does), and to run without an event loop.

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
from mainstem.promise import Later

__all__ = ["BACKGROUND", "COMMIT", "JOURNAL", "READ", "Codes", "Descriptors", "SyncClient"]

Descriptors: TypeAlias = tuple[list[int], int, list[int]]
"""All descriptors of a request, how many of them are files, those to close after sending."""
Codes: TypeAlias = list[int]
"""One errno a descriptor; 0 is good."""

_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM
_NOTHING: list[int] = [-1]
_UNDER_WAY_MAX = (
    16  # a lane's requests in the socket at once; the others wait here, where they cost no descriptor
)


class _Request:
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
        self.later: Later[Codes] = Later()


class _Lane:
    def __init__(self, end: socket.socket, process: subprocess.Popen[bytes], *, keeps: bool) -> None:
        self.socket = end
        self.process = process
        self.keeps = keeps
        self.waiting: deque[_Request] = deque()
        self.under_way: dict[int, _Request] = {}
        self.received = bytearray()
        self.kept = _NOTHING
        """Those of our descriptors that the process `keeps` from the last request."""
        self.since = 0.0
        """When the first request went after it had none, or when it last answered: the loop's time."""


class SyncClient:
    """Requests to the sync process. Used from the event loop's thread alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make_room: Callable[[], None]) -> None:
        """`make_room` is called before the process is started, which takes 12 descriptors for a moment."""
        self._loop = loop
        self._make_room = make_room
        self._process: subprocess.Popen[bytes] | None = None
        self._lanes: list[_Lane] = []
        self._next_id = 0
        self._answered = True
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
    ) -> Later[Codes]:
        """Queue a request. `descriptors` is called when it is sent. Fails with OSError."""
        request = _Request(operation, descriptors, arguments)
        if self._closed:
            request.later.fail(OSError(errno.ESHUTDOWN, "the disk is closed"))
            return request.later
        if self._process is None:
            if not self._answered:
                request.later.fail(OSError(errno.EIO, "the sync process died twice in a row"))
                return request.later
            try:
                self._start()
            except OSError as error:
                request.later.fail(error)
                return request.later
        self._lanes[lane].waiting.append(request)
        self._send(self._lanes[lane])
        return request.later

    def let_go(self, descriptor: int) -> None:
        """It is about to be closed: the process shall not keep it open."""
        if self._lanes and self._lanes[JOURNAL].kept == [descriptor]:
            self._lanes[JOURNAL].kept = _NOTHING
            self.submit(JOURNAL, sync_process.SYNC, lambda: ([], 0, []))

    def silent_s(self, lane: int) -> float:
        """Seconds without an answer on this lane while one is owed; else 0."""
        if not self._lanes or not self._lanes[lane].under_way:
            return 0.0
        return self._loop.time() - self._lanes[lane].since

    def start(self) -> None:
        """Start the process now rather than at the first request. Raises OSError."""
        if self._process is None and not self._closed:
            self._start()

    def _start(self) -> None:
        self._make_room()
        pairs = [socket.socketpair(socket.AF_UNIX, _KIND) for _ in sync_process.LANE_THREADS]
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
        self._answered = False
        self._lanes = [
            _Lane(pair[0], self._process, keeps=lane == JOURNAL) for lane, pair in enumerate(pairs)
        ]
        for lane in self._lanes:
            lane.socket.setblocking(False)
            self._loop.add_reader(lane.socket, self._readable, lane)

    def _send(self, lane: _Lane) -> None:
        while lane.waiting and len(lane.under_way) < _UNDER_WAY_MAX:
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
                self._loop.call_soon(self._died, lane.process)
                return
            finally:
                for descriptor in ours:
                    os.close(descriptor)
            if not lane.under_way:
                lane.since = self._loop.time()
            lane.under_way[self._next_id] = request

    def _readable(self, lane: _Lane) -> None:
        try:
            data = lane.socket.recv(1 << 12)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._died(lane.process)
            return
        self._answered = True
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

    def _finish(self, request: _Request, verdicts: list[int]) -> None:
        try:
            request.later.resolve(verdicts)
        except Exception as error:  # a caller's callback: the other answers must still be given
            self._loop.call_exception_handler({"message": "after a sync", "exception": error})

    def _died(self, process: subprocess.Popen[bytes]) -> None:
        if process is not self._process:  # it was told before; there may be a new one by now
            return
        lanes = self._lanes
        self._shut(kill=True)
        lost = [request for lane in lanes for request in (*lane.under_way.values(), *lane.waiting)]
        for request in lost:
            try:
                request.later.fail(OSError(errno.EIO, "the sync process died"))
            except Exception as error:
                self._loop.call_exception_handler({"message": "after a failed sync", "exception": error})

    def _shut(self, *, kill: bool) -> None:
        for lane in self._lanes:
            if not self._loop.is_closed():
                self._loop.remove_reader(lane.socket)
            lane.socket.close()
        self._lanes = []
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
        lanes = self._lanes
        self._shut(kill=False)
        for lane in lanes:
            for request in (*lane.under_way.values(), *lane.waiting):
                request.later.fail(OSError(errno.ESHUTDOWN, "the disk is closed"))
