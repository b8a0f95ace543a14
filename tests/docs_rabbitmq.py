"""The tables of docs/RABBITMQ.md that are made from the code: see docs_blocks.py."""

from __future__ import annotations

from mainstem.doors.amqp091.channel import IN_A_TASK, NOW
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.method_codec import METHODS

CONNECTION_METHODS = {
    "connection.start-ok": "PLAIN, AMQPLAIN, and EXTERNAL with TLS",
    "connection.secure-ok": "none of the mechanisms asks for it",
    "connection.tune-ok": "frames of 4,096 bytes at least",
    "connection.open": "",
    "connection.close": "",
    "connection.close-ok": "",
    "connection.update-secret": "",
    "channel.open": "",
    "channel.close": "",
    "channel.close-ok": "",
    "access.request": "the ticket is always 1",
    "basic.publish": "`immediate` is refused (540), as in RabbitMQ; at most 16 MiB",
}
"""Methods that the connection does, not its channels, with what there is to know."""

NOTES = {
    "channel.flow": "only `active=true`, as in RabbitMQ",
    "queue.declare": "arguments: see below",
    "basic.qos": "`prefetch_size` is refused (540), as in RabbitMQ; without a limit, 65,535",
    "basic.consume": "`no_local` is ignored, as in RabbitMQ",
    "basic.recover": "`requeue=false` is refused (540), as in RabbitMQ 4",
    "basic.recover-async": "`requeue=false` is refused (540), as in RabbitMQ 4",
    "tx.commit": "messages first, then answers; durable when answered, not atomic before, as in RabbitMQ",
    "basic.nack": "with `requeue`, counts no failure, as in RabbitMQ 4",
    "basic.reject": "with `requeue`, counts against the delivery limit",
    "basic.publish": CONNECTION_METHODS["basic.publish"],
}
PARTIAL = {"queue.declare"}
"""Those of which a part is missing that RabbitMQ has."""

SENT = {
    "connection.start",
    "connection.secure",
    "connection.tune",
    "connection.open-ok",
    "connection.blocked",
    "connection.unblocked",
    "connection.update-secret-ok",
    "basic.return",
    "basic.deliver",
    "basic.get-empty",
}
"""Methods of the server alone, beside those whose name ends with `-ok`."""


def _is_of_clients(kind: type[Method]) -> bool:
    return kind.NAME in CONNECTION_METHODS or not (kind.NAME in SENT or kind.NAME.endswith("-ok"))


def methods_table() -> str:
    """Every method that a client may send."""
    rows = []
    for _, kind in sorted(METHODS.items()):
        if not _is_of_clients(kind):
            continue
        is_done = kind in NOW or kind in IN_A_TASK or kind.NAME in CONNECTION_METHODS
        support = "none" if not is_done else "partial" if kind.NAME in PARTIAL else "full"
        note = NOTES.get(kind.NAME) or CONNECTION_METHODS.get(kind.NAME, "")
        rows.append(f"| {kind.CLASS_ID}, {kind.METHOD_ID} | {kind.NAME} | {support} | {note} |")
    return "\n".join(["| ids | method | support | notes |", "|---|---|---|---|", *rows])
