"""Logins by the certificate of a client, over TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.control_methods import (
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
)
from mainstem.serve.server import Running
from tests.doors.amqp091.wire_client import WireClient, with_door
from tests.support.certificates import client_context, server_files


def tls_flags(client_auth: str) -> dict[str, object]:
    files = server_files()
    return {
        "amqp091": "SSL://127.0.0.1:0",
        "tls_cert": str(files.cert),
        "tls_key": str(files.key),
        "tls_client_ca": str(files.ca),
        "tls_client_auth": client_auth,
    }


async def offered(client: WireClient) -> list[str]:
    """The mechanisms that the server offers."""
    client.writer.write(frames.PROTOCOL_HEADER)
    start = await client.expect(0, ConnectionStart)
    assert isinstance(start, ConnectionStart)
    return start.mechanisms.split()


@pytest.mark.parametrize("client_auth", ["requested", "required"])
def test_a_client_logs_in_by_its_certificate(tmp_path: Path, client_auth: str) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.connect(running, client_context("billing"))
        assert "EXTERNAL" in await offered(client)
        client.send(0, ConnectionStartOk({}, "EXTERNAL", b""))
        await client.expect(0, ConnectionTune)
        client.send(0, ConnectionTuneOk(2_047, 131_072, 0))
        client.send(0, ConnectionOpen("/"))
        await client.expect(0, ConnectionOpenOk)
        (connection,) = (await running.broker()).connections
        info = connection.info()
        assert (info.user, info.auth_mechanism, info.ssl) == ("CN=billing", "EXTERNAL", True)
        await client.close()

    with_door(tmp_path, scenario, **tls_flags(client_auth))


def test_a_client_without_a_certificate_is_not_offered_external(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        client = await WireClient.connect(running, client_context())
        assert "EXTERNAL" not in await offered(client)
        client.send(0, ConnectionStartOk({}, "EXTERNAL", b""))
        assert await client.is_at_end()
        await client.close()

    with_door(tmp_path, scenario, **tls_flags("requested"))
