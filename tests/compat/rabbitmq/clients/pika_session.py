"""A connection of pika to the server of the suite."""

from __future__ import annotations

from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from tests.compat.cases import Address

ORDER = b'{"order": 7, "amount": 12.5}'


def host_and_port() -> tuple[str, int]:
    host, _, port = Address.value.rpartition(":")
    return host, int(port)


class BlockingSession:
    """A blocking connection with a channel."""

    def __init__(self, **given: Any) -> None:
        host, port = host_and_port()
        parameters = pika.ConnectionParameters(host, port, **given)
        self.connection = pika.BlockingConnection(parameters)
        self.channel: BlockingChannel = self.connection.channel()

    def __enter__(self) -> BlockingChannel:
        return self.channel

    def __exit__(self, *_: object) -> None:
        if self.connection.is_open:
            self.connection.close()
