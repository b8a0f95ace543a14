"""What a virtual host keeps with its namespace, so that it outlives a restart: notes and data of bindings.

Owns: their names and their encoding: field tables, for arguments have AMQP's types. Refuses: to write them.
What is not durable for AMQP has none: a restart ends it.
"""

from __future__ import annotations

import hashlib
from typing import Any, cast

from mainstem.amqp.field_tables import decode_table, encode_table
from mainstem.amqp.field_values import FieldTable
from mainstem.amqp.policies import AppliesTo, Policy
from mainstem.amqp.topology import AmqpBinding, Exchange, QueueDeclaration

VHOST = "vhost"
"""The note that says that the namespace is a virtual host. Others are not touched."""
EXCHANGE, QUEUE, BINDING = "exchange ", "queue ", "binding "
POLICY, OPERATOR_POLICY = "policy ", "operator-policy "
TOPIC = "topic "
"""Before the name of an exchange: the note has the topic of its messages. It outlives the exchange."""

MOVES = "moves"
"""The note that says where copies of dead letters can be that are not recorded (`moved_copies.py`)."""


def exchange_data(exchange: Exchange) -> bytes:
    """The note of an exchange."""
    return encode_table(
        {
            "type": exchange.kind,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": exchange.arguments,
        }
    )


def exchange_from(name: str, data: bytes) -> Exchange:
    """The exchange of a note."""
    table: dict[str, Any] = _table(data)
    return Exchange(name, table["type"], True, table["auto_delete"], table["internal"], table["arguments"])


def queue_data(declaration: QueueDeclaration) -> bytes:
    """The note of a durable queue."""
    return encode_table({"auto_delete": declaration.auto_delete, "arguments": declaration.arguments})


def queue_from(name: str, data: bytes) -> QueueDeclaration:
    """The declaration of a durable queue, by its note."""
    table: dict[str, Any] = _table(data)
    return QueueDeclaration(name, True, False, table["auto_delete"], table["arguments"])


def binding_data(binding: AmqpBinding, *, is_noted: bool = False) -> bytes:
    """What a durable binding is kept as: with its queue, or as a note, as those to exchanges and streams
    are."""
    table: dict[str, Any] = {
        "source": binding.source,
        "routing_key": binding.routing_key,
        "arguments": binding.arguments,
    }
    if is_noted or not binding.is_to_queue:
        table["destination"] = binding.destination
    if is_noted and binding.is_to_queue:
        table["to_queue"] = True
    return encode_table(table)


def binding_from(data: bytes, queue: str | None) -> AmqpBinding:
    """The binding that was kept. `queue`: the queue with which it was; None: it was a note."""
    table: dict[str, Any] = _table(data)
    destination = table["destination"] if queue is None else queue
    is_to_queue = queue is not None or table.get("to_queue", False)
    return AmqpBinding(table["source"], destination, is_to_queue, table["routing_key"], table["arguments"])


def binding_note(binding: AmqpBinding) -> str:
    """The name of the note of a binding that is kept as one."""
    return BINDING + hashlib.sha256(binding_data(binding, is_noted=True)).hexdigest()


def policy_data(policy: Policy) -> bytes:
    """The note of a policy."""
    return encode_table(
        {
            "pattern": policy.pattern,
            "definition": dict(policy.definition),
            "priority": policy.priority,
            "apply_to": policy.apply_to,
        }
    )


def policy_from(name: str, data: bytes) -> Policy:
    """The policy of a note."""
    table: dict[str, Any] = _table(data)
    return Policy(
        name,
        table["pattern"],
        table["definition"],
        int(table["priority"]),
        cast(AppliesTo, table["apply_to"]),
    )


def _table(data: bytes) -> FieldTable:
    return decode_table(data)[0]
