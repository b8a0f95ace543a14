"""A server with the management door at an address of its own, and a client of its API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import uvloop

from mainstem.serve import options
from mainstem.serve.server import Running, start


class ApiClient:
    """Sends requests to `/api`, as the user guest."""

    def __init__(self, running: Running, http: httpx.AsyncClient) -> None:
        self.running = running
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """A response of any status."""
        return await self.http.request(method, path, json=body, **options)

    async def get(self, path: str, status: int = 200) -> Any:
        """The JSON of a GET that has this status."""
        response = await self.ask("GET", path)
        assert response.status_code == status, (path, response.status_code, response.text)
        return response.json()

    async def change(self, method: str, path: str, body: Any = None, status: int = 204) -> httpx.Response:
        """A change that has this status."""
        response = await self.ask(method, path, body)
        assert response.status_code == status, (path, response.status_code, response.text)
        return response


Scenario = Callable[[ApiClient], Awaitable[None]]


def with_server(folder: Path, scenario: Scenario, **given: object) -> None:
    """Start a server in this process, run the scenario on it, close it."""

    async def body() -> None:
        flags = {"data": str(folder), "durability": "os", "kafka": "127.0.0.1:0", "http": "127.0.0.1:0"}
        running = await start(options.load({**flags, "rabbitmq_management": "127.0.0.1:0", **given}))
        try:
            (address,) = running.addresses["rabbitmq_management"]
            async with httpx.AsyncClient(
                base_url=f"http://{address}/api", auth=("guest", "guest"), timeout=30, trust_env=False
            ) as http:
                await scenario(ApiClient(running, http))
        finally:
            await running.close()

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await body()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
