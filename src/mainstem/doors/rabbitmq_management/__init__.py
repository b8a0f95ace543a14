"""The RabbitMQ management door: the HTTP API of RabbitMQ's management plugin, for the tools that use it.

Owns: `/api/…` at its own address, and the same below `/rabbitmq/api/…` of the HTTP door. `routes/` has a file
for each noun, and `endpoints.py` lists all routes. Refuses: pages for people, which are in the console; and
every right that the door of AMQP would refuse. docs/RABBITMQ.md says what is served, and what is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.contract import Door

if TYPE_CHECKING:
    from mainstem.doors.contract import Opener

METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ")


def sniff(first_bytes: bytes) -> bool | None:
    """Whether the bytes begin with an HTTP method; None: they may be the beginning of one."""
    if first_bytes.startswith(METHODS):
        return True
    return None if any(method.startswith(first_bytes) for method in METHODS) else False


def _load() -> Opener:
    from mainstem.doors.rabbitmq_management.server import open_door

    return open_door


DOOR = Door(
    name="rabbitmq_management",
    title="RabbitMQ management",
    port=15672,
    sniff=sniff,
    load=_load,
    http_prefix="/rabbitmq/",
    alpn=("http/1.1",),
    mechanisms=("PLAIN",),
)
