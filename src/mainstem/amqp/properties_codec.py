"""The codec of message properties: the flags and values of a content header (AMQP 0-9-1, 4.2.6.1).

Owns: properties in bytes, as they follow the body's size in a header frame, and a cache of those that
publishers send again and again. Refuses: flags beyond the fourteen properties, and what runs past the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from msgspec.structs import astuple

from mainstem.amqp.field_tables import FieldTableError, decode_table, encode_short, encode_table
from mainstem.amqp.properties import Properties

CACHED_MAX = 1_024
CACHED_BYTES_MAX = 64
"""Properties of at most this size, and without headers, are remembered by their bytes; a full cache starts
anew."""

_FLAGS = struct.Struct(">H")
_TIMESTAMP = struct.Struct(">Q")


def _read_short(data: bytes, position: int) -> tuple[str, int]:
    start = position + 1
    end = start + data[position]
    if end > len(data):
        raise FieldTableError("a property ends within its text")
    return data[start:end].decode("utf-8", "surrogateescape"), end


def _read_octet(data: bytes, position: int) -> tuple[int, int]:
    return data[position], position + 1


def _read_timestamp(data: bytes, position: int) -> tuple[int, int]:
    return _TIMESTAMP.unpack_from(data, position)[0], position + 8


def _octet(value: int) -> bytes:
    return bytes((value,))


_Read = Callable[[bytes, int], tuple[Any, int]]
_Write = Callable[[Any], bytes]
_SHORT: tuple[_Read, _Write] = (_read_short, encode_short)
_OCTET: tuple[_Read, _Write] = (_read_octet, _octet)

_PROPERTIES: tuple[tuple[int, str, _Read, _Write], ...] = tuple(
    (1 << (15 - index), name, *kind)
    for index, (name, kind) in enumerate(
        (
            ("content_type", _SHORT),
            ("content_encoding", _SHORT),
            ("headers", (decode_table, encode_table)),
            ("delivery_mode", _OCTET),
            ("priority", _OCTET),
            ("correlation_id", _SHORT),
            ("reply_to", _SHORT),
            ("expiration", _SHORT),
            ("message_id", _SHORT),
            ("timestamp", (_read_timestamp, _TIMESTAMP.pack)),
            ("type", _SHORT),
            ("user_id", _SHORT),
            ("app_id", _SHORT),
            ("cluster_id", _SHORT),
        )
    )
)
"""Flag, name, reader and writer of each property, in the order of the wire."""

_cached: dict[bytes, Properties] = {}
_encoded_cache: dict[tuple[Any, ...], bytes] = {}


def encode_properties(properties: Properties) -> bytes:
    """Flags and values. FieldTableError: a value that AMQP cannot hold, such as a text above 255 bytes."""
    values = astuple(properties)
    if properties.headers is not None:
        return _encoded(values)
    data = _encoded_cache.get(values)
    if data is None:
        data = _encoded(values)
        if len(data) <= CACHED_BYTES_MAX:
            if len(_encoded_cache) >= CACHED_MAX:
                _encoded_cache.clear()
            _encoded_cache[values] = data
    return data


def _encoded(values: tuple[Any, ...]) -> bytes:
    flags = 0
    out = [b""]
    try:
        for value, (flag, _, _, write) in zip(values, _PROPERTIES, strict=True):
            if value is not None:
                flags |= flag
                out.append(write(value))
    except (struct.error, ValueError) as error:
        raise FieldTableError(f"a property that AMQP cannot hold: {error}") from error
    out[0] = _FLAGS.pack(flags)
    return b"".join(out)


def decode_properties(data: bytes) -> Properties:
    """The properties of these bytes, all of them. FieldTableError: they are damaged."""
    properties = _cached.get(data)
    if properties is not None:
        return properties
    properties = _decoded(data)
    if len(data) <= CACHED_BYTES_MAX and properties.headers is None:
        if len(_cached) >= CACHED_MAX:
            _cached.clear()
        _cached[data] = properties
    return properties


def _decoded(data: bytes) -> Properties:
    values = {}
    try:
        (flags,) = _FLAGS.unpack_from(data)
        position = 2
        if flags & 3:
            raise FieldTableError(f"flags {flags:#06x} of properties that there are not")
        for flag, name, read, _ in _PROPERTIES:
            if flags & flag:
                values[name], position = read(data, position)
    except (struct.error, IndexError) as error:
        raise FieldTableError("the properties end within a value") from error
    if position != len(data):
        raise FieldTableError(f"{len(data) - position} bytes behind the properties")
    return Properties(**values)
