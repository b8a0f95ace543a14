"""The names of the topics in which exchanges' messages are.

Owns: the name that an exchange's topic gets: `amqp.orders` for the exchange `orders` of the virtual host `/`,
`amqp.shop.orders` for that of `shop`, `amqp.default` for the default exchange, and `amqp.transient` for all
that are not durable or go with their last binding: there may be any number of these, one after the other.
Refuses: to find an exchange
by a name: a note says which topic is whose.
"""

from __future__ import annotations

import hashlib
import string

PREFIX = "amqp."
TOPIC_AS_EXCHANGE = "kafka."
"""Before a topic's name: the exchange that the topic itself is for those who publish."""
DEFAULT_EXCHANGE = "default"
SHARED = "\n"
"""In place of an exchange that has no topic of its own. No exchange has such a name."""
SHARED_TOPIC = "transient"
NAME_MAX = 200
"""Kafka's names have at most 249 characters; a hash and the prefix have room beside this."""
_PLAIN = frozenset(string.ascii_letters + string.digits + "-.")


def topic_name(vhost: str, exchange: str, *, is_taken: bool = False) -> str:
    """The topic of an exchange. Bytes that a topic's name cannot have are `_xx`. `is_taken`: a name with a
    hash, for the first one is another's."""
    parts = [] if vhost == "/" else [_escaped(vhost)]
    parts.append({"": DEFAULT_EXCHANGE, SHARED: SHARED_TOPIC}.get(exchange) or _escaped(exchange))
    name = ".".join(parts)
    if is_taken or len(name) > NAME_MAX:
        digest = hashlib.sha256(f"{vhost}\0{exchange}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        name = f"{name[:NAME_MAX]}-{digest}"
    return PREFIX + name


def topic_of_exchange(exchange: str) -> str:
    """The topic that is published to under the name of an exchange, `kafka.TOPIC`, unless an exchange of this
    name was declared; empty: the name is not of this form."""
    return exchange.removeprefix(TOPIC_AS_EXCHANGE) if exchange.startswith(TOPIC_AS_EXCHANGE) else ""


def is_of_exchange(topic: str) -> bool:
    """Whether a topic may be that of an exchange, so that nothing but its exchange writes to it."""
    return topic.startswith(PREFIX)


def _escaped(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if chr(byte) in _PLAIN else f"_{byte:02x}" for byte in data)
