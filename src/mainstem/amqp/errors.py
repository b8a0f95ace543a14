"""Errors of AMQP 0-9-1, with RabbitMQ's texts: clients read them.

Owns: the error type, and the texts that several places raise. Refuses: to say which method failed: the door
knows.
"""

from __future__ import annotations

NAMES = {
    311: "CONTENT_TOO_LARGE",
    312: "NO_ROUTE",
    313: "NO_CONSUMERS",
    320: "CONNECTION_FORCED",
    402: "INVALID_PATH",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
"""Reply code -> its constant (AMQP 0-9-1, 1.2), which begins the text."""
CHANNEL_CODES = frozenset({311, 312, 313, 403, 404, 405, 406})
"""Soft errors: they close the channel. All others close the connection."""


class AmqpError(Exception):
    """What closes a channel, or the connection."""

    def __init__(self, code: int, is_channel: bool, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.is_channel = is_channel
        self.text = text
        """`NAME - detail`."""


def amqp_error(code: int, detail: str) -> AmqpError:
    """The error with this reply code, which decides whether it is the channel's."""
    return AmqpError(code, code in CHANNEL_CODES, f"{NAMES[code]} - {detail}")


def no_queue(name: str, vhost: str) -> AmqpError:
    """404."""
    return amqp_error(404, f"no queue '{name}' in vhost '{vhost}'")


def no_exchange(name: str, vhost: str) -> AmqpError:
    """404."""
    return amqp_error(404, f"no exchange '{name}' in vhost '{vhost}'")


def reserved_name(what: str, name: str) -> AmqpError:
    """403: a name that begins with `amq.` is the server's."""
    return amqp_error(403, f"{what} name '{name}' contains reserved prefix 'amq.*'")


def default_exchange_refuses() -> AmqpError:
    """403."""
    return amqp_error(403, "operation not permitted on the default exchange")


def locked_queue(name: str, vhost: str) -> AmqpError:
    """405: the queue is another connection's."""
    return amqp_error(
        405,
        f"cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'. It could be originally"
        " declared on another connection or the exclusive property value does not match that of the original"
        " declaration.",
    )


def inequivalent(argument: str, what: str, name: str, vhost: str, difference: str) -> AmqpError:
    """406: a declaration differs from what there is."""
    return amqp_error(
        406, f"inequivalent arg '{argument}' for {what} '{name}' in vhost '{vhost}': {difference}"
    )


def invalid_argument(argument: str, name: str, vhost: str, why: str) -> AmqpError:
    """406: an argument of a queue that is declared."""
    return amqp_error(406, f"invalid arg '{argument}' for queue '{name}' in vhost '{vhost}': {why}")


def not_of_streams(what: str, name: str, vhost: str) -> AmqpError:
    """540: what streams do not have."""
    return amqp_error(540, f"{what} not supported by stream queues queue '{name}' in vhost '{vhost}'")
