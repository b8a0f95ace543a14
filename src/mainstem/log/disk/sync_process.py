"""The sync process: waits for the disk so that the event loop never does.

Owns: a process of its own, started by `sync_client.py`, that gets file descriptors over unix sockets and
calls fdatasync, fsync, pread and pwrite on them. Refuses: paths, policy, anything but the standard library
(it must start in milliseconds) and to be forked from the server. A thread of the server would starve behind a
busy loop for the interpreter lock (STORAGE: 80 commits a second against 5,350); a process does not.

Four lanes, each a socket with its own threads: journal, other commits, checkpoints, reads. The thread that
receives a request does it and answers it, so that no hand-over stands in the way. The journal, which has one
group under way at a time, has one thread, which keeps the file of the last request open for the next one:
passing a descriptor and closing it again costs more than asking. The process ends when the server's
ends of the sockets close, whatever killed the server; it ignores the signals that a terminal or a service
manager sends to the whole group.
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
"""SYNC_AGAIN, in the journal's lane only: SYNC what the request before it brought."""
JOURNAL, COMMIT, BACKGROUND, READ = 0, 1, 2, 3
CHANNEL_THREADS = (1, 4, 8, 2)

REQUEST = struct.Struct("=IBxHHxxQQ")
"""Request id, operation, count of file descriptors, count of folder descriptors (they come after), position,
length."""
REPLY = struct.Struct("=II")
"""Request id, count of verdicts; then one errno (int32; 0 is good) a descriptor (WARM and ZERO: one in
all)."""
DESCRIPTORS_MAX = 64

_CHUNK_BYTES = 1 << 20


def full_sync(descriptor: int, folder: bool = False) -> None:
    """Wait until the device has what was written. On macOS only F_FULLFSYNC means that. Raises OSError."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:  # not offered by this file system, for instance a network share
            os.fsync(descriptor)
    elif folder:
        os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def sync_result(descriptor: int, folder: bool) -> int:
    """Sync it: the errno, 0 if it is good."""
    try:
        full_sync(descriptor, folder)
    except OSError as error:
        return error.errno or 5
    return 0


def prefetch(descriptor: int, position: int, length: int) -> None:
    """Read a range, for the page cache."""
    while length > 0:
        piece = os.pread(descriptor, min(length, _CHUNK_BYTES), position)
        if not piece:
            return
        position += len(piece)
        length -= len(piece)


def write_zeros(descriptor: int, size: int) -> None:
    """Write zeros up to `size` and sync: blocks that are written, not just allocated, sync without a metadata
    commit."""
    zeros = bytes(min(size, _CHUNK_BYTES))
    position = 0
    while position < size:
        position += os.pwrite(descriptor, zeros[: size - position], position)
    full_sync(descriptor)


def execute(operation: int, descriptors: list[int], files: int, position: int, length: int) -> list[int]:
    """Do one request: its verdicts."""
    if operation in (SYNC, SYNC_AGAIN):
        return [sync_result(descriptor, at >= files) for at, descriptor in enumerate(descriptors)]
    try:
        if operation == PREFETCH:
            prefetch(descriptors[0], position, length)
        else:
            write_zeros(descriptors[0], length)
    except OSError as error:
        return [error.errno or 5]
    return [0]


def _replace_descriptors(held: list[int], came: list[int]) -> list[int]:
    for descriptor in held:
        os.close(descriptor)
    return came


class Channel:
    """One socket and the threads that serve it. `keeps`: its one thread keeps the descriptors of a request
    until the next ones come."""

    def __init__(self, descriptor: int, *, keeps: bool) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._keeps_descriptors = keeps
        self._receiving = threading.Lock()
        self._sending = threading.Lock()

    def _receive(self) -> tuple[bytes, list[int]]:
        """One request and its descriptors; empty at the end."""
        room = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
        message, descriptors = b"", array.array("i")
        while len(message) < REQUEST.size:  # a stream socket (macOS) may split it
            piece, controls, _, _ = self._socket.recvmsg(REQUEST.size - len(message), room)
            for _level, _kind, data in controls:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            if not piece:
                return b"", []
            message += piece
        return message, list(descriptors)

    def run(self, nice: int) -> None:
        """A thread's life: take a request, do it, answer it, until the server is gone."""
        if nice and sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        held: list[int] = []
        while True:
            try:
                with self._receiving:
                    message, came = self._receive()
                if not message:
                    return
                request, operation, files, _, position, length = REQUEST.unpack(message)
                if operation != SYNC_AGAIN:
                    held = _replace_descriptors(held, came)
                verdicts = execute(operation, held, files, position, length)
                if not self._keeps_descriptors:
                    held = _replace_descriptors(held, [])
                reply = REPLY.pack(request, len(verdicts)) + struct.pack(f"={len(verdicts)}i", *verdicts)
                with self._sending:
                    self._socket.sendall(reply)
            except ConnectionError:
                return


def main(descriptors: list[int]) -> None:
    """Serve the sockets, one a lane, until they close."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threads = []
    for lane_number, descriptor in enumerate(descriptors):
        lane = Channel(descriptor, keeps=lane_number == JOURNAL)
        for _ in range(CHANNEL_THREADS[lane_number]):
            nice = 5 if lane_number == BACKGROUND else 0
            threads.append(threading.Thread(target=lane.run, args=(nice,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
