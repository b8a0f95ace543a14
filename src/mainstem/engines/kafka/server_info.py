"""What the server at an address tells of itself, asked before anything else is.

Owns: one look-up over a short-lived admin client. Used by the command line, which prefers a mainstem server's
own HTTP door to reading every event through Kafka's protocol.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from mainstem.contract import NotReachable
from mainstem.engines.kafka.errors import translate
from mainstem.engines.kafka.publish import probe_tcp

HTTP_LISTENER = "mainstem.http.listener"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A cluster, as its broker tells of it."""

    cluster_id: str
    http_listener: str | None
    """HOST:PORT of a mainstem server's HTTP door, as it is bound there; empty: it has none. None: this is not
    mainstem, or it does not tell."""


async def fetch_server_info(at: str, *, timeout_s: float = 5.0) -> ServerInfo:
    """Ask what is at HOST:PORT (several with commas). NotReachable when nobody answers there."""
    await probe_tcp(at, timeout_s)
    timeouts: dict[str, Any] = {"request_timeout": timeout_s}
    admin = AdminClient({"bootstrap.servers": at, "client.id": "mainstem", "log_level": 0})
    try:
        found = await asyncio.wrap_future(admin.describe_cluster(**timeouts))
        node = found.controller or (found.nodes[0] if found.nodes else None)
        if node is None:
            return ServerInfo(found.cluster_id, None)
        broker = ConfigResource(ResourceType.BROKER, str(node.id))
        (future,) = admin.describe_configs([broker], **timeouts).values()
        try:
            settings = await asyncio.wrap_future(future)
        except KafkaException:
            return ServerInfo(
                found.cluster_id, None
            )  # it may not be asked for: then it is read as any cluster
        setting = settings.get(HTTP_LISTENER)
        return ServerInfo(found.cluster_id, None if setting is None else setting.value or "")
    except KafkaException as error:
        told = translate(error, at)
        if isinstance(told, NotReachable):
            told = NotReachable(f"what listens at {at} does not answer as a Kafka server in {timeout_s:g} s")
        raise told from None
