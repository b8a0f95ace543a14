"""Stream clients in the lists of the management API."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

from mainstem.doors.rabbitmq_stream import commands
from tests.doors.rabbitmq_management.management_kit import ApiClient, with_server
from tests.doors.rabbitmq_stream.raw_client import connected


def test_a_connection_is_listed_and_can_be_closed(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        async with connected(api.running) as client:
            while not (listed := await api.get("/connections")):
                await asyncio.sleep(0.01)
            (connection,) = listed
            assert (connection["protocol"], connection["vhost"]) == ("stream", "/")
            assert connection["client_properties"] == {"connection_name": "raw"}
            await api.change("DELETE", f"/connections/{quote(connection['name'], safe='')}")
            closing = await client.next(commands.CloseRequest)
            assert closing.code == 1
        while await api.get("/connections"):
            await asyncio.sleep(0.01)

    with_server(tmp_path, scenario, rabbitmq_stream="127.0.0.1:0")
