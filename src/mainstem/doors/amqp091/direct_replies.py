"""Direct reply-to (RabbitMQ's extension): answers go to the consumer that asked, and are never stored.

A client consumes from `amq.rabbitmq.reply-to`, without a queue behind it. The requests of its channel carry
an address in their place, `amq.rabbitmq.reply-to.ID`; what is published to the default exchange with this
address as routing key is delivered to it, or is dropped if the client has closed the channel.

Owns: who consumes at which address, over all connections of the door. At most a consumer for each channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from mainstem.amqp.properties import Properties

REPLY_TO = "amq.rabbitmq.reply-to"
ADDRESS_PREFIX = REPLY_TO + "."

Receive: TypeAlias = Callable[[str, str, Properties, bytes], None]
"""Gets the exchange, the routing key, the properties and the body of an answer, at once."""


def is_reply_address(name: str) -> bool:
    """Whether it is the name of the pseudo queue, or the address of a consumer of it."""
    return name == REPLY_TO or name.startswith(ADDRESS_PREFIX)


class DirectReplies:
    """The consumers that wait for direct answers."""

    def __init__(self, make_id: Callable[[], str]) -> None:
        """`make_id`: an id that cannot be guessed, up to 200 characters."""
        self._make_id = make_id
        self._consumers: dict[str, Receive] = {}

    def add(self, receive: Receive) -> str:
        """Add a consumer. Returns its address."""
        address = ADDRESS_PREFIX + self._make_id()
        self._consumers[address] = receive
        return address

    def remove(self, address: str) -> None:
        """The consumer is not there any more."""
        self._consumers.pop(address, None)

    def has(self, address: str) -> bool:
        """Whether somebody consumes at this address."""
        return address in self._consumers

    def deliver(self, address: str, properties: Properties, body: bytes) -> bool:
        """Deliver an answer. Whether there is a consumer at the address."""
        receive = self._consumers.get(address)
        if receive is None:
            return False
        receive("", address, properties, body)
        return True
