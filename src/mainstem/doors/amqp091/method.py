"""What all methods of AMQP 0-9-1 have: names, numbers, and fields with the types of the wire.

Owns: the base of the types in methods.py and control_methods.py, which have the fields of
amqp-rabbitmq-0.9.1.json. Fields that are reserved are no fields of the types, only part of their layout:
`LEADING` and `TRAILING` are their types, before and behind the others. Bytes are made and read in
method_codec.py.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import msgspec

Octet: TypeAlias = int
Short: TypeAlias = int
Long: TypeAlias = int
LongLong: TypeAlias = int
ShortStr: TypeAlias = str
LongStr: TypeAlias = str
LongBinary: TypeAlias = bytes


class Method(msgspec.Struct):
    """A method; its fields are those of the wire, in their order."""

    NAME: ClassVar[str] = ""
    CLASS_ID: ClassVar[int] = 0
    METHOD_ID: ClassVar[int] = 0
    LEADING: ClassVar[tuple[str, ...]] = ()
    TRAILING: ClassVar[tuple[str, ...]] = ()
