"""Finds out which server listens at an address.

Owns: one look-up with a short-lived admin client. The command line uses it to search through the HTTP door of
a mainstem server instead of reading every event through Kafka's protocol.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from mainstem.client_security import PLAINTEXT, ClientSecurity, ClientSecurityError
from mainstem.contract import InvalidArgument, NotReachable
from mainstem.engines.kafka.errors import translate
from mainstem.engines.kafka.reachability import await_cluster, check_listening

HTTP_LISTENER = "mainstem.http.listener"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The reply of `fetch_server_info`: what a server says about its cluster and its HTTP door."""

    cluster_id: str
    http_listener: str | None
    """HOST:PORT to which a mainstem server's HTTP door is bound; empty if the server has none. None: not a
    mainstem server, or it does not permit the question."""


async def _answer(future: Future[Any]) -> Any:
    return await asyncio.wrap_future(future)


async def fetch_server_info(
    address: str, *, timeout_s: float = 5.0, security: ClientSecurity = PLAINTEXT
) -> ServerInfo:
    """Ask the server at HOST:PORT (several with commas). NotReachable if none responds, InvalidArgument if a
    file of `security` cannot be used."""
    await check_listening(address, timeout_s)
    timeouts: dict[str, Any] = {"request_timeout": timeout_s}
    try:
        own = security.librdkafka()
    except ClientSecurityError as error:
        raise InvalidArgument(str(error)) from None
    admin = AdminClient({"bootstrap.servers": address, "client.id": "mainstem", "log_level": 0, **own})
    try:
        cluster = await await_cluster(_answer(admin.describe_cluster(**timeouts)), address, security)
        node = cluster.controller or (cluster.nodes[0] if cluster.nodes else None)
        if node is None:
            return ServerInfo(cluster.cluster_id, None)
        broker = ConfigResource(ResourceType.BROKER, str(node.id))
        (future,) = admin.describe_configs([broker], **timeouts).values()
        try:
            settings = await asyncio.wrap_future(future)
        except KafkaException:
            return ServerInfo(cluster.cluster_id, None)  # not permitted: treat it as any Kafka cluster
        setting = settings.get(HTTP_LISTENER)
        return ServerInfo(cluster.cluster_id, None if setting is None else setting.value or "")
    except KafkaException as error:
        translated = translate(error, address)
        if isinstance(translated, NotReachable):
            translated = NotReachable(
                f"what listens at {address} does not answer as a Kafka server in {timeout_s:g} s"
            )
        raise translated from None
