"""The limits of the machine itself, measured without a server."""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

from bench.clients.program import payload

APPEND = "append 1 KB + fdatasync, growing file"
OVERWRITE = "overwrite 4 KB + fdatasync, file written before"
COPY = "memory copy"
SENDFILE = "sendfile over loopback"
Limits = dict[str, tuple[float, str]]


def limits(count: int = 1000) -> Limits:
    """Measure the limits: name -> (value, unit). The two writes are medians of `count`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        descriptor = os.open(Path(folder) / "raw", os.O_RDWR | os.O_CREAT)
        try:
            appended, overwritten = _synced(descriptor, count)
        finally:
            os.close(descriptor)
        sent = _sent(Path(folder) / "sent", 512 << 20)
    return {
        APPEND: (appended, "ms"),
        OVERWRITE: (overwritten, "ms"),
        COPY: (_copied(256 << 20), "MB/s"),
        SENDFILE: (sent, "MB/s"),
    }


def _synced(descriptor: int, count: int) -> tuple[float, float]:
    def write_and_sync(data: bytes, position: int) -> float:
        began = time.perf_counter()
        os.pwrite(descriptor, data, position)
        os.fdatasync(descriptor)
        return (time.perf_counter() - began) * 1000

    grown = [write_and_sync(payload(1024), number * 1024) for number in range(count)]
    os.pwrite(descriptor, bytes(4096 * count), 0)
    os.fsync(descriptor)
    again = [write_and_sync(payload(4096), number * 4096) for number in range(count)]
    return statistics.median(grown), statistics.median(again)


def _copied(size: int) -> float:
    source, target = bytes(size), bytearray(size)
    target[:] = source
    began = time.perf_counter()
    target[:] = source
    return size / 1e6 / (time.perf_counter() - began)


def _sent(path: Path, size: int) -> float:
    path.write_bytes(bytes(size))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drain() -> None:
            with listener.accept()[0] as connection:
                buffer = bytearray(1 << 20)
                while connection.recv_into(buffer):
                    pass

        reader = threading.Thread(target=drain)
        reader.start()
        with socket.create_connection(listener.getsockname()) as out, open(path, "rb") as file:
            began = time.perf_counter()
            out.sendfile(file)
            out.shutdown(socket.SHUT_WR)
            reader.join()
    return size / 1e6 / (time.perf_counter() - began)
