"""The four compression codecs of a record batch, with a limit on decompressed bytes.

Owns: compressing and decompressing the records of a batch, framed as Java's client frames them (KIP-57 for
lz4, xerial's snappy stream, KIP-110 for zstd). Refuses: to write more than the limit, whatever the input
claims: one-shot decompression of a few KB can take gigabytes. Never runs on the hot path.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cramjam

from mainstem.log.disk.contract import Buffer
from mainstem.log.errors import CorruptBatch

NAMES = ("none", "gzip", "snappy", "lz4", "zstd")
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK_BYTES = 32 << 10
_GZIP_WRAPPED = 31
_LENGTH = struct.Struct(">i")


def compress(codec: int, data: Buffer) -> bytes:
    """`data`, compressed in the framing that Apache Kafka's clients read."""
    if codec == GZIP:
        packer = zlib.compressobj(wbits=_GZIP_WRAPPED)
        return packer.compress(data) + packer.flush()
    if codec == SNAPPY:
        parts = [_XERIAL_HEADER]
        view = memoryview(data)
        for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
            block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
            parts += (_LENGTH.pack(len(block)), block)
        return b"".join(parts)
    if codec == LZ4:
        # Java refuses frames whose blocks depend on each other (KIP-57).
        framer = cramjam.lz4.Compressor(content_checksum=False, block_linked=False)
        framer.compress(data)
        return bytes(framer.finish())
    if codec == ZSTD:
        return bytes(cramjam.zstd.compress(data, level=3))
    return bytes(data)


def decompress(codec: int, data: memoryview, cap_bytes: int) -> Buffer:
    """The decompressed bytes of `data`. CorruptBatch: it is damaged, or they are more than `cap_bytes`."""
    try:
        if codec == GZIP:
            return _gunzip(data, cap_bytes)
        if codec == SNAPPY:
            return _unsnappy(data, cap_bytes)
        if codec == LZ4:
            return _decompress_growing(cramjam.lz4.decompress_into, data, cap_bytes)
        if codec == ZSTD:
            return _decompress_growing(cramjam.zstd.decompress_into, data, cap_bytes)
    except (cramjam.DecompressionError, zlib.error, struct.error) as error:
        raise CorruptBatch(f"{NAMES[codec]} data is damaged or too large: {error}") from None
    return data


def _decompress_growing(
    into: Callable[[memoryview, bytearray], int], data: memoryview, cap_bytes: int
) -> memoryview:
    """Decompress into a buffer that grows until everything fits. Only a fixed buffer enforces the limit: the
    sizes that frames declare may be false."""
    size = min(cap_bytes, max(64 << 10, len(data) * 8))
    while True:
        out = bytearray(size)
        try:
            return memoryview(out)[: into(data, out)]
        except cramjam.DecompressionError:
            if size >= cap_bytes:
                raise
        size = min(cap_bytes, size * 8)


def _gunzip(data: memoryview, cap_bytes: int) -> bytes:
    out = bytearray()
    while True:
        unpacker = zlib.decompressobj(wbits=_GZIP_WRAPPED)
        out += unpacker.decompress(data, cap_bytes - len(out) + 1)
        if len(out) > cap_bytes:
            raise zlib.error(f"more than {cap_bytes} bytes")
        if not unpacker.eof:
            raise zlib.error("truncated stream")
        data = memoryview(unpacker.unused_data)
        if not data:
            return bytes(out)


def _unsnappy(data: memoryview, cap_bytes: int) -> bytearray:
    out = bytearray()
    if data[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        return _unsnappy_block(data, cap_bytes)
    position = len(_XERIAL_HEADER)
    while position < len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if not 0 < length <= len(data) - position:
            raise cramjam.DecompressionError(f"snappy block of {length} bytes at {position}")
        out += _unsnappy_block(data[position : position + length], cap_bytes - len(out))
        position += length
    return out


def _unsnappy_block(block: memoryview, cap_bytes: int) -> bytearray:
    size = cramjam.snappy.decompress_raw_len(block)
    if size > cap_bytes:
        raise cramjam.DecompressionError(f"more than {cap_bytes} bytes")
    out = bytearray(size)
    cramjam.snappy.decompress_raw_into(block, out)
    return out
