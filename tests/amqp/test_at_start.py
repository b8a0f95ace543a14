"""Virtual hosts are there after a restart, although no client comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mainstem.amqp.topology import QueueDeclaration
from mainstem.queue_contract import NoSuchSubscription
from mainstem.serve import options
from mainstem.serve.server import Running, start


async def started(folder: Path) -> Running:
    """A server without the doors of RabbitMQ's protocols."""
    return await start(options.load({"data": str(folder), "kafka": "127.0.0.1:0", "doors": "kafka"}))


def test_a_queue_that_is_not_durable_ends_with_a_restart_though_no_door_is_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        running = await started(tmp_path)
        vhost = (await running.broker()).vhosts.get("/")
        assert vhost is not None
        await vhost.declare_queue(QueueDeclaration("brief"))
        await vhost.declare_queue(QueueDeclaration("lasting", durable=True))
        await running.close()
        running = await started(tmp_path)
        async with asyncio.timeout(20):
            while True:
                try:
                    await running.engine.subscription_settings("%2F/brief")
                except NoSuchSubscription:
                    break
                await asyncio.sleep(0.01)
        await running.engine.subscription_settings("%2F/lasting")
        await running.close()

    asyncio.run(scenario())


def test_a_server_without_virtual_hosts_loads_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        running = await started(tmp_path)
        await asyncio.sleep(0)
        assert await running.engine.routed_queues.namespaces() == []
        await running.close()

    asyncio.run(scenario())
