"""The sync process: waits for the disk so that the event loop never does.

Owns: a process of its own, started by `sync_client.py`, that receives file descriptors over unix sockets and
calls fdatasync, fsync, pread and pwrite on them. Refuses: paths, policy, anything but the standard library
(it must start in milliseconds), and to be forked from the server. A thread of the server would starve behind
a busy loop for the interpreter lock (STORAGE: 80 commits a second against 5,350); a process does not.

There are four channels, each a socket with its own threads: journal, other commits, checkpoints, reads. The
thread that receives a request also executes it and replies, so no time is lost in a hand-over. The journal
has one group in flight at a time, so its channel has one thread, which keeps the file of the last request
open for the next one: passing a descriptor and closing it again costs more than the request itself. The
process ends when the server's ends of the sockets close, whatever killed the server; it ignores the signals
that a terminal or a service manager sends to the whole process group.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import struct
import sys
import threading

SYNC, PREFETCH, ZERO, SYNC_AGAIN = 1, 2, 3, 4
"""Operations. SYNC_AGAIN, on the journal's channel only, means SYNC with the descriptors of the previous
request."""
JOURNAL, COMMIT, BACKGROUND, READ = 0, 1, 2, 3
"""Channels."""
CHANNEL_THREADS = (1, 4, 8, 2)

REQUEST = struct.Struct("=IBxHHxxQQ")
"""Request id, operation, count of file descriptors, count of folder descriptors (they come after the files'),
position, length."""
REPLY = struct.Struct("=II")
"""Request id, count of results. The results follow: one errno (int32; 0 means success) for each descriptor;
for PREFETCH and ZERO a single one."""
DESCRIPTORS_MAX = 64
"""Of one request."""

_CHUNK_BYTES = 1 << 20


def full_sync(descriptor: int, folder: bool = False) -> None:
    """Block until the device has stored what was written. On macOS only F_FULLFSYNC does that. Raises
    OSError."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:  # not supported by this file system, for instance a network share
            os.fsync(descriptor)
    elif folder:
        os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def sync_result(descriptor: int, folder: bool) -> int:
    """Sync a file or folder: the errno, 0 if it succeeded."""
    try:
        full_sync(descriptor, folder)
    except OSError as error:
        return error.errno or 5
    return 0


def prefetch(descriptor: int, position: int, length: int) -> None:
    """Read a range of a file, so that it is in the page cache for the server."""
    while length > 0:
        chunk = os.pread(descriptor, min(length, _CHUNK_BYTES), position)
        if not chunk:
            return
        position += len(chunk)
        length -= len(chunk)


def write_zeros(descriptor: int, size: int) -> None:
    """Write zeros up to `size` and sync. Blocks that are written, not just allocated, are later synced
    without a metadata commit."""
    zeros = bytes(min(size, _CHUNK_BYTES))
    position = 0
    while position < size:
        position += os.pwrite(descriptor, zeros[: size - position], position)
    full_sync(descriptor)


def execute(operation: int, descriptors: list[int], files: int, position: int, length: int) -> list[int]:
    """Execute one request. `files`: how many of the descriptors are files. Returns the results."""
    if operation in (SYNC, SYNC_AGAIN):
        return [sync_result(descriptor, i >= files) for i, descriptor in enumerate(descriptors)]
    try:
        if operation == PREFETCH:
            prefetch(descriptors[0], position, length)
        else:
            write_zeros(descriptors[0], length)
    except OSError as error:
        return [error.errno or 5]
    return [0]


def _replace_descriptors(old: list[int], new: list[int]) -> list[int]:
    for descriptor in old:
        os.close(descriptor)
    return new


class Channel:
    """One socket and the threads that serve it. With `keeps_descriptors`, its only thread keeps the
    descriptors of a request until those of the next one arrive."""

    def __init__(self, descriptor: int, *, keeps_descriptors: bool) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._keeps_descriptors = keeps_descriptors
        self._receiving = threading.Lock()
        self._sending = threading.Lock()

    def _receive(self) -> tuple[bytes, list[int]]:
        """One request and its descriptors; empty when the server has closed the socket."""
        control_bytes = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
        message, descriptors = b"", array.array("i")
        while len(message) < REQUEST.size:  # a stream socket (macOS) may split it
            chunk, controls, _, _ = self._socket.recvmsg(REQUEST.size - len(message), control_bytes)
            for _level, _kind, data in controls:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            if not chunk:
                return b"", []
            message += chunk
        return message, list(descriptors)

    def run(self, nice: int) -> None:
        """Serve requests in this thread until the server is gone: receive, execute, reply. On Linux the
        thread is as much nicer than the server as `nice` says."""
        if nice and sys.platform == "linux":
            own = os.getpriority(os.PRIO_PROCESS, 0)
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(own + nice, 19))
        descriptors: list[int] = []
        while True:
            try:
                with self._receiving:
                    message, received = self._receive()
                if not message:
                    return
                request_id, operation, files, _, position, length = REQUEST.unpack(message)
                if operation != SYNC_AGAIN:
                    descriptors = _replace_descriptors(descriptors, received)
                results = execute(operation, descriptors, files, position, length)
                if not self._keeps_descriptors:
                    descriptors = _replace_descriptors(descriptors, [])
                reply = REPLY.pack(request_id, len(results)) + struct.pack(f"={len(results)}i", *results)
                with self._sending:
                    self._socket.sendall(reply)
            except ConnectionError:
                return


def main(descriptors: list[int]) -> None:
    """Run the sync process: serve these sockets, one for each channel, until the server closes them."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    threads = []
    for number, descriptor in enumerate(descriptors):
        channel = Channel(descriptor, keeps_descriptors=number == JOURNAL)
        for _ in range(CHANNEL_THREADS[number]):
            nice = 5 if number == BACKGROUND else 0
            threads.append(threading.Thread(target=channel.run, args=(nice,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
