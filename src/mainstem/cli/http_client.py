"""Requests of a command to the HTTP door of a server, with the credentials of the command.

Owns: where those come from. Refuses: connections, which `engines/remote/http_client.py` has.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from mainstem.cli.credentials import current_security
from mainstem.engines.remote.http_client import SILENCE_TIMEOUT_S, HttpDoorClient, HttpReply

T = TypeVar("T")


def door_client(address: str, *, keeps_connections: bool = False) -> HttpDoorClient:
    """A client of the door at HOST:PORT, by TLS at https://HOST:PORT."""
    return HttpDoorClient(address, current_security(), keeps_connections=keeps_connections)


async def request_json(address: str, method: str, path: str, body: object, reply_type: type[T]) -> T:
    """See `HttpDoorClient.request_json`."""
    return await door_client(address).request_json(method, path, body, reply_type)


def send_request(
    address: str, method: str, path: str, body: object = None, *, silence_timeout_s: float = SILENCE_TIMEOUT_S
) -> AbstractAsyncContextManager[HttpReply]:
    """See `HttpDoorClient.send`."""
    return door_client(address).send(method, path, body, silence_timeout_s=silence_timeout_s)
