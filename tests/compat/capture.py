"""Records the requests that real clients send, as vectors for the tests of the Kafka door.

    .venv/bin/python -m tests.compat.capture [CLIENT…]      # after `make deps-all`; no name: all clients

Each client's suite (suites.py) runs against a fresh server through a proxy, whose address the server
advertises. One request frame for each client, API key and version is added to
tests/doors/kafka/captures.json. A frame that the file already has stays as it is, so that a new run adds only
what is new; remove the file to begin anew.

Owns: the proxy and the choice of the frames. Refuses: frames of more than 4 KB.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from tests.compat import suites
from tests.support.server import Server

TARGET = suites.ROOT / "tests" / "doors" / "kafka" / "captures.json"
CLIENTS = tuple(name for name in suites.SUITES if name != "java_dump_log")
"""The suites that connect to a server; the dump tool only reads files."""
FRAME_BYTES_MAX = 4096
FRAME_BYTES_USUAL = 256
"""The longest frame of at most this size is taken, because it has the most in it; else the shortest."""
LENGTH_BYTES = 4

Capture: TypeAlias = tuple[str, int, int]
"""Client, API key, version."""


class RecordingProxy:
    """Passes on the bytes of each connection, both ways, and keeps the small request frames."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = ("", 0)
        self.frames: list[bytes] = []
        """With their lengths."""

    @property
    def address(self) -> str:
        return "{}:{}".format(*self.listener.getsockname())

    async def serve_connection(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Until both sides are closed."""
        server, to_server = await asyncio.open_connection(*self.target)
        await asyncio.gather(
            self._pass_requests(client, to_server), _pass_bytes(server, to_client), return_exceptions=True
        )

    async def _pass_requests(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = await client.readexactly(LENGTH_BYTES)
                frame = length + await client.readexactly(int.from_bytes(length, "big"))
                if len(frame) <= FRAME_BYTES_MAX:
                    self.frames.append(frame)
                to_server.write(frame)
                await to_server.drain()
        finally:
            to_server.close()


async def _pass_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def record(client: str) -> list[bytes]:
    """The request frames of one client's suite."""
    proxy = RecordingProxy()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", advertise=proxy.address)
        async with await asyncio.start_server(proxy.serve_connection, sock=proxy.listener):
            await asyncio.to_thread(server.start)
            proxy.target = (server.host, server.port)
            try:
                result = await asyncio.to_thread(suites.run, client, proxy.address)
            finally:
                await asyncio.to_thread(server.stop)  # which ends the connections of the proxy
    print(f"{client}: {len(result.passed)} cases pass, {len(proxy.frames)} frames")
    for case, reason in result.failed.items():
        print(f"  FAIL {case}: {reason}")
    return proxy.frames


def _preference(frame: bytes) -> tuple[bool, int, bytes]:
    usual = len(frame) <= FRAME_BYTES_USUAL
    return (usual, len(frame) if usual else -len(frame), frame)


def choose(client: str, frames: Iterable[bytes]) -> dict[Capture, bytes]:
    """One frame for each API key and version."""
    chosen: dict[Capture, bytes] = {}
    for frame in frames:
        row = (client, int.from_bytes(frame[4:6], "big"), int.from_bytes(frame[6:8], "big"))
        chosen[row] = max(frame, chosen.get(row, frame), key=_preference)
    return chosen


def load() -> dict[Capture, bytes]:
    """The captures of the file."""
    rows = json.loads(TARGET.read_text()) if TARGET.exists() else []
    return {(client, key, version): bytes.fromhex(data) for client, key, version, data in rows}


def save(captures: dict[Capture, bytes]) -> None:
    """Write the file, a line for each capture, sorted."""
    lines = [json.dumps([*row, frame.hex()]) for row, frame in sorted(captures.items())]
    TARGET.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def main() -> None:
    """Record the clients that are named, or all."""
    for client in sys.argv[1:] or CLIENTS:
        if missing := suites.SUITES[client].missing():
            sys.exit(f"{client} needs {missing}")
        captures = choose(client, asyncio.run(record(client))) | load()
        save(captures)
    print(f"{TARGET}: {len(load())} captures, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
