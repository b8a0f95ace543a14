"""The codec of AMQP field tables (AMQP 0-9-1, 4.2.5.5, with RabbitMQ's errata).

Owns: tables in bytes. Refuses: tables that nest deeper than DEPTH_MAX or have more than VALUES_MAX values,
and what runs past its own length: a client's table never takes more than a constant factor of its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from mainstem.amqp.field_values import (
    FieldTable,
    FieldValue,
    Float32,
    Int8,
    Int16,
    Int64,
    LongBytes,
    Timestamp,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
)

DEPTH_MAX = 32
VALUES_MAX = 8_192
SHORT_MAX_BYTES = 255
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
SCALE_MAX = 255

_LONG = struct.Struct(">I")
_FALSE, _TRUE = b"t\0", b"t\1"


class FieldTableError(ValueError):
    """Bytes that are no table, or values that no table can hold."""


def encode_short(text: str) -> bytes:
    """A short string with its length. FieldTableError: more than 255 bytes."""
    data = text.encode("utf-8", "surrogateescape")
    if len(data) > SHORT_MAX_BYTES:
        raise FieldTableError(f"a short string of {len(data)} bytes")
    return bytes((len(data),)) + data


def encode_table(table: FieldTable) -> bytes:
    """The table with its length. FieldTableError: a value that has no field type, or is out of range."""
    if not table:
        return b"\0\0\0\0"
    out = bytearray(4)
    _write_table(out, table, 0)
    _LONG.pack_into(out, 0, len(out) - 4)
    return bytes(out)


def decode_table(data: bytes, position: int = 0) -> tuple[FieldTable, int]:
    """The table whose length is at `position`, and where it ends. FieldTableError: it is damaged."""
    end = _end_of(data, position, len(data))
    if end == position + 4:
        return {}, end
    return _TableReader(data).table(position + 4, end, 1), end


# --- writing


def _write_table(out: bytearray, table: FieldTable, depth: int) -> None:
    for name, value in table.items():
        out += encode_short(name)
        _write_value(out, value, depth)


def _write_value(out: bytearray, value: FieldValue, depth: int) -> None:
    kind = type(value)
    if kind is str:
        data = value.encode("utf-8", "surrogateescape")  # type: ignore[union-attr] # it is a str
        out += b"S" + _LONG.pack(len(data)) + data
        return
    fixed = _FIXED.get(kind)
    try:
        if fixed is not None:
            out += fixed(value)
        elif kind is dict or kind is list:
            _write_nested(out, value, depth + 1)
        elif isinstance(value, LongBytes):
            out += b"S" + _LONG.pack(len(value)) + value
        elif isinstance(value, bytes | bytearray | memoryview):
            out += b"x" + _LONG.pack(len(value)) + value
        else:
            raise FieldTableError(f"a value of the type {kind.__name__}")
    except struct.error as error:
        raise FieldTableError(f"{kind.__name__} {str(value)[:40]}: {error}") from error


def _write_nested(out: bytearray, value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise FieldTableError(f"tables and arrays nested deeper than {DEPTH_MAX}")
    is_table = type(value) is dict
    out += b"F" if is_table else b"A"
    start = len(out)
    out += b"\0\0\0\0"
    if is_table:
        _write_table(out, value, depth)
    else:
        for item in value:
            _write_value(out, item, depth)
    _LONG.pack_into(out, start, len(out) - start - 4)


def _integer(value: int) -> bytes:
    return _packed_int(value) if INT32_MIN <= value <= INT32_MAX else _packed_long(value)


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or not -SCALE_MAX <= exponent <= 0:
        raise FieldTableError(f"a decimal {str(value)[:40]}: its scale is not 0 to {SCALE_MAX}")
    number = int("".join(map(str, digits)) or "0")
    return struct.pack(">cBi", b"D", -exponent, -number if sign else number)


def _packer(code: str, letter: bytes) -> Callable[[Any], bytes]:
    pack = struct.Struct(">c" + code).pack
    return lambda value: pack(letter, value)


_packed_int, _packed_long = _packer("i", b"I"), _packer("q", b"l")

_FIXED: dict[type, Callable[[Any], bytes]] = {
    bool: lambda value: _TRUE if value else _FALSE,
    int: _integer,
    float: _packer("d", b"d"),
    Decimal: _decimal,
    Float32: _packer("f", b"f"),
    Int8: _packer("b", b"b"),
    Int16: _packer("h", b"s"),
    Int64: _packer("q", b"l"),
    Timestamp: _packer("Q", b"T"),
    UInt8: _packer("B", b"B"),
    UInt16: _packer("H", b"u"),
    UInt32: _packer("I", b"i"),
    UInt64: _packer("Q", b"L"),
    type(None): lambda _: b"V",
}

# --- reading


def _as_long(value: int) -> int:
    return Int64(value) if INT32_MIN <= value <= INT32_MAX else value


_SCALARS: dict[int, tuple[Callable[..., tuple[Any, ...]], int, Callable[[Any], FieldValue]]] = {
    ord(letter): (struct.Struct(">" + code).unpack_from, struct.calcsize(">" + code), kind)
    for letter, code, kind in (
        ("t", "B", bool),
        ("b", "b", Int8),
        ("B", "B", UInt8),
        ("s", "h", Int16),
        ("u", "H", UInt16),
        ("I", "i", int),
        ("i", "I", UInt32),
        ("l", "q", _as_long),
        ("L", "Q", UInt64),
        ("T", "Q", Timestamp),
        ("f", "f", Float32),
        ("d", "d", float),
    )
}
"""Letter of a type of fixed size -> how to unpack it, its bytes, what makes the value."""


def _end_of(data: bytes, position: int, limit: int) -> int:
    """The end of what has its length at `position`."""
    if position + 4 > limit:
        raise FieldTableError("it ends within a length")
    (size,) = _LONG.unpack_from(data, position)
    end: int = position + 4 + size
    if end > limit:
        raise FieldTableError(f"{size} bytes where {limit - position - 4} are left")
    return end


class _TableReader:
    """Reads the values of one table, and counts them."""

    __slots__ = ("_data", "_left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = VALUES_MAX

    def table(self, position: int, end: int, depth: int) -> FieldTable:
        """The table between these positions."""
        data = self._data
        out: FieldTable = {}
        while position < end:
            start = position + 1
            position = start + data[position]
            if position >= end:
                raise FieldTableError("it ends within a name")
            name = data[start:position].decode("utf-8", "surrogateescape")
            out[name], position = self._value(position, end, depth)
        return out

    def _array(self, position: int, end: int, depth: int) -> list[FieldValue]:
        out = []
        while position < end:
            value, position = self._value(position, end, depth)
            out.append(value)
        return out

    def _value(self, position: int, limit: int, depth: int) -> tuple[FieldValue, int]:
        """The value whose letter is at `position`, before `limit`; and where it ends."""
        self._left -= 1
        if self._left < 0:
            raise FieldTableError(f"more than {VALUES_MAX} values")
        data = self._data
        letter = data[position]
        position += 1
        scalar = _SCALARS.get(letter)
        if scalar is not None:
            unpack, size, kind = scalar
            if position + size > limit:
                raise FieldTableError("it ends within a value")
            return kind(unpack(data, position)[0]), position + size
        if letter == 0x56:  # V
            return None, position
        if letter == 0x44:  # D
            return self._decimal(position, limit), position + 5
        end = _end_of(data, position, limit)
        position += 4
        if letter == 0x53:  # S
            text = data[position:end]
            try:
                return text.decode(), end
            except UnicodeDecodeError:
                return LongBytes(text), end
        if letter == 0x78:  # x
            return data[position:end], end
        if letter not in (0x46, 0x41):
            raise FieldTableError(f"no field type has the letter {letter:#x}")
        if depth >= DEPTH_MAX:
            raise FieldTableError(f"tables and arrays nested deeper than {DEPTH_MAX}")
        read = self.table if letter == 0x46 else self._array
        return read(position, end, depth + 1), end

    def _decimal(self, position: int, limit: int) -> Decimal:
        if position + 5 > limit:
            raise FieldTableError("it ends within a value")
        scale, number = struct.unpack_from(">Bi", self._data, position)
        sign = 1 if number < 0 else 0
        return Decimal((sign, tuple(map(int, str(abs(number)))), -scale))
