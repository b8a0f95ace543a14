"""The primitive types of the stream protocol: reads and writes them.

Owns: `FrameError`, and one `FieldKind` for each type (PROTOCOL.adoc, Types). Refuses: values that reach
beyond their frame, arrays and strings of other negative lengths than -1, which is null, text that is not
UTF-8, and arrays that announce more items than the frame has bytes for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

Read = Callable[[bytes, int], tuple[Any, int]]


class FrameError(Exception):
    """The bytes are no frame of the protocol. The connection cannot go on."""


class FieldKind(NamedTuple):
    """A type: `read(data, position)` returns the value and the position after it; `write(out, value)` appends
    it. `min_bytes`: the length of its shortest value."""

    read: Read
    write: Callable[[bytearray, Any], None]
    min_bytes: int


def _number(form: str) -> FieldKind:
    packed = struct.Struct(form)
    unpack_from, pack, size = packed.unpack_from, packed.pack, packed.size

    def read(data: bytes, position: int) -> tuple[int, int]:
        try:
            return unpack_from(data, position)[0], position + size
        except struct.error:
            raise FrameError("the frame ends within a number") from None

    def write(out: bytearray, value: int) -> None:
        out += pack(value)

    return FieldKind(read, write, size)


U8, U16, U32, U64 = map(_number, (">B", ">H", ">I", ">Q"))
I16, I32, I64 = map(_number, (">h", ">i", ">q"))


def _taken(data: bytes, position: int, size: int) -> int:
    """The end of `size` bytes from `position` on."""
    if not 0 <= size <= len(data) - position:
        raise FrameError("a length reaches beyond the frame")
    return position + size


def _read_string(data: bytes, position: int) -> tuple[str | None, int]:
    size, position = I16.read(data, position)
    if size == -1:
        return None, position
    end = _taken(data, position, size)
    try:
        return data[position:end].decode(), end
    except UnicodeDecodeError:
        raise FrameError("text that is not UTF-8") from None


def _write_string(out: bytearray, value: str | None) -> None:
    encoded = b"" if value is None else value.encode()
    I16.write(out, -1 if value is None else len(encoded))
    out += encoded


def _read_text(data: bytes, position: int) -> tuple[str, int]:
    text, position = _read_string(data, position)
    return text or "", position


def _read_bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    size, position = I32.read(data, position)
    if size == -1:
        return None, position
    end = _taken(data, position, size)
    return data[position:end], end


def _write_bytes(out: bytearray, value: bytes | None) -> None:
    I32.write(out, -1 if value is None else len(value))
    out += value or b""


STRING = FieldKind(_read_text, _write_string, 2)
"""Text; null is read as empty text."""
BYTES = FieldKind(_read_bytes, _write_bytes, 4)


def array(*kinds: FieldKind) -> FieldKind:
    """A list of values, or of tuples if there are several kinds."""
    reads = [kind.read for kind in kinds]
    min_bytes = sum(kind.min_bytes for kind in kinds)

    def read(data: bytes, position: int) -> tuple[list[Any], int]:
        count, position = I32.read(data, position)
        if count == -1:
            return [], position
        if not 0 <= count <= (len(data) - position) // min_bytes:
            raise FrameError("an array announces more than the frame has")
        values: list[Any] = []
        for _ in range(count):
            item = []
            for read_part in reads:
                value, position = read_part(data, position)
                item.append(value)
            values.append(item[0] if len(item) == 1 else tuple(item))
        return values, position

    def write(out: bytearray, values: list[Any]) -> None:
        I32.write(out, len(values))
        for value in values:
            parts = value if len(kinds) > 1 else (value,)
            for kind, part in zip(kinds, parts, strict=True):
                kind.write(out, part)

    return FieldKind(read, write, 4)


_PAIRS = array(STRING, STRING)


def _read_map(data: bytes, position: int) -> tuple[dict[str, str], int]:
    pairs, position = _PAIRS.read(data, position)
    return dict(pairs), position


MAP = FieldKind(_read_map, lambda out, value: _PAIRS.write(out, list(value.items())), 4)
"""Properties: of the same name the last one counts."""


def _read_map_at_end(data: bytes, position: int) -> tuple[dict[str, str], int]:
    return _read_map(data, position) if position < len(data) else ({}, position)


MAP_AT_END = FieldKind(_read_map_at_end, MAP.write, 0)
"""Properties that clients leave out if there are none: the last field of a frame."""
HAS_VALUE = (4, 5)
"""The types of an offset specification that have a number behind them."""


def _read_offset_spec(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    kind, position = U16.read(data, position)
    value = 0
    if kind in HAS_VALUE:
        value, position = (U64 if kind == HAS_VALUE[0] else I64).read(data, position)
    return (kind, value), position


def _write_offset_spec(out: bytearray, spec: tuple[int, int]) -> None:
    U16.write(out, spec[0])
    if spec[0] in HAS_VALUE:
        (U64 if spec[0] == HAS_VALUE[0] else I64).write(out, spec[1])


OFFSET_SPEC = FieldKind(_read_offset_spec, _write_offset_spec, 2)
"""(type, number): 0 none, 1 first, 2 last, 3 next, 4 offset, 5 timestamp in milliseconds."""
