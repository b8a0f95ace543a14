"""A small HTTP server for health checks: GET of a page, one request a connection.

Owns: the socket, and its limits. Refuses: everything but GET and HEAD, bodies, and connections that are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import h11

from mainstem.cli.subscriber_health import HealthPage

REQUEST_S_MAX = 5.0
HEAD_BYTES_MAX = 16 << 10
CONNECTIONS_MAX = 100


@asynccontextmanager
async def health_server(
    host: str, port: int, page_of: Callable[[str], Awaitable[HealthPage]]
) -> AsyncIterator[tuple[str, int]]:
    """Serve pages while the context is entered. Gives the address; port 0: any. OSError: it cannot be
    bound."""
    connections = 0

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            if connections <= CONNECTIONS_MAX:
                async with asyncio.timeout(REQUEST_S_MAX):
                    await _answer(reader, writer, page_of)
        except (TimeoutError, OSError, h11.ProtocolError):
            pass  # a client that sends nothing, goes away, or does not speak HTTP
        finally:
            connections -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(accepted, host, port, limit=HEAD_BYTES_MAX)
    try:
        bound_host, bound_port = server.sockets[0].getsockname()[:2]
        yield bound_host, bound_port
    finally:
        server.close()
        await server.wait_closed()


async def _answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    page_of: Callable[[str], Awaitable[HealthPage]],
) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(HEAD_BYTES_MAX))
    if not isinstance(event, h11.Request):
        return
    if event.method in (b"GET", b"HEAD"):
        page = await page_of(event.target.decode("ascii", "replace").partition("?")[0])
    else:
        page = HealthPage(405, "GET only\n")
    body = page.text.encode()
    headers = [
        ("content-type", "text/plain; version=0.0.4; charset=utf-8"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("connection", "close"),
    ]
    writer.write(connection.send(h11.Response(status_code=page.status, headers=headers)) or b"")
    if event.method != b"HEAD":
        writer.write(connection.send(h11.Data(data=body)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
