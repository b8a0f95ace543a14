"""What the doors of RabbitMQ's protocols share: the virtual hosts of a server, and who is connected to them.

Owns: the one object of a server, and the version of RabbitMQ that clients see. Refuses: to be made twice
over one engine; `serve/broker.py` makes it when the first door needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mainstem.amqp.connections import ConnectionRegistry
from mainstem.amqp.vhosts import Vhosts

if TYPE_CHECKING:
    from mainstem.routing_contract import RoutedQueues

BROKER_VERSION = "4.3.0"
"""The version of RabbitMQ whose behaviour clients may expect: some ask for it to choose their protocol."""
PRODUCT = "mainstem"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpBroker:
    """The virtual hosts and the connections of a server."""

    vhosts: Vhosts
    routed_queues: RoutedQueues
    connections: ConnectionRegistry = field(default_factory=ConnectionRegistry)

    def resource_name(self, vhost: str, name: str) -> str:
        """What access control calls a queue, an exchange or, without a name, a virtual host: `%2F/orders`."""
        return self.routed_queues.subscription_of(vhost, name)
