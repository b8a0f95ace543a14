"""The values of AMQP field tables: Python's own types, and subclasses for what these cannot distinguish.

Owns: the types. A value that was decoded encodes to the bytes that it came from: an integer whose width is
not the one that `int` would get keeps it by its class. Letters are those of RabbitMQ's table of field types
(https://www.rabbitmq.com/amqp-0-9-1-errata), where they differ from the specification (4.2.1).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

FieldValue: TypeAlias = (
    "bool | int | float | str | bytes | Decimal | list[FieldValue] | dict[str, FieldValue] | None"
)
"""What a field table holds. `int` is I if it fits 32 bits, else l; `float` d; `str` S; `bytes` x; None V."""

FieldTable: TypeAlias = "dict[str, FieldValue]"
"""Short strings to values. Bytes of a name that are not UTF-8 are surrogates (PEP 383)."""


class Int8(int):
    """b: a signed octet."""


class UInt8(int):
    """B: an octet."""


class Int16(int):
    """s: signed, 16 bits."""


class UInt16(int):
    """u: unsigned, 16 bits."""


class UInt32(int):
    """i: unsigned, 32 bits."""


class Int64(int):
    """l: signed, 64 bits, of a value that fits 32."""


class UInt64(int):
    """L: unsigned, 64 bits (the specification has it, RabbitMQ does not)."""


class Timestamp(int):
    """T: seconds since 1970, any unsigned number of 64 bits."""


class Float32(float):
    """f: IEEE 754 single precision."""


class LongBytes(bytes):
    """S whose bytes are not UTF-8."""
