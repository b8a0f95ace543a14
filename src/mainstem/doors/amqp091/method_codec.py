"""The codec of methods: a method's type to the payload of its frame, and back.

Owns: the steps by which each type is written and read, made from its fields at import. Refuses: numbers of no
method, and payloads that end early or late. The few methods that every message needs have quicker ways in
message_frames.py; both make the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import groupby
from typing import Any

from mainstem.amqp.field_tables import FieldTableError, decode_table, encode_short, encode_table
from mainstem.doors.amqp091 import control_methods, methods
from mainstem.doors.amqp091.method import Method

METHODS: dict[int, type[Method]] = {
    kind.CLASS_ID << 16 | kind.METHOD_ID: kind
    for module in (control_methods, methods)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Method) and kind is not Method
}
"""All methods by the four bytes that a payload begins with."""


class UnknownMethod(ValueError):
    """A payload that begins with the numbers of no method."""


class MethodDamaged(ValueError):
    """A payload that does not have the fields of the method whose numbers it has."""

    def __init__(self, kind: type[Method], detail: str) -> None:
        super().__init__(f"{kind.NAME}: {detail}")
        self.kind = kind


_Read = Callable[[bytes, int], tuple[Any, int]]
_Write = Callable[[Any], bytes]
_LONG = struct.Struct(">I")


def _number(code: str) -> tuple[_Read, _Write, Any]:
    layout = struct.Struct(">" + code)

    def read(data: bytes, position: int) -> tuple[int, int]:
        return layout.unpack_from(data, position)[0], position + layout.size

    return read, layout.pack, 0


def _read_short(data: bytes, position: int) -> tuple[str, int]:
    end = position + 1 + data[position]
    if end > len(data):
        raise FieldTableError("a text runs past the end")
    return data[position + 1 : end].decode("utf-8", "surrogateescape"), end


def _read_long_binary(data: bytes, position: int) -> tuple[bytes, int]:
    (size,) = _LONG.unpack_from(data, position)
    end = position + 4 + size
    if end > len(data):
        raise FieldTableError("a text runs past the end")
    return data[position + 4 : end], end


def _write_long_binary(value: bytes) -> bytes:
    return _LONG.pack(len(value)) + value


def _read_long_text(data: bytes, position: int) -> tuple[str, int]:
    text, end = _read_long_binary(data, position)
    return text.decode("utf-8", "surrogateescape"), end


def _write_long_text(value: str) -> bytes:
    return _write_long_binary(value.encode("utf-8", "surrogateescape"))


_TYPES: dict[str, tuple[_Read, _Write, Any]] = {
    "Octet": _number("B"),
    "Short": _number("H"),
    "Long": _number("I"),
    "LongLong": _number("Q"),
    "ShortStr": (_read_short, encode_short, ""),
    "LongStr": (_read_long_text, _write_long_text, ""),
    "LongBinary": (_read_long_binary, _write_long_binary, b""),
    "FieldTable": (decode_table, encode_table, {}),
}
"""How a field is read and written by the name of its type in method.py, and its value if it is reserved."""


class _FieldStep:
    """A field, or up to eight bits that share an octet. A field without a name is reserved."""

    __slots__ = ("is_bits", "names", "read", "reserved", "write")

    def __init__(self, type_name: str, names: tuple[str, ...]) -> None:
        self.names = names
        self.is_bits = type_name == "bool"
        self.read, self.write, self.reserved = _TYPES["Octet" if self.is_bits else type_name]


def _layout(kind: type[Method]) -> tuple[_FieldStep, ...]:
    fields = [(type_name, "") for type_name in kind.LEADING]
    fields += [(kind.__annotations__[name], name) for name in kind.__struct_fields__]
    fields += [(type_name, "") for type_name in kind.TRAILING]
    steps = []
    for is_bit, run in groupby(fields, key=lambda field: field[0] == "bool"):
        if is_bit:
            steps.append(_FieldStep("bool", tuple(name for _, name in run)))
        else:
            steps += [_FieldStep(type_name, (name,)) for type_name, name in run]
    return tuple(steps)


_LAYOUTS = {kind: _layout(kind) for kind in METHODS.values()}


def encode_method(method: Method) -> bytes:
    """The payload of a method frame. FieldTableError: a value that its field cannot hold."""
    out = [_LONG.pack(method.CLASS_ID << 16 | method.METHOD_ID)]
    try:
        for step in _LAYOUTS[type(method)]:
            if step.is_bits:
                bits = (getattr(method, name, False) for name in step.names)
                out.append(bytes((sum(bit << place for place, bit in enumerate(bits)),)))
            elif step.names[0]:
                out.append(step.write(getattr(method, step.names[0])))
            else:
                out.append(step.write(step.reserved))
    except struct.error as error:
        raise FieldTableError(f"{method.NAME}: {error}") from error
    return b"".join(out)


def decode_method(payload: bytes) -> Method:
    """The method of a frame's payload. UnknownMethod or MethodDamaged if it is none."""
    kind = METHODS.get(int.from_bytes(payload[:4], "big")) if len(payload) >= 4 else None
    if kind is None:
        raise UnknownMethod(f"no method has the numbers {payload[:4].hex()}")
    position = 4
    values: dict[str, Any] = {}
    try:
        for step in _LAYOUTS[kind]:
            value, position = step.read(payload, position)
            if step.is_bits:
                for place, name in enumerate(step.names):
                    values[name] = bool(value >> place & 1)
            else:
                values[step.names[0]] = value
    except (struct.error, IndexError, FieldTableError) as error:
        raise MethodDamaged(kind, str(error)) from error
    if position != len(payload):
        raise MethodDamaged(kind, f"{len(payload) - position} bytes behind its fields")
    values.pop("", None)
    return kind(**values)
