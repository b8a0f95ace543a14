"""The record batch, Apache Kafka's format v2 (KIP-98): the unit of the log.

Owns: the header of 61 bytes, the validation of a batch that a client produced, the fields that the server
sets, and building and decoding batches off the hot path. Refuses: to decode records on the hot path; formats
before v2; control and transactional batches from clients.

Layout and rules: FORMAT.md, part "Record batch". Kafka: DefaultRecordBatch, DefaultRecord, LogValidator.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec
from crc32c import crc32c

from mainstem.log.disk.contract import Buffer
from mainstem.log.errors import (
    CorruptBatch,
    InvalidBatch,
    InvalidTimestamp,
    UnsupportedCompression,
    UnsupportedFormat,
)
from mainstem.log.storage import codecs
from mainstem.log.storage.record_fields import parse_records

HEADER_BYTES = 61
LENGTH_OVERHEAD = 12
"""Bytes of the base offset and the length itself, which `length` does not count."""
CRC_FROM = 21
"""The CRC covers all bytes from here, the attributes, to the end of the batch."""
MAGIC = 2
_MAGIC_BYTE = bytes((MAGIC,))

CODEC_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
_KNOWN_ATTRIBUTES = 0x3F

_HEADER = struct.Struct(">qiibIhiqqqhii")
_BASE_OFFSET = struct.Struct(">q")
_LEADER_EPOCH = struct.Struct(">i")
_CRC_AND_ATTRIBUTES = struct.Struct(">IH")
_MAX_TIMESTAMP = struct.Struct(">q")
_PRODUCER_ID = struct.Struct(">q")
_LEADER_EPOCH_AT, _MAGIC_AT, _CRC_AT, _MAX_TIMESTAMP_AT = 12, 16, 17, 35
_PRODUCER_ID_AT = 43


class BatchHeader(NamedTuple):
    """The header's fields, in their order on disk."""

    base_offset: int
    length: int
    """Bytes of the batch after this field."""
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    """Timestamp of the first record, ms; -1: none."""
    max_timestamp: int
    """The largest timestamp of all records, ms; with LogAppendTime, the timestamp of every record."""
    producer_id: int
    """Producer id; -1: the producer is not idempotent."""
    producer_epoch: int
    base_sequence: int
    count: int  # type: ignore[assignment]  # Kafka's word; hides tuple.count

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole batch, header included."""
        return self.length + LENGTH_OVERHEAD

    @property
    def codec(self) -> int:
        """Index into `codecs.NAMES`: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & CODEC_MASK

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def log_append_time(self) -> bool:
        return bool(self.attributes & LOG_APPEND_TIME)

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def is_plausible(self) -> bool:
        """Whether this may be the header of a batch of this log; the bytes after it are not checked. A batch
        without records has only a header: it spans offsets that were removed or lost."""
        return (
            self.magic == MAGIC
            and self.length >= HEADER_BYTES - LENGTH_OVERHEAD
            and self.base_offset >= 0
            and self.last_offset_delta >= 0
            and 0 <= self.count <= self.last_offset_delta + 1
            and (self.count > 0 or self.total_bytes == HEADER_BYTES)
        )


class Record(msgspec.Struct, frozen=True, gc=False):
    """One event of a batch, as its user sees it. A Struct, because it is made 4 times as fast as a
    dataclass: a search makes millions."""

    offset: int
    timestamp_ms: int
    """Timestamp, ms; -1: the record has none."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at `position`, not validated. struct.error if fewer than 61 bytes are there."""
    return BatchHeader._make(_HEADER.unpack_from(buffer, position))


def producer_id_of(batch: Buffer) -> int:
    """The producer id in the header of a batch that is not validated yet; -1 if no whole header is there."""
    if len(batch) < HEADER_BYTES:
        return -1
    return int(_PRODUCER_ID.unpack_from(batch, _PRODUCER_ID_AT)[0])


def crc_matches(batch: Buffer, header: BatchHeader) -> bool:
    """Whether the CRC32C of `batch`, one whole batch, equals the one in its header."""
    return bool(crc32c(memoryview(batch)[CRC_FROM:]) == header.crc)


def validate(buffer: memoryview) -> BatchHeader:
    """Validate one batch that a client produced; it must fill `buffer` exactly. Returns its header. Decodes
    no records.

    Errors: CorruptBatch (magic or CRC), UnsupportedFormat (magic 0 or 1), UnsupportedCompression,
    InvalidBatch (not whole, contradicts itself, or is transactional or control), InvalidTimestamp.
    """
    size = len(buffer)
    if size < HEADER_BYTES:
        raise _too_short(buffer)
    header = BatchHeader._make(_HEADER.unpack_from(buffer))
    if header.magic != MAGIC:
        raise _wrong_magic(header.magic)
    if header.length + LENGTH_OVERHEAD != size:
        raise _wrong_length(header, size)
    if crc32c(buffer[CRC_FROM:]) != header.crc:
        raise CorruptBatch(f"CRC32C of a batch of {size} bytes is wrong: it was damaged in transit")
    attributes = header.attributes
    if attributes & CODEC_MASK > codecs.ZSTD:
        raise UnsupportedCompression(f"there is no compression codec {attributes & CODEC_MASK}")
    if header.base_offset:  # Kafka: UnifiedLog.analyzeAndValidateRecords
        raise InvalidBatch(f"base offset {header.base_offset}: a client's batch begins at 0")
    if header.count < 1 or header.count != header.last_offset_delta + 1:
        raise InvalidBatch(f"{header.count} records, but last offset delta {header.last_offset_delta}")
    if attributes > LOG_APPEND_TIME - 1 or attributes < 0:
        raise _refused_attributes(attributes)
    if header.max_timestamp < header.base_timestamp or header.base_timestamp < -1:
        raise InvalidTimestamp(
            f"the largest timestamp {header.max_timestamp} of the batch is less than"
            f" its first, {header.base_timestamp}, or that is less than -1"
        )
    if header.producer_id >= 0:
        if header.producer_epoch < 0 or header.base_sequence < 0:
            state = f"epoch {header.producer_epoch}, sequence {header.base_sequence}"
            raise InvalidBatch(f"producer {header.producer_id} has {state}: both must be at least 0")
    elif header.producer_id != -1:
        raise InvalidBatch(f"producer id {header.producer_id}: it must be at least -1")
    return header


def validate_age(header: BatchHeader, wall_ms: int, max_age_ms: int) -> None:
    """Check the age of a batch. InvalidTimestamp: its first record is more than `max_age_ms` old. The header
    has no other record's timestamp, except the largest one."""
    oldest = header.base_timestamp
    if oldest != -1 and wall_ms - oldest > max_age_ms:
        raise InvalidTimestamp(f"timestamp {oldest} is more than {max_age_ms} ms old")


def _too_short(buffer: memoryview) -> UnsupportedFormat | CorruptBatch | InvalidBatch:
    # The magic byte has the same position in all formats. A message of magic 0 or 1 may be shorter than a v2
    # header.
    if len(buffer) > _MAGIC_AT and buffer[_MAGIC_AT] in (0, 1):
        return _wrong_magic(buffer[_MAGIC_AT])
    return InvalidBatch(f"{len(buffer)} bytes are no batch: a header alone has {HEADER_BYTES}")


def _wrong_magic(magic: int) -> UnsupportedFormat | CorruptBatch:
    if magic in (0, 1):
        return UnsupportedFormat(
            f"record format {magic} (of clients before 0.11) is not supported; use format 2"
        )
    return CorruptBatch(f"there is no record format with magic {magic}")


def _wrong_length(header: BatchHeader, size: int) -> InvalidBatch:
    # Not CorruptBatch, as with Apache Kafka: clients would retry with the same bytes until they time out.
    if HEADER_BYTES <= header.total_bytes < size:
        return InvalidBatch(
            f"more than one batch for one partition: the first has {header.total_bytes} of {size} bytes"
        )
    return InvalidBatch(f"the batch has {header.total_bytes} bytes by its header, but {size} were received")


def _refused_attributes(attributes: int) -> InvalidBatch | InvalidTimestamp:
    if attributes & CONTROL:
        return InvalidBatch("only the server writes control batches")
    if attributes & TRANSACTIONAL:
        return InvalidBatch("transactions are not supported yet")
    if attributes & ~_KNOWN_ATTRIBUTES:
        return InvalidBatch(f"unknown attributes {attributes & 0xFFFF:#06x}")
    return InvalidTimestamp("only the server sets timestamp type LogAppendTime")


def assign_offsets(
    buffer: memoryview, base_offset: int, leader_epoch: int, log_append_ms: int | None
) -> None:
    """Set the server's fields in place: base offset and leader epoch, which the CRC does not cover; with
    `log_append_ms` (wall-clock ms) also the timestamp type, the largest timestamp, and therefore the CRC."""
    _BASE_OFFSET.pack_into(buffer, 0, base_offset)
    _LEADER_EPOCH.pack_into(buffer, _LEADER_EPOCH_AT, leader_epoch)
    if log_append_ms is not None:
        _, attributes = _CRC_AND_ATTRIBUTES.unpack_from(buffer, _CRC_AT)
        _CRC_AND_ATTRIBUTES.pack_into(buffer, _CRC_AT, 0, attributes | LOG_APPEND_TIME)
        _MAX_TIMESTAMP.pack_into(buffer, _MAX_TIMESTAMP_AT, log_append_ms)
        crc = crc32c(buffer[CRC_FROM:])
        _CRC_AND_ATTRIBUTES.pack_into(buffer, _CRC_AT, crc, attributes | LOG_APPEND_TIME)


def iter_batches(buffer: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each whole batch, one after the other from position 0. Ends before the first one
    that is not whole or whose header is not plausible."""
    position, size = 0, len(buffer)
    while size - position >= HEADER_BYTES:
        header = BatchHeader._make(_HEADER.unpack_from(buffer, position))
        if not header.is_plausible or header.total_bytes > size - position:
            return
        yield position, header
        position += header.total_bytes


def find_headers(data: bytes | bytearray, above: int, below: int) -> list[int]:
    """Positions in `data` of anything that looks like the header of a batch with all offsets greater than
    `above` and less than `below`."""
    positions = []
    magic = data.find(_MAGIC_BYTE, _MAGIC_AT)
    while 0 <= magic <= len(data) - (HEADER_BYTES - _MAGIC_AT):
        header = read_header(data, magic - _MAGIC_AT)
        if header.is_plausible and above < header.base_offset and header.next_offset <= below:
            positions.append(magic - _MAGIC_AT)
        magic = data.find(_MAGIC_BYTE, magic + 1)
    return positions


COPIED_BYTES_MAX = 4_096
"""Values up to this size are copied once more when a batch is built, which takes less than to add parts."""


def build(
    records: Sequence[tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]], int]],
    *,
    codec: str = "none",
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> bytearray:
    """Build one batch with base offset 0 from records (key, value, headers, timestamp ms). ValueError: there
    are no records, or no such codec."""
    if not records:
        raise ValueError("a batch has at least one record")
    codec_id = codecs.NAMES.index(codec)
    first_ms = max_ms = records[0][3]
    parts: list[bytes] = []
    for delta, (key, value, headers, timestamp_ms) in enumerate(records):
        if timestamp_ms > max_ms:
            max_ms = timestamp_ms
        before = b"\x00%b%b%b" % (_varint(timestamp_ms - first_ms), _varint(delta), _length_prefixed(key))
        after = _headers(headers) if headers else b"\x00"
        if value is not None and len(value) > COPIED_BYTES_MAX:
            before += _varint(len(value))
            parts += (_varint(len(before) + len(value) + len(after)), before, value, after)
        else:
            body = b"%b%b%b" % (before, _length_prefixed(value), after)
            parts += (_varint(len(body)), body)
    data = b"".join(parts)
    if codec_id:
        data = codecs.compress(codec_id, data)
    out = bytearray(HEADER_BYTES + len(data))
    out[HEADER_BYTES:] = data
    count = len(records)
    _HEADER.pack_into(
        out, 0, 0, len(out) - LENGTH_OVERHEAD, -1, MAGIC, 0, codec_id, count - 1, first_ms, max_ms,
        producer_id, producer_epoch, base_sequence, count,
    )  # fmt: skip
    _CRC_AND_ATTRIBUTES.pack_into(out, _CRC_AT, crc32c(memoryview(out)[CRC_FROM:]), codec_id)
    return out


SPAN_MAX = 1 << 31
"""Most offsets that one batch can have."""


def build_empty(first_offset: int, last_offset: int, leader_epoch: int) -> bytes:
    """A batch without records that spans a removed range of offsets."""
    assert 0 <= first_offset <= last_offset < first_offset + SPAN_MAX, "one batch spans the range"
    length, delta = HEADER_BYTES - LENGTH_OVERHEAD, last_offset - first_offset
    out = bytearray(
        _HEADER.pack(first_offset, length, leader_epoch, MAGIC, 0, 0, delta, -1, -1, -1, -1, -1, 0)
    )
    _CRC_AND_ATTRIBUTES.pack_into(out, _CRC_AT, crc32c(memoryview(out)[CRC_FROM:]), 0)
    return bytes(out)


_NULL = b"\x01"
_SMALL = 1_024
"""Below this number are most lengths and differences of records: their encodings are kept."""


def _encode_varint(value: int) -> bytes:
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_SMALL_VARINTS = [_encode_varint(value) for value in range(_SMALL)]


def _varint(value: int) -> bytes:
    """Encode an integer of up to 64 bits in zigzag variable length."""
    return _SMALL_VARINTS[value] if 0 <= value < _SMALL else _encode_varint(value)


def _length_prefixed(content: bytes | None) -> bytes:
    return _NULL if content is None else _varint(len(content)) + content


def _headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    parts = [_varint(len(headers))]
    for name, content in headers:
        parts.append(_length_prefixed(name.encode()))
        parts.append(_length_prefixed(content))
    return b"".join(parts)


def decode(batch: Buffer, *, cap_bytes: int = 64 << 20) -> list[Record]:
    """The records of one whole batch; checks its CRC. Slow: not for the hot path.

    CorruptBatch: damaged, or more than `cap_bytes` when decompressed.
    """
    view = memoryview(batch)
    if len(view) < HEADER_BYTES:
        raise CorruptBatch(f"{len(view)} bytes are no batch")
    header = read_header(view)
    if header.magic != MAGIC or header.total_bytes != len(view) or not crc_matches(view, header):
        raise CorruptBatch(f"the batch at offset {header.base_offset} is damaged")
    return records_in(view, header, decompressed(view, header, cap_bytes))


def decompressed(batch: memoryview, header: BatchHeader, cap_bytes: int) -> Buffer:
    """The bytes of a whole batch's records, decompressed. CorruptBatch: damaged, or more than `cap_bytes`."""
    if header.codec > codecs.ZSTD:
        raise CorruptBatch(f"there is no compression codec {header.codec}")
    return codecs.decompress(header.codec, batch[HEADER_BYTES:], cap_bytes)


def records_in(batch: memoryview, header: BatchHeader, data: Buffer) -> list[Record]:
    """The records of a whole batch whose CRC was checked. `data` is what `decompressed` returned.
    CorruptBatch: the records contradict the header."""
    plain: Buffer = batch
    if header.codec != codecs.NONE:
        plain = bytearray(HEADER_BYTES + len(data))
        plain[HEADER_BYTES:] = data
        # aiokafka decompresses without a cap, so it gets a batch of codec none.
        attributes = header.attributes & ~CODEC_MASK
        _HEADER.pack_into(
            plain, 0, *header._replace(length=len(plain) - LENGTH_OVERHEAD, attributes=attributes)
        )
    records, last_offset = _decode_plain(plain), header.last_offset
    for record in records:
        if not header.base_offset <= record.offset <= last_offset:
            raise CorruptBatch(
                f"offset {record.offset} in a batch of {header.base_offset}-{header.last_offset}"
            )
    return records


@cache
def record_parser() -> tuple[Callable[[Buffer], Iterable[Any]], type[Exception]] | None:
    """The class that decodes a batch into records, and the exception that it raises for damage. None: this
    release of aiokafka has them elsewhere, for they are not its public API; `record_fields.py` decodes
    then."""
    # Imported at the first use: it imports a whole client, which takes 5 MB and 60 ms, and a server without
    # doors to decode for never needs it. Search workers leave that client out
    # (`search/workers/bootstrap.py`).
    try:
        from aiokafka.errors import CorruptRecordException

        try:
            from aiokafka.record._crecords.default_records import DefaultRecordBatch
        except ImportError:  # built without its compiled part
            from aiokafka.record.default_records import DefaultRecordBatch
    except ImportError:
        return None
    return DefaultRecordBatch, CorruptRecordException


def _decode_plain(batch: Buffer) -> list[Record]:
    fast = record_parser()
    if fast is None:
        return _decode_any_names(batch)
    parser, corrupt = fast
    try:
        return [
            Record(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
            for record in parser(batch)
        ]
    except UnicodeDecodeError:  # the name of a header, which is no damage
        return _decode_any_names(batch)
    except (corrupt, ValueError, IndexError, OverflowError, MemoryError) as error:
        raise CorruptBatch(f"the records of a batch are damaged: {error}") from None


def _decode_any_names(batch: Buffer) -> list[Record]:
    """As `_decode_plain`, also if names of headers are not UTF-8: they get replacement characters."""
    header = read_header(batch)
    has_append_time = header.attributes & LOG_APPEND_TIME
    try:
        return [
            Record(
                header.base_offset + fields.offset_delta,
                header.max_timestamp if has_append_time else header.base_timestamp + fields.timestamp_delta,
                fields.key,
                fields.value,
                fields.headers,
            )
            for fields in parse_records(bytes(memoryview(batch)[HEADER_BYTES:]), header.count)
        ]
    except (ValueError, OverflowError, MemoryError) as error:
        raise CorruptBatch(f"the records of a batch are damaged: {error}") from None
