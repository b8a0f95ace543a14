"""Finding the HTTP door without the right to ask the broker for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mainstem.cli.http_door import require_door
from mainstem.contract import StreamError
from mainstem.engines.kafka import server_info
from mainstem.engines.kafka.server_info import ServerInfo


def test_who_may_not_ask_for_the_door_reads_how_to_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_permitted(address: str, **options: Any) -> ServerInfo:
        return ServerInfo("cluster", None)

    monkeypatch.setattr(server_info, "fetch_server_info", not_permitted)
    with pytest.raises(
        StreamError, match=r"not permitted \(name the door itself then: --at https://HOST:PORT\)"
    ):
        asyncio.run(require_door("127.0.0.1:9092"))
    assert asyncio.run(require_door("https://events.example:8080")) == "https://events.example:8080"
