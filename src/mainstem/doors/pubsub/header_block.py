"""Header blocks of HTTP/2: HPACK (RFC 7541), with bounds for everything that a client can make large.

Owns: the decoder of a connection, with its dynamic table, and the encoding of the few headers that the server
sends, which uses no dynamic table: so constant blocks can be encoded once for all connections. Huffman codes
and the static table come from the library `hpack`; its decoder has no bound on integers and on size updates.
Refuses: header lists above HEADER_LIST_BYTES_MAX and tables above TABLE_BYTES.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Headers: TypeAlias = list[tuple[bytes, bytes]]

TABLE_BYTES = 4_096
"""Of the dynamic table: RFC 7541's default, which the server does not change."""
HEADER_LIST_BYTES_MAX = 16_384
"""Of all headers of a request, each with 32 bytes beside name and value, as RFC 9113, 6.5.2 counts."""
ENTRY_BYTES = 32
SIZE_UPDATES_MAX = 2
"""In front of a block: RFC 7541, section 4.2 has use for two."""
STATIC: tuple[tuple[bytes, bytes], ...] = tuple(HeaderTable.STATIC_TABLE)
_STATIC_COUNT = len(STATIC)
_NAME_INDEX = {name: index for index, (name, _) in reversed(list(enumerate(STATIC, 1)))}
INTEGER_BYTES_MAX = 5
"""Of an integer beside its prefix: enough for 32 bits."""


class HeaderBlockError(Exception):
    """The error for a block that cannot be decoded: the connection cannot go on, for the tables of both sides
    may differ."""


class HeaderListTooLarge(HeaderBlockError):
    """The error for a header list above HEADER_LIST_BYTES_MAX."""


class HeaderDecoder:
    """The decoder of one connection."""

    __slots__ = ("_entries", "_limit", "_table_bytes")

    def __init__(self) -> None:
        self._entries: deque[tuple[bytes, bytes]] = deque()
        self._limit = TABLE_BYTES
        self._table_bytes = 0

    def decode(self, block: bytes) -> Headers:
        """The headers of a whole block. HeaderBlockError."""
        try:
            return self._decode(block)
        except IndexError:
            raise HeaderBlockError("the header block is not whole") from None

    def _decode(self, block: bytes) -> Headers:
        headers: Headers = []
        position, end, size, updates = 0, len(block), 0, 0
        while position < end:
            first = block[position]
            if first & 0x80:
                index = first & 0x7F
                position += 1
                if index == 0x7F:
                    index, position = _integer_rest(block, position, 0x7F)
                entry = self._entry(index)
            elif first & 0x40:
                entry, position = self._literal(block, position, 6)
                self._add(entry)
            elif first & 0x20:
                updates += 1
                if headers or updates > SIZE_UPDATES_MAX:
                    raise HeaderBlockError("a size update where none may be")
                limit, position = _integer(block, position, 5)
                self._resize(limit)
                continue
            else:
                entry, position = self._literal(block, position, 4)
            headers.append(entry)
            size += len(entry[0]) + len(entry[1]) + ENTRY_BYTES
            if size > HEADER_LIST_BYTES_MAX:
                raise HeaderListTooLarge(f"more than {HEADER_LIST_BYTES_MAX} bytes of headers")
        return headers

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if 0 < index <= _STATIC_COUNT:
            return STATIC[index - 1]
        index -= _STATIC_COUNT + 1
        if not 0 <= index < len(self._entries):
            raise HeaderBlockError("an index beyond the table")
        return self._entries[index]

    def _literal(self, block: bytes, position: int, prefix: int) -> tuple[tuple[bytes, bytes], int]:
        index, position = _integer(block, position, prefix)
        if index:
            name = self._entry(index)[0]
        else:
            name, position = _string(block, position)
        value, position = _string(block, position)
        return (name, value), position

    def _add(self, entry: tuple[bytes, bytes]) -> None:
        self._table_bytes += len(entry[0]) + len(entry[1]) + ENTRY_BYTES
        self._entries.appendleft(entry)
        self._shrink()

    def _resize(self, limit: int) -> None:
        if limit > TABLE_BYTES:
            raise HeaderBlockError("a table larger than the server allows")
        self._limit = limit
        self._shrink()

    def _shrink(self) -> None:
        while self._table_bytes > self._limit:
            name, value = self._entries.pop()
            self._table_bytes -= len(name) + len(value) + ENTRY_BYTES


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    mask = (1 << prefix) - 1
    value = block[position] & mask
    if value < mask:
        return value, position + 1
    return _integer_rest(block, position + 1, mask)


def _integer_rest(block: bytes, position: int, value: int) -> tuple[int, int]:
    for shift in range(0, 7 * INTEGER_BYTES_MAX, 7):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise HeaderBlockError("an integer of more than 32 bits")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    is_huffman = block[position] & 0x80
    length, position = _integer(block, position, 7)
    end = position + length
    if end > len(block):
        raise HeaderBlockError("the header block is not whole")
    text = block[position:end]
    if is_huffman:
        try:
            text = decode_huffman(text)
        except HPACKError as error:
            raise HeaderBlockError(str(error)) from None
    return text, end


def encode_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block of literals without indexing."""
    block = bytearray()
    for name, value in headers:
        index = _NAME_INDEX.get(name, 0)
        _put_integer(block, index, 4, 0)
        if not index:
            _put_integer(block, len(name), 7, 0)
            block += name
        _put_integer(block, len(value), 7, 0)
        block += value
    return bytes(block)


def _put_integer(block: bytearray, value: int, prefix: int, flags: int) -> None:
    mask = (1 << prefix) - 1
    if value < mask:
        block.append(flags | value)
        return
    block.append(flags | mask)
    value -= mask
    while value >= 0x80:
        block.append(value & 0x7F | 0x80)
        value >>= 7
    block.append(value)
