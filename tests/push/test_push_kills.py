"""A server that pushes is killed and stopped: nothing is lost, and what it knows of the endpoint stays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.push.receiver import Received, receiving, status
from tests.push.test_push_settings import SECRET
from tests.support.server import Server

EVENTS = 200
KILLS = 2


@pytest.mark.slow
def test_every_event_arrives_over_kills_of_the_server(tmp_path: Path) -> None:
    async def test() -> None:
        async with receiving() as receiver:

            async def reply(request: Received) -> bytes:
                await asyncio.sleep(0.002)
                fails = request.headers["mainstem-attempt"] == "1" and b'"value":7' in request.body
                return status(500 if fails else 200)

            receiver.answer = reply
            server = Server(tmp_path / "data", kafka="127.0.0.1:0", http="127.0.0.1:0")
            try:
                await asyncio.to_thread(server.start)
                await call(server, "topics", {"topic": "t", "partitions": 3})
                push: dict[str, Any] = {"endpoint": receiver.url, "secret": SECRET, "concurrency": 4}
                settings = {"push": push, "backoff_min_ms": 50}
                await call(
                    server, "subscriptions", {"subscription": "s", "topics": ["t"], "settings": settings}
                )
                await call(server, "topics/t/events", [{"value": number} for number in range(EVENTS)])
                for number in range(KILLS):
                    await receiver.wait_for(len(receiver.requests) + (number + 1) * 30)
                    await asyncio.to_thread(server.restart, kill=True)
                async with asyncio.timeout(60):
                    while (shown := await describe(server))["depth"] != dict.fromkeys(shown["depth"], 0):
                        await asyncio.sleep(0.1)
                assert shown["settings"]["push"]["signed"] is True
                ids = {request.headers["webhook-id"] for request in receiver.requests}
                assert len(ids) == EVENTS
                failed = sum(str(number).startswith("7") for number in range(EVENTS))
                assert len(receiver.requests) <= EVENTS + failed + 2 * push["concurrency"] * KILLS
                assert await asyncio.to_thread(server.stop) == 0
            finally:
                if server.process is not None:
                    server.kill()

    asyncio.run(test())


async def call(server: Server, path: str, body: object) -> None:
    async with httpx.AsyncClient(base_url=f"http://{server.http}", trust_env=False) as client:
        reply = await client.post(f"/api/v1/{path}", json=body)
        assert reply.status_code < 300, reply.text


async def describe(server: Server) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=f"http://{server.http}", trust_env=False) as client:
        shown: dict[str, Any] = (await client.get("/api/v1/subscriptions/s")).json()
        return shown
